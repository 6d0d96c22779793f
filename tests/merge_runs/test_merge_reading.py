"""What is read out of the record of `merge_routes`."""

import pytest

from labsupport.merge_runs import figures, reading, rounding

TOKENS = [10, 30]


def row_columns(nll: float, kl: float) -> dict:
    scored = {"nll": [nll, nll + 1], "exact": [0, 1], "kl": [kl, 3 * kl], "same": [10, 30], "tokens": TOKENS}
    return dict.fromkeys(reading.SETS, scored)


def measured(trained: float, relative: float, names: dict) -> dict:
    """Way -> nats more than trained and KL of a row's ten tokens; the base has ten nats more."""
    away = {"unmerged": (0.0, 0.0), "base": (10.0, 30.0), "in place": (9.0, 20.0)}
    scores = {
        way: row_columns(trained + more, kl) for way in names for more, kl in [away.get(way, (0.5, 0.1))]
    }
    values = {"kept": 0.5, "cosine": 0.25, "size": 2.0, "moved": 0.1, "relative": relative}
    survived = dict.fromkeys(rounding.ROUTES, values)
    ids = dict.fromkeys(reading.SETS, ["a", "b"])
    return {"id": ids, "scores": scores, "survived": survived, "control": survived}


@pytest.fixture
def record():
    thin = {way: name for way, name in reading.NAMES.items() if "products" not in way}
    cells = []
    for seed in (0, 1):
        whole = measured(3.0 + seed, 0.01, reading.NAMES)
        whole["alike"] = {way: [1, 0, seed] for way in reading.NAMES}
        scales = {"0": measured(13.0 + seed, 0.0, thin), "1": whole, "3": measured(3.0 + seed, 0.03, thin)}
        nothing = dict.fromkeys(rounding.Survived._fields)
        scales["0"]["survived"] = dict.fromkeys(rounding.ROUTES, nothing | {"moved": 0.0, "relative": 0.0})
        cells.append({"cell": {"steps": 32, "seed": seed}, "metrics": {"scales": scales}})
        few = {"1": measured(5.0 + seed, 0.002, thin)}
        cells.append({"cell": {"steps": 8, "seed": seed}, "metrics": {"scales": few}})
    return {"cells": cells}


def test_differences_are_paired_by_seed_and_row(record):
    assert reading.gap(record, "in place", "test_lookalike", "nll") == pytest.approx((9, 9, 9))
    assert reading.gap(record, "unmerged", "test_lookalike", "exact") == (0, 0, 0)
    assert reading.detectable(record, "in place", "test_lookalike") == pytest.approx(0, abs=1e-9)
    assert reading.level(record, "unmerged", "test_production", "nll")[0] == pytest.approx(4)


def test_divergence_is_of_a_token(record):
    assert reading.divergence(record, "in place", "test_lookalike") == pytest.approx((2, 2, 2))
    assert reading.same_choice(record, "base", "test_lookalike") == pytest.approx((1, 1, 1))


def test_gain_runs_from_the_base_to_the_trained_model(record):
    kept = [reading.gain_kept(record, way, "test_lookalike")[0] for way in ("base", "in place", "unmerged")]
    assert kept == pytest.approx([0, 0.1, 1])


def test_replies_of_all_seeds_are_counted(record):
    assert reading.replies_alike(record, "in place") == (3, 6)


def test_conditions_go_by_the_size_of_the_update(record):
    assert reading.conditions(record) == [(8, 1.0), (32, 1.0), (32, 3.0)]
    assert reading.survival(record, "in place", 32, 3)["kept"] == 0.5
    assert reading.survival(record, "in place", 32, 0)["kept"] != reading.survival(record, "in place")["kept"]
    with pytest.raises(ValueError, match="64 steps"):
        reading.at(record, 64)


def test_tables_have_a_row_for_each_way_that_was_measured(record):
    rows = reading.routes_table(record).rows
    assert [row[0] for row in rows] == list(reading.NAMES.values())
    place = {row[0]: row[1:] for row in rows}[reading.NAMES["in place"]]
    assert place[0] == "13.00"
    assert place[2] == "+9.000 [+9.000, +9.000]" and place[-1] == "3 of 6"
    assert len(reading.routes_table(record, steps=8).rows) == len(reading.NAMES) - 2
    assert [row[1:3] for row in reading.survival_table(record).rows] == [
        list(v) for v in rounding.ROUTES.values()
    ]
    assert [row[0] for row in reading.sizes_table(record).rows] == [
        "8 steps",
        "32 steps",
        "32 steps, times 3",
    ]


def test_figures_show_every_way_and_size(record):
    labels = figures.divergences(record, "title").axes[0].get_yticklabels()
    assert {label.get_text() for label in labels} == set(reading.NAMES.values()) - {reading.NAMES["unmerged"]}
    lines = figures.by_size(record, "title").axes[0].get_lines()
    # of each route the strengths of one training, joined, and the other training beside them
    assert [len(line.get_xdata()) for line in lines] == [2, 1] * len(rounding.ROUTES)
