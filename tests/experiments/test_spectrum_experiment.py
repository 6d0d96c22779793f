"""The spectrum experiment in small."""

import json

import numpy as np
import pytest
from tiny_training import tiny_model

from labsupport.core import files
from labsupport.evaluation import experiments
from labsupport.experiments import spectrum_experiment
from labsupport.tasks import tickets
from labsupport.updates import full_update, spectra


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
        assert set(metrics["cut"]) == set(metrics["cut_by_field"]) == set(map(str, spectrum_experiment.CUTS))
        assert all(len(values) == 4 for values in metrics["cut"].values())
        whole = {int(rank): np.mean(values) for rank, values in metrics["cut"].items()}
        assert whole[64] == pytest.approx(whole[576], rel=1e-4)  # no matrix has more than 32
    values, shuffled, right, sgd = (cell["metrics"] for cell in cells)
    assert right["losses"][0] == sgd["losses"][0] and values["losses"][0] != right["losses"][0]
    assert values["losses"] != shuffled["losses"] and values["cut"]["0"] == right["cut"]["0"]
    assert np.mean(right["cut"]["576"]) < np.mean(right["cut"]["0"])  # it has learned something
    # Trained on the values alone, the values gain and the form does not.
    fields = [sum(np.mean(values["cut_by_field"][rank][f]) for f in tickets.FIELDS) for rank in ("0", "576")]
    assert fields[1] < fields[0]


def test_shuffled_rows_are_the_same_messages_with_others_labels():
    right, shuffled = (full_update.training_rows(192, answers) for answers in ("right", "shuffled"))
    assert [row["text"] for row in right] == [row["text"] for row in shuffled]
    assert sorted(row["intent"] for row in right) == sorted(row["intent"] for row in shuffled)
    assert sum(a["intent"] != b["intent"] for a, b in zip(right, shuffled, strict=True)) > len(right) / 2
