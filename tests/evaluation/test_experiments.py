"""Experiments: cells are kept one by one, and only whole records are published."""

import json

import pytest

from labsupport.core import files, profiles
from labsupport.core.files import LabError
from labsupport.evaluation import experiments
from labsupport.models import chat
from labsupport.tasks import tickets


class Fake:
    """A fake."""

    def __init__(self, folder):
        self.folder, self.__doc__ = folder, "A fake."
        self.CELLS = [{"rank": r, "seed": 0} for r in (1, 2, 4)]

    @property
    def ran(self):
        return [int(line) for line in (self.folder / "ran").read_text().split()]


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """An experiment of three cells that notes its runs in a file and fails in the cell named in another."""
    module = Fake(tmp_path)
    notes = tmp_path

    def run(cell):
        with (notes / "ran").open("a") as file:
            file.write(f"{cell['rank']}\n")
        if (notes / "broken").exists() and (notes / "broken").read_text() == str(cell["rank"]):
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
    (fake.folder / "broken").write_text("4")
    with pytest.raises(KeyboardInterrupt):
        experiments.run("fake")
    with pytest.raises(LabError, match=r"1 of 3 cells of fake .*lab.py experiment fake"):
        experiments.publish("fake")
    assert not experiments.PUBLISHED.exists()
    (fake.folder / "broken").unlink()
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


def test_a_cell_whose_code_has_changed_runs_again(fake, capsys):
    experiments.run("fake")
    first = fake.run

    def run(cell):
        return first(cell) | {"new": True}

    fake.run = run
    with pytest.raises(LabError, match="3 of 3 cells of fake have no result from the present code"):
        experiments.publish("fake")
    experiments.run("fake")
    assert fake.ran == [1, 2, 4] * 2
    assert capsys.readouterr().err.count("so it runs again") == 3
    experiments.publish("fake")
    assert all(cell["metrics"]["new"] for cell in experiments.published("fake")["cells"])


def test_a_cell_of_another_version_of_a_library_runs_again(fake, monkeypatch):
    experiments.run("fake")
    monkeypatch.setattr(experiments, "versions", lambda: {"torch": "99"})
    experiments.run("fake")
    assert fake.ran == [1, 2, 4] * 2


@pytest.mark.parametrize("value", ["a/b", "..", "q_proj, v_proj", "x" * 300, "na:me?", "ä"])
def test_any_setting_makes_a_file_name_and_no_two_the_same(fake, value):
    fake.CELLS = [{"targets": value}, {"targets": value.replace("/", "-") + "-"}]
    fake.run = lambda cell: {"said": cell["targets"]}
    folder = experiments.run("fake")
    experiments.publish("fake")
    assert len(list(folder.iterdir())) == 2
    said = [cell["metrics"]["said"] for cell in experiments.published("fake")["cells"]]
    assert said == [cell["targets"] for cell in fake.CELLS]


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
