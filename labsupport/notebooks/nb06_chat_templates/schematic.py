"""The drawing that opens notebook 06."""

from __future__ import annotations

from labsupport.core import plots, schematics

READ, LEARNED = schematics.PALE, plots.BLUE
HEIGHT, LEFT = 6, 18
# A conversation as the course's tokenizer has it, without its system turn: text, id, width, whether learned.
ROW = [
    ("<|im_start|>", 1, 15, False),
    ("user", 4093, 8, False),
    ("↵", 198, 7, False),
    ("Hi", 26843, 8.5, False),
    ("<|im_end|>", 2, 14, False),
    ("↵", 198, 7, False),
    ("<|im_start|>", 1, 15, False),
    ("ass", 520, 7, False),
    ("istant", 9531, 8, False),
    ("↵", 198, 7, False),
    ("Hello", 19556, 8.5, True),
    ("<|im_end|>", 2, 14, True),
    ("↵", 198, 7, False),
]


def draw():
    """Messages, the text that a template makes of them, its ids, and the labels: -100 but for the answer."""
    axes = schematics.canvas(146, 62)
    for left, text in ((LEFT, "user: Hi"), (LEFT + 45, "assistant: Hello")):
        schematics.box(axes, (left, 54), (36, HEIGHT), text, READ)
    for bottom, name in ((57, "messages"), (39, "text"), (23, "ids"), (7, "labels")):
        schematics.words(axes, (0, bottom), name, align="left")
    for middle, name in ((48, "template"), (31, "tokenizer"), (15, "loss mask")):
        schematics.arrow(axes, (LEFT + 4, middle + 3.4), (LEFT + 4, middle - 3.4))
        schematics.words(axes, (LEFT + 8, middle), name, align="left", points=12, style="italic")
    left = LEFT
    for text, number, width, learned in ROW:
        label = str(number) if learned else "-100"
        for bottom, said in ((36, text), (20, str(number)), (4, label)):
            fill = LEARNED if learned and bottom == 4 else READ
            schematics.box(axes, (left, bottom), (width - 0.6, HEIGHT), said, fill, points=9)
        left += width
    schematics.words(axes, (left - 7, 12.8), "learned: the answer and its end", points=12, align="right")
    return axes
