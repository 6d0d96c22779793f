"""The drawing that opens notebook 05."""

from __future__ import annotations

from matplotlib.patches import Polygon

from labsupport.core import plots, schematics

PHASES = {"forward": (8, 44), "loss": (44, 54), "backward": (54, 84), "optimizer": (84, 98)}  # left and right
GROUND, WEIGHTS, STATE = 6, 20, 24  # heights: the page's ground, the top of the weights, of what is trained


def draw():
    """Memory over the phases of one training step: what stands, what comes and what goes."""
    axes = schematics.canvas(100, 50)
    area(axes, [(8, GROUND), (8, WEIGHTS), (98, WEIGHTS), (98, GROUND)], plots.GREY)
    area(axes, [(8, WEIGHTS), (8, STATE), (98, STATE), (98, WEIGHTS)], plots.PURPLE)
    area(axes, [(8, STATE), (44, 36), (54, 36), (84, STATE)], plots.BLUE)
    area(axes, [(44, 36), (44, 45), (54, 45), (54, 36)], plots.ORANGE)
    area(axes, [(54, 36), (84, STATE), (84, 28), (56, 36)], plots.GREEN)
    step = [(84, STATE), (84, 28), (89, 28), (89, 32), (95, 32), (95, 28), (98, 28), (98, STATE)]
    area(axes, step, plots.GREEN)
    label(axes, (53, 13), "weights: there all the time", "white")
    label(axes, (53, 22), "adapters and Adam's moments: there all the time", "black")
    label(axes, (42, 28.5), "activations", "white")
    schematics.words(axes, (42.5, 42), "logits", align="right")
    schematics.words(axes, (75, 38), "gradients", align="left")
    schematics.arrow(axes, (76, 36), (74, 31.5))
    schematics.words(axes, (92, 35), "scratch")
    for name, (left, right) in PHASES.items():
        schematics.words(axes, ((left + right) / 2, 3), name)
        schematics.arrow(axes, (left, 1), (right, 1))
    schematics.words(axes, (4, 26), "memory", rotation=90)
    return axes


def area(axes, corners: list[tuple], fill: str) -> None:
    """A filled shape with a grey edge."""
    axes.add_patch(Polygon(corners, facecolor=fill, edgecolor=schematics.INK, linewidth=1.2))


def label(axes, place: tuple, text: str, ink: str) -> None:
    """Words inside a filled shape."""
    axes.text(*place, text, ha="center", va="center", color=ink, fontsize=13)
