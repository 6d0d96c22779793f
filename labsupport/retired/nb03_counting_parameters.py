"""The exercise that notebook 03 had before; copies of it in a learner's folder still ask for it."""

from __future__ import annotations

from labsupport.checking.exercise import Exercise, told
from labsupport.sizes import counting

SOLUTION = "an earlier edition of notebook 03, which no longer has it"

lora_parameters = Exercise(
    name="counting_parameters.lora_parameters",
    reference=counting.lora_parameters,
    cases=[(4096, 4096, 16), (4096, 11008, 16), (11008, 4096, 8), (576, 192, 64), (64, 48, 1)],
    mistakes=told(
        lambda i, o, r: i * o,
        "That is the matrix W itself, which stays frozen: count A and B.",
        lambda i, o, r: 2 * r * i,
        "Right for square matrices only: B has d_out rows, not d_in.",
    ),
    hints=["rank * d_in for A plus d_out * rank for B."],
    minutes=5,
    difficulty=1,
    solution=SOLUTION,
)
