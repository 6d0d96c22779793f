"""The drawing that opens notebook 03."""

from __future__ import annotations

from labsupport.configs import model_configs
from labsupport.core import plots, schematics
from labsupport.sizes import counting

UNIT = 512  # inputs or outputs to a unit of the page
THICK = 1.1  # of A and B; drawn to scale at rank 16 they would be hairlines
# Where each matrix has its upper left corner.
PLACES = {
    "q_proj": (5, 36),
    "k_proj": (18, 36),
    "v_proj": (18, 26),
    "o_proj": (31, 36),
    "gate_proj": (47, 36),
    "up_proj": (60, 36),
    "down_proj": (71, 36),
}


def draw():
    """The seven matrices of one block of Mistral-7B to scale, each with A above it and B on its left."""
    axes = schematics.canvas(100, 42)
    for name, (inputs, outputs) in counting.block_shapes(model_configs.find("mistral-7b-v0.3")).items():
        left, top = PLACES[name]
        width, height = inputs / UNIT, outputs / UNIT
        text = "W" if height > 4 else ""
        schematics.box(axes, (left, top - height), (width, height), text, plots.GREY, points=14)
        schematics.box(axes, (left, top + 0.4), (width, THICK), fill=plots.BLUE)
        schematics.box(axes, (left - 0.4 - THICK, top - height), (THICK, height), fill=plots.ORANGE)
        schematics.words(axes, (left + width / 2, top + 3.2), name.removesuffix("_proj"))
    schematics.words(axes, (22, 18), "attention", points=16)
    schematics.words(axes, (86, 18), "MLP", points=16)
    schematics.box(axes, (4, 9), (12, 3.6), "A: r × in", plots.BLUE)
    schematics.box(axes, (4, 4), (12, 3.6), "B: out × r", plots.ORANGE)
    schematics.words(axes, (18, 8.3), "W costs its area,\nA and B their edges:\nr × (in + out)", align="left")
    schematics.words(axes, (86, 10), "wide as the inputs,\nhigh as the outputs")
    return axes
