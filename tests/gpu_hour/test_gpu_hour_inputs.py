"""What `lab.py gpu-hour` says before anything costs time: bad money, no card, no hub, no token."""

import dataclasses
import subprocess
import sys

import pytest

from labsupport import cli
from labsupport.core import files, profiles
from labsupport.core.files import ROOT, LabError
from labsupport.gpu_hour import hour, machine
from labsupport.gpu_jobs import ranges
from labsupport.sizes import gpus

L4 = {"name": "NVIDIA L4", "memory_gib": 22.03, "driver": "580.65", "capability": [8, 9]}


@pytest.fixture
def no_trace(monkeypatch):
    """The planner's trace takes seconds and has tests of its own."""
    monkeypatch.setattr(ranges, "training_gib", lambda at: 6.5)


@pytest.fixture
def here(monkeypatch, tmp_path, no_trace):
    """A function that says what machine this is: a profile's name and a card or None."""
    monkeypatch.setattr(files, "RUNS", tmp_path)

    def be(profile: str, card: dict | None):
        found = dataclasses.asdict(profiles.get(profile))
        answer = {"profile": found, "card": card, "config": found["base_model"]}
        answer["base_model"] = found["base_model"]
        monkeypatch.setattr(machine, "ask", lambda environment: answer)

    return be


def refused(capsys, *arguments: str) -> str:
    """The one line of a command that ends with status 2."""
    assert cli.main(["gpu-hour", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "Traceback" not in said
    return said


# ---------------------------------------------------------------- money


@pytest.mark.parametrize("wrong", ["0", "-2", "nan", "inf"])
@pytest.mark.parametrize("option", ["--budget", "--rate"])
def test_money_that_is_no_positive_number(here, capsys, option, wrong):
    here("cpu", None)
    other = "--rate" if option == "--budget" else "--budget"
    assert f"{option} is " in refused(capsys, option, wrong, other, "1")


def test_too_little_money_is_said_before_a_folder_is_made(here, capsys, tmp_path):
    here("gpu-24gb", L4)
    said = refused(capsys, "--budget", "0.001", "--rate", "0.80")
    assert "too small for anything: doctor" in said and "Give at least 0.06" in said
    assert not list(tmp_path.iterdir())


def test_a_card_that_is_not_known(here, capsys):
    here("cpu", None)
    assert "There is no card 'l44'" in refused(capsys, "--budget", "2", "--rate", "1", "--gpu", "l44")


# ---------------------------------------------------------------- the machine


def test_without_a_card_the_plan_is_printed_as_a_prediction_and_nothing_begins(here, capsys, tmp_path):
    here("cpu", None)
    assert cli.main(["gpu-hour", "--budget", "2", "--rate", "0.80"]) == 2
    said = capsys.readouterr()
    assert "A prediction for L4, 24 GB (no card is here): 2 at 0.8 an hour are 150 min" in said.out
    assert "not yet run there" in said.out
    lines = [line.split()[0] for line in said.out.splitlines() if " run " in line and "to" in line]
    assert lines[:4] == ["doctor", "gpu_check", "download", "qlora"]
    assert said.err.startswith("There is no CUDA card here") and "--dry-run" in said.err
    assert said.err.count("\n") == 1 and not list(tmp_path.iterdir())


def looked(**environment) -> subprocess.CompletedProcess:
    import os

    program = [sys.executable, "-m", "labsupport.gpu_hour.machine"]
    return subprocess.run(program, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True)


def test_a_gpu_profile_without_a_card_is_one_line():
    done = looked(LAB_PROFILE="gpu-24gb")
    assert done.returncode == 2 and done.stdout == ""
    assert "LAB_PROFILE is gpu-24gb but PyTorch finds no GPU here" in done.stderr.splitlines()[-1]


def test_what_a_fresh_process_says_of_the_machine_is_passed_on(monkeypatch):
    def answer(command, **options):
        return subprocess.CompletedProcess(command, *answers.pop())

    monkeypatch.setattr(machine.subprocess, "run", answer)
    answers = [(0, 'noise\n{"card": null}\n', "")]
    assert machine.ask({}) == {"card": None}
    answers = [(2, "", "a warning\nThe driver is too old.\n")]
    with pytest.raises(LabError, match=r"^The driver is too old\.$"):
        machine.ask({})
    answers = [(1, "", "Traceback\nValueError: odd\n")]
    with pytest.raises(
        LabError, match="could not be looked at .ValueError: odd.: run `python3 lab.py doctor`"
    ):
        machine.ask({})


# ---------------------------------------------------------------- the hub


def test_a_hub_that_cannot_be_reached_is_said_at_once():
    """The tests set HF_HUB_OFFLINE."""
    with pytest.raises(LabError, match="could not be fetched from the hub .HF_HUB_OFFLINE is set") as said:
        machine.reachable("llama-3.1-8b-instruct")
    assert "\n" not in str(said.value)


def test_a_gated_model_without_a_token_is_said_at_once(monkeypatch):
    import types

    import huggingface_hub
    from huggingface_hub.errors import GatedRepoError

    asked = []

    def denied(repository, file, revision):
        asked.append((repository, file))
        raise GatedRepoError("no", response=types.SimpleNamespace(headers={}, request=None))

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", denied)
    with pytest.raises(
        LabError, match="Llama-3.1-8B-Instruct is gated: accept its licence .*`hf auth login`"
    ):
        machine.reachable("llama-3.1-8b-instruct")
    assert asked == [("meta-llama/Llama-3.1-8B-Instruct", "config.json")]


def test_a_model_of_ones_own_needs_no_hub():
    assert machine.reachable("data/tiny_base").endswith("tiny_base")
    with pytest.raises(LabError, match="Unknown base model 'nonsense'"):
        machine.reachable("nonsense")


# ---------------------------------------------------------------- the card


def test_a_card_of_unknown_speed_is_planned_as_the_one_named():
    l4 = gpus.find("l4")
    assert hour.card_of("NVIDIA GeForce RTX 4090", l4).name == "4090"
    assert hour.card_of("NVIDIA Something 9000", l4) is l4


def test_the_notebooks_forecast_is_of_the_card_whatever_this_machine_is(no_trace, monkeypatch):
    monkeypatch.setattr(machine, "ask", lambda environment: pytest.fail("the machine was asked"))
    monkeypatch.setenv("LAB_BASE_MODEL", "nonsense")
    table = hour.forecast(2.00, 0.80)
    assert table.caption == "A prediction for L4, 24 GB and qwen2.5-7b-instruct: 2 at 0.8 an hour are 150 min"
    choices = {name: choice for name, _, _, _, choice, _ in table.rows}
    assert list(choices)[:4] == ["doctor", "gpu_check", "download", "qlora"] and choices["qlora"] == "run"
    poor = {name: choice for name, _, _, _, choice, _ in hour.forecast(0.40, 0.80).rows}
    assert poor["qlora"].startswith("left out: it may take") and poor["doctor"] == "run"
    with pytest.raises(LabError, match="--rate is 0"):
        hour.forecast(2.00, 0)
