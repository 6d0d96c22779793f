"""The explorer of ranks, on a record of random updates."""

import json

import numpy as np
import pytest

from labsupport.core.files import LabError
from labsupport.evaluation import experiments
from labsupport.explorers import low_rank_explorer
from labsupport.updates import spectra

SHAPES = {"k_proj": (16, 32), "down_proj": (32, 64)}


@pytest.fixture
def record(tmp_path, monkeypatch):
    """A published record as the experiment writes it, of two layers with two matrices each; its spectra."""
    random, cells, values = np.random.default_rng(0), [], {}
    for arm, settings in low_rank_explorer.ARMS.items():
        matrices, texts = [], {}
        for layer in (0, 1):
            for module, shape in SHAPES.items():
                spectrum = np.linalg.svd(random.normal(size=shape), compute_uv=False)
                values[arm, layer, module] = spectrum
                texts[f"{layer}.{module}"] = spectra.to_text(spectrum)
                matrices.append({"layer": layer, "module": module, "shape": shape})
        cells.append({"cell": settings, "metrics": {"matrices": matrices, "singular_values": texts}})
    (tmp_path / "spectrum.json").write_text(json.dumps({"cells": cells}))
    monkeypatch.setattr(experiments, "PUBLISHED", tmp_path)
    monkeypatch.setattr(spectra, "KEPT_LAYERS", (0, 1))
    low_rank_explorer.record.cache_clear()
    yield values
    low_rank_explorer.record.cache_clear()


def test_the_view_says_what_a_rank_keeps_of_that_update(record):
    whole = low_rank_explorer.view("SGD", 1, "down_proj", rank=32)
    assert whole.heading.startswith("Rank 32 keeps 100.0 % of the energy of this 32 x 64 update")
    assert whole.table[0]["parameters"] == "3,072 of 2,048 (150.0 %)"
    assert [row[""] for row in whole.table] == ["this update", "random signs"]
    squares = record["AdamW", 0, "k_proj"] ** 2
    part = low_rank_explorer.view("AdamW", 0, "k_proj", rank=5)
    assert part.table[0]["energy kept"] == f"{100 * squares[:5].sum() / squares.sum():.1f} %"
    assert part.table[0]["relative error"] == f"{100 * np.sqrt(squares[5:].sum() / squares.sum()):.1f} %"


def test_the_controls_redraw(record):
    explorer = low_rank_explorer.explore(layer=0, module="k_proj", rank=2)
    before = explorer.out.value
    explorer.controls["rank"].value = 3
    assert "Rank 3 keeps" in explorer.out.value != before
    explorer.controls["rank"].value = 17  # k is 16 x 32
    assert "larger than 16" in explorer.out.value and "<img" not in explorer.out.value


def test_it_says_what_is_wrong(record):
    with pytest.raises(LabError, match="Unknown module 'lm_head'.*q_proj"):
        low_rank_explorer.view(layer=0, module="lm_head")
    with pytest.raises(LabError, match="Unknown arm"):
        low_rank_explorer.view("Lion", 0)


def test_without_a_record_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(experiments, "PUBLISHED", tmp_path)
    low_rank_explorer.record.cache_clear()
    assert "missing or damaged" in low_rank_explorer.explore().out.value


def test_the_published_record_has_what_the_controls_offer():
    low_rank_explorer.record.cache_clear()
    for arm in low_rank_explorer.ARMS:
        explorer = low_rank_explorer.explore(arm)
        for layer in explorer.controls["layer"].options:
            for module in explorer.controls["module"].options:
                values, shape = low_rank_explorer.recorded_update(arm, layer, module)
                assert len(values) == min(shape)
