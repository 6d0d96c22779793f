"""The drawing that opens notebook 05: memory over a training step, with TRL's trainer and in a plain loop."""

from __future__ import annotations

from labsupport.core import plots, schematics
from labsupport.core.schematics import area, arrow, label, words

PHASES = {"forward": (8, 38), "loss": (38, 50), "backward": (50, 84), "optimizer": (84, 98)}  # left and right
GROUND, WEIGHTS, STATE = 5, 16, 20  # heights: the page's ground, the top of the weights, of what is trained
KEPT = 26  # top of what the blocks keep, at the loss
TEETH, TOOTH = 5, 9  # blocks drawn in the backward pass, and how high one rises
PALE_ORANGE = "#F6D9C8"


def draw():
    """Memory over the phases of one training step: what stands, what comes and what goes."""
    axes = schematics.canvas(100, 50)
    area(axes, [(8, GROUND), (8, WEIGHTS), (98, WEIGHTS), (98, GROUND)], plots.GREY)
    area(axes, [(8, WEIGHTS), (8, STATE), (98, STATE), (98, WEIGHTS)], plots.PURPLE)
    area(axes, [(8, STATE), (38, KEPT), (50, KEPT), (84, STATE)], plots.BLUE)
    area(axes, [(38, KEPT), (38, 45), (50, 45), (50, KEPT)], PALE_ORANGE, dashed=True)
    area(axes, [(40, KEPT), (40, KEPT + 4), (48, KEPT + 4), (48, KEPT)], plots.ORANGE)
    backward(axes)
    area(axes, [(84, STATE), (84, STATE + 4), (98, STATE + 4), (98, STATE)], plots.GREEN)
    area(axes, [(88, STATE + 4), (88, STATE + 8), (95, STATE + 8), (95, STATE + 4)], "#D5EDE4", dashed=True)
    label(axes, (53, 10.5), "weights: there all the time", "white")
    label(axes, (53, 18), "adapters and Adam's moments: there all the time", "black")
    label(axes, (39, 23), "kept inputs", "white")
    label(axes, (44, 38), "full\nlogits", "black")
    words(axes, (36, 41), "dashed: in a\nplain loop only", align="right")
    words(axes, (53, 41), "one block at a time, computed again", align="left")
    arrow(axes, (60, 39), (57.5, 35.5))
    words(axes, (22, 32), "a tile of the logits")
    arrow(axes, (34, 31), (39.4, 29))
    label(axes, (91, 22), "gradients", "white")
    words(axes, (92, 30.5), "scratch")
    for name, (left, right) in PHASES.items():
        words(axes, ((left + right) / 2, 2.6), name)
        arrow(axes, (left, 0.8), (right, 0.8))
    words(axes, (4, 26), "memory", rotation=90)
    return axes


def backward(axes) -> None:
    """What is kept sinks, gradients grow on top of it, and block after block is computed again above both."""
    left, right = PHASES["backward"]
    width = (right - left) / TEETH
    for number in range(TEETH):
        start = left + number * width
        low, next_low = (floor(start + part * width) for part in (0, 1))
        top = (start + 0.35 * width, floor(start + 0.35 * width) + TOOTH)
        area(axes, [(start, low), top, (start + width, next_low)], schematics.PALE)
    area(axes, [(left, KEPT), (right, STATE), (right, STATE + 4)], plots.GREEN)


def floor(place: float) -> float:
    """The height of kept inputs and gradients together at a place of the backward pass."""
    left, right = PHASES["backward"]
    return KEPT + (STATE + 4 - KEPT) * (place - left) / (right - left)
