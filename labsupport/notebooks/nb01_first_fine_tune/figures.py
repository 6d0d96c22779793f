"""The figures of notebook 01: every method with its interval, the fields' NLL, and loss curves."""

from __future__ import annotations

from labsupport.baselines.forest import LOOK, marks
from labsupport.baselines.forest import exact_match as forest
from labsupport.core import plots

__all__ = ["curves", "fields", "forest"]


def fields(nll: dict[tuple[str, str], dict[str, tuple]], title: str):
    """A panel a set, a line a field. nll: (set, model) -> field -> (mean, low, high) in nats."""
    fig, panels = plots.figure(columns=2, sharey=True, sharex=True)
    looks = {"base": (plots.GREY, "s", -0.15), "LoRA": (plots.BLUE, "o", 0.15)}
    for axes, split in zip(panels, LOOK, strict=True):
        for model, look in looks.items():
            marks(axes, nll[split, model], *look, model)
        axes.set(xlabel="NLL of the right value (nats)", title=split, xlim=(0, None))
    panels[0].invert_yaxis()
    panels[1].legend(loc="lower right")
    fig.suptitle(title, x=0.02, ha="left")
    return fig


def curves(losses: dict[str, tuple[list, list]], title: str):
    """Loss over optimizer steps, a line a run. losses: run -> (steps, loss in nats a token)."""
    fig, axes = plots.figure()
    looks = zip((plots.BLUE, plots.ORANGE), ("o-", "s--"), strict=True)
    for (run, (steps, values)), (colour, style) in zip(losses.items(), looks, strict=False):
        axes.plot(steps, values, style, color=colour, markersize=3.5, label=run)
    axes.set(xlabel="optimizer step", ylabel="training loss (nats a token)", ylim=(0, None), title=title)
    if len(losses) > 1:
        axes.legend()
    return fig
