"""The figure of notebook 00: every baseline's exact match with its interval, both test sets on one axis."""

from __future__ import annotations

from labsupport.baselines import comparisons
from labsupport.core import plots

# By set: colour, marker, how far above or below the method's line.
LOOK = {"test_lookalike": (plots.BLUE, "s", -0.17), "test_production": (plots.ORANGE, "o", 0.17)}


def forest(methods: dict, title: str):
    """A line a method and a mark a set at its share, with the 95 % interval. methods: as
    `comparisons.methods` returns them. Returns the figure, to be given to plots.show."""
    fig, axes = plots.figure(height=4.2)
    for split, (colour, marker, shift) in LOOK.items():
        for place, results in enumerate(methods.values()):
            mean, low, high = (100 * value for value in comparisons.interval(results[split], split))
            axes.plot([low, high], [place + shift] * 2, color=colour, linewidth=1.6)
            label = split.removeprefix("test_") if place == 0 else None
            axes.plot(mean, place + shift, marker, color=colour, linestyle="none", label=label)
    axes.set_yticks(range(len(methods)), list(methods))
    axes.set(xlabel="exact match (%), with 95 % interval", xlim=(-1, None), title=title)
    axes.invert_yaxis()
    axes.legend(loc="lower right")
    return fig


def in_words(methods: dict) -> str:
    """The same shares as text, for who does not see the figure."""
    shares = []
    for name, results in methods.items():
        both = [f"{100 * comparisons.interval(results[split], split)[0]:.0f}" for split in comparisons.SETS]
        shares.append(f"{name} {' and '.join(both)} %")
    return f"Exact match on lookalike and production messages, on one axis: {'; '.join(shares)}."
