"""The drawing that opens notebook 07."""

from __future__ import annotations

from labsupport.core import plots, schematics

PALE, ASKED = schematics.PALE, plots.BLUE


def draw():
    """From a test row by two ways of asking to a number, and from many rows in families to an interval."""
    axes = schematics.canvas(150, 58)
    schematics.box(axes, (0, 30), (24, 10), "test row", PALE)
    schematics.box(axes, (36, 44), (32, 10), "force the answer", ASKED)
    schematics.box(axes, (36, 16), (32, 10), "let it write", ASKED)
    schematics.arrow(axes, (24.5, 37), (35.5, 48))
    schematics.arrow(axes, (24.5, 33), (35.5, 22))
    schematics.box(axes, (80, 44), (30, 10), "NLL, perplexity", PALE)
    schematics.box(axes, (80, 16), (30, 10), "exact match, F1", PALE)
    for height in (49, 21):
        schematics.arrow(axes, (68.5, height), (79.5, height))
    schematics.box(axes, (122, 30), (28, 10), "interval", PALE)
    schematics.arrow(axes, (110.5, 48), (121.5, 38))
    schematics.arrow(axes, (110.5, 22), (121.5, 32))
    schematics.words(axes, (122, 51), "families,", align="left", points=12)
    schematics.words(axes, (122, 46), "not rows", align="left", points=12)
    schematics.words(
        axes, (0, 8), "what changes the number and is no merit of the model:", align="left", points=12
    )
    schematics.words(
        axes,
        (0, 2.5),
        "template, adapter on or off, padding side, number format, rows seen in training",
        align="left",
        points=12,
        style="italic",
    )
    return axes
