"""What rounding to 4 bits does to weights: NF4 beside INT4, FP4 and the levels of least error.

Blocks of weights, each with one scale, are (blocks, blocksize) float32.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from labsupport.core.files import LabError
from labsupport.models import nf4

FP4 = ("FP4 E2M1", "FP4 bitsandbytes")  # the standard's, and the library's
FORMATS = ("NF4", "INT4 -7..7", "INT4 -8..7", "INT4 min-max", "FP4", "Lloyd-Max")  # of older notebooks
ALL_FORMATS = ("NF4", "INT4 -7..7", "INT4 -8..7", "INT4 min-max", *FP4, "Lloyd-Max")
WEIGHTS = ("Gaussian", "Student t5")


def random_weights(kind: str, count: int, seed: int = 0) -> Tensor:
    """`count` random float32 weights of variance about 1: "Gaussian" or "Student t5" (heavy tails)."""
    random = torch.Generator().manual_seed(seed)
    normal = torch.randn(count, generator=random)
    if kind == "Gaussian":
        return normal
    if kind == "Student t5":
        chi2 = torch.randn(5, count, generator=random).square().sum(0)
        return normal / (chi2 / 5).sqrt() * (3 / 5) ** 0.5
    raise LabError(f"Unknown weights {kind!r}. There are: {', '.join(WEIGHTS)}.")


def levels(name: str, blocks: Tensor | None = None) -> Tensor:
    """Ascending levels of a format for weights scaled to [-1, 1]. Lloyd-Max needs the blocks it shall fit.

    "FP4 E2M1" is the standard's (OCP Microscaling Formats): a sign, two bits of exponent and one of mantissa
    give 0, 0.5, 1, 1.5, 2, 3, 4 and 6, here over 6. "FP4 bitsandbytes", for short "FP4", has 1/192 for its
    1/12 and the others alike. "INT4 min-max" has 16 even steps from a block's least to its largest weight.
    Raises LabError.
    """
    if name == "Lloyd-Max" and blocks is not None:
        return lloyd_max(blocks)
    if name == "NF4":
        return nf4.levels()
    if name in (*FP4, "FP4"):
        least = 1 / 12 if name == "FP4 E2M1" else 1 / 192
        half = torch.tensor([least, 1 / 6, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 1])
        return torch.cat([-half.flip(0), torch.zeros(1), half])
    if name == "INT4 min-max":
        return torch.linspace(-1, 1, 16)
    if name in ("INT4 -7..7", "INT4 -8..7"):
        lowest = -int(name[6])
        return torch.arange(lowest, 8) / -lowest
    raise LabError(f"Unknown format {name!r}. There are: {', '.join(ALL_FORMATS)}.")


def lloyd_max(blocks: Tensor, rounds: int = 300, bins: int = 4096) -> Tensor:
    """The 16 levels with the least squared error for these weights.

    Lloyd's algorithm from NF4, on a histogram of the scaled weights, each weighted by its squared scale.
    """
    values, absmax = nf4.scaled(blocks)
    place = ((values + 1) / 2 * bins).long().clamp(max=bins - 1).flatten()
    weight = absmax.double().square().repeat_interleave(blocks.shape[1])
    mass = torch.bincount(place, weight, bins)
    moment = torch.bincount(place, weight * values.flatten(), bins)
    mass, moment = (F.pad(x.cumsum(0), (1, 0)) for x in (mass, moment))  # sums up to an edge
    edges = torch.linspace(-1, 1, bins + 1, dtype=torch.float64)
    found = nf4.levels().double()
    for _ in range(rounds):
        cut = torch.searchsorted(edges, nf4.thresholds(found))
        cut = F.pad(F.pad(cut, (1, 0)), (0, 1), value=bins)
        inside = mass[cut].diff()
        found = torch.where(inside > 0, moment[cut].diff() / inside.clamp(min=1e-30), found)
    return found.float()


def bits_a_weight(name: str, blocksize: int = 64, double: bool = True) -> float:
    """Bits a weight in all: 4 and the scales; min-max stores a second constant for each block."""
    return 4 + nf4.scale_bits(blocksize, double) * (2 if name == "INT4 min-max" else 1)


def normalised(blocks: Tensor, name: str) -> tuple[Tensor, Tensor, Tensor | float]:
    """Blocks on the axis of a format's levels, from -1 to 1; what they were divided by after what was
    subtracted. All formats but min-max keep 0 where it is."""
    middle = 0.0
    half = blocks.abs().amax(1, keepdim=True)
    if name == "INT4 min-max":
        low, high = blocks.amin(1, keepdim=True), blocks.amax(1, keepdim=True)
        middle, half = (high + low) / 2, (high - low) / 2
    half = half.clamp(min=1e-38)  # a block of equal weights
    return (blocks - middle) / half, half, middle


def round_trip(blocks: Tensor, name: str, code: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Codes and restored weights (both of the shape of blocks) and the levels of a format.

    code: levels to use instead of the format's own.
    """
    code = levels(name, blocks) if code is None else code
    values, half, middle = normalised(blocks, name)
    codes = torch.bucketize(values, nf4.thresholds(code))
    return codes, code[codes] * half + middle, code


def relative_error(weights: Tensor, restored: Tensor) -> float:
    """Squared error over squared weights, both summed."""
    return ((restored - weights).double().square().sum() / weights.double().square().sum()).item()


def occupancy(codes: Tensor, count: int = 16) -> Tensor:
    """The share of weights at each of `count` levels, (count,) float64."""
    return torch.bincount(codes.flatten().long(), minlength=count).double() / codes.numel()


def entropy(shares: Tensor) -> float:
    """Bits a code carries: -sum p log2 p."""
    return -torch.special.xlogy(shares, shares).sum().item() / torch.log(torch.tensor(2.0)).item()
