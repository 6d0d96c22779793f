"""What set-up measures, what `lab.py doctor` reports, and how each thing is mended."""

import json
import os
import subprocess
import sys

import pytest

from labsupport import cli
from labsupport.core import profiles
from labsupport.core.files import ROOT
from labsupport.upkeep import doctor

MEASURED = {"dtype": "bfloat16", "threads": 5, "tokens_per_second": {"float32": 103.2, "bfloat16": 386.0}}


@pytest.fixture
def ready(monkeypatch, tmp_path):
    """The file of set-up's measurements, in a folder of the test's own; no card, no settings."""
    for name in ("LAB_PROFILE", "LAB_DTYPE", "LAB_THREADS", "LAB_BASE_MODEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(profiles, "STATE", tmp_path)
    monkeypatch.setattr(doctor, "STATE", tmp_path)
    monkeypatch.setattr(profiles, "gpu", lambda: None)
    monkeypatch.setattr(profiles, "nvidia_driver", lambda: None)
    monkeypatch.setattr(doctor.base_model, "bundled_folder", lambda: tmp_path / "model")
    return tmp_path / "ready.json"


@pytest.fixture
def timed(monkeypatch):
    """The formats in which training was timed."""
    calls = []

    def speed(dtype, threads, seconds):
        calls.append(dtype)
        return 100.0 + len(calls)

    monkeypatch.setattr(doctor, "product_seconds", lambda dtype, threads: 1.0)
    monkeypatch.setattr(doctor, "tokens_per_second", speed)
    return calls


@pytest.fixture
def quick(monkeypatch, ready):
    """The examination without hashing the model or looking for a card."""
    monkeypatch.setattr(doctor, "base_model_files", lambda: doctor.Finding("base model", True, "whole"))


# ---------------------------------------------------------------- set-up


@pytest.mark.parametrize("bfloat16, expected", [(20.0, ["float32"]), (0.5, ["float32", "bfloat16"])])
def test_set_up_does_not_time_training_in_a_format_the_processor_is_slow_at(
    monkeypatch, ready, timed, bfloat16, expected
):
    """Without instructions for bfloat16 three training steps took ten minutes of the first start."""
    seconds = {"float32": 1.0, "bfloat16": bfloat16}
    monkeypatch.setattr(doctor, "product_seconds", lambda dtype, threads: seconds[dtype])
    doctor.set_up()
    assert timed == expected
    assert profiles.current().dtype == expected[-1]


@pytest.mark.parametrize("damaged", ["", "{}", json.dumps({**MEASURED, "dtype": "int8"})])
def test_set_up_writes_over_whatever_is_there(ready, timed, damaged):
    ready.write_text(damaged)
    doctor.set_up()
    settings = profiles.read_settings()
    assert settings == json.loads(ready.read_text())
    assert set(settings) == {*MEASURED, "model"}


# ---------------------------------------------------------------- the report


def test_json_is_one_document_on_standard_output():
    command = [sys.executable, "-m", "labsupport.cli", "doctor", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    result = json.loads(done.stdout)
    assert done.returncode == (0 if result["ok"] else 1)
    names = {finding["name"] for finding in result["findings"]}
    assert {"Python", "packages", "base model", "measurements", "disk", "GPU"} <= names
    assert "Traceback" not in done.stderr


def test_the_fix_of_what_is_wrong_is_told_and_it_ends_with_1(monkeypatch, capsys, quick):
    bad = doctor.Finding("disk", False, "0.1 GiB free", "Free some.")
    monkeypatch.setattr(doctor, "free_disk", lambda: bad)
    assert cli.main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "BAD  disk: 0.1 GiB free\n     Free some." in out


def test_settings_that_are_wrong_are_reported(monkeypatch, capsys, quick):
    monkeypatch.setenv("LAB_PROFILE", "huge")
    assert cli.main(["doctor", "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert result["profile"] is None
    assert "Unknown profile 'huge'" in json.dumps(result["findings"])


def test_a_driver_that_torch_cannot_use_is_named_with_the_fix(monkeypatch, ready):
    monkeypatch.setattr(profiles, "nvidia_driver", lambda: "555.42")
    finding = doctor.graphics_card()
    assert not finding.ok and "555.42" in finding.seen and "--torch cuda" in finding.fix


def test_on_a_card_the_processors_format_threads_and_minutes_are_not_told(monkeypatch, quick, ready):
    ready.write_text(json.dumps(MEASURED))
    monkeypatch.setattr(profiles, "gpu", lambda: {"name": "Tesla T4", "memory_gib": 14.6, "bf16": False})
    result = doctor.examine()
    assert (result["profile"], result["dtype"]) == ("gpu-16gb", "float16")
    assert result["threads"] is result["tokens_per_second"] is result["minutes"] is None
    report = doctor.report(result)
    assert "gpu-16gb, float16" in report and "doctor --gpu" in report
    assert "threads" not in report and "tokens/s" not in report


@pytest.mark.skipif(os.name == "nt", reason="a shell script")
def test_the_tests_are_the_same_on_a_machine_with_an_nvidia_driver(monkeypatch, tmp_path):
    """The tests hide the card from torch, and must hide its driver, or "a driver that torch cannot use" is
    what half of them find."""
    script = tmp_path / "nvidia-smi"
    script.write_text("#!/bin/sh\necho '550.54, 8.9, NVIDIA L4'\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("LAB_PROFILE", raising=False)
    assert profiles.nvidia_driver() is None and profiles.current().use_cpu
    assert doctor.graphics_card().ok
    program = "from labsupport.core import profiles; print(profiles.nvidia_driver(), profiles.current().name)"
    command = [sys.executable, "-c", program]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert said.stdout == "None cpu\n", said.stderr
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")  # the driver is there indeed
    assert profiles.nvidia_driver() == "550.54"


# ---------------------------------------------------------------- set-up's measurements


def measurements() -> dict:
    (found,) = (f for f in doctor.examine()["findings"] if f["name"] == "measurements")
    return found


@pytest.mark.parametrize(
    "content, seen",
    [
        ("{", "no JSON object"),
        (json.dumps({**MEASURED, "dtype": "int8"}), "dtype is 'int8'"),
        (json.dumps({**MEASURED, "threads": 0}), "threads is 0"),
        (json.dumps({**MEASURED, "tokens_per_second": {"float32": "fast"}}), "tokens_per_second is "),
    ],
)
def test_damaged_measurements_are_a_finding_with_the_fix(quick, ready, content, seen):
    ready.write_text(content)
    found = measurements()
    assert not found["ok"] and "--calibrate" in found["fix"]
    assert "ready.json is damaged: " in found["seen"] and seen in found["seen"]


def test_whole_measurements_and_none_yet_are_fine(quick, ready):
    assert measurements()["ok"] and "none yet" in measurements()["seen"]
    ready.write_text(json.dumps(MEASURED))
    assert measurements()["ok"] and "ready.json" in measurements()["seen"]


def test_calibrating_mends_damaged_measurements(quick, ready, timed):
    ready.write_text("{")
    result = doctor.examine(calibrate=True)
    assert timed == ["float32", "bfloat16"]
    assert result["dtype"] == "bfloat16" and result["tokens_per_second"] == 102
    assert measurements()["ok"]
    assert set(profiles.read_settings()) == {*MEASURED, "model"}


def test_calibrating_keeps_the_format_and_times_it_anew(quick, ready, timed):
    ready.write_text(json.dumps(MEASURED))
    doctor.examine(calibrate=True)
    assert timed == ["bfloat16"]
    settings = profiles.read_settings()
    assert settings["tokens_per_second"] == {"float32": 103.2, "bfloat16": 101}
    assert (settings["dtype"], settings["threads"]) == ("bfloat16", 5)


@pytest.mark.parametrize(
    ("version", "good"),
    [
        ("3.10.14", False),
        ("3.11.0", True),
        ("3.14.0", True),
        ("3.14.1", False),
        ("3.14.2", True),
        ("3.15.0", False),
    ],
)
def test_doctor_knows_the_pythons_that_the_project_admits(version, good, monkeypatch):
    monkeypatch.setattr(doctor.platform, "python_version", lambda: version)
    finding = doctor.python_version()
    assert (finding.ok, finding.seen) == (good, version)
    assert "3.14.1" in finding.fix


@pytest.mark.parametrize(
    ("quota", "most"),
    [("200000 100000\n", 2), ("50000 100000\n", 1), ("max 100000\n", 64), ("", 64), (None, 64)],
)
def test_no_more_threads_than_processors_that_may_be_used(quota, most, tmp_path, monkeypatch):
    """A rented container shows all processors of its host."""
    if quota is not None:
        (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(doctor.os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    assert doctor.usable_processors(tmp_path / "cpu.max") == most
