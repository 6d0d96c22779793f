"""The drawing that opens notebook 00."""

from __future__ import annotations

from labsupport.core import plots, schematics

FROM, TO, HEIGHT = 21, 79, 8  # where the four ways begin and end, and how high their boxes are


def draw():
    """From a message to one line of JSON in four ways; coloured is what is trained."""
    axes = schematics.canvas(100, 52)
    schematics.box(axes, (0.3, 19), (12.7, 13), "a\nmessage")
    schematics.box(axes, (87, 19), (12.7, 13), "one line\nof JSON")
    for bottom, boxes in WAYS:
        middle = bottom + HEIGHT / 2
        schematics.arrow(axes, (13, 25.5 + (middle - 25.5) / 4), (FROM - 0.5, middle))
        schematics.arrow(axes, (TO + 0.5, middle), (87, 25.5 + (middle - 25.5) / 4))
        for left, width, text, fill in boxes:
            schematics.box(axes, (left, bottom), (width, HEIGHT), text, fill, points=13)
    for bottom, _ in WAYS[1:]:
        schematics.arrow(axes, (49, bottom + HEIGHT / 2), (54, bottom + HEIGHT / 2))
    schematics.words(
        axes, (50, 1.5), "all four answer the same messages and are counted the same way", points=13
    )
    return axes


MODEL = (54, 25, "a model, frozen", plots.GREY)
WAYS = [
    (42, [(FROM, TO - FROM, "rules and small classifiers: trained in seconds", plots.BLUE)]),
    (30, [(FROM, 28, "instructions", schematics.PALE), MODEL]),
    (18, [(FROM, 28, "instructions + examples", schematics.PALE), MODEL]),
    (
        6,
        [
            (FROM, 28, "instructions", schematics.PALE),
            (54, 16, "model, frozen", plots.GREY),
            (70, 9, "LoRA", plots.ORANGE),
        ],
    ),
]
