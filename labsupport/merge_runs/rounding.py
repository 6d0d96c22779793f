"""One weight and its update, merged by every route, in numbers alone; and how much of the update is left.

A route begins with a weight in some format, adds the update dW, and keeps the sum in some format. What begins
on the grid of the format that it is kept in moves only where dW reaches half-way to the next value. What
begins off that grid is rounded this way or that even by a small dW, at some places and not at others: on
average dW survives, with noise of the grid's size beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from labsupport.core.files import LabError
from labsupport.models import nf4
from labsupport.qlora_runs import base_arms


class Kept(NamedTuple):
    """A weight in a format: the numbers that it stands for, float32, and what is stored for each entry (NF4's
    4-bit codes; elsewhere the numbers themselves)."""

    numbers: Tensor
    codes: Tensor


def in_float32(weight: Tensor) -> Kept:
    return Kept(weight, weight)


def in_bfloat16(weight: Tensor) -> Kept:
    numbers = weight.to(torch.bfloat16).to(torch.float32)
    return Kept(numbers, numbers)


def in_nf4(weight: Tensor) -> Kept:
    """Blocks of 64, the scales quantised, too: `base_arms.rounded` with its codes."""
    quantized = nf4.quantize(weight, base_arms.BLOCK, double=True)
    return Kept(nf4.dequantize(quantized), nf4.unpack(quantized.packed).reshape(weight.shape))


FORMATS = {"float32": in_float32, "bfloat16": in_bfloat16, "NF4": in_nf4}
# Route -> the format of the weight that the update is added to, and of the sum. The adapter was trained
# beside NF4; tests/merge_runs holds each route against the libraries.
ROUTES = {
    "dequantised": ("NF4", "float32"),
    "dequantised, bfloat16": ("NF4", "bfloat16"),
    "float32 base": ("float32", "float32"),
    "bfloat16 base": ("bfloat16", "bfloat16"),
    "re-quantised": ("float32", "NF4"),
    "in place": ("NF4", "NF4"),
}


class Sums(NamedTuple):
    """What `Survived` is made of, so that matrices can be added up: sums over their entries."""

    asked: float  # dW²
    got: float  # D², for what changed
    both: float  # dW · D
    base: float  # W², of what is kept without an update
    moved: float  # entries whose code changes
    entries: float

    def __add__(self, other: Sums) -> Sums:
        return Sums(*(a + b for a, b in zip(self, other, strict=True)))


NOTHING = Sums(0, 0, 0, 0, 0, 0)


class Survived(NamedTuple):
    """What a route leaves of an update dW; D is what it changes, beside the same route without an update.

    `kept` = D·dW / dW·dW: 1 if all of dW is in D, whatever else is. `cosine` of D and dW: 1 if nothing else
    is. `size` = |D| / |dW|. `moved`: the share of the weights whose code changes. (D may not be 0 where none
    does: in NF4 a block's scale can.) `relative` = |dW| / |W|. NaN where there is no update, and for the
    cosine where nothing changes.
    """

    kept: float
    cosine: float
    size: float
    moved: float
    relative: float


def merged(weight: Tensor, delta: Tensor, start: str, end: str) -> Kept:
    """A weight (out, in) brought to the format `start`, plus its update, brought to `end`.

    LabError for a format that is not of FORMATS, and for two shapes.
    """
    return added(FORMATS[known(start)](weight.detach().float()).numbers, delta, end)


def added(base: Tensor, delta: Tensor, end: str) -> Kept:
    """A float32 weight plus its update, brought to `end`. LabError as `merged`."""
    if base.shape != delta.shape:
        raise LabError(
            f"The weight is {tuple(base.shape)} and its update {tuple(delta.shape)}: give both alike."
        )
    return FORMATS[known(end)](base + delta.detach().float())


def known(name: str) -> str:
    """The format's name. LabError if it is none of FORMATS."""
    if name not in FORMATS:
        raise LabError(f"Unknown format {name!r}. There are: {', '.join(FORMATS)}.")
    return name


def sums(weight: Tensor, deltas: Sequence[Tensor], start: str, end: str) -> list[Sums]:
    """The sums of one matrix for each of several updates of it. LabError as `merged`."""
    base = FORMATS[known(start)](weight.detach().float()).numbers
    before = FORMATS[known(end)](base)
    found = []
    for delta in deltas:
        after = added(base, delta, end)
        asked, change = delta.detach().float(), after.numbers - before.numbers
        moved = after.codes != before.codes
        parts = (asked.square(), change.square(), asked * change, before.numbers.square(), moved)
        found.append(Sums(*(float(part.sum()) for part in parts), float(delta.numel())))
    return found


def survived(total: Sums) -> Survived:
    """What is left of an update, from the sums of one matrix or of many."""
    lengths = math.sqrt(total.asked * total.got)
    return Survived(
        kept=total.both / total.asked if total.asked else math.nan,
        cosine=total.both / lengths if lengths else math.nan,
        size=math.sqrt(total.got / total.asked) if total.asked else math.nan,
        moved=total.moved / total.entries,
        relative=math.sqrt(total.asked / total.base),
    )
