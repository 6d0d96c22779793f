"""What is read out of the record of `forgetting`, on one small enough to be computed by hand."""

import pytest

from labsupport.evaluation_runs import forgetting


def scores(nll: float, kl: list[float], general: list[float], canary: list[int]) -> dict:
    rows = {"id": ["a", "b"], "exact": [1, 0], "all": [nll, nll + 2]}
    passages = {"id": ["p", "q"], "tokens": [10, 30], "nll": general, "kl": kl}
    return {"test_lookalike": rows, "test_production": rows, "general": passages, "canary": canary}


def cell(arm: str, seed: int, after: dict, start: bool = False) -> dict:
    found = {"8": after} | ({"0": scores(50.0, [0, 0], [30.0, 90.0], [1, 1, 0, 1])} if start else {})
    validation = {
        str(epoch): {"nll": nll, "exact": 0.1} for epoch, nll in enumerate([9, 5, 6, 7, 4], start=1)
    }
    settings = {"arm": arm, "learning_rate": 2e-3 if arm == "lora" else 2e-4, "seed": seed}
    return {"cell": settings, "metrics": {"scores": found, "validation": validation}}


RECORD = {
    "cells": [
        cell("lora", 0, scores(4.0, [1, 3], [34.0, 102.0], [1, 0, 0, 1]), start=True),
        cell("lora", 1, scores(6.0, [3, 9], [34.0, 102.0], [1, 1, 1, 1])),
        cell("full", 0, scores(3.0, [8, 24], [30.0, 90.0], [0, 0, 0, 0])),
    ]
}
LORA, FULL = ("lora", 2e-3), ("full", 2e-4)


def test_means_over_tokens_rows_and_seeds():
    assert forgetting.divergence(RECORD, LORA, 8)[0] == pytest.approx((4 + 12) / 80)
    assert forgetting.divergence(RECORD, FULL, 8)[0] == pytest.approx(0.8)
    assert forgetting.task_nll(RECORD, LORA, 8)[0] == pytest.approx(6.0)
    assert forgetting.exact(RECORD, LORA, 8)[0] == 0.5


def test_changes_are_against_before():
    assert forgetting.general_change(RECORD, LORA, 8)[0] == pytest.approx(16 / 40)
    assert forgetting.general_change(RECORD, LORA, 0)[0] == 0
    assert forgetting.canary_change(RECORD, LORA, 8)[0] == pytest.approx(0.0)
    assert forgetting.canary_change(RECORD, FULL, 8)[0] == pytest.approx(-0.75)


def test_early_stopping_waits_for_its_patience():
    losses = forgetting.validation(RECORD, LORA)[0]
    assert losses == [9, 5, 6, 7, 4]
    assert forgetting.stops_at(losses, patience=2) == 4
    assert forgetting.stops_at(losses, patience=3) == 5
    assert forgetting.stops_at([3, 2, 1], patience=2) == 3


def test_the_published_record_is_whole():
    record = forgetting.published()
    assert len(forgetting.arms(record)) == len(forgetting.ARMS)
    assert forgetting.epochs(record) == [1, 3, 5, 8]
    tokens = forgetting.before(record)["general"]["tokens"]
    assert sum(tokens) == 20_130
    assert sum(forgetting.before(record)["general"]["kl"]) == pytest.approx(0, abs=0.01)
    lines = forgetting.table(record).rows
    assert len(lines) == 4 * len(forgetting.arms(record))
    axes = forgetting.frontier(record, "").axes[1]
    assert len(axes.get_legend().get_texts()) == len(forgetting.ARMS)
