"""The exercises of notebook 02, each with the mistakes people make."""

from __future__ import annotations

import math

import numpy as np
import torch

from labsupport.checking.exercise import Exercise
from labsupport.evaluation import spectra
from labsupport.models import lora

SOLUTION = "solutions/02_lora_math.ipynb"


def _random(*shapes, seed):
    """Random float32 tensors of these shapes, of the size 1."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=generator) for shape in shapes]


# ---------------------------------------------------------------- delta


def _delta_cases():
    # Square weights too, so that a swap of A and B or a transposition cannot hide behind an error.
    return [
        (*_random((4, 8), (8, 4), seed=1), 12),
        (*_random((2, 8), (8, 2), seed=2), 32.0),
        (*_random((1, 6), (6, 1), seed=3), 5),
    ]


delta = Exercise(
    name="lora_math.delta",
    reference=lora.delta,
    cases=_delta_cases,
    mistakes=[
        (
            lambda A, B, alpha: alpha * B @ A,
            "You multiply by alpha; the factor is alpha / r, and r is the number of rows of A.",
        ),
        (lambda A, B, alpha: B @ A, "The factor alpha / r is missing."),
        (
            lambda A, B, alpha: alpha / math.sqrt(A.shape[0]) * B @ A,
            "alpha / sqrt(r) is rsLoRA's factor; LoRA's is alpha / r.",
        ),
        (
            lambda A, B, alpha: alpha / A.shape[0] * A @ B,
            "A and B are swapped: A @ B is (r, r). The input meets A first, so A is on the right: B @ A.",
        ),
        (
            lambda A, B, alpha: alpha / A.shape[0] * A.T @ B.T,
            "That is the transpose of the update: weights are (out, in), so it is B @ A.",
        ),
        (
            lambda A, B, alpha: alpha / A.shape[1] * B @ A,
            "You divide by the width of A; the rank is its number of rows.",
        ),
        (
            lambda A, B, alpha: A.shape[0] / alpha * B @ A,
            "The factor is upside down: alpha / r, not r / alpha.",
        ),
        (
            lambda A, B, alpha: alpha / A.shape[0] * B * A.T,
            "* multiplies entry by entry; the product of matrices is @.",
        ),
    ],
    hints=[
        "Which order of A (r, in) and B (out, r) gives a matrix of shape (out, in)?",
        "The rank is not an argument: read it from the shape of A.",
        "alpha / A.shape[0] * B @ A",
    ],
    solution=SOLUTION,
)

# ---------------------------------------------------------------- uniform_bound

uniform_bound = Exercise(
    name="lora_math.uniform_bound",
    reference=lora.uniform_bound,
    cases=[(576, math.sqrt(5)), (1536, math.sqrt(5)), (64, 0.0), (100, 0.2)],
    mistakes=[
        (
            lambda n, a: math.sqrt(2 / ((1 + a**2) * n)),
            "That is the standard deviation. A uniform distribution on (-b, b) has b / sqrt(3): multiply.",
        ),
        (lambda n, a: 6 / ((1 + a**2) * n), "You return the bound squared: take the square root."),
        (
            lambda n, a: math.sqrt(3 / n),
            "The gain is missing: it is sqrt(2 / (1 + a^2)), and it is 1 only for a = 1.",
        ),
        (
            lambda n, a: math.sqrt(6 / n),
            "You leave out a: the gain is sqrt(2 / (1 + a^2)), sqrt(2) only for a = 0.",
        ),
        (lambda n, a: math.sqrt(6 / ((1 + a) * n)), "a is squared in the gain: sqrt(2 / (1 + a^2))."),
        (
            lambda n, a: 1 / math.sqrt(n),
            "1 / sqrt(fan_in) is right for a = sqrt(5) only; the function gets other values of a too.",
        ),
        (lambda n, a: math.sqrt(6 / (1 + a**2)) / n, "You divide by fan_in; it belongs under the root."),
    ],
    hints=[
        "Kaiming's rule fixes the standard deviation: gain / sqrt(fan_in), with gain = sqrt(2 / (1 + a^2)).",
        "Which b gives U(-b, b) that standard deviation? The variance of U(-b, b) is b^2 / 3.",
        "b = sqrt(3) * sqrt(2 / (1 + a**2)) / sqrt(fan_in)",
    ],
    solution=SOLUTION,
)

# ---------------------------------------------------------------- forward


def _forward_cases():
    cases = []
    for n, rank, alpha, seed in ((8, 2, 6, 4), (6, 3, 2.0, 5)):
        x, weight, A, B = _random((5, n), (n, n), (rank, n), (n, rank), seed=seed)
        keep = _random((5, n), seed=seed + 9)[0] > 0
        cases.append((x, 2 * x * keep, weight, A, B, alpha))  # dropout of one half
    return cases


def _scaled_both(x, dropped, weight, A, B, alpha):
    return lora.forward(x, dropped, lora.scale(alpha, A.shape[0]) * weight, A, B, alpha)


# Each mistake is the right answer to other arguments.
forward = Exercise(
    name="lora_math.forward",
    reference=lora.forward,
    cases=_forward_cases,
    mistakes=[
        (
            lambda x, dropped, W, A, B, alpha: lora.forward(x, dropped, W.T, A, B, alpha),
            "A weight is (out, in), so the frozen path is x @ weight.T.",
        ),
        (
            lambda x, dropped, W, A, B, alpha: lora.forward(x, dropped, 0 * W, A, B, alpha),
            "The frozen path is missing: add x @ weight.T.",
        ),
        (
            lambda x, dropped, W, A, B, alpha: lora.forward(dropped, dropped, W, A, B, alpha),
            "Dropout on the frozen path too: that one gets the whole x.",
        ),
        (
            lambda x, dropped, W, A, B, alpha: lora.forward(x, x, W, A, B, alpha),
            "You do not use `dropped`: it is what goes into A.",
        ),
        (
            lambda x, dropped, W, A, B, alpha: lora.forward(dropped, x, W, A, B, alpha),
            "The wrong way round: x goes through the weight, `dropped` through A.",
        ),
        (
            lambda x, dropped, W, A, B, alpha: lora.forward(x, dropped, W, A, alpha * B, A.shape[0]),
            "The update is scaled by alpha; the factor is alpha / r.",
        ),
        (
            lambda x, dropped, W, A, B, alpha: lora.forward(x, dropped, W, A, B, A.shape[0]),
            "The update is not scaled: multiply it by alpha / r.",
        ),
        (_scaled_both, "You scale the frozen path too: alpha / r belongs to the update alone."),
        (
            lambda x, dropped, W, A, B, alpha: lora.forward(x, dropped, W, B.T, A.T, alpha),
            "The input meets A first, then B: dropped @ A.T @ B.T.",
        ),
    ],
    hints=[
        "Two paths, added: the frozen weight, and A followed by B.",
        "With rows as vectors every matrix is transposed: x @ weight.T, and then @ A.T @ B.T.",
        "x @ weight.T + (alpha / A.shape[0]) * dropped @ A.T @ B.T",
    ],
    solution=SOLUTION,
)

# ---------------------------------------------------------------- factor_gradients


def _gradient_cases():
    cases = [(*_random((6, 6), (2, 6), (6, 2), seed=seed), alpha) for seed, alpha in ((7, 4), (8, 1.0))]
    gradient, A = _random((6, 6), (3, 6), seed=9)
    return [*cases, (gradient, A, torch.zeros(6, 3), 12)]  # the last one is step 0


def _scale_squared(G, A, B, alpha):
    s = lora.scale(alpha, A.shape[0])
    return s**2 * B.T @ G, s**2 * G @ A.T


factor_gradients = Exercise(
    name="lora_math.factor_gradients",
    reference=lora.factor_gradients,
    cases=_gradient_cases,
    mistakes=[
        (
            lambda G, A, B, alpha: lora.factor_gradients(G, A, B, alpha)[::-1],
            "Right, but in the other order: return the gradient of A first, then B's.",
        ),
        (
            lambda G, A, B, alpha: (B.T @ G, G @ A.T),
            "The factor alpha / r is missing: it multiplies both gradients.",
        ),
        (
            lambda G, A, B, alpha: (alpha * B.T @ G, alpha * G @ A.T),
            "You multiply by alpha; the factor is alpha / r.",
        ),
        (_scale_squared, "alpha / r enters each gradient once, not squared (the first step has it squared)."),
        (
            lambda G, A, B, alpha: lora.factor_gradients(G.T, A, B, alpha),
            "The gradient is (out, in), like the weight: do not transpose it.",
        ),
        (
            lambda G, A, B, alpha: lora.factor_gradients(-G, A, B, alpha),
            "That is the direction of descent: return the gradients, without the minus.",
        ),
        (
            lambda G, A, B, alpha: lora.factor_gradients(G, B.T, A.T, alpha),
            "Each factor's gradient holds the other factor: B in A's gradient, A in B's.",
        ),
    ],
    hints=[
        "The weight is W + s B A. Move A a little: by how much does the weight move?",
        "The shapes decide: A's gradient is (r, in), from B (out, r) and the weight's gradient (out, in).",
        "s * B.T @ weight_gradient for A, s * weight_gradient @ A.T for B, with s = alpha / r.",
    ],
    solution=SOLUTION,
)

# ---------------------------------------------------------------- rank_for_energy


def _smallest_first(values, share):
    energy = np.cumsum(np.square(values[::-1]))
    return int((energy < share * energy[-1]).sum()) + 1


rank_for_energy = Exercise(
    name="lora_math.rank_for_energy",
    reference=spectra.rank_for_energy,
    cases=[
        ([8.0, 4.0, 2.0, 1.0, 1.0, 0.5], 0.9),
        ([3.0, 2.5, 2.0, 1.8, 1.5, 1.2, 1.0, 0.8], 0.9),
        ([10.0, 3.0, 3.0, 2.0, 1.0, 1.0, 1.0], 0.8),
        ([1.0] * 10, 0.95),
        ([2.0, 1.0, 1.0, 1.0, 1.0], 0.5),  # exactly half is enough
    ],
    mistakes=[
        (
            lambda values, share: spectra.rank_for_energy(np.sqrt(values), share),
            "Energy is the sum of the squares: square the singular values first.",
        ),
        (
            lambda values, share: spectra.rank_for_energy(values, share) - 1,
            "That is the index, counted from 0, where it is reached; the rank is one more.",
        ),
        (
            lambda values, share: spectra.rank_for_energy(values, share) + 1,
            "One too many: the rank at which the share is reached, reaching it exactly included.",
        ),
        (
            lambda values, share: sum(s >= (1 - share) * max(values) for s in values),
            "You count the values above a share of the largest; add up the squares instead.",
        ),
        (
            lambda values, share: math.ceil(share * len(values)),
            "That is a share of the number of values; their sizes matter.",
        ),
        (_smallest_first, "You begin with the smallest; the best approximation keeps the largest."),
        (
            lambda values, share: spectra.rank_for_energy(values, 1 - share),
            "That is the rank which keeps 1 - share.",
        ),
    ],
    hints=[
        "The energy is the sum of the squared singular values; they come largest first.",
        "Add squares from the largest on, until the sum is at least share times the total.",
        "torch.cumsum(torch.tensor(singular_values) ** 2, 0) gives all these sums; count those that are too "
        "small and add one.",
    ],
    solution=SOLUTION,
)
