"""The command from end to end on a made-up card, with made-up jobs."""

import dataclasses
import json
import sys
from types import SimpleNamespace

import pytest

from labsupport import cli
from labsupport.core import files, profiles
from labsupport.gpu_hour import figures, machine, running
from labsupport.gpu_jobs import jobs, ranges
from labsupport.gpu_jobs.job import Job

CARD = {"name": "NVIDIA L4", "memory_gib": 22.03, "driver": "580.65", "capability": [8, 9]}
PLANNED = SimpleNamespace(needed_gib=6.0, peak_allocated_gib=5.5, peak_reserved_gib=5.8)
ASKED = ["gpu-hour", "--budget", "2", "--rate", "0.80"]


@pytest.fixture
def batch(monkeypatch, tmp_path):
    """A function that puts other jobs in the hour: (name, program, after)."""
    monkeypatch.setattr(files, "RUNS", tmp_path)
    monkeypatch.setattr(ranges.Ground, "plan", PLANNED)  # the trace takes seconds and has its own tests
    found = {"profile": dataclasses.asdict(profiles.get("gpu-24gb")), "card": CARD}
    found |= {"config": "qwen2.5-7b-instruct", "base_model": "qwen2.5-7b-instruct"}
    monkeypatch.setattr(machine, "ask", lambda environment: found)
    monkeypatch.setattr(jobs, "python", lambda job: [sys.executable, "-S", "-c", *job.command])

    def put(*made: tuple):
        of = [Job(name, "is it so?", (program,), (1, 30), 6.5, after) for name, program, after in made]
        monkeypatch.setattr(jobs, "batch", lambda at, folder: of)

    return put


def test_an_hour_runs_is_billed_and_says_what_to_copy_home(batch, tmp_path, capsys):
    see = "import os; print('adapters in', os.environ['LAB_RUNS'])"
    batch(("doctor", "pass", ()), ("qlora", see, ("doctor",)))
    assert cli.main(ASKED) == 0
    said = capsys.readouterr().out
    assert "A prediction for L4, 24 GB (NVIDIA L4, driver 580.65)" in said
    assert "2 of 2 jobs done" in said and "Copy home: " in said
    folder = tmp_path / "gpu_hour"
    there = {file.name for file in folder.iterdir()} - {".lock"}
    assert there == {"README.txt", "done", "log.txt", "plan.txt", "state.json"}
    state = json.loads((folder / "state.json").read_text())
    assert state["about"]["card"] == CARD and state["about"]["predicted"]["qlora"]["memory_gib"] == 6.5
    plan = state["about"]["plan"]  # for the learner's guesses; a name that is none would be asked for in vain
    assert set(plan) <= set(figures.UNITS) and plan["peak memory reserved"] == [5.8, 5.8]
    fast, slow = plan["training time"]
    assert 0 < fast < slow
    assert plan["training speed"][0] * slow == pytest.approx(plan["training speed"][1] * fast)
    assert 0 < state["spent"] < 2  # planning counts, too
    assert f"adapters in {tmp_path / 'gpu_hour_adapters'}" in (folder / "log.txt").read_text()
    assert cli.main(ASKED) == 0  # nothing is done twice
    assert json.loads((folder / "state.json").read_text())["jobs"]["qlora"]["runs"] == 1


def test_a_machine_that_is_not_fit_costs_nothing_more(batch, tmp_path, capsys):
    batch(("doctor", "print('gcc is missing'); raise SystemExit(1)", ()), ("qlora", "pass", ("doctor",)))
    assert cli.main(ASKED) == 1
    said = capsys.readouterr().out
    assert 'doctor: failed with status 1 ("gcc is missing"; more in ' in said
    assert "qlora: not begun in this run; it comes after doctor" in said


def test_ctrl_c_says_how_to_go_on(batch, tmp_path, capsys, monkeypatch):
    batch(("doctor", "pass", ()))

    def stopped(self, running):
        raise KeyboardInterrupt

    monkeypatch.setattr(running.Hour, "_watch", stopped)
    assert cli.main(ASKED) == 130
    said = capsys.readouterr()
    assert "To go on: python3 lab.py gpu-hour --budget 2 --rate 0.8" in said.out and said.err == "Stopped.\n"
    state = json.loads((tmp_path / "gpu_hour" / "state.json").read_text())
    assert state["jobs"]["doctor"]["ended"] == "stopped"


def test_a_budget_that_is_used_up_says_so_and_a_larger_one_goes_on(batch, tmp_path, capsys):
    batch(("doctor", "pass", ()))
    assert cli.main(ASKED) == 0
    file = tmp_path / "gpu_hour" / "state.json"
    state = json.loads(file.read_text())
    file.write_text(json.dumps(state | {"spent": 1.999}))
    batch(("doctor", "pass", ()), ("qlora", "pass", ("doctor",)))
    capsys.readouterr()
    assert cli.main(ASKED) == 2
    assert "of which 2.00 are spent" in capsys.readouterr().err
    assert cli.main([*ASKED[:2], "3", *ASKED[3:]]) == 0
