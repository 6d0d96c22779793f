"""The record `method_comparison` asked about DoRA at two scales: its method's share and alpha's."""

from __future__ import annotations

import statistics

from labsupport.core.tables import Table
from labsupport.evaluation import intervals
from labsupport.method_runs import reading
from labsupport.qlora_runs import rates

# What is changed -> (with, without): the scale alone, or DoRA alone.
PAIRS = {
    "DoRA, at scale 2": ("dora", "lora"),
    "DoRA, at scale 8": ("dora8", "rslora"),
    "scale 8 for 2, LoRA": ("rslora", "lora"),
    "scale 8 for 2, DoRA": ("dora8", "dora"),
}

EPOCH = 13  # steps over 100 facts


def table(record: dict, measure: str = "bits") -> Table:
    """The four differences with their intervals, and what each could have shown."""
    name, form = reading.MEASURES[measure]
    lines = []
    for words, (ours, theirs) in PAIRS.items():
        gap = reading.versus(record, measure, ours, base=theirs)
        seen = reading.detectable(record, measure, ours, base=theirs)
        lines.append([words, intervals.shown(gap, f"+{form}"), format(seen, form)])
    return Table(["what is changed", f"{name}, more [95 %]", "would be seen"], lines, "Method or scale?")


def losses(record: dict, method: str) -> dict[int, list[float]]:
    """Seed -> the loss of every step at equal steps, in nats a trained token."""
    return {
        c["cell"]["seed"]: c["metrics"]["losses"]
        for c in record["cells"]
        if (c["cell"]["method"], c["cell"]["budget"]) == (method, "steps")
    }


def slower(record: dict, ours: str, theirs: str) -> tuple[float, float, float]:
    """By how much the loss of one method lies above another's in the mean over all steps, in nats a trained
    token: mean over paired seeds and interval. Below zero: it learns in fewer steps."""
    one, other = (
        {seed: statistics.fmean(found) for seed, found in losses(record, method).items()}
        for method in (ours, theirs)
    )
    return rates.paired(one, other)


def steps_to(found: list[float], target: float) -> int | None:
    """The first step by which the mean loss of an epoch, the last EPOCH steps, is down at the target; None if
    it never is."""
    for step in range(EPOCH, len(found) + 1):
        if statistics.fmean(found[step - EPOCH : step]) <= target:
            return step
    return None


def steps_table(record: dict) -> Table:
    """Does DoRA learn in fewer steps? Its loss over all steps less LoRA's of the same scale, and the steps
    after which it is where LoRA ends, seed by seed."""
    lines = []
    for words, (ours, theirs) in list(PAIRS.items())[:2]:
        one, other = losses(record, ours), losses(record, theirs)
        seeds = sorted(set(one) & set(other))
        needed = [steps_to(one[seed], statistics.fmean(other[seed][-EPOCH:])) for seed in seeds]
        shown = ", ".join("never" if steps is None else str(steps) for steps in needed)
        lines.append([words, intervals.shown(slower(record, ours, theirs), "+.3f"), shown])
    total = len(next(iter(one.values())))
    headings = ["", "nats a token more than LoRA, mean over steps [95 %]"]
    headings.append(f"steps to LoRA's loss at step {total}, by seed")
    return Table(headings, lines, "Who learns in fewer steps?")
