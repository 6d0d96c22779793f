"""The figures and tables of notebook 06 say what is in its records."""

import pytest

from labsupport.evaluation import experiments
from labsupport.format_runs import figures


def scored(exact: list[int], nats: float) -> dict:
    rows = {"id": [str(i) for i in range(len(exact))], "exact": exact, "stops": [1] * len(exact)}
    return rows | {part: [nats / len(figures.PARTS)] * len(exact) for part in figures.PARTS}


def cell(arm: str, seed: int, exact: list[int], nats: float) -> dict:
    metrics = {part: scored(exact, nats) for part in figures.SETS}
    return {"cell": {"arm": arm, "seed": seed}, "metrics": {"template": metrics}}


CELLS = [
    cell("template", 0, [1, 0, 0, 1], 2.0),
    cell("template", 1, [1, 1, 1, 1], 3.0),
    cell("full_row_loss", 0, [0, 0, 0, 0], 5.0),
]


def test_shares_are_over_sets_and_seeds():
    assert figures.right(CELLS, figures.RIGHT) == pytest.approx(0.75)
    assert figures.right(CELLS, ("full_row_loss", "template")) == 0


def test_differences_are_paired_by_seed():
    # Seed 1 has no partner: a mean over all seeds would be 2.5 more, not 3.
    found = figures.against_the_template(CELLS, ("full_row_loss", "template"))
    assert found == pytest.approx((3, 3, 3))
    assert figures.against_the_template(CELLS, figures.RIGHT) == pytest.approx((0, 0, 0))


def test_every_way_of_the_record_is_drawn_and_told():
    cells = experiments.published("chat_formats")["cells"]
    ways = {**figures.TRAINED, **figures.ASKED}
    axes = figures.what_it_costs(cells, "").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(ways.values())
    table = figures.table_of_formats(cells)
    untuned = "not tuned, asked with the template"
    assert [row[0] for row in table.rows] == ["the model's template", *ways.values(), untuned]
    low, high = axes.get_xlim()
    for way in ways:
        _, least, most = figures.against_the_template(cells, way)
        assert low <= least <= most <= high


def test_the_learning_curve_has_all_arms():
    cells = experiments.published("learning_curve")["cells"]
    panels = figures.learning(cells, "").axes
    assert [axes.get_title(loc="left") for axes in panels] == list(figures.SETS.values())
    assert len(figures.table_of_rows(cells).rows) == 6
