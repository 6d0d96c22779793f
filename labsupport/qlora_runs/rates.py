"""Rates and run lengths: the records `qlora_rates` (tiny_base, facts) and `qlora_budget` (135M, tickets)."""

from __future__ import annotations

import statistics

from labsupport.core import plots
from labsupport.core.tables import Table
from labsupport.evaluation import intervals
from labsupport.qlora_runs import reading
from labsupport.tasks import facts

FORMS = {"full": "full precision", "nf4": "NF4"}


def values(record: dict, where: str = "own", **cell) -> dict[int, float]:
    """Seed -> bits stored after the runs of a cell of `qlora_rates`."""
    return {
        c["cell"]["seed"]: facts.bits_learned(sum(c["metrics"][where]), len(c["metrics"][where]))
        for c in record["cells"]
        if all(c["cell"][key] == value for key, value in cell.items())
    }


def rates(record: dict) -> list[float]:
    """The learning rates tried, ascending."""
    return sorted({c["cell"]["rate"] for c in record["cells"]})


def at(record: dict, rate: float, epochs: int) -> dict:
    """The cells of one rate and length, as a record for `reading`."""
    wanted = (rate, epochs)
    return {"cells": [c for c in record["cells"] if (c["cell"]["rate"], c["cell"]["epochs"]) == wanted]}


def best_rate(record: dict, form: str, epochs: int) -> float:
    """The rate with the most bits stored, in the mean over seeds."""
    return max(
        rates(record),
        key=lambda rate: statistics.fmean(values(record, arm=form, epochs=epochs, rate=rate).values()),
    )


def paired(ours: dict[int, float], theirs: dict[int, float]) -> tuple[float, float, float]:
    """Mean of ours less theirs over their common seeds, and its 95 % interval by Student's t.

    ValueError for fewer than two seeds.
    """
    gaps = [ours[seed] - theirs[seed] for seed in sorted(set(ours) & set(theirs))]
    if len(gaps) < 2:
        raise ValueError(f"{len(gaps)} common seeds: an interval needs at least 2")
    return reading.over_seeds(gaps)


def bits_table(record: dict) -> Table:
    """Bits stored by rate, epochs and base, means over seeds; NF4's gap with its interval."""
    lines = []
    for epochs in sorted({c["cell"]["epochs"] for c in record["cells"]}):
        for rate in rates(record):
            of = {form: values(record, arm=form, epochs=epochs, rate=rate) for form in FORMS}
            means = [f"{statistics.fmean(found.values()):,.0f}" for found in of.values()]
            lines.append(
                [epochs, f"{rate:g}", *means, intervals.shown(paired(of["nf4"], of["full"]), "+,.0f")]
            )
    headings = ["epochs", "learning rate", *FORMS.values(), "NF4 less full [95 %]"]
    return Table(headings, lines, "Bits stored of 4,000, tiny_base, means of six seeds")


def by_rate(record: dict, title: str):
    """A panel for each length of run: bits stored over the learning rate, each seed a dot, means joined."""
    lengths = sorted({c["cell"]["epochs"] for c in record["cells"]})
    fig, axes = plots.figure(len(lengths), sharey=True)
    for axis, epochs in zip(axes, lengths, strict=True):
        for form, colour, mark, line in (("full", plots.BLUE, "o", "-"), ("nf4", plots.ORANGE, "s", "--")):
            points = [values(record, arm=form, epochs=epochs, rate=rate) for rate in rates(record)]
            for rate, found in zip(rates(record), points, strict=True):
                axis.plot([rate] * len(found), list(found.values()), mark, color=colour, alpha=0.35, ms=4)
            means = [statistics.fmean(found.values()) for found in points]
            axis.plot(rates(record), means, line, color=colour, label=FORMS[form])
        axis.set(xscale="log", xlabel="learning rate", title=f"{epochs} epochs")
        axis.set_xticks(rates(record), [f"{rate:g}" for rate in rates(record)])
        axis.minorticks_off()
    axes[0].set_ylabel("bits stored of 4,000")
    axes[0].legend()
    fig.suptitle(title, x=0.01, ha="left")
    return fig


def moved_table(record: dict) -> Table:
    """Of every setting: how bumpy NF4's curves are beside full precision's, and what its adapters store on
    the base they were trained on and on the full one."""
    lines = []
    for epochs, rate in sorted({(c["cell"]["epochs"], c["cell"]["rate"]) for c in record["cells"]}):
        own, moved = (
            values(record, where, arm="nf4", epochs=epochs, rate=rate) for where in ("own", "other")
        )
        ratio = intervals.shown(reading.bump_ratio(at(record, rate, epochs), "nf4"), ".2f")
        change = intervals.shown(paired(moved, own), "+,.0f")
        lines.append([epochs, f"{rate:g}", ratio, f"{statistics.fmean(own.values()):,.0f}", change])
    headings = ["epochs", "learning rate", "bumps, times full [95 %]", "bits on NF4", "moved to full [95 %]"]
    return Table(headings, lines, "NF4 on tiny_base, six seeds")


# ---------------------------------------------------------------- the 135M model on tickets


def recipe(records: tuple[dict, dict], arm: str, rate: float, epochs: int) -> dict:
    """The cells of a recipe as a record for `reading`: of `qlora` for rate 1 in one epoch, else of
    `qlora_budget`, in that order in `records`."""
    once, others = records
    if (rate, epochs) == (1.0, 1):
        found = [c for c in once["cells"] if c["cell"]["arm"] == arm]
    else:
        wanted = (arm, rate, epochs)
        found = [
            c for c in others["cells"] if (c["cell"]["arm"], c["cell"]["rate"], c["cell"]["epochs"]) == wanted
        ]
    return {
        "cells": [{"cell": {"arm": arm, "seed": c["cell"]["seed"]}, "metrics": c["metrics"]} for c in found]
    }


def against_once(records: tuple[dict, dict], arm: str, rate: float, epochs: int, base: str, split: str):
    """Nats an answer of a recipe more than of `base` at rate 1 in one epoch: mean and interval over seeds and
    rows, on the seeds that both have."""
    ours, theirs = recipe(records, arm, rate, epochs), recipe(records, base, 1.0, 1)
    both = {"cells": [dict(c, cell=c["cell"] | {"arm": "ours"}) for c in ours["cells"]]}
    both["cells"] += [dict(c, cell=c["cell"] | {"arm": "theirs"}) for c in theirs["cells"]]
    return reading.gap(both, "ours", "theirs", split, "answer")


def recipes_table(records: tuple[dict, dict]) -> Table:
    """Each recipe's nats an answer more than full precision with the course's rate in one epoch."""
    lines = []
    recipes = sorted({(c["cell"]["rate"], c["cell"]["epochs"]) for c in records[1]["cells"]} | {(1.0, 1)})
    for arm, name in FORMS.items():
        for rate, epochs in sorted(recipes, key=lambda one: (one[1], one[0])):
            if (arm, rate, epochs) == ("full", 1.0, 1):
                continue
            gaps = [against_once(records, arm, rate, epochs, "full", split) for split in reading.SETS]
            lines.append([name, f"{rate:g}", epochs, *(intervals.shown(gap, "+.2f") for gap in gaps)])
    headings = ["base", "times the rate", "epochs", *(f"{name} [95 %]" for name in reading.SETS.values())]
    return Table(headings, lines, "Nats an answer more than full precision, once the rate, one epoch")
