"""A training that is killed: what it leaves, and what is said where it fails by itself."""

import pytest

from labsupport.core import files
from labsupport.core.files import LabError
from labsupport.qlora_runs import killing


def make_nothing():
    raise ValueError("no model today")


def make_checkpoint_and_wait():
    import time

    folder = files.RUNS / "made-123" / "checkpoints" / "checkpoint-3"  # noqa: F821
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    time.sleep(600)


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "RUNS", tmp_path)
    header = (
        f"import pathlib\nfrom labsupport.core import files\nfiles.RUNS = pathlib.Path({str(tmp_path)!r})\n"
    )
    monkeypatch.setattr(killing, "HEADER", header + "class run_store:\n    recorded = print\n")
    return tmp_path


def test_it_is_killed_at_its_first_sealed_checkpoint(runs):
    (runs / "made-old").mkdir()
    said = killing.train_and_kill([make_checkpoint_and_wait], "made", wait_s=60)
    assert said == "killed; it leaves checkpoint-3 behind"
    assert not (runs / "made-old").exists() and (runs / "made-123").exists()


def test_a_failure_is_told_by_its_last_line(runs):
    with pytest.raises(LabError, match="failed by itself: ValueError: no model today") as error:
        killing.train_and_kill([make_nothing], "made", wait_s=60)
    assert "\n" not in str(error.value)


def test_it_does_not_wait_for_ever(runs):
    with pytest.raises(LabError, match="No checkpoint after 0 s"):
        killing.train_and_kill([make_checkpoint_and_wait], "other", wait_s=0)
