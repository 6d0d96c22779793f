"""The drawing that opens notebook 04."""

from __future__ import annotations

import math

from labsupport.core import plots, schematics
from labsupport.models import nf4

MIDDLE, UNIT = 52, 42  # where 0 stands, and how wide absmax is
FLOOR, HEIGHT = 15, 24  # of the bell
SIGMA = 1 / 2.6  # normal weights in a typical block of 64, whose largest magnitude is 1


def place(value: float) -> float:
    return MIDDLE + UNIT * value


def bell(value: float) -> float:
    return FLOOR + HEIGHT * math.exp(-((value / SIGMA) ** 2) / 2)


def draw():
    """NF4's 16 levels under the bell of a block's weights, with the thresholds between them and the codes."""
    axes = schematics.canvas(100, 44)
    levels = nf4.levels()
    edges = [-1.0, *nf4.thresholds(levels).tolist(), 1.0]
    steps = [i / 100 for i in range(-106, 107)]
    axes.plot([place(x) for x in steps], [bell(x) for x in steps], color=schematics.INK, linewidth=2)
    for edge in edges[1:-1]:
        axes.plot([place(edge)] * 2, [FLOOR - 1, bell(edge)], "--", color=schematics.INK, linewidth=1.2)
    for code, level in enumerate(levels.tolist()):
        left, right = place(edges[code]), place(edges[code + 1])
        fill = plots.BLUE if code % 2 else schematics.PALE
        schematics.box(axes, (left, FLOOR - 6.5), (right - left, 5), str(code), fill)
        axes.plot(place(level), FLOOR, "o", color=plots.ORANGE, markersize=9)
    schematics.words(axes, (18, 35), "how often a weight\nhas this value")
    schematics.words(axes, (86, 35), "here the nearest\nlevel changes")
    schematics.arrow(axes, (83, 31.5), (place(edges[14]) + 0.5, FLOOR + 6))
    schematics.words(axes, (MIDDLE, 42), "16 levels, dense where the weights are")
    schematics.words(axes, (4, FLOOR), "level")
    schematics.words(axes, (4, FLOOR - 4), "code")
    for value, name in ((-1, "−absmax"), (0, "0"), (1, "+absmax")):
        schematics.words(axes, (place(value), 4.5), name)
    return axes
