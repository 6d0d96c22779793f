"""Figures of notebook 11: how far each route is from the trained model, and what is left of the update."""

from __future__ import annotations

from labsupport.core import plots
from labsupport.merge_runs import reading, rounding

# Route -> colour and line style: a colour for what it is kept in.
STYLES = {
    "dequantised": (plots.GREY, "-"),
    "float32 base": (plots.GREY, "--"),
    "dequantised, bfloat16": (plots.BLUE, "-"),
    "bfloat16 base": (plots.BLUE, "--"),
    "re-quantised": (plots.ORANGE, "--"),
    "in place": (plots.ORANGE, "-"),
}
MARKS = {"test_lookalike": ("o", plots.BLUE), "test_production": ("s", plots.ORANGE)}
LEAST = 1e-9  # nats a token: below lies only the rounding of float32


def divergences(record: dict, title: str, steps: int = reading.STEPS, scale: float = 1):
    """A line for each way: its KL from the trained model with intervals, both test sets; log axis."""
    ways = [way for way in reading.ways(record, steps, scale) if way != reading.TRAINED]
    fig, axis = plots.figure(height=3.4)
    for shift, (split, (mark, colour)) in zip((0.14, -0.14), MARKS.items(), strict=True):
        found = [reading.divergence(record, way, split, steps, scale) for way in ways]
        found = [[max(value, LEAST) for value in interval] for interval in found]
        places = [len(ways) - 1 - i + shift for i in range(len(ways))]
        below, above = [m - low for m, low, _ in found], [high - m for m, _, high in found]
        style = {"fmt": mark, "color": colour, "capsize": 3, "label": reading.SETS[split]}
        axis.errorbar([m for m, _, _ in found], places, xerr=[below, above], **style)
    axis.set_yticks(range(len(ways)), [reading.NAMES[way] for way in reversed(ways)])
    axis.set(xscale="log", xlabel="KL(trained ‖ merged), nats a token of right answers", title=title)
    axis.margins(y=0.1)
    axis.legend()
    return fig


def by_size(record: dict, title: str, split: str = "test_lookalike"):
    """KL from the trained model over |dW| / |W|. Lines and filled marks: one training at other strengths, a
    line a route; open marks: trainings of other lengths."""
    fig, axis = plots.figure(height=3.4)
    for route in rounding.ROUTES:
        colour, line = STYLES[route]
        for scaled in (True, False):
            points = [
                (100 * reading.relative(record, *one), reading.divergence(record, route, split, *one)[0])
                for one in reading.conditions(record)
                if (one[0] == reading.STEPS) == scaled
            ]
            places = [[x for x, _ in points], [max(y, LEAST) for _, y in points]]
            style = {"ls": line, "mfc": colour, "label": reading.NAMES[route]}
            style = style if scaled else {"ls": "none", "mfc": "white"}
            axis.plot(*places, marker="o", ms=4, color=colour, **style)
    axis.set(yscale="log", ylabel="KL, nats a token", title=title)
    sizes_below(axis)
    axis.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return fig


def sizes_below(axis) -> None:
    """A logarithmic axis of |dW| in percent of |W|, with round numbers."""
    axis.set(xscale="log", xlabel="|dW| in % of |W|")
    low, high = axis.get_xlim()
    ticks = [tick for tick in (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30) if low <= tick <= high]
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
