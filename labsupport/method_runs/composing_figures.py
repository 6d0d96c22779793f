"""The figure of adapters mixed with weights."""

from __future__ import annotations

from labsupport.core import plots


def seesaw(weights: list[float], right: list[tuple[int, int]], together: int, most: int, title: str):
    """Symbols right of each half over the first adapter's weight w, the second having 1 - w.

    right: of both halves at each weight; together: of a half after training on both at once; most: a half's
    symbols.
    """
    fig, axis = plots.figure(height=3.0)
    axis.axhline(together, color=plots.GREY, linestyle="--", label="one adapter, trained on both halves")
    halves = list(zip(*right, strict=True))
    for half, name, colour, marker in zip(
        halves, ("first half", "second half"), (plots.BLUE, plots.ORANGE), "os", strict=True
    ):
        axis.plot(weights, half, marker=marker, color=colour, label=name)
    axis.set(xlabel="weight of the first adapter (the second has the rest)", title=title)
    axis.set(ylabel=f"symbols right, of {most}", ylim=(0, 1.08 * most))
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    return fig
