"""The drawing that opens notebook 10: where in a block each method puts what it trains."""

from __future__ import annotations

from labsupport.core import plots, schematics

PALE = schematics.PALE


def draw():
    """Left one block of the frozen model and what is added to it; right a row of a weight under DoRA."""
    axes = schematics.canvas(160, 78)
    schematics.box(axes, (30, 4), (30, 9), "embeddings", plots.GREY)
    schematics.box(axes, (30, 22), (30, 13), "attention:\nq, k, v, o", plots.GREY)
    schematics.box(axes, (30, 54), (30, 13), "MLP:\ngate, up, down", plots.GREY)
    schematics.box(axes, (2, 4), (20, 9), "prompt", plots.GREEN)
    schematics.arrow(axes, (22.5, 8.5), (29.5, 8.5))
    schematics.box(axes, (2, 22), (20, 13), "prefix: keys\nand values", plots.GREEN)
    schematics.arrow(axes, (22.5, 28.5), (29.5, 28.5))
    for low in (38, 70):
        schematics.box(axes, (34, low), (22, 7), "bottleneck", plots.ORANGE)
    for start, end in ((13.5, 21.5), (35.5, 37.5), (45.5, 53.5), (67.5, 69.5)):
        schematics.arrow(axes, (45, start), (45, end))
    for low in (22, 54):
        schematics.box(axes, (68, low), (22, 13), "LoRA, DoRA,\nVeRA, PiSSA", plots.BLUE)
        schematics.arrow(axes, (67.5, low + 6.5), (60.5, low + 6.5))
    schematics.words(axes, (79, 44), "IA3: a factor for\nk, v and down's input", points=10)
    schematics.arrow(axes, (72, 40), (60.5, 33))
    schematics.arrow(axes, (72, 48), (60.5, 56))
    inset(axes, 104, 14)
    return axes


def inset(axes, left: float, low: float):
    """A row of a weight as an arrow: LoRA moves its tip, DoRA turns it and then sets its length."""
    schematics.words(axes, (left + 27, low + 56), "a row of a weight in DoRA", points=12)
    start, old, moved = (left, low), (left + 40, low + 16), (left + 30, low + 34)
    schematics.arrow(axes, start, old, plots.GREY)
    schematics.arrow(axes, old, moved, plots.BLUE)
    schematics.arrow(axes, start, (left + 24, low + 27.2), plots.ORANGE)
    schematics.words(axes, (left + 33, low + 6), "W: frozen", points=11, align="left")
    schematics.words(axes, (left + 38, low + 27), "s·BA", points=11, align="left")
    schematics.words(
        axes, (left - 4, low + 38), "W′: along the sum,\nas long as m says", points=11, align="left"
    )
    schematics.words(axes, (left - 2, low - 6), "trained: A, B and the length m", points=11, align="left")
