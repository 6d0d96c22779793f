"""Figures of notebook 10: what methods of unlike size reach, over how much they train."""

from __future__ import annotations

import statistics

from labsupport.core import plots
from labsupport.method_runs import methods, movement, reading

GAP = 0.065  # between two names, as a share of the axis


def over_parameters(record: dict, measure: str, title: str, budget: str = "steps"):
    """A measure over trained parameters: each seed a dot, the mean a larger mark with the method's name;
    methods of LoRA's size in one colour, the others in another; what is smaller is named on its left."""
    fig, axis = plots.figure(height=3.6)
    means: dict[str, tuple[int, float]] = {}
    for method, kind in methods.METHODS.items():
        found = reading.values(record, measure, method=method, budget=reading.with_budget(method, budget))
        if not found:
            continue
        means[method] = reading.of_any(record, method, "parameters"), statistics.fmean(found.values())
        colour = plots.BLUE if kind.equal else plots.ORANGE
        axis.plot([means[method][0]] * len(found), list(found.values()), ".", color=colour, alpha=0.4)
        axis.plot(*means[method], "o", color=colour)
    axis.set(xscale="log", xlabel="trained parameters", ylabel=reading.MEASURES[measure][0], title=title)
    axis.margins(x=0.3, y=0.1)
    largest = max(x for m, (x, _) in means.items() if methods.METHODS[m].equal)
    for equal in (True, False):
        named = {m: point for m, point in means.items() if methods.METHODS[m].equal == equal}
        low, high = axis.get_ylim()
        own = [y for _, y in named.values()]
        heights = spread(own, GAP * (high - low)) if equal else own  # the others stand apart by their sizes
        for (method, point), height in zip(named.items(), heights, strict=True):
            right = equal or point[0] > largest
            place = {"xytext": (point[0] * (1.35 if right else 0.74), height), "va": "center", "fontsize": 8}
            axis.annotate(
                methods.METHODS[method].title,
                point,
                ha="left" if right else "right",
                arrowprops={"arrowstyle": "-", "color": plots.GREY, "lw": 0.6},
                **place,
            )
    return fig


def spread(heights: list[float], gap: float) -> list[float]:
    """The heights, in their order, moved apart until no two are nearer than `gap`; their mean stays."""
    order = sorted(range(len(heights)), key=heights.__getitem__)
    moved = list(heights)
    for below, above in zip(order, order[1:], strict=False):
        moved[above] = max(moved[above], moved[below] + gap)
    down = (sum(moved) - sum(heights)) / len(heights) if heights else 0.0
    return [height - down for height in moved]


def movement_clouds(record: dict, part: str, title: str):
    """A panel for each method that can be folded in and for full fine-tuning: change of magnitude over change
    of direction of the matrices called `part`, each layer at each moment of each seed a dot."""
    shown = {m: reading.moves(record, m, part) for m in ("lora", "rslora", "dora", "dora8", "full")}
    fig, axes = plots.figure(len(shown), height=2.6)
    for axis, (method, runs) in zip(axes, shown.items(), strict=True):
        for points in runs:
            magnitudes, directions = zip(*points, strict=True)
            axis.plot(directions, magnitudes, ".", color=plots.BLUE, alpha=0.4, ms=4)
        mean = statistics.fmean(movement.correlation(points) for points in runs)
        axis.set_title(f"{methods.METHODS[method].title}\n{mean:+.2f}", fontsize=8)
        axis.tick_params(labelsize=7)
    axes[0].set_ylabel("mean change of a row's length", fontsize=8)
    axes[len(shown) // 2].set_xlabel("mean change of a row's direction, 1 − cosine")
    fig.suptitle(title, fontsize=10)
    return fig
