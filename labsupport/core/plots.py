"""One look for every figure: a colour-blind safe palette, a readable size, and alt text."""

from __future__ import annotations

import base64
import html
import io

import matplotlib
from IPython.display import HTML
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Okabe and Ito's palette: distinct under the common forms of colour blindness.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#666666"

matplotlib.rcParams |= {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titley": 1.0,  # found anew for every drawing otherwise
    "figure.dpi": 110,
    "figure.facecolor": "white",
    "font.size": 10,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "svg.hashsalt": "lora-lab",
}

# A white card in dark themes too: with no edge of its own, the drawing's words would touch the dark.
CARD = "box-sizing: border-box; max-width: 100%; padding: 8px; border-radius: 6px; background: white"


def figure(columns: int = 1, height: float = 3.2, place: tuple | None = None, **options):
    """A figure of notebook width with a row of axes: (figure, axes or array of axes).

    place: (left, bottom, width, height) of a single axes in shares of the figure, for explorers: finding the
    margins takes half of a redraw.
    """
    fig = Figure(figsize=(8, height), layout=None if place else "constrained")
    axes = fig.subplots(1, columns, **options)
    if place:
        axes.set_position(place)
    return fig, axes


def show(fig: Figure, alt: str) -> HTML:
    """The figure as an image on a white card. `alt` says what it shows, in a sentence or two."""
    buffer = io.BytesIO()
    # savefig would draw twice; more compression takes longer and saves nothing on such drawings.
    quick = {"compress_level": 1}
    FigureCanvasAgg(fig).print_png(buffer, metadata={"Software": None}, pil_kwargs=quick)
    data = base64.b64encode(buffer.getvalue()).decode()
    alt = html.escape(alt, quote=True)
    return HTML(f'<img alt="{alt}" style="{CARD}" src="data:image/png;base64,{data}">')
