"""Notebook 02's experiment in small, its explorer and its questions."""

import json

import numpy as np
import pytest
from tiny_training import tiny_model

from labsupport.core import files
from labsupport.core.files import LabError
from labsupport.evaluation import experiments, spectra
from labsupport.notebooks.nb02_lora_math import low_rank_explorer, questions, spectrum_experiment

# ---------------------------------------------------------------- the spectrum experiment in small


@pytest.fixture(scope="module")
def small(tmp_path_factory, tokenizer):
    """The experiment on a random two-layer Llama: the folder with its published record."""
    folder = tmp_path_factory.mktemp("spectrum")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiments, "PUBLISHED", folder)
        patch.setattr(files, "RUNS", folder / "runs")
        patch.setattr(spectrum_experiment, "STEPS", 3)
        patch.setattr(spectrum_experiment, "BATCH", 2)
        patch.setattr(spectrum_experiment, "LAYERS", (0, 1))
        patch.setattr(spectrum_experiment, "VALIDATION_FAMILIES", 4)
        patch.setattr(spectrum_experiment, "LEARNING_RATES", {"adamw": 1e-2, "sgd": 1.0})
        patch.setattr("labsupport.models.base_model.load", lambda **options: (tiny_model(), tokenizer))
        experiments.run("spectrum")
        experiments.publish("spectrum")
    return folder


def test_record(small):
    cells = json.loads((small / "spectrum.json").read_text())["cells"]
    assert [cell["cell"] for cell in cells] == spectrum_experiment.CELLS
    for cell in cells:
        metrics = cell["metrics"]
        assert len(metrics["losses"]) == 3
        assert len(metrics["matrices"]) == 14 == len(metrics["singular_values"])
        for matrix in metrics["matrices"]:
            assert matrix["energy"] == sorted(matrix["energy"]) and matrix["energy"][-1] == 1
            values = spectra.from_text(metrics["singular_values"][f"{matrix['layer']}.{matrix['module']}"])
            assert len(values) == min(matrix["shape"])
            assert spectra.rank_for_energy(values, 0.9) == matrix["rank_90"]
    right, sgd, shuffled = (cell["metrics"] for cell in cells)
    assert right["losses"][0] == sgd["losses"][0] != shuffled["losses"][0]
    assert "cut" not in sgd and set(right["cut"]) == set(map(str, spectrum_experiment.CUTS))
    cuts = {int(k): np.mean(v) for k, v in right["cut"].items()}
    assert all(len(values) == 4 for values in right["cut"].values())
    assert cuts[576] < cuts[0]  # it has learned something
    assert cuts[64] == pytest.approx(cuts[576], rel=1e-4)  # no matrix has more than 32


def test_shuffled_rows_are_the_same_messages_with_others_labels():
    right, shuffled = (
        spectrum_experiment.training_rows("right"),
        spectrum_experiment.training_rows("shuffled"),
    )
    assert [row["text"] for row in right] == [row["text"] for row in shuffled]
    assert sorted(row["intent"] for row in right) == sorted(row["intent"] for row in shuffled)
    assert sum(a["intent"] != b["intent"] for a, b in zip(right, shuffled, strict=True)) > len(right) / 2


def test_explorer(small, monkeypatch):
    monkeypatch.setattr(experiments, "PUBLISHED", small)
    monkeypatch.setattr(spectrum_experiment, "LAYERS", (0, 1))
    low_rank_explorer.record.cache_clear()
    view = low_rank_explorer.view("SGD", 1, "down_proj", rank=32)
    assert view.heading.startswith("Rank 32 keeps 100.0 % of the energy of this 32 x 64 update")
    assert view.table[0]["parameters"] == "3,072 of 2,048 (150.0 %)"
    assert [row[""] for row in view.table] == ["this update", "random signs"]
    explorer = low_rank_explorer.explore(layer=0, module="k_proj", rank=2)
    before = explorer.out.value
    explorer.controls["rank"].value = 3
    assert "Rank 3 keeps" in explorer.out.value != before
    explorer.controls["rank"].value = 17  # k is 16 x 32
    assert "larger than 16" in explorer.out.value and "<img" not in explorer.out.value
    with pytest.raises(LabError, match="Unknown module 'lm_head'.*q_proj"):
        low_rank_explorer.view(layer=0, module="lm_head")
    with pytest.raises(LabError, match="Unknown arm"):
        low_rank_explorer.view("Lion", 0)
    low_rank_explorer.record.cache_clear()


def test_explorer_without_a_record_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(experiments, "PUBLISHED", tmp_path)
    low_rank_explorer.record.cache_clear()
    assert "missing or damaged" in low_rank_explorer.explore().out.value


# ---------------------------------------------------------------- questions


def test_questions():
    assert len(questions.QUESTIONS) == 4
    assert questions.QUESTIONS[0].answer() == 576 * 8
    for question in questions.QUESTIONS[1:3]:
        assert sum(choice.right for choice in question.choices) == 1
