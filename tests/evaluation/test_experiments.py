"""Experiments: cells are kept one by one, and only whole records are published."""

import json
import types

import pytest

from labsupport.core import files, profiles
from labsupport.core.files import LabError
from labsupport.evaluation import experiments
from labsupport.models import chat
from labsupport.tasks import tickets


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """An experiment of three cells that counts its runs and fails in the cells listed in `broken`."""
    module = types.SimpleNamespace(
        __doc__="A fake.", CELLS=[{"rank": r, "seed": 0} for r in (1, 2, 4)], ran=[], broken=set()
    )

    def run(cell):
        module.ran.append(cell["rank"])
        if cell["rank"] in module.broken:
            raise KeyboardInterrupt
        return {"nll": cell["rank"] / 3}

    module.run = run
    monkeypatch.setattr(files, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(experiments, "PUBLISHED", tmp_path / "published")
    monkeypatch.setattr(experiments, "find", lambda name: module)
    return module


def test_cells_done_are_not_run_again(fake):
    experiments.run("fake")
    experiments.run("fake")
    assert fake.ran == [1, 2, 4]


def test_an_interrupted_experiment_keeps_its_cells_and_is_not_published(fake):
    fake.broken = {4}
    with pytest.raises(KeyboardInterrupt):
        experiments.run("fake")
    with pytest.raises(LabError, match=r"1 of 3 cells of fake .*lab.py experiment fake"):
        experiments.publish("fake")
    assert not experiments.PUBLISHED.exists()
    fake.broken = set()
    experiments.run("fake")
    assert fake.ran == [1, 2, 4, 4]


def test_the_published_record_has_every_cell_with_its_origin(fake):
    experiments.run("fake")
    experiments.publish("fake")
    record = experiments.published("fake")
    assert record["about"] == "A fake."
    assert [cell["cell"] for cell in record["cells"]] == fake.CELLS
    assert [cell["metrics"]["nll"] for cell in record["cells"]] == [1 / 3, 2 / 3, 4 / 3]
    assert {"date", "processor", "threads", "libraries"} <= set(record["cells"][0]["stamp"])


@pytest.mark.parametrize("damage", ["", '{"cell": {"ra', "null", "[]", "{}"])
def test_a_damaged_cell_is_missing_and_run_again(damage, fake):
    folder = experiments.run("fake")
    (file,) = folder.glob("rank=2*")
    file.write_text(damage)
    with pytest.raises(LabError, match="1 of 3 cells"):
        experiments.publish("fake")
    experiments.run("fake")
    assert fake.ran == [1, 2, 4, 2]
    assert json.loads(file.read_text())["metrics"] == {"nll": 2 / 3}


def test_an_unknown_name_lists_the_names():
    known = experiments.names()
    assert known
    with pytest.raises(LabError, match="Unknown experiment 'nonsense'") as caught:
        experiments.find("nonsense")
    assert all(name in str(caught.value) for name in known)


def test_a_missing_record_says_how_to_get_it_back(fake):
    with pytest.raises(LabError, match="git checkout"):
        experiments.published("fake")


def test_the_record_of_notebook_01_is_a_whole_run_on_the_present_rows(tokenizer):
    """`lab.py test` trains a quarter of the steps: what the course says of all of them is this record."""
    profile = profiles.get("cpu")
    cells = experiments.published("first_fine_tune")["cells"]
    metrics = next(cell["metrics"] for cell in cells if cell["cell"]["model"] == "lora")
    rows = tickets.load("train")[: profile.train_rows]
    assert metrics["tokens"] == sum(len(chat.encode_example(tokenizer, row).ids) for row in rows)
    logged = [entry for entry in metrics["log"] if "loss" in entry]
    assert logged[-1]["step"] == profile.train_rows // profile.batch_size
    assert max(entry["learning_rate"] for entry in logged) == pytest.approx(profile.learning_rate, rel=0.01)
    for split in ("test_lookalike", "test_production"):
        assert [result["id"] for result in metrics[split]] == [row["id"] for row in tickets.load(split)]
