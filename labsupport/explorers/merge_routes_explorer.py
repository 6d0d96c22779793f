"""The explorer of merging: how much of an update survives the formats that it is added to and kept in."""

from __future__ import annotations

import functools

import ipywidgets as widgets
import torch
from torch import Tensor

from labsupport.core import plots
from labsupport.core.files import LabError
from labsupport.merge_runs import rounding
from labsupport.merge_runs.rounding import Survived
from labsupport.models import tiny_base
from labsupport.teaching.explorer_shell import Explorer, View

RANK, SIDE = 16, 192
LEAST, LARGEST = 0.001, 100.0  # percent of |W|
SIZES = tuple(10 ** (place / 4) / 100 for place in range(-12, 9))  # |dW| / |W| of the curves, in quarters
# Of data/tiny_base, which was trained in float32: its weights are on no format's grid. Of layer 2, because
# layer 1 has rows of zeros.
WEIGHTS = {
    "Gaussian": None,
    "tiny_base, q_proj": "model.layers.2.self_attn.q_proj",
    "tiny_base, down_proj": "model.layers.2.mlp.down_proj",
}
LINES = {"float32": (plots.GREY, "--"), "bfloat16": (plots.BLUE, "-."), "NF4": (plots.ORANGE, "-")}


@functools.cache
def weight_of(name: str) -> Tensor:
    """The weight, (out, in) float32."""
    if WEIGHTS[name] is None:
        return torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(0)) / SIDE**0.5
    return tiny_base.load()[0].get_submodule(WEIGHTS[name]).weight.detach()


@functools.cache
def update_of(name: str) -> Tensor:
    """A random update of rank 16 as long as the weight: |dW| = |W|."""
    weight, random = weight_of(name), torch.Generator().manual_seed(1)
    update = torch.randn(len(weight), RANK, generator=random)
    update = update @ torch.randn(RANK, weight.shape[1], generator=random)
    return update * (weight.norm() / update.norm())


@functools.lru_cache(maxsize=1024)
def survived(name: str, start: str, end: str, relative: float) -> Survived:
    """What is left of the update at |dW| / |W| = relative."""
    total = rounding.sums(weight_of(name), [relative * update_of(name)], start, end)
    return rounding.survived(total[0])


def view(weight: str = "Gaussian", start: str = "NF4", end: str = "NF4", percent: float = 1.0) -> View:
    """What of an update survives in all pairs of formats, and one pair's curves over the update's size.

    start: the format of the weight that the update is added to; end: of the sum; percent: |dW| in percent of
    |W|. Raises LabError for what is not offered.
    """
    formats = tuple(rounding.FORMATS)
    offered = {"weight": (weight, tuple(WEIGHTS)), "base format": (start, formats), "format": (end, formats)}
    for what, (value, known) in offered.items():
        if value not in known:
            raise LabError(f"Unknown {what} {value!r}. There are: {', '.join(known)}.")
    if not LEAST <= percent <= LARGEST:
        raise LabError(f"The update is {percent!r} % of |W|: choose {LEAST:g} to {LARGEST:g}.")
    found = {(a, b): survived(weight, a, b, percent / 100) for a in formats for b in formats}
    own = found[start, end]
    heading = (
        f"An update of {percent:g} % of |W|, added to {start} and kept in {end}: {share(own.kept)} of it "
        f"survives, with a cosine of {shown(own.cosine)} to what was asked."
    )
    table = [row(pair, values, pair == (start, end)) for pair, values in found.items()]
    alt = (
        f"Share of an update that survives in {end}, over its size, for three formats of the base; at "
        f"{percent:g} % "
        + ", ".join(f"{share(found[each, end].kept)} from {each}" for each in formats)
        + ". Thin lines: the cosine."
    )
    return View(heading, table, figure(weight, start, end, percent, own), alt)


def row(pair: tuple[str, str], values: Survived, chosen: bool) -> dict:
    names = {formats: name for name, formats in rounding.ROUTES.items()}
    return {
        "added to → kept in": " → ".join(pair) + (" (chosen)" if chosen else ""),
        "route": names.get(pair, "–"),
        "update kept": share(values.kept),
        "cosine": shown(values.cosine),
        "|change| / |update|": f"{values.size:.2f}",
        "codes changed": share(values.moved),
    }


def share(value: float) -> str:
    return f"{100 * value:.1f} %"


def shown(cosine: float) -> str:
    """The cosine; where nothing changed there is none."""
    return f"{cosine:.3f}" if cosine == cosine else "–"


def figure(weight: str, start: str, end: str, percent: float, own: Survived):
    """Share kept, thick, and cosine, thin, over |dW| / |W|: a colour for each format of the base."""
    fig, axes = plots.figure(height=2.8, place=(0.08, 0.19, 0.9, 0.69))
    for each, (colour, line) in LINES.items():
        curve = [survived(weight, each, end, size) for size in SIZES]
        percents = [100 * size for size in SIZES]
        label = f"added to {each}"
        axes.plot(percents, [100 * v.kept for v in curve], line, color=colour, lw=2.5, label=label)
        axes.plot(percents, [100 * v.cosine for v in curve], line, color=colour, lw=0.8)
    axes.plot(percent, 100 * own.kept, "o", color=LINES[start][0], ms=8)
    axes.set(xscale="log", xlabel="|dW| / |W| (%)", ylabel="kept (%); thin: 100 cosine", ylim=(-5, 125))
    axes.set_xticks([0.001, 0.01, 0.1, 1, 10, 100], ["0.001", "0.01", "0.1", "1", "10", "100"])
    axes.minorticks_off()
    axes.set_title(f"From {start} to {end}: {share(own.kept)} of an update of {percent:g} % of |W| survives")
    axes.legend(loc="center left", fontsize=8)
    return fig


def explore(weight: str = "Gaussian", start: str = "NF4", end: str = "NF4", percent: float = 1.0) -> Explorer:
    """The view with controls, starting at the given values. Raises LabError for values not offered."""
    view(weight, start, end, percent)
    formats = list(rounding.FORMATS)
    controls = {
        "weight": widgets.Dropdown(options=list(WEIGHTS), value=weight, description="weight"),
        "start": widgets.Dropdown(options=formats, value=start, description="update added to"),
        "end": widgets.Dropdown(options=formats, value=end, description="sum kept in"),
        "percent": widgets.BoundedFloatText(
            value=percent, min=LEAST, max=LARGEST, step=0.1, description="|dW| in % of |W|"
        ),
    }
    return Explorer(view, controls, "What a merge keeps")
