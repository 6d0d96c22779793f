"""The quantiser: what a 4-bit format does to weights, by block size, tails and outliers."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import ipywidgets as widgets
import torch

from labsupport.core import plots
from labsupport.models import nf4
from labsupport.teaching import explorer_shell
from labsupport.core.files import LabError

COUNT = 2**14
EVERY = 4096  # one outlier in so many weights
WEIGHTS = ("Gaussian", "Student t5")
LARGEST = 1000.0  # sigma


@dataclass(frozen=True)
class Quantised:
    """The chosen format on the sample, and the errors of all: `values` are the weights scaled to [-1, 1]."""

    values: torch.Tensor
    levels: torch.Tensor
    shares: torch.Tensor
    errors: dict[str, float]
    entropies: dict[str, float]


@functools.lru_cache(maxsize=8)
def weights_of(kind: str, outlier: float, seed: int) -> torch.Tensor:
    weight = nf4.sample(kind, COUNT, seed)
    if outlier:
        weight[EVERY // 2 :: EVERY] = outlier
    return weight


@functools.lru_cache(maxsize=64)
def lloyd_levels(kind: str, blocksize: int) -> torch.Tensor:
    """Fitted on other weights than those shown, and without the outliers."""
    return nf4.lloyd_max(nf4.sample(kind, 4 * COUNT, seed=1).view(-1, blocksize), rounds=100)


def compute(
    name: str = "NF4", blocksize: int = 64, weights: str = "Gaussian", outlier: float = 0.0
) -> Quantised:
    """All formats on 16,384 random weights. outlier: in sigma, one weight in 4,096; 0 for none.

    Raises LabError for a name, block size or outlier that is not offered.
    """
    for value, known, what in ((name, nf4.FORMATS, "format"), (weights, WEIGHTS, "weights")):
        if value not in known:
            raise LabError(f"Unknown {what} {value!r}. There are: {', '.join(known)}.")
    if not 0 <= outlier <= LARGEST:
        raise LabError(f"The outlier is {outlier!r} sigma: choose 0 (none) to {LARGEST:g}.")
    blocks = nf4.checked(weights_of(weights, float(outlier), seed=0), blocksize)
    errors, entropies, chosen = {}, {}, None
    for each in nf4.FORMATS:
        fitted = lloyd_levels(weights, blocksize) if each == "Lloyd-Max" else None
        codes, restored, levels = nf4.coded(blocks, each, fitted)
        # The outliers keep most of the squared weights; what matters is what they do to the others.
        rest = restored.flatten(), blocks.flatten()
        if outlier:
            keep = torch.arange(COUNT) % EVERY != EVERY // 2
            rest = rest[0][keep], rest[1][keep]
        errors[each] = nf4.relative_error(rest[1], rest[0])
        shares = nf4.occupancy(codes, len(levels))
        entropies[each] = nf4.entropy(shares)
        if each == name:
            chosen = levels, shares
    return Quantised(shown_values(blocks, name), *chosen, errors, entropies)


def shown_values(blocks: torch.Tensor, name: str) -> torch.Tensor:
    """The weights on the axis of the format's levels."""
    if name != "INT4 min-max":
        return nf4.scaled(blocks)[0].flatten()
    low, high = blocks.amin(1, keepdim=True), blocks.amax(1, keepdim=True)
    return (2 * (blocks - low) / (high - low) - 1).flatten()


def view(
    name: str = "NF4", blocksize: int = 64, weights: str = "Gaussian", outlier: float = 0.0
) -> explorer_shell.View:
    """Heading, error table of all formats and a histogram with the levels of one."""
    result = compute(name, blocksize, weights, outlier)
    error, best = result.errors[name], min(result.errors, key=result.errors.get)
    heading = (
        f"{name} with blocks of {blocksize}: squared error {100 * error:.2f} % of the squared weights, "
        f"{result.entropies[name]:.2f} of 4 bits used; least error here: {best}."
    )
    table = [
        {
            "format": each,
            "error": f"{100 * value:.2f} %",
            "to NF4": f"{value / result.errors['NF4']:.2f}",
            "entropy": f"{result.entropies[each]:.2f} bits",
            "bits a weight": f"{nf4.format_bits(each, blocksize):.3f}",
        }
        for each, value in result.errors.items()
    ]
    least, most = 100 * result.shares.min(), 100 * result.shares.max()
    alt = (
        f"Histogram of {weights} weights scaled by blocks of {blocksize}, with the {len(result.levels)} "
        f"levels of {name} as lines; each level holds {least:.1f} to {most:.1f} % of the weights."
    )
    return explorer_shell.View(heading, table, histogram(result, name, blocksize), alt)


def histogram(result: Quantised, name: str, blocksize: int):
    fig, axes = plots.figure(height=2.6, place=(0.08, 0.2, 0.9, 0.68))
    counts = torch.histc(result.values, 80, -1, 1)
    axes.stairs(counts / counts.sum() * 40, torch.linspace(-1, 1, 81), fill=True, color=plots.BLUE, alpha=0.5)
    axes.vlines(result.levels, 0, 1, transform=axes.get_xaxis_transform(), color=plots.ORANGE, linewidth=1)
    least, most = 100 * result.shares.min(), 100 * result.shares.max()
    axes.set(xlabel="weight, in units of its block's scale", ylabel="density", xlim=(-1.02, 1.02))
    axes.set_xticks(torch.linspace(-1, 1, 5).tolist())
    axes.set_title(f"{name}, blocks of {blocksize}: a level holds {least:.1f} to {most:.1f} % of the weights")
    return fig


def explore(
    name: str = "NF4", blocksize: int = 64, weights: str = "Gaussian", outlier: float = 0.0
) -> explorer_shell.Explorer:
    """The view with controls, starting at the given values. Raises LabError for values not offered."""
    compute(name, blocksize, weights, outlier)
    controls = {
        "name": widgets.Dropdown(options=nf4.FORMATS, value=name, description="format"),
        "blocksize": widgets.Dropdown(options=nf4.BLOCK_SIZES, value=blocksize, description="block size"),
        "weights": widgets.Dropdown(options=WEIGHTS, value=weights, description="weights"),
        "outlier": widgets.BoundedFloatText(
            value=outlier, min=0, max=LARGEST, step=5, description="outlier (sigma, one weight in 4,096)"
        ),
    }
    return explorer_shell.Explorer(view, controls, "The quantiser")
