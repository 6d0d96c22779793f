"""The experiment on merge routes in small, read by its reader."""

import pytest
from tiny_training import tiny_model

from labsupport.experiments import merge_routes_experiment
from labsupport.format_runs import prompt_formats
from labsupport.merge_runs import reading, rounding


@pytest.fixture(scope="module")
def record(tmp_path_factory, tokenizer):
    """Two trainings of a random two-layer Llama, three rows of each set."""
    folder = tmp_path_factory.mktemp("merge_routes")
    tiny_model(hidden_size=64, intermediate_size=128).save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    few = {split: rows[:3] for split, rows in prompt_formats.test_sets().items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_BASE_MODEL", str(folder / "base"))
        patch.setattr("labsupport.core.files.RUNS", folder / "runs")
        patch.setattr("labsupport.core.upstream.score_only_labels", lambda: None)
        patch.setattr(prompt_formats, "test_sets", lambda: few)
        patch.setattr(merge_routes_experiment, "SCALED", 3)
        patch.setattr(merge_routes_experiment, "SCALES", (0.0, 1.0))
        patch.setattr(merge_routes_experiment, "REPLIES", 2)
        cells = [{"steps": steps, "seed": 0} for steps in (1, 3)]
        return {"cells": [{"cell": c, "metrics": merge_routes_experiment.run(c)} for c in cells]}


def test_every_way_is_scored_where_the_experiment_says(record):
    one, three = (cell["metrics"] for cell in record["cells"])
    assert len(one["losses"]) == 1 and len(three["losses"]) == 3 and list(three["scales"]) == ["0", "1"]
    assert one["losses"][0] == three["losses"][0]  # the base, before any step
    whole, thin = three["scales"]["1"], three["scales"]["0"]
    assert set(whole["scores"]) == set(reading.NAMES) == set(whole["alike"]) | {"unmerged"}
    assert len(whole["id"]["test_lookalike"]) == 3 and len(thin["id"]["test_lookalike"]) == 1
    assert (
        set(thin["scores"])
        == set(one["scales"]["1"]["scores"])
        == set(rounding.ROUTES) | {"unmerged", "base"}
    )


def test_the_record_tells_the_routes_apart(record):
    where = {"split": "test_lookalike", "steps": 3}
    kl = {way: reading.divergence(record, way, **where)[0] for way in reading.NAMES}
    assert kl["unmerged"] == 0 and abs(kl["dequantised"]) < 1e-7 < kl["float32 base"]
    assert kl["dequantised, bfloat16"] < kl["float32 base"]
    survived = {route: reading.survival(record, route, 3) for route in rounding.ROUTES}
    assert survived["dequantised"]["kept"] == pytest.approx(1, abs=1e-3)
    assert survived["in place"]["kept"] + 0.1 < survived["re-quantised"]["kept"]
    nothing = record["cells"][1]["metrics"]["scales"]["0"]
    assert nothing["survived"]["in place"]["kept"] is None
    assert nothing["scores"]["base"] == nothing["scores"]["unmerged"]


def test_the_tables_can_be_made(record):
    assert len(reading.routes_table(record, steps=3).rows) == len(reading.NAMES)
    assert len(reading.survival_table(record, steps=3).rows) == len(rounding.ROUTES)
    assert [row[0] for row in reading.sizes_table(record).rows] == ["1 steps", "3 steps"]
