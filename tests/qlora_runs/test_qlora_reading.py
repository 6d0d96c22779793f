"""What is read out of the record of `qlora`."""

import math

import pytest

from labsupport.qlora_runs import reading


def scored(nats: float, exact: int = 0) -> dict:
    rows = {"id": ["a", "b"], "exact": [exact, exact], "stops": [1, 1]}
    rows |= dict.fromkeys(reading.FIELDS, [0.0, 0.0])
    return {split: rows | {"intent": [nats, nats + 1]} for split in reading.SETS}


def cell(arm: str, seed: int, nats: float, bump: float = 0.1, **places) -> dict:
    losses = [3.0 - 0.2 * step for step in range(8)] + [1.0 + bump * (step % 2) for step in range(12)]
    metrics = {"losses": losses, "own": scored(nats, exact=arm == "full")} | places
    return {"cell": {"arm": arm, "seed": seed}, "metrics": metrics}


@pytest.fixture
def record():
    cells = [cell("full", seed, 2.0 + seed, 0.1, other=scored(4.0 + seed)) for seed in range(3)]
    cells += [cell("nf4", seed, 2.5 + seed, 0.2, other=scored(2.4 + seed)) for seed in range(2)]
    return {"cells": cells}


def test_a_gap_is_paired_by_seed_and_row(record):
    assert reading.gap(record, "nf4", "full", "test_lookalike", "answer") == pytest.approx((0.5,) * 3)
    assert reading.gap(record, "nf4", "full", "test_lookalike", "exact") == (-1, -1, -1)
    moved = reading.gap(record, "full", "full", "test_production", "intent", "other", "own")
    assert moved == pytest.approx((2.0,) * 3)
    with pytest.raises(ValueError, match="share no seed"):
        reading.gap(record, "nf4", "full", "test_lookalike", "answer", "before", "before")


def test_fields_are_set_apart(record):
    found = {row[0]: row[1:] for row in reading.fields_table(record).rows}
    assert found["intent"] == ["+0.50 [+0.50, +0.50]"] * 2
    assert found["product"] == ["+0.00 [+0.00, +0.00]"] * 2 and set(found) == set(reading.FIELDS)


def test_bumps_are_changes_after_the_first_fall(record):
    assert reading.bumpiness([9.0] * reading.CALM + [1.0] * 5) == 0
    assert reading.bumpiness([9.0] * reading.CALM + [1.0, 1.1] * 5) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="at least"):
        reading.bumpiness([1.0] * 9)
    mean, low, high = reading.bump_ratio(record, "nf4")
    assert (
        math.isclose(mean, 2) and math.isclose(low, 2, rel_tol=1e-6) and math.isclose(high, 2, rel_tol=1e-6)
    )


def test_bumps_of_the_same_batches_are_set_beside_those_of_others():
    bumps = ([1.0, 2.0, 1.0, 3.0, 1.0], [1.0, 0.5, 1.5, 0.5, 2.0])
    cells = []
    for seed, shape in enumerate(bumps):
        for arm, factor in (("full", 1), ("nf4", 2)):
            metrics = {"losses": [5.0] * reading.CALM + [factor * loss for loss in shape]}
            cells.append({"cell": {"arm": arm, "seed": seed}, "metrics": metrics})
    assert reading.together({"cells": cells}, "nf4") == pytest.approx([1, 1])
    assert max(reading.together({"cells": cells}, "nf4", shift=1)) < 0
