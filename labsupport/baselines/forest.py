"""Forest plots: on a line of its own each method's mean and interval, both test sets on one axis."""

from __future__ import annotations

from labsupport.core import plots

# By set: colour, marker, how far above or below the line of its method.
LOOK = {"test_lookalike": (plots.BLUE, "s", -0.17), "test_production": (plots.ORANGE, "o", 0.17)}


def marks(axes, intervals: dict[str, tuple], colour: str, marker: str, shift: float, label: str) -> None:
    """On the line of each name its mean, as a mark, and its interval: (mean, low, high)."""
    for place, (mean, low, high) in enumerate(intervals.values()):
        axes.plot([low, high], [place + shift] * 2, color=colour, linewidth=1.6)
        axes.plot(mean, place + shift, marker, color=colour, label=label if place == 0 else None)
    axes.set_yticks(range(len(intervals)), list(intervals))


def exact_match(intervals: dict[str, dict[str, tuple]], title: str):
    """A line a method, both sets on one axis. intervals: set -> method -> (mean, low, high) in percent.
    Returns the figure, to be given to plots.show."""
    fig, axes = plots.figure(height=4.4)
    for split, of_methods in intervals.items():
        marks(axes, of_methods, *LOOK[split], split.removeprefix("test_"))
    axes.set(xlabel="exact match (%), with 95 % interval", xlim=(-1, None), title=title)
    axes.invert_yaxis()
    axes.legend(loc="lower right")
    return fig
