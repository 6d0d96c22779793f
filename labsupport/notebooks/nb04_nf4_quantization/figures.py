"""The figures of notebook 04."""

from __future__ import annotations

from matplotlib.ticker import PercentFormatter
from torch import Tensor

from labsupport.core import plots

SIZE_COLOURS = {32: "#9ECAE1", 64: plots.BLUE, 256: plots.PURPLE, 4096: plots.ORANGE}
SIZE_MARKERS = {32: "v", 64: "o", 256: "s", 4096: "D"}


def use_of_levels(shares: Tensor, levels: Tensor, best: Tensor):
    """Left the share of weights at each level, right how far the levels of least error lie from NF4's."""
    fig, (left, right) = plots.figure(columns=2)
    left.bar(range(16), 100 * shares, color=plots.BLUE)
    left.axhline(100 / 16, color=plots.ORANGE, linestyle="--")
    left.text(15.5, 100 / 16 + 0.3, "equal use", color=plots.ORANGE, ha="right")
    left.set(xlabel="code", ylabel="weights at this level (%)", title="The outer levels are used little")
    right.bar(range(16), best - levels, color=plots.GREEN)
    right.axhline(0, color=plots.GREY, linewidth=1)
    right.set(xlabel="code", ylabel="least-error level − NF4's (absmax)")
    right.set_title("Least error: ends in, the rest out")
    for axes in (left, right):
        axes.set_xticks(range(0, 16, 3))
    return fig


def errors_beside_nf4(table: dict[str, dict[int, dict[str, float]]]):
    """A row for each format: how much more error than NF4 at the same block size. table: by kind of weights,
    block size and format."""
    fig, panels = plots.figure(columns=2, height=3.6, sharey=True)
    for axes, (kind, by_size) in zip(panels, table.items(), strict=True):
        names = [name for name in next(iter(by_size.values())) if name != "NF4"]
        for size, colour in SIZE_COLOURS.items():
            more = [by_size[size][name] / by_size[size]["NF4"] - 1 for name in names]
            marker = SIZE_MARKERS[size]
            axes.plot(more, range(len(names)), marker, color=colour, markersize=7, label=f"blocks of {size}")
        axes.axvline(0, color=plots.GREY, linewidth=1.5)
        axes.set_yticks(range(len(names)), names)
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.set(xlabel="squared error beyond NF4's", title=f"{kind} weights")
    panels[0].invert_yaxis()
    fig.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    fig.suptitle("NF4's lead over INT4 grows with the block; over standard FP4 it shrinks", x=0.02, ha="left")
    return fig
