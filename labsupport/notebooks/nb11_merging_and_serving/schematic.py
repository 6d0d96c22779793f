"""The drawing that opens notebook 11: the ways to a merged model, and one base that serves many adapters."""

from __future__ import annotations

from labsupport.core import plots, schematics

PALE = schematics.PALE


def draw():
    """Left two bases, the update added to each, and what the sum is stored in; right a batch of requests."""
    axes = schematics.canvas(160, 72)
    schematics.words(axes, (46, 68), "merged: W + s·BA, stored again", points=13)
    schematics.box(axes, (2, 44), (28, 12), "NF4 base: what\nwas trained on", plots.GREY)
    schematics.box(axes, (2, 14), (28, 12), "the base before\nrounding", plots.GREY)
    schematics.box(axes, (40, 29), (16, 12), "+ s·BA", plots.BLUE)
    schematics.box(axes, (66, 44), (26, 12), "16 bits", PALE)
    schematics.box(axes, (66, 14), (26, 12), "NF4: a step is\nlarger than BA", plots.ORANGE)
    schematics.arrow(axes, (30.5, 48), (40, 41.5))
    schematics.arrow(axes, (30.5, 22), (40, 28.5))
    schematics.arrow(axes, (56.5, 41), (65.5, 48))
    schematics.arrow(axes, (56.5, 29), (65.5, 22))
    schematics.words(axes, (46, 6), "which base, which format: four models, not one", points=11)
    batch(axes, 101)
    return axes


def batch(axes, left: float):
    """Requests for different adapters go through one base together, and each through its own adapter."""
    schematics.words(axes, (left + 28, 68), "not merged: one base, many adapters", points=12)
    schematics.box(axes, (left, 4), (56, 9), "a batch: rows for a, b, b and nobody", PALE)
    schematics.box(axes, (left, 26), (26, 14), "W x for all\nrows at once", plots.GREY)
    for place, name in ((32, "a"), (46, "b")):
        schematics.box(axes, (left + place, 26), (10, 14), name, plots.BLUE)
        schematics.arrow(axes, (left + place + 5, 13.5), (left + place + 5, 25.5))
        schematics.arrow(axes, (left + place + 5, 40.5), (left + place + 5, 51.5))
    schematics.arrow(axes, (left + 13, 13.5), (left + 13, 25.5))
    schematics.arrow(axes, (left + 13, 40.5), (left + 13, 51.5))
    schematics.box(axes, (left, 52), (56, 9), "added row by row: the replies", PALE)
