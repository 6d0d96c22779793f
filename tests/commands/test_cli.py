"""The verbs inside the environment: exit status, and what goes to which stream."""

import json
import subprocess
import sys

import pytest

from labsupport import cli
from labsupport.core.files import DATA, ROOT, LabError

GOOD_FILE = DATA / "tickets" / "validation.jsonl"


@pytest.fixture
def quick_doctor(monkeypatch):
    """The examination without hashing the model or looking for a card."""
    from labsupport.core import profiles
    from labsupport.upkeep import doctor

    monkeypatch.setattr(doctor, "model", lambda: doctor.Finding("base model", True, "whole"))
    monkeypatch.setattr(profiles, "gpu", lambda: None)
    return doctor


def test_doctor_json_is_one_document_on_standard_output():
    command = [sys.executable, "-m", "labsupport.cli", "doctor", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    result = json.loads(done.stdout)
    assert done.returncode == (0 if result["ok"] else 1)
    assert {"Python", "packages", "base model", "disk", "GPU"} <= {f["name"] for f in result["findings"]}
    assert "Traceback" not in done.stderr


def test_doctor_tells_the_fix_of_what_is_wrong_and_ends_with_1(monkeypatch, capsys, quick_doctor):
    bad = quick_doctor.Finding("disk", False, "0.1 GiB free", "Free some.")
    monkeypatch.setattr(quick_doctor, "disk", lambda: bad)
    assert cli.main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "BAD  disk: 0.1 GiB free\n     Free some." in out


def test_doctor_reports_the_settings_that_are_wrong(monkeypatch, capsys, quick_doctor):
    monkeypatch.setenv("LAB_PROFILE", "huge")
    assert cli.main(["doctor", "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert result["profile"] is None
    assert "Unknown profile 'huge'" in json.dumps(result["findings"])


def test_an_unknown_verb_is_one_line_with_the_valid_ones(capsys):
    assert cli.main(["frobnicate"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert "start, test" in said.err and "doctor" in said.err


@pytest.mark.parametrize("verb", cli.VERBS)
def test_help_of_a_verb_explains_and_does_nothing_else(verb, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main([verb, "--help"])
    assert end.value.code == 0
    assert f"lab.py {verb}" in capsys.readouterr().out


def test_help_shows_the_learners_verbs_and_help_all_every_one(capsys):
    assert cli.main(["help"]) == cli.main([]) == cli.main(["--help"]) == 0
    short = capsys.readouterr().out
    assert "doctor" in short and "lock " not in short
    assert cli.main(["help", "all"]) == 0
    whole = capsys.readouterr().out
    for verb in set(cli.VERBS) - {"setup"}:  # `start` and `test` call that one
        assert f"\n{verb} " in whole


def test_validate_names_file_and_line_of_each_bad_file(tmp_path, capsys):
    lines = GOOD_FILE.read_text(encoding="utf-8").splitlines()[:3]
    broken = tmp_path / "broken.jsonl"
    broken.write_text("\n".join([*lines[:2], lines[2].replace('"urgency"', '"hurry"')]), encoding="utf-8")
    missing = tmp_path / "missing.jsonl"
    assert cli.main(["validate", str(broken), str(GOOD_FILE), str(missing)]) == 1
    first, second, third = capsys.readouterr().out.splitlines()
    assert f"{broken}, line 3: 'urgency' is a required property" in first
    assert "all good" in second
    assert str(missing) in third
    assert cli.main(["validate", str(GOOD_FILE)]) == 0


def test_bad_input_is_one_line_and_status_2(monkeypatch, capsys):
    def fail(_):
        raise LabError("The file is odd: mend it.")

    monkeypatch.setitem(cli.VERBS, "doctor", fail)
    assert cli.main(["doctor"]) == 2
    said = capsys.readouterr()
    assert said.err == "The file is odd: mend it.\n" and said.out == ""


def test_ctrl_c_is_no_traceback(monkeypatch, capsys):
    def stop(_):
        raise KeyboardInterrupt

    monkeypatch.setitem(cli.VERBS, "doctor", stop)
    assert cli.main(["doctor"]) == 2
    assert capsys.readouterr().err == "Stopped.\n"
