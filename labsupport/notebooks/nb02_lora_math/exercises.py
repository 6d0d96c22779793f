"""The exercises of notebook 02, each with the mistakes people make."""

from __future__ import annotations

import math

import numpy as np
import torch

from labsupport import old_names
from labsupport.checking.exercise import Exercise, told
from labsupport.models import lora
from labsupport.notebooks.nb02_lora_math.layer_exercise import layer as layer
from labsupport.updates import spectra


def _random(*shapes, seed):
    """Random float32 tensors of these shapes, of the size 1."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=generator) for shape in shapes]


# ---------------------------------------------------------------- uniform_bound

uniform_bound = Exercise(
    name="lora_math.uniform_bound",
    reference=lora.uniform_bound,
    cases=[(576, math.sqrt(5)), (1536, math.sqrt(5)), (64, 0.0), (100, 0.2)],
    mistakes=told(
        lambda n, a: math.sqrt(2 / ((1 + a**2) * n)),
        "That is the standard deviation. A uniform distribution on (-b, b) has b / sqrt(3): multiply.",
        lambda n, a: 2 / ((1 + a**2) * n),
        "That is the variance: the bound is sqrt(3) times its root.",
        lambda n, a: 6 / ((1 + a**2) * n),
        "You return the bound squared: take the square root.",
        lambda n, a: math.sqrt(3 / n),
        "The gain is missing: it is sqrt(2 / (1 + a^2)), and it is 1 only for a = 1.",
        lambda n, a: math.sqrt(6 / n),
        "You leave out a: the gain is sqrt(2 / (1 + a^2)), sqrt(2) only for a = 0.",
        lambda n, a: math.sqrt(6 / ((1 + a) * n)),
        "a is squared in the gain: sqrt(2 / (1 + a^2)).",
        lambda n, a: 1 / math.sqrt(n),
        "1 / sqrt(fan_in) is right for a = sqrt(5) only; the function gets other values of a too.",
        lambda n, a: math.sqrt(6 / (1 + a**2)) / n,
        "You divide by fan_in; it belongs under the root.",
    ),
    hints=[
        "Kaiming's rule fixes the standard deviation: gain / sqrt(fan_in), with gain = sqrt(2 / (1 + a^2)).",
        "Which b gives U(-b, b) that standard deviation? The variance of U(-b, b) is b^2 / 3.",
        "b = sqrt(3) * sqrt(2 / (1 + a**2)) / sqrt(fan_in)",
    ],
    minutes=10,
    difficulty=2,
)

# ---------------------------------------------------------------- factor_gradients


def _gradient_cases():
    cases = [
        (*_random((out, n), (r, n), (out, r), seed=n), alpha)
        for out, n, r, alpha in ((6, 8, 2, 5), (9, 5, 3, 1.0), (6, 6, 2, 7))
    ]
    gradient, A = _random((4, 6), (3, 6), seed=9)
    return [*cases, (gradient, A, torch.zeros(4, 3), 12)]  # the last one is step 0


factor_gradients = Exercise(
    name="lora_math.factor_gradients",
    reference=lora.factor_gradients,
    cases=_gradient_cases,
    mistakes=told(
        lambda G, A, B, alpha: lora.factor_gradients(G, A, B, alpha)[::-1],
        "Right, but in the other order: return the gradient of A first, then B's.",
        lambda G, A, B, alpha: (B.T @ G, G @ A.T),
        "The factor alpha / r is missing: it multiplies both gradients.",
        lambda G, A, B, alpha: (alpha * B.T @ G, alpha * G @ A.T),
        "You multiply by alpha; the factor is alpha / r.",
        lambda G, A, B, alpha: lora.factor_gradients(G, A, B, alpha**2 / len(A)),
        "alpha / r enters each gradient once, not squared (the first step has it squared).",
        lambda G, A, B, alpha: lora.factor_gradients(G.T, A, B, alpha),
        "The gradient is (out, in), like the weight: do not transpose it.",
        lambda G, A, B, alpha: tuple(g.T for g in lora.factor_gradients(G, A, B, alpha)),
        "Both are transposed: a gradient has the shape of what it belongs to, A's (r, in), B's (out, r).",
        lambda G, A, B, alpha: lora.factor_gradients(G, A, B, alpha * len(A) / len(B)),
        "You divide alpha by the height of B; the rank is its number of columns.",
        lambda G, A, B, alpha: lora.factor_gradients(G, A, B, len(A) ** 2 / alpha),
        "The factor is upside down: alpha / r, not r / alpha.",
        lambda G, A, B, alpha: lora.factor_gradients(-G, A, B, alpha),
        "That is the direction of descent: return the gradients, without the minus.",
        lambda G, A, B, alpha: lora.factor_gradients(G, B.T, A.T, alpha),
        "Each factor's gradient holds the other factor: B in A's gradient, A in B's.",
    ),
    hints=[
        "The weight is W + s B A. Move A a little: by how much does the weight move?",
        "The shapes decide: A's gradient is (r, in), from B (out, r) and the weight's gradient (out, in).",
        "s * B.T @ weight_gradient for A, s * weight_gradient @ A.T for B, with s = alpha / r.",
    ],
    minutes=15,
    difficulty=2,
    returns="tensor",
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
        ([0.8, 0.4, 0.3, 0.2, 0.1], 0.7),
        ([0.5, 0.4, 0.4, 0.3, 0.1], 0.75),
    ],
    mistakes=told(
        lambda values, share: spectra.rank_for_energy(np.sqrt(values), share),
        "Energy is the sum of the squares: square the singular values first.",
        lambda values, share: int((np.cumsum(np.square(values)) < share).sum()) + 1,
        "You compare the energy itself with share: divide by the total energy first.",
        lambda values, share: int((spectra.energy_curve(values) <= share).sum()) + 1,
        "Reaching the share exactly is enough: at least, not more than.",
        lambda values, share: spectra.rank_for_energy(np.square(values), share),
        "You square twice: the energy is the sum of the squared singular values.",
        lambda values, share: spectra.rank_for_energy(values, share**2),
        "That is a share of the norm, the root of the energy: compare the sums of squares.",
        lambda values, share: spectra.rank_for_energy(values, share) - 1,
        "That is the index, counted from 0, where it is reached; the rank is one more.",
        lambda values, share: spectra.rank_for_energy(values, share) + 1,
        "One too many: the rank at which the share is reached, reaching it exactly included.",
        lambda values, share: sum(s >= (1 - share) * max(values) for s in values),
        "You count the values above a share of the largest; add up the squares instead.",
        lambda values, share: math.ceil(share * len(values)),
        "That is a share of the number of values; their sizes matter.",
        _smallest_first,
        "You begin with the smallest; the best approximation keeps the largest.",
        lambda values, share: spectra.rank_for_energy(values, 1 - share),
        "That is the rank which keeps 1 - share.",
    ),
    hints=[
        "The energy is the sum of the squared singular values; they come largest first.",
        "Add squares from the largest on, until the sum is at least share times the total.",
        "torch.cumsum(torch.tensor(singular_values) ** 2, 0) gives all these sums; count those that are too "
        "small and add one.",
    ],
    minutes=15,
    difficulty=2,
)

# ---------------------------------------------------------------- cut


def _cut_cases():
    tall, wide, square = _random((7, 4), (4, 9), (6, 6), seed=10)
    return [(tall, 2), (wide, 1), (wide, 3), (square, 4), (tall, 4)]


def _kept(update, places, power=1):
    U, S, V = torch.linalg.svd(update, full_matrices=False)
    return (U[:, places] * S[places] ** power) @ V[places]


def _columns_of_v(update, rank):
    U, S, V = torch.linalg.svd(update, full_matrices=False)
    return (U[:, :rank] * S[:rank]) @ V[:, :rank].T


def _corner(update, rank):
    corner = torch.zeros_like(update)
    corner[:rank, :rank] = update[:rank, :rank]
    return corner


cut = Exercise(
    name="lora_math.cut",
    reference=lambda update, rank: spectra.low_rank(torch.linalg.svd(update, full_matrices=False), rank),
    cases=_cut_cases,
    mistakes=told(
        lambda update, rank: _kept(update, slice(-rank, None)),
        "You keep the smallest singular values; the best approximation keeps the largest, which come first.",
        lambda update, rank: _kept(update, slice(0, rank), power=0),
        "The singular values are missing: scale each column of U by its own.",
        lambda update, rank: _kept(update, slice(0, rank), power=2),
        "The singular values enter twice: scale U by them or V, not both.",
        lambda update, rank: _kept(update, slice(0, rank), power=0.5),
        "You use the roots of the singular values once: a root on each side would make the whole.",
        lambda update, rank: _kept(update, slice(0, max(1, rank - 1))),
        "One too few: `rank` values are kept, from number 0 to number rank - 1.",
        lambda update, rank: _kept(update, slice(0, rank + 1)),
        "One too many: `rank` values are kept, from number 0 to number rank - 1.",
        _columns_of_v,
        "torch's svd gives V transposed already: keep its first rows, and do not transpose it again.",
        lambda update, rank: update - _kept(update, slice(0, rank)),
        "That is what the approximation leaves out.",
        _corner,
        "That is a corner of the matrix. A low rank is no small size: cut the SVD, not the matrix.",
        lambda update, rank: update,
        "The update is still whole.",
    ),
    hints=[
        "torch.linalg.svd(update, full_matrices=False) gives U, S and V (already transposed).",
        "Keep the first `rank` columns of U, entries of S and rows of V, and multiply them together.",
        "(U[:, :rank] * S[:rank]) @ V[:rank]",
    ],
    minutes=10,
    difficulty=2,
    returns="tensor",
)


def __getattr__(name: str):
    return old_names.retired(__name__, name)
