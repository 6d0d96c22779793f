"""The record `method_tickets` read: each method on the larger base, against LoRA on the same rows."""

from __future__ import annotations

import statistics

from labsupport.core.tables import Table
from labsupport.evaluation import intervals
from labsupport.method_runs import methods
from labsupport.method_runs.reading import BASE
from labsupport.qlora_runs import reading as by_row


def as_arms(record: dict) -> dict:
    """The record in the form of `qlora`'s: a method is an arm, its scores are its own base's."""
    return {
        "cells": [
            {
                "cell": {"arm": c["cell"]["method"], "seed": c["cell"]["seed"]},
                "metrics": {"own": c["metrics"]["scores"]},
            }
            for c in record["cells"]
        ]
    }


def versus(record: dict, method: str, split: str, measure: str) -> tuple[float, float, float]:
    """A measure ("answer" in nats, or "exact" as a share) of a method less LoRA's on the same rows and seeds:
    mean and interval over seeds and rows."""
    return by_row.gap(as_arms(record), method, BASE, split, measure)


def detectable(record: dict, method: str, split: str, measure: str) -> float:
    """The smallest difference that these rows would show in four cases of five, as far as rows decide it:
    their differences are averaged over the seeds first, so that the scatter between seeds is not in it."""
    arms = as_arms(record)
    ours, theirs = by_row.cells(arms, method), by_row.cells(arms, BASE)
    columns = []
    for seed in sorted(set(ours) & set(theirs)):
        one, other = (by_row.of_rows(found[seed]["own"][split], measure) for found in (ours, theirs))
        columns.append([a - b for a, b in zip(one, other, strict=True)])
        names = ours[seed]["own"][split]["id"]
    return intervals.detectable([statistics.fmean(row) for row in zip(*columns, strict=True)], names)


def table(record: dict) -> Table:
    """Each method on both sets: nats an answer, the difference from LoRA, share of exact answers."""
    arms, lines = as_arms(record), []
    for method, kind in methods.METHODS.items():
        if not by_row.cells(arms, method):
            continue
        for split, name in by_row.SETS.items():
            level = by_row.level(arms, method, split, "answer")[0]
            exact = 100 * by_row.level(arms, method, split, "exact")[0]
            gap, least = "—", "—"
            if method != BASE:
                gap = intervals.shown(versus(record, method, split, "answer"), "+.2f")
                least = f"{detectable(record, method, split, 'answer'):.2f}"
            lines.append([kind.title, name, f"{level:.2f}", gap, least, f"{exact:.0f}"])
    headings = ["method", "set", "nats an answer", "more than LoRA [95 %]", "would be seen", "exact (%)"]
    seeds = len(by_row.cells(arms, BASE))
    return Table(headings, lines, f"256 tickets, {seeds} seeds, intervals over seeds and rows")
