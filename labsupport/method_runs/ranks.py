"""The record `method_ranks` read: LoRA and DoRA at each rank, along one rate and at each one's best."""

from __future__ import annotations

import statistics

from labsupport.core import plots
from labsupport.core.tables import Table
from labsupport.evaluation import intervals
from labsupport.method_runs import methods, reading
from labsupport.qlora_runs import rates as paired_rates

METHODS = ("lora", "dora")


def ranks(record: dict) -> list[int]:
    return sorted({c["cell"]["rank"] for c in record["cells"]})


def rates(record: dict) -> list[float]:
    return sorted({c["cell"]["rate"] for c in record["cells"]})


def mean(record: dict, method: str, rank: int, rate: float) -> float:
    """Bits stored in the mean over seeds; minus infinity if a run left the range of numbers."""
    return statistics.fmean(reading.values(record, "bits", method=method, rank=rank, rate=rate).values())


def best(record: dict, method: str, rank: int) -> float:
    """The rate with the most bits in the mean over seeds."""
    return max(rates(record), key=lambda rate: mean(record, method, rank, rate))


def gap(record: dict, rank: int, rate: float | None = None) -> tuple[float, float, float]:
    """Bits that DoRA stores more than LoRA at a rank, paired by seed: at one rate, or each at its best.

    The best rates are chosen on the same seeds, for both methods alike.
    """
    found = [
        reading.values(record, "bits", method=method, rank=rank, rate=rate or best(record, method, rank))
        for method in ("dora", "lora")
    ]
    return paired_rates.paired(*found)


def table(record: dict) -> Table:
    """A line a rank: both methods at their best rates, DoRA's lead there, and its lead at every one rate."""
    lines = []
    for rank in ranks(record):
        line = [rank]
        for method in METHODS:
            rate = best(record, method, rank)
            line.append(f"{mean(record, method, rank, rate):,.0f} ({rate:g})")
        line.append(intervals.shown(gap(record, rank), "+,.0f"))
        lines.append([*line, *(f"{gap(record, rank, rate)[0]:+,.0f}" for rate in rates(record))])
    headings = ["rank", "LoRA, bits (best rate)", "DoRA", "DoRA's lead there [95 %]"]
    headings += [f"at {rate:g}" for rate in rates(record)]
    seeds = len({c["cell"]["seed"] for c in record["cells"]})
    return Table(headings, lines, f"tiny_base on 100 facts, {seeds} paired seeds")


def figure(record: dict, title: str):
    """Bits stored over the rate, one panel a rank: each seed a dot, the means a line."""
    fig, axes = plots.figure(columns=len(ranks(record)), height=2.8, sharey=True)
    for axis, rank in zip(axes, ranks(record), strict=True):
        for method, colour in zip(METHODS, (plots.BLUE, plots.ORANGE), strict=True):
            name = methods.METHODS[method].title
            axis.plot(
                rates(record),
                [mean(record, method, rank, rate) for rate in rates(record)],
                color=colour,
                label=name,
            )
            for rate in rates(record):
                found = reading.values(record, "bits", method=method, rank=rank, rate=rate).values()
                axis.plot([rate] * len(found), list(found), ".", color=colour, alpha=0.5)
        axis.set(xscale="log", xlabel="learning rate", title=f"rank {rank}")
        axis.set_xticks(rates(record), [f"{rate:g}" for rate in rates(record)], fontsize=7)
        axis.minorticks_off()
    axes[0].set_ylabel("bits stored, of 4,000")
    axes[-1].legend(fontsize=8)
    fig.suptitle(title)
    return fig
