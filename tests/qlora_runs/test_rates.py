"""What is read out of the records of `qlora_rates` and `qlora_budget`."""

import math

import pytest

from labsupport.qlora_runs import rates, reading


def fact_cell(arm: str, rate: float, seed: int, bits: float, epochs: int = 10) -> dict:
    nll = [(40 - bits) * math.log(2)] * 100  # of each code
    return {
        "cell": {"arm": arm, "rate": rate, "epochs": epochs, "seed": seed},
        "metrics": {"losses": [1.0], "own": nll},
    }


@pytest.fixture
def sweep():
    cells = []
    for seed in range(3):
        for rate, full, nf4 in ((1e-3, 10, 13), (2e-3, 20, 11 + seed)):
            cells += [fact_cell("full", rate, seed, full), fact_cell("nf4", rate, seed, nf4)]
    return {"cells": cells}


def test_bits_are_counted_by_cell_and_seed(sweep):
    found = rates.values(sweep, arm="full", rate=2e-3, epochs=10)
    assert found == pytest.approx(dict.fromkeys(range(3), 2000.0))
    assert rates.values(sweep, arm="full", rate=2e-3, epochs=20) == {}


def test_the_best_rate_is_of_the_base_asked_for(sweep):
    assert rates.rates(sweep) == [1e-3, 2e-3]
    assert rates.best_rate(sweep, "full", 10) == 2e-3
    assert rates.best_rate(sweep, "nf4", 10) == 1e-3  # 13 bits a fact against 12 in the mean


def test_a_gap_is_paired_by_seed():
    mean, low, high = rates.paired({0: 3.0, 1: 5.0, 2: 9.0, 7: 100.0}, {0: 1.0, 1: 3.0, 2: 7.0, 8: 0.0})
    assert (mean, low, high) == (2, 2, 2)
    mean, low, high = rates.paired({0: 1.0, 1: 3.0}, {0: 0.0, 1: 0.0})
    assert mean == 2 and high - mean == pytest.approx(
        12.706, rel=1e-3
    )  # Student's t with one degree, error 1
    with pytest.raises(ValueError, match="at least 2"):
        rates.paired({0: 1.0}, {0: 1.0})


def test_tables_have_a_line_for_every_setting(sweep):
    assert len(rates.bits_table(sweep).rows) == 2


def test_what_moves_is_set_beside_its_own_base(sweep):
    for cell in sweep["cells"]:
        cell["metrics"]["losses"] = [1.0] * reading.CALM + [1.0, 1.5, 1.0, 1.5]
        cell["metrics"]["other"] = [
            nats + math.log(2) for nats in cell["metrics"]["own"]
        ]  # a bit less a fact
    (_, _, bumps, bits, moved), *_ = rates.moved_table(sweep).rows
    assert (bumps, bits, moved) == ("1.00 [1.00, 1.00]", "1,300", "-100 [-100, -100]")


def test_recipes_are_held_to_full_precision_once(scored_cells):
    once, others = scored_cells
    gap = rates.against_once((once, others), "nf4", 0.5, 2, "full", "test_lookalike")
    assert gap == pytest.approx((0.25,) * 3)
    lines = rates.recipes_table((once, others)).rows
    assert [line[:3] for line in lines] == [
        ["full precision", "0.5", "2"],
        ["NF4", "1", "1"],
        ["NF4", "0.5", "2"],
    ]


@pytest.fixture
def scored_cells():
    def metrics(nats: float) -> dict:
        rows = {"id": ["a", "b"], "exact": [0, 0], "stops": [1, 1]}
        rows |= dict.fromkeys(reading.FIELDS, [0.0, 0.0])
        return {"own": {split: rows | {"intent": [nats, nats + 1]} for split in reading.SETS}}

    once = [
        {"cell": {"arm": arm, "seed": seed}, "metrics": metrics(2 + seed + more)}
        for arm, more in (("full", 0), ("nf4", 0.5))
        for seed in range(3)
    ]
    others = [
        {"cell": {"arm": arm, "rate": 0.5, "epochs": 2, "seed": seed}, "metrics": metrics(2.25 + seed)}
        for arm in ("full", "nf4")
        for seed in range(2)
    ]
    return {"cells": once}, {"cells": others}
