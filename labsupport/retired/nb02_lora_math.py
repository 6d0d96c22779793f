"""Exercises that notebook 02 had before; copies of it in a learner's folder still ask for them."""

from __future__ import annotations

import torch

from labsupport.checking.exercise import Exercise, told
from labsupport.models import lora

SOLUTION = "an earlier edition of notebook 02, which no longer has it"


def _random(*shapes, seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=generator) for shape in shapes]


def _shapes():
    return [((4, 8), (6, 4), 7, 1), ((2, 8), (8, 2), 32.0, 2), ((3, 5), (9, 3), 1, 3)]


delta = Exercise(
    name="lora_math.delta",
    reference=lora.delta,
    cases=lambda: [(*_random(a, b, seed=seed), alpha) for a, b, alpha, seed in _shapes()],
    mistakes=told(
        lambda A, B, alpha: alpha * B @ A,
        "You multiply by alpha; the factor is alpha / r, and r is the number of rows of A.",
        lambda A, B, alpha: B @ A,
        "The factor alpha / r is missing.",
    ),
    hints=["The rank is not an argument: read it from the shape of A.", "alpha / A.shape[0] * B @ A"],
    minutes=10,
    difficulty=1,
    solution=SOLUTION,
)


def _forward_cases():
    cases = []
    for a, b, alpha, seed in _shapes():
        A, B, weight, x, dropped = _random(a, b, (b[0], a[1]), (5, a[1]), (5, a[1]), seed=seed)
        cases.append((x, dropped, weight, A, B, alpha))
    return cases


forward = Exercise(
    name="lora_math.forward",
    reference=lora.forward,
    cases=_forward_cases,
    mistakes=told(
        lambda x, dropped, W, A, B, alpha: lora.forward(x, dropped, 0 * W, A, B, alpha),
        "The frozen path is missing: add x @ weight.T.",
        lambda x, dropped, W, A, B, alpha: lora.forward(x, dropped, W, A, B, A.shape[0]),
        "The update is not scaled: multiply it by alpha / r.",
    ),
    hints=[
        "Two paths, added: the frozen weight, and A followed by B.",
        "x @ weight.T + (alpha / A.shape[0]) * dropped @ A.T @ B.T",
    ],
    minutes=15,
    difficulty=2,
    solution=SOLUTION,
)
