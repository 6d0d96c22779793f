"""Exercises that the notebook had before; copies that learners made then still ask for them."""

from __future__ import annotations

from labsupport.checking.exercise import Exercise

recipe_bytes = Exercise(
    name="memory_and_cost.recipe_bytes",
    reference=lambda weight, gradient, moment, master: weight + gradient + 2 * moment + 4 * master,
    cases=[(2, 2, 1, False), (2, 2, 4, True), (4, 4, 4, False), (2, 4, 1, True)],
    hints=["Weight, gradient, Adam's two moments, and perhaps a float32 copy of the weight: 4 bytes."],
)


def _run_cost(per_token, tokens, cards, tflops, share, rate):
    hours = per_token * tokens / (cards * tflops * 1e12 * share) / 3600
    return hours, hours * cards * rate


run_cost = Exercise(
    name="memory_and_cost.run_cost",
    reference=_run_cost,
    cases=[(4.7e10, 2_000_000, 1, 121.0, 0.3, 0.8), (3.2e10, 50_000_000, 4, 312.0, 0.25, 2.0)],
    hints=[
        "hours = per_token x tokens / (cards x tflops x 1e12 x share) / 3600; money = hours x cards x rate."
    ],
)
