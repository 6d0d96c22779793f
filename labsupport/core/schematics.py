"""A few strokes for the drawing that opens a notebook: boxes, arrows and words on a transparent ground.

The picture lies in a text cell and cannot know the reader's theme. So words that stand on the page have a
grey that is read on white and on black (contrast 4.5 and 4.2), and all others stand in a box of a fill of
their own.
"""

from __future__ import annotations

import io

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Polygon, Rectangle

INK = "#767676"
PALE = "#E8EEF2"  # a box of the light kind, with black words
DOTS_PER_INCH = 144


def canvas(width: float = 100, height: float = 40) -> Axes:
    """Empty axes of `width` by `height` units, as wide as a notebook's text; a unit is the same both ways."""
    figure = Figure(figsize=(9, 9 * height / width))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    axes.axis("off")
    return axes


def box(axes: Axes, corner: tuple, size: tuple, text: str = "", fill: str = PALE, points: float = 12) -> None:
    """A filled rectangle from its lower left corner; its text is black on pale fills, else white."""
    axes.add_patch(Rectangle(corner, *size, facecolor=fill, edgecolor=INK, linewidth=1.2))
    middle = (corner[0] + size[0] / 2, corner[1] + size[1] / 2)
    red, green, blue = (int(fill[i : i + 2], 16) / 255 for i in (1, 3, 5))
    ink = "black" if 0.3 * red + 0.6 * green + 0.1 * blue > 0.55 else "white"
    axes.text(*middle, text, ha="center", va="center", color=ink, fontsize=points)


def area(axes: Axes, corners: list[tuple], fill: str, dashed: bool = False) -> None:
    """A filled shape with a grey edge, by its corners in order."""
    line = {"linestyle": "--" if dashed else "-", "linewidth": 1.2}
    axes.add_patch(Polygon(corners, facecolor=fill, edgecolor=INK, **line))


def label(axes: Axes, place: tuple, text: str, ink: str) -> None:
    """Words inside a filled shape."""
    axes.text(*place, text, ha="center", va="center", color=ink, fontsize=13)


def arrow(axes: Axes, start: tuple, end: tuple, colour: str = INK) -> None:
    """A straight arrow between two points."""
    style = {"arrowstyle": "-|>", "mutation_scale": 16, "linewidth": 1.8, "shrinkA": 0, "shrinkB": 0}
    axes.add_patch(FancyArrowPatch(start, end, color=colour, **style))


def words(axes: Axes, place: tuple, text: str, points: float = 14, align: str = "center", **options) -> None:
    """Words on the page itself, in the grey of both themes."""
    axes.text(*place, text, ha=align, va="center", color=INK, fontsize=points, **options)


def png(axes: Axes) -> bytes:
    """The drawing as a PNG with a transparent ground, the same bytes every time."""
    figure, buffer = axes.figure, io.BytesIO()
    figure.set(facecolor="none", dpi=DOTS_PER_INCH)
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()
