"""An hour's results at home, beside the learner's guesses."""

import json

import pytest

from labsupport.core.files import LabError
from labsupport.gpu_hour import reading


def kept(folder, rehearsal=False):
    (folder / "results").mkdir()
    training = {"peak_gib": {"allocated": 6.0, "reserved": 7.0}, "seconds": 300.0, "tokens_a_second": None}
    steps = {"training": training, "tuned, test_production": {"exact_share": [0.5, 0.4, 0.6]}}
    document = {"steps": steps, "rehearsal": rehearsal, "finished": False}
    (folder / "results" / "qlora.json").write_text(json.dumps(document))


def test_guesses_stand_beside_what_was_measured(tmp_path, capsys):
    kept(tmp_path)
    results = reading.opened(tmp_path)
    guesses = {"peak allocated": 12, "production, tuned": 0.5, "speed": 900, "KL on general text": None}
    reading.compare(results, guesses)
    assert capsys.readouterr().out.splitlines() == [
        "peak allocated: your guess 12 GiB, measured 6 GiB: 2 times too high",
        "production, tuned: your guess 0.5, measured 0.5: exactly right",
        "speed: the hour did not come to it",
        "KL on general text: the hour did not come to it",
    ]


def test_a_rehearsal_is_never_taken_for_a_card(tmp_path, capsys):
    kept(tmp_path, rehearsal=True)
    reading.compare(reading.opened(tmp_path), {"training": 1})
    assert "says nothing about a card" in capsys.readouterr().out


def test_nothing_damage_and_a_wrong_name_are_said(tmp_path):
    with pytest.raises(LabError, match="holds no results: copy the folder"):
        reading.opened(tmp_path)
    kept(tmp_path)
    with pytest.raises(LabError, match="There is no figure 'peek'"):
        reading.figure(reading.opened(tmp_path), "peek")
    (tmp_path / "results" / "prompts.json").write_text("[]")
    with pytest.raises(LabError, match="prompts.json is damaged"):
        reading.opened(tmp_path)


def test_every_figure_has_a_path_that_the_jobs_write():
    """The names of jobs and steps, held together with the job that writes them by the dry run."""
    assert {job for job, *_ in reading.FIGURES.values()} == {"qlora"}
