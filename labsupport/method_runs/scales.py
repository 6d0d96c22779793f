"""The record `method_comparison` asked about DoRA at two scales: its method's share and alpha's."""

from __future__ import annotations

import statistics

from labsupport.core.tables import Table
from labsupport.evaluation import intervals
from labsupport.method_runs import methods, reading
from labsupport.qlora_runs import rates

# What is changed -> (with, without): the scale alone, or DoRA alone.
PAIRS = {
    "DoRA, at scale 2": ("dora", "lora"),
    "DoRA, at scale 8": ("dora8", "rslora"),
    "scale 8 for 2, LoRA": ("rslora", "lora"),
    "scale 8 for 2, DoRA": ("dora8", "dora"),
}


def table(record: dict, measure: str = "bits") -> Table:
    """The four differences with their intervals, and what each could have shown."""
    name, form = reading.MEASURES[measure]
    lines = []
    for words, (ours, theirs) in PAIRS.items():
        gap = reading.versus(record, measure, ours, base=theirs)
        seen = reading.detectable(record, measure, ours, base=theirs)
        lines.append([words, intervals.shown(gap, f"+{form}"), format(seen, form)])
    return Table(["what is changed", f"{name}, more [95 %]", "would be seen"], lines, "Method or scale?")


def slower(record: dict, ours: str, theirs: str) -> tuple[float, float, float]:
    """By how much the loss of one method lies above another's in the mean over all steps, in nats a trained
    token: mean over paired seeds and interval. Below zero: it learns in fewer steps."""
    means = {
        method: {
            c["cell"]["seed"]: statistics.fmean(c["metrics"]["losses"])
            for c in record["cells"]
            if (c["cell"]["method"], c["cell"]["budget"]) == (method, "steps")
        }
        for method in (ours, theirs)
    }
    return rates.paired(means[ours], means[theirs])


def steps_table(record: dict) -> Table:
    """Does DoRA learn in fewer steps? The mean of its loss over all steps less LoRA's, at either scale."""
    lines = []
    for words, (ours, theirs) in list(PAIRS.items())[:2]:
        names = [methods.METHODS[method].title for method in (ours, theirs)]
        gap = intervals.shown(slower(record, ours, theirs), "+.3f")
        lines.append([words, " − ".join(names), gap])
    return Table(["", "methods", "nats a token, mean over steps [95 %]"], lines, "Who learns in fewer steps?")
