"""PEFT's published comparison as a figure: what was answered right over the memory that training took."""

from __future__ import annotations

from labsupport.core import plots
from labsupport.method_runs import figures, published

GAP = 2.9  # points between two names
PANELS = ((18.4, 28.0), (34.5, 38.5))  # GiB: most runs with their names beside them, and those of all weights
NAMES = 24.9  # GiB where the column of names begins


def quality_over_memory(runs: dict[str, published.Run], title: str, chosen: dict = published.CHOSEN):
    """% right over the peak of reserved memory, GiB: every run a dot, blue at the default rate and orange at
    another; the chosen ones with two standard errors and their names."""
    fig, axes = plots.figure(2, height=4.6, sharey=True, width_ratios=(5, 1))
    for axis, (low, high) in zip(axes, PANELS, strict=True):
        here = {name: run for name, run in runs.items() if low <= run.reserved_gib < high}
        for name, run in here.items():
            place, colour = (run.reserved_gib, 100 * run.accuracy), colour_of(run)
            if name in chosen:
                axis.errorbar(*place, yerr=200 * run.error, fmt="o", color=colour, capsize=2)
            else:
                axis.plot(*place, ".", color=colour, alpha=0.4)
        axis.set_xlim(low, high)
    near, far = axes
    write_names(near, {name: run for name, run in runs.items() if run.reserved_gib < NAMES}, chosen)
    for name, run in runs.items():
        if name in chosen and run.reserved_gib >= NAMES:
            place = (run.reserved_gib, 100 * run.accuracy + 200 * run.error + 1)
            far.annotate(chosen[name].replace(" ", "\n"), place, ha="center", va="bottom", fontsize=8)
    near.set(xlabel="peak of reserved memory, GiB", ylabel="% of questions right, ± 2 SE", ylim=(-4, 66))
    near.set_title(title)
    near.plot([], [], "o", color=plots.BLUE, label=f"learning rate {published.DEFAULT_RATE:g}, their default")
    near.plot([], [], "o", color=plots.ORANGE, label="another rate")
    near.legend(loc="upper left", ncols=2)
    return fig


def colour_of(run: published.Run) -> str:
    return plots.BLUE if run.rate == published.DEFAULT_RATE else plots.ORANGE


def write_names(axis, runs: dict[str, published.Run], chosen: dict[str, str]) -> None:
    """The names of the chosen runs in a column right of all points, in the order of their heights."""
    here = {name: run for name, run in runs.items() if name in chosen}
    heights = figures.spread([100 * run.accuracy for run in here.values()], GAP)
    for (name, run), height in zip(here.items(), heights, strict=True):
        axis.annotate(
            chosen[name],
            (run.reserved_gib, 100 * run.accuracy),
            xytext=(NAMES, height),
            va="center",
            fontsize=8,
            arrowprops={"arrowstyle": "-", "color": plots.GREY, "lw": 0.6},
        )
