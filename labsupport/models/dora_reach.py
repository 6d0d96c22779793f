"""How near to a wanted weight LoRA and DoRA can come at all, at a rank. Nothing is trained here.

A weight is (out, in). LoRA reaches W + L, for every L of the rank. DoRA reaches m · (W + Δ) / ‖W + Δ‖, for
every Δ of the rank and every m. With c for the factor m / ‖W + Δ‖ of each row, that is c · W + c · Δ, and
c · Δ has the rank of Δ: DoRA reaches every c · W + L in which no c is zero. It is LoRA after one free
factor for each row. The norms of DoRA's formula (Liu et al. 2024, equation 5) are one a row here, as in PEFT.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from labsupport.core.files import LabError
from labsupport.models import dora

ROUNDS = 20  # at most; the fit mostly stops after three
EXACT = 1e-9  # of the change: rounding in float64


class Change(NamedTuple):
    """A weight (out, in); W + Δ, which turns its rows; the factor c (out,) of each row after that; and the
    wanted weight c · (W + Δ)."""

    weight: Tensor
    turned: Tensor
    factors: Tensor
    target: Tensor


def make_change(
    weight: Tensor, scales: Tensor, degrees: float, directions: Tensor, keep_lengths: bool
) -> Change:
    """Every row turned by exactly so many degrees (0 to below 90), and its length multiplied by its scale.

    scales (out,), none zero. directions (out, in): where each row of the weight is moved to, or its opposite;
    their rank is the rank of Δ. keep_lengths: turning alone leaves the lengths as they were; otherwise a row
    has the length of w + Δ, times its scale. LabError for a row of zeros, which has no direction.
    """
    lengths = dora.row_norms(weight)
    if not lengths.all():
        raise LabError("The weight has a row of zeros, which cannot be turned: take another matrix.")
    directions = directions / dora.row_norms(directions)[:, None]
    along = (weight * directions).sum(1) / lengths  # cosines
    across, tangent = (1 - along**2).sqrt(), math.tan(math.radians(degrees))
    # w + b·d has the angle whose tangent is b·across / (|w| + b·along). Of d and -d the one is taken that
    # leads away from w: with it, every angle below 90 degrees has a b.
    steps = lengths * tangent / (across + along.abs() * tangent)
    turned = weight - (steps * torch.where(along > 0, 1.0, -1.0))[:, None] * directions
    factors = scales * lengths / dora.row_norms(turned) if keep_lengths else scales
    return Change(weight, turned, factors, factors[:, None] * turned)


def best_low_rank(matrix: Tensor, rank: int) -> Tensor:
    """The nearest matrix of that rank in the Frobenius norm (Eckart and Young 1936); rank 0 gives zeros."""
    left = torch.linalg.eigh(matrix @ matrix.T)[1][:, matrix.shape[0] - min(rank, matrix.shape[0]) :]
    return left @ (left.T @ matrix)  # faster than an SVD of a matrix that is wider than high


def row_factors(weight: Tensor, target: Tensor) -> Tensor:
    """For each row the factor (out,) that brings it nearest to the target's."""
    return (target * weight).sum(1) / weight.square().sum(1)


def miss(change: Change, reached: Tensor) -> float:
    """‖target - reached‖ / ‖target - weight‖: 0 is there, 1 is as far off as before. LabError if the target
    is the weight."""
    whole = (change.target - change.weight).norm()
    if not whole > 0:
        raise LabError("Nothing changes: the target is the weight itself. Change lengths or directions.")
    return ((change.target - reached).norm() / whole).item()


def lora_misses(change: Change) -> list[float]:
    """`miss` of the nearest weight that LoRA reaches at rank 0 (no LoRA), 1, ... up to the smaller side."""
    squares = torch.linalg.svdvals(change.target - change.weight).square()
    if not squares.sum() > 0:
        miss(change, change.weight)  # says so
    left = squares.flip(0).cumsum(0).flip(0) / squares.sum()
    return [*left.sqrt().tolist(), 0.0]


def dora_fit(change: Change, rank: int) -> tuple[Tensor, Tensor]:
    """c (out,) and L (out, in) of that rank or below, such that c · W + L is near the target.

    Two starts: the change's own factors, and all c 1, which is LoRA. From each, L and c are set to their best
    in turn, until that gains no more. So DoRA is never worse than LoRA, and exact if the rank is not below
    Δ's; rank 0, the lengths alone, is exact as well. In between nobody knows the best: this bounds it from
    above. (In 104 pairs of a change of tiny_base's v_proj and a rank, its `miss` was at most 0.0004 above the
    best of four other starts with 150 rounds each.)
    """
    found = []
    for factors in (change.factors, torch.ones_like(change.factors)):
        before = math.inf
        for _ in range(ROUNDS):
            low = best_low_rank(change.target - factors[:, None] * change.weight, rank)
            left = miss(change, factors[:, None] * change.weight + low)
            found.append((left, factors, low))
            if left < EXACT:
                return factors, low
            if left > 0.999 * before:
                break
            before, factors = left, row_factors(change.weight, change.target - low)
    return min(found, key=lambda each: each[0])[1:]
