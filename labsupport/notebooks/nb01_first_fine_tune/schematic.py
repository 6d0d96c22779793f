"""The drawing that opens notebook 01."""

from __future__ import annotations

from labsupport.core import plots, schematics

READ, LEARNED, END = schematics.PALE, plots.BLUE, plots.ORANGE
HEIGHT = 6
# For each turn its lower edge, its name, and its tokens with their widths.
TURNS = [
    (34, "system", [("<|im_start|>system", 25), ("JSON with intent: …", 25), ("<|im_end|>", 15)]),
    (
        24,
        "user",
        [("<|im_start|>user", 22), ("where", 9), ("is", 5), ("my", 5), ("tent?", 9), ("<|im_end|>", 15)],
    ),
    (14, "assistant", [("<|im_start|>assistant", 28)]),
]
ANSWER = [('{"intent":"', 16), ("delivery", 12), ('","product":"', 18), ("tent", 8), ("…", 4), ('"}', 5)]


def draw():
    """One chat as a strip of tokens, turn by turn; coloured is what the model is trained to write."""
    axes = schematics.canvas(100, 42)
    for bottom, name, tokens in TURNS:
        schematics.words(axes, (0, bottom + HEIGHT / 2), name, align="left")
        row(axes, 15, bottom, tokens, READ)
    right = row(axes, 15, 5.5, ANSWER, LEARNED)
    row(axes, right, 5.5, [("<|im_end|>", 15)], END)
    schematics.words(axes, (46, 17), "pale: read, not learned (label -100)", align="left")
    schematics.words(axes, (15, 2.2), "learned: each from all that stands before it", align="left")
    schematics.words(axes, (right, 2.2), "  and the end, too", align="left")
    return axes


def row(axes, left: float, bottom: float, tokens: list[tuple], fill: str) -> float:
    """Boxes side by side from `left` on; returns where the last one ends."""
    for text, width in tokens:
        schematics.box(axes, (left, bottom), (width - 0.6, HEIGHT), text, fill)
        left += width
    return left
