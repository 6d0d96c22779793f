"""The drawing that opens notebook 08: one linear layer in QLoRA training."""

from __future__ import annotations

from labsupport.core import plots, schematics

PALE = schematics.PALE


def draw():
    """Left the frozen path through an unpacked weight, right the adapters; forward upwards, backward down."""
    axes = schematics.canvas(150, 66)
    schematics.box(axes, (6, 8), (40, 12), "weight, 4 bits\n+ scales: frozen", plots.GREY)
    schematics.box(axes, (6, 32), (40, 12), "unpacked to 16 bits,\nthen thrown away", PALE)
    schematics.arrow(axes, (26, 20.5), (26, 31.5))
    schematics.words(axes, (24, 26), "for each product", points=11, align="right")
    schematics.box(axes, (84, 8), (26, 12), "A, float32", plots.BLUE)
    schematics.box(axes, (84, 32), (26, 12), "B, float32", plots.BLUE)
    schematics.arrow(axes, (97, 20.5), (97, 31.5))
    schematics.box(axes, (120, 20), (28, 12), "gradients,\nAdam's moments", plots.GREEN)
    for height in (14, 38):
        schematics.arrow(axes, (110.5, height), (119.5, 26))
    schematics.words(axes, (65, 1.5), "input x: feeds both paths", points=12)
    schematics.arrow(axes, (56, 4), (47, 7.5))
    schematics.arrow(axes, (74, 4), (83.5, 7.5))
    schematics.box(axes, (55, 53), (20, 10), "sum: y", PALE)
    schematics.arrow(axes, (27, 44.5), (54.5, 57))
    schematics.arrow(axes, (97, 44.5), (75.5, 57))
    backward = plots.ORANGE
    schematics.arrow(axes, (60, 52.5), (46.5, 40), backward)
    schematics.arrow(axes, (46.5, 35), (58, 5), backward)
    schematics.arrow(axes, (70, 52.5), (83.5, 40), backward)
    schematics.words(axes, (68, 36), "gradient:", points=12)
    schematics.words(axes, (68, 31), "through the weight,", points=11)
    schematics.words(axes, (68, 26.5), "into A and B", points=11)
    return axes
