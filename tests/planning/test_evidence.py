"""The planner held to what others measured."""

import json

import pytest

from labsupport.core.files import ROOT
from labsupport.planning import evidence, prose
from labsupport.setups.setup import Setup, config_named
from labsupport.sizes import gpus

ROWS = evidence.rows()


def test_there_are_rows_of_each_kind_that_anyone_published():
    assert len(ROWS) >= 12
    runs = [evidence.setup_of(row) for row in ROWS]
    assert {run.trainer for run in runs} == {"plain"}  # nobody has published one of TRL's fused head
    assert {True, False} == {run.four_bit for run in runs}
    assert {"full", "lora", "qlora", "dora", "rslora"} == {run.method for run in runs}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: evidence.described(row).replace(" ", "_"))
def test_the_planner_is_within_3_percent_and_its_verdict_right(row):
    found = evidence.compared(row)
    assert found.ratio == pytest.approx(1, abs=0.03)
    assert found.fits == row["ran"]


def test_every_row_names_its_source_and_what_it_printed():
    for row in json.loads((ROOT / "data" / "published_runs" / "memory.json").read_text()):
        assert row["where"] and row["source"] and row["card"] in gpus.CARDS, row
        if row.get("allocated_gib") or row.get("reserved_gib"):
            assert row["as_printed"], row


def test_the_nearest_rows_are_of_the_same_kind_if_there_are_any():
    run = Setup(config_named("llama-3.1-8b"), "qlora", length=4096, padded=False, trainer="plain")
    assert all(row["method"] == "qlora" for row in evidence.nearest(run))
    assert "published measurements" in evidence.said(run)


def test_what_no_one_has_measured_says_so_once():
    run = Setup(config_named("llama-3.1-8b"), "qlora", trainer="sft")
    assert len(evidence.nearest(run)) == 3
    said = [line for line in prose.assumptions(run, None) if "UNVERIFIED" in line]
    assert said == [evidence.said(run)]
