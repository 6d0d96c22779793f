"""The drawing that opens notebook 02."""

from __future__ import annotations

from labsupport.core import plots, schematics


def draw():
    """A frozen square of weights, and beside it the two thin matrices that are trained."""
    axes = schematics.canvas(100, 44)
    schematics.words(axes, (7, 22), "x", points=20)
    schematics.arrow(axes, (10, 24), (25, 30))
    schematics.arrow(axes, (10, 20), (25, 9))
    schematics.box(axes, (26, 20), (22, 22), "W\nfrozen\n(out, in)", plots.GREY, points=14)
    schematics.box(axes, (26, 6), (22, 5), "A  (r, in)", plots.BLUE)
    schematics.arrow(axes, (48, 8.5), (56, 8.5))
    schematics.box(axes, (57, 1), (5, 22), "B", plots.ORANGE)
    schematics.words(axes, (69, 12), "(out, r)")
    schematics.arrow(axes, (48, 31), (82, 31))
    schematics.arrow(axes, (62, 19), (83, 28))
    schematics.words(axes, (76, 19.5), r"× $\alpha/r$")
    schematics.words(axes, (85, 31), "+", points=22)
    schematics.arrow(axes, (87, 31), (92, 31))
    schematics.words(axes, (96, 31), "y", points=20)
    return axes
