"""The cost model against published times: those that set its parameters, and those kept from that."""

import json

import pytest

from labsupport.core.files import LabError
from labsupport.cost import evidence, step_time

WIDEST = 3  # slow over fast, for each row
ROWS = evidence.table()


@pytest.mark.parametrize("line", ROWS, ids=lambda line: f"{line['run']}, {line['card']}"[:70])
def test_no_range_is_wide(line):
    assert 0 < line["fast"] <= line["slow"] <= WIDEST * line["fast"]


@pytest.mark.parametrize(
    "line", [line for line in ROWS if line["role"] == "fitted"], ids=lambda line: line["run"]
)
def test_every_time_that_set_a_parameter_lies_inside(line):
    assert line["fast"] <= line["published"] <= line["slow"] and line["inside"]


def test_at_least_eight_of_ten_that_were_held_out_lie_inside():
    inside, rows = evidence.share_inside("held out")
    assert rows >= 40 and inside >= 0.8 * rows
    assert inside == sum(line["inside"] for line in ROWS if line["role"] == "held out")


def test_no_source_sets_parameters_and_tries_them():
    sources = [{row.source for row in evidence.rows(role)} for role in evidence.ROLES]
    assert all(len(names) >= 5 for names in sources) and not sources[0] & sources[1]


def test_short_and_long_steps_few_and_many_cards_are_among_both():
    for role in evidence.ROLES:
        lines = [line for line in ROWS if line["role"] == role]
        assert min(line["tokens a step"] for line in lines) < 2100
        assert max(line["tokens a step"] for line in lines) > 30_000
        assert {line["binds"] for line in lines} >= {"products", "launches"}
        assert {line["card"].split()[0] for line in lines} > {"1", "2"}


def test_what_is_published_becomes_seconds_a_step():
    run = {
        "model": "llama-2-7b",
        "method": "full",
        "batch": 2,
        "length": 100,
        "accumulation": 4,
        "card": "l4",
    }
    run |= {"source": "", "where": "", "role": "fitted", "cards": 2}
    for unit, value in (
        ("tokens a second", 400),
        ("tokens a second and card", 200),
        ("seconds a step", 4),
        ("seconds", 40),
    ):
        steps = {"steps": 10} if unit == "seconds" else {}
        assert evidence.read(run | {"value": value, "unit": unit} | steps).seconds == 4


def test_every_row_says_where_it_is_from_and_what_ran():
    for run in json.loads(evidence.FILE.read_text()):
        assert run["where"] and run["versions"] and run["role"] in evidence.ROLES
        assert (run["cards"] > 1) == ("sharded" in run)


def test_another_role_is_an_error():
    with pytest.raises(LabError, match="fitted or held out"):
        evidence.rows("tried")


def test_no_parameter_is_wider_than_a_range_may_be():
    names = ("PRODUCTS", "ATTENTION", "BANDWIDTH", "TRAFFIC", "UNPACKING", "LAUNCH", "LINK", "ADAMW", "DORA")
    for name in names:
        low, high = sorted(getattr(step_time, name))
        assert low < high <= WIDEST * low * (1 + 1e-9), name
