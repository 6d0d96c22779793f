"""The quantiser: what a 4-bit format does to weights, by block size, tails and outliers."""

from __future__ import annotations

import functools
from typing import NamedTuple

import ipywidgets as widgets
import torch

from labsupport.core import plots
from labsupport.core.files import LabError
from labsupport.evaluation import four_bit
from labsupport.models import nf4
from labsupport.teaching.explorer_shell import Explorer, View

COUNT = 2**14
EVERY = 4096  # one outlier in so many weights
LARGEST = 1000.0  # sigma


class Rounding(NamedTuple):
    """What one format makes of the weights: shares are the weights' at each of its levels."""

    error: float
    entropy: float
    levels: torch.Tensor
    shares: torch.Tensor


@functools.lru_cache(maxsize=8)
def weights_of(kind: str, outlier: float) -> torch.Tensor:
    weight = four_bit.random_weights(kind, COUNT)
    if outlier:
        weight[EVERY // 2 :: EVERY] = outlier
    return weight


@functools.lru_cache(maxsize=64)
def lloyd_levels(kind: str, blocksize: int) -> torch.Tensor:
    """Fitted on other weights than those shown, and without the outliers."""
    return four_bit.lloyd_max(four_bit.random_weights(kind, 4 * COUNT, 1).view(-1, blocksize), rounds=100)


def compare_formats(blocks: torch.Tensor, kind: str, outlier: float) -> dict[str, Rounding]:
    """Every format on these weights of that kind."""
    found = {}
    for name in four_bit.ALL_FORMATS:
        fitted = lloyd_levels(kind, blocks.shape[1]) if name == "Lloyd-Max" else None
        codes, restored, levels = four_bit.round_trip(blocks, name, fitted)
        # The outliers keep most of the squared weights; what matters is what they do to the others.
        others = torch.arange(COUNT) % EVERY != (EVERY // 2 if outlier else -1)
        error = four_bit.relative_error(blocks.flatten()[others], restored.flatten()[others])
        shares = four_bit.occupancy(codes, len(levels))
        found[name] = Rounding(error, four_bit.entropy(shares), levels, shares)
    return found


def view(name: str = "NF4", blocksize: int = 64, weights: str = "Gaussian", outlier: float = 0.0) -> View:
    """Error table of all formats on 16,384 random weights, and a histogram with the levels of one.

    outlier: in sigma, one weight in 4,096; 0 for none. Raises LabError for what is not offered.
    """
    for value, known, what in (
        (name, four_bit.ALL_FORMATS, "format"),
        (weights, four_bit.WEIGHTS, "weights"),
    ):
        if value not in known:
            raise LabError(f"Unknown {what} {value!r}. There are: {', '.join(known)}.")
    if not 0 <= outlier <= LARGEST:
        raise LabError(f"The outlier is {outlier!r} sigma: choose 0 (none) to {LARGEST:g}.")
    blocks = nf4.blocks_of(weights_of(weights, float(outlier)), blocksize)
    found = compare_formats(blocks, weights, outlier)
    chosen, best = found[name], min(found, key=lambda each: found[each].error)
    heading = (
        f"{name} with blocks of {blocksize}: squared error {100 * chosen.error:.2f} % of the squared "
        f"weights, {chosen.entropy:.2f} of 4 bits used; least error here: {best}."
    )
    table = [
        {
            "format": each,
            "error": f"{100 * rounding.error:.2f} %",
            "to NF4": f"{rounding.error / found['NF4'].error:.2f}",
            "entropy": f"{rounding.entropy:.2f} bits",
            "bits a weight": f"{four_bit.bits_a_weight(each, blocksize):.3f}",
        }
        for each, rounding in found.items()
    ]
    share = f"{100 * chosen.shares.min():.1f} to {100 * chosen.shares.max():.1f} % of the weights"
    alt = (
        f"Histogram of {weights} weights scaled by blocks of {blocksize}, with the {len(chosen.levels)} "
        f"levels of {name} as lines; each level holds {share}."
    )
    title = f"{name}, blocks of {blocksize}: a level holds {share}"
    values = four_bit.normalised(blocks, name)[0].clamp(-1, 1)
    return View(heading, table, histogram(values, chosen.levels, title), alt)


def histogram(values: torch.Tensor, levels: torch.Tensor, title: str):
    fig, axes = plots.figure(height=2.6, place=(0.08, 0.2, 0.9, 0.68))
    counts = torch.histc(values, 80, -1, 1)
    axes.stairs(counts / counts.sum() * 40, torch.linspace(-1, 1, 81), fill=True, color=plots.BLUE, alpha=0.5)
    axes.vlines(levels, 0, 1, transform=axes.get_xaxis_transform(), color=plots.ORANGE, linewidth=1)
    axes.set(xlabel="weight, in units of its block's scale", ylabel="density", xlim=(-1.02, 1.02))
    axes.set_xticks(torch.linspace(-1, 1, 5).tolist())
    axes.set_title(title)
    return fig


def explore(
    name: str = "NF4", blocksize: int = 64, weights: str = "Gaussian", outlier: float = 0.0
) -> Explorer:
    """The view with controls, starting at the given values. Raises LabError for values not offered."""
    view(name, blocksize, weights, outlier)
    controls = {
        "name": widgets.Dropdown(options=four_bit.ALL_FORMATS, value=name, description="format"),
        "blocksize": widgets.Dropdown(options=nf4.BLOCK_SIZES, value=blocksize, description="block size"),
        "weights": widgets.Dropdown(options=four_bit.WEIGHTS, value=weights, description="weights"),
        "outlier": widgets.BoundedFloatText(
            value=outlier, min=0, max=LARGEST, step=5, description="outlier (sigma, one weight in 4,096)"
        ),
    }
    return Explorer(view, controls, "The quantiser")
