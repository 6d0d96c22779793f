"""An hour's results at home, beside the learner's sealed guesses."""

import json

import pytest

from labsupport.core import files
from labsupport.core.files import LabError
from labsupport.gpu_hour import figures, reading
from labsupport.teaching import sealed

TRAINING = {"peak_gib": {"allocated": 6.0, "reserved": 7.0}, "seconds": 300.0, "tokens_a_second": None}
STEPS = {
    "training": TRAINING,
    "tuned, test_production": {"exact_share": [0.5, 0.4, 0.6]},
    "canary": {"before": [1, 1, 0, 1], "after": [1, 0, 0, 1]},
}
ERRORS = {"a.safetensors": {"q": {"nf4": 0.009}, "k": {"nf4": 0.011}}, "b.safetensors": {"v": {"nf4": 0.01}}}
ABOUT = {
    "rehearsal": False,
    "card": {"name": "NVIDIA L4"},
    "planned_for": "L4, 24 GB",
    "rate": 0.8,
    "plan": {"peak memory allocated": [5.5, 5.5], "training time": [3.0, 12.5]},
    "predicted": {"qlora": {"seconds": [600, 1800]}, "prompts": {"seconds": [60, 90]}},
}


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "RUNS", tmp_path / "runs")
    monkeypatch.setenv("LAB_PROGRESS", str(tmp_path / "my_work" / "progress.json"))
    return tmp_path / "runs"


def kept(folder, rehearsal=False, **jobs):
    """An hour's folder: qlora was stopped, and what is handed over was found, too."""
    (folder / "results").mkdir(parents=True)
    for name, steps in ({"qlora": STEPS} | jobs).items():
        document = {"steps": steps, "rehearsal": rehearsal, "finished": False}
        (folder / "results" / f"{name}.json").write_text(json.dumps(document))
    state = {"about": ABOUT | {"rehearsal": rehearsal}, "spent": 0.2, "jobs": {"qlora": {"seconds": 840.0}}}
    (folder / "state.json").write_text(json.dumps(state))


def lines(table) -> dict[str, list[str]]:
    return {name: cells for name, *cells in table.rows}


def test_sealed_guesses_stand_beside_plan_and_measurement(runs, capsys):
    reading.seal("peak memory allocated", 12)
    assert "12 GiB on " in (out := capsys.readouterr().out) and "open it with reading.compare()" in out
    reading.seal("production, tuned", 70)
    reading.seal("production, tuned", 50, again=True)
    reading.seal("training speed", 900)
    kept(runs / "gpu_hour", nf4_error=ERRORS)
    table = reading.compare()
    assert lines(table) == {
        "peak memory allocated": ["12 GiB", "5.5 GiB", "6 GiB", "2 times too high"],
        "peak memory reserved": ["none", "none", "7 GiB", ""],
        "training time": ["none", "3 to 12 min", "5 min", ""],
        "production, tuned": ["50 % (before: 70 %)", "none", "50 %", "exactly right"],
        "canary lost": ["none", "none", "25 points", ""],
        "NF4 error": ["none", "none", "1 %", ""],
        "hour, time": ["none", "10 to 30 min", "14 min", ""],
        "hour, money": ["none", "0.13 to 0.4", "0.2", ""],
    }
    assert table.caption.startswith("Measured on NVIDIA L4. Not in this folder: training speed; lookalike,")


def test_guesses_can_be_handed_over(runs):
    kept(runs / "gpu_hour")
    table = reading.compare(runs / "gpu_hour", {"training time": 5, "canary lost": None})
    assert lines(table)["training time"][0::3] == ["5 min", "exactly right"]
    assert lines(table)["canary lost"][0] == "none"
    with pytest.raises(LabError, match="There is no figure 'training tyme' .* nearest first: training time"):
        reading.compare(runs / "gpu_hour", {"training tyme": 5})
    with pytest.raises(LabError, match="The guess of training time is '5'"):
        reading.compare(runs / "gpu_hour", {"training time": "5"})


def test_a_guess_in_another_unit_is_not_compared(runs):
    sealed.seal("peak memory allocated", 12_000, "MB")
    kept(runs / "gpu_hour")
    row = lines(reading.compare())["peak memory allocated"]
    assert row[0] == "12,000 MB" and row[3] == "not in GiB"


def test_without_results_one_line_says_how_to_get_some(runs, capsys):
    (runs / "gpu_hour").mkdir(parents=True)  # begun, and nothing done yet
    assert reading.compare() is None
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "gpu-hour --budget 2 --rate 0.80 --dry-run" in said
    with pytest.raises(LabError, match="holds no results: copy the folder"):
        reading.opened()


def test_a_rehearsal_is_opened_where_there_is_no_hour_and_never_taken_for_one(runs):
    kept(runs / "gpu_hour_rehearsal", rehearsal=True)
    assert "says nothing about a card; the plan is for L4, 24 GB" in reading.compare().caption
    kept(runs / "gpu_hour")
    assert reading.compare().caption.startswith("Measured on NVIDIA L4")
    (runs / "gpu_hour_rehearsal" / "state.json").unlink()  # the results say so themselves
    assert "says nothing about a card" in reading.compare(runs / "gpu_hour_rehearsal").caption


def test_damage_and_a_wrong_name_are_said(runs):
    with pytest.raises(LabError, match="There is no figure 'peek memory' of the hour"):
        reading.seal("peek memory", 3)
    kept(runs / "gpu_hour", prompts=[])
    with pytest.raises(LabError, match=r"prompts\.json is damaged"):
        reading.opened()
    (runs / "gpu_hour" / "results" / "prompts.json").unlink()
    broken = {"steps": STEPS | {"canary": {"before": 3, "after": 4}}}
    (runs / "gpu_hour" / "results" / "qlora.json").write_text(json.dumps(broken))
    with pytest.raises(LabError, match=r"results/qlora\.json is damaged .canary lost"):
        reading.compare()


def test_a_processor_has_no_peak_and_what_was_not_reached_is_left_out(runs):
    kept(runs / "gpu_hour", qlora={"training": TRAINING | {"peak_gib": None}})
    assert set(lines(reading.compare())) == {"training time", figures.TIME, figures.MONEY}
