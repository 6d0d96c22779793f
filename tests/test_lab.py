"""The bootstrap, lab.py: nothing is really installed, everything lies in a temporary folder."""

import ast
import collections
import errno
import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "lab.py"
FAKE_PYTHON = """#!/bin/sh
echo "$@" >> "{log}"
case "$*" in
{answers}
esac
exit 0
"""


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """lab.py as a module, at home in a temporary folder on a supported machine with room."""
    spec = importlib.util.spec_from_file_location("lab", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(module, "STATE", tmp_path / ".lab")
    monkeypatch.setattr(module, "LOCK", tmp_path / "requirements.lock")
    monkeypatch.setattr(module, "WORK", tmp_path / "my_work")
    monkeypatch.setattr(module, "platform", SimpleNamespace(system=lambda: "Linux", machine=lambda: "x86_64"))
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: SimpleNamespace(free=2**40))
    (tmp_path / "requirements.lock").write_text("a==1\n")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    (tmp_path / "notebooks").mkdir()
    return module


def fake_venv(lab, answers=""):
    """A `.venv` whose Python only notes how it was called and answers by the shell's case patterns."""
    log = lab.ROOT / "calls"
    lab.venv_python().parent.mkdir(parents=True, exist_ok=True)
    lab.venv_python().write_text(FAKE_PYTHON.format(log=log, answers=answers))
    lab.venv_python().chmod(0o755)
    return lambda: log.read_text().splitlines() if log.exists() else []


def one_line(capsys):
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


# ---------------------------------------------------------------- before anything is written


def test_an_old_python_can_parse_the_file_and_needs_nothing_installed():
    tree = ast.parse(SOURCE.read_text(), feature_version=(3, 7))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module.split(".")[0])
    assert imported <= sys.stdlib_module_names


@pytest.mark.parametrize("verb", ["start", "test", "doctor"])
def test_an_old_python_is_told_the_version_it_needs(lab, monkeypatch, capsys, verb):
    version = collections.namedtuple("version", "major minor micro")(3, 8, 1)
    monkeypatch.setattr(lab.sys, "version_info", version)
    lab.platform.python_version = lambda: "3.8.1"
    assert lab.main([verb]) == 2
    assert "Python 3.8.1 is too old: LoRA Lab needs 3.11" in one_line(capsys)
    assert not lab.VENV.exists()


def test_an_unsupported_platform_is_named(lab, capsys):
    lab.platform.system, lab.platform.machine = lambda: "Darwin", lambda: "x86_64"
    assert lab.main(["start"]) == 2
    assert "Darwin on x86_64 is not supported" in one_line(capsys)


@pytest.mark.parametrize("flavour, needed", [("cpu", "6 GiB"), ("cuda", "14 GiB")])
def test_too_little_disk_says_how_much_is_needed(lab, monkeypatch, capsys, flavour, needed):
    monkeypatch.setattr(lab.shutil, "disk_usage", lambda _: SimpleNamespace(free=2**30))
    assert lab.main(["start", "--torch", flavour]) == 2
    line = one_line(capsys)
    assert needed in line and "1.0" in line
    assert not lab.VENV.exists()


def test_the_only_address_in_the_file_is_pytorchs_index():
    addresses = re.findall(r"https?://[^\s\"'{]+", SOURCE.read_text())
    assert [a for a in addresses if a != "http://127.0.0.1:"] == ["https://download.pytorch.org/whl/cpu"]


# ---------------------------------------------------------------- the environment


def test_packages_are_installed_once_pinned_and_hashed(lab):
    calls = fake_venv(lab)
    lab.ensure_environment("cpu")
    installs = [call for call in calls() if " install " in call]
    assert len(installs) == 3
    assert f"--extra-index-url {lab.TORCH_CPU_INDEX}" in installs[0] and f"torch=={lab.TORCH}" in installs[0]
    assert "--require-hashes --no-deps -r" in installs[1]
    assert lab.TORCH_CPU_INDEX not in installs[1]
    before = calls()
    lab.ensure_environment("cpu")
    lab.ensure_environment(None)  # keeps what was chosen
    assert calls() == before


def test_a_changed_lock_is_installed(lab):
    calls = fake_venv(lab)
    lab.ensure_environment("cpu")
    lab.LOCK.write_text("a==2\n")
    lab.ensure_environment(None)
    assert sum(" install " in call for call in calls()) == 6


def test_a_failed_download_says_how_to_retry_and_is_taken_up_again(lab, monkeypatch, capsys):
    monkeypatch.setattr(lab, "open_lab", lambda port, browser: 0)
    failing = '*--require-hashes*) echo "ERROR: No matching distribution"; exit 1;;'
    fake_venv(lab, failing)
    assert lab.main(["start", "--torch", "cpu"]) == 2
    *_, line = capsys.readouterr().err.strip().splitlines()
    assert "[2/3] pinned packages failed: ERROR: No matching distribution" in line
    assert "run the same command again" in line
    assert "No matching distribution" in (lab.STATE / "setup.log").read_text()

    calls = fake_venv(lab)
    assert lab.main(["start"]) == 0
    assert any("--require-hashes" in call for call in calls())
    assert any("labsupport.cli setup" in call for call in calls())
    before = calls()
    (lab.STATE / "ready.json").write_text("{}")
    assert lab.main(["start"]) == 0
    assert calls() == before


def test_an_environment_without_pip_is_made_anew(lab, monkeypatch):
    """What an interrupted `python -m venv`, or Debian's without python3-venv, leaves behind."""
    fake_venv(lab, "*'pip --version'*) exit 1;;")
    made = []
    monkeypatch.setattr(lab, "make_venv", lambda: made.append(fake_venv(lab)))
    lab.ensure_environment("cpu")
    assert len(made) == 1


@pytest.mark.parametrize("first_one_finished", [True, False])
def test_another_flavour_of_torch_starts_from_an_empty_environment(lab, monkeypatch, first_one_finished):
    """For pip the CPU build satisfies `torch==2.13.0`: installed over it, CUDA would never arrive."""
    made = []
    monkeypatch.setattr(lab, "make_venv", lambda: made.append(fake_venv(lab)))
    fake_venv(lab, "" if first_one_finished else "*--require-hashes*) exit 1;;")
    try:
        lab.ensure_environment("cpu")
    except lab.SetupError:
        assert not first_one_finished
    assert not made
    lab.ensure_environment("cuda")
    assert len(made) == 1


def test_a_venv_that_cannot_be_made_is_one_line(lab, monkeypatch, capsys):
    failed = SimpleNamespace(returncode=1, stdout="ensurepip is not available\n", stderr="")
    monkeypatch.setattr(lab.subprocess, "run", lambda *_, **__: failed)
    assert lab.main(["start", "--torch", "cpu"]) == 2
    *_, line = capsys.readouterr().err.strip().splitlines()
    assert "ensurepip is not available" in line and "apt install python3-venv" in line


def test_set_up_that_fails_inside_stops_the_start(lab, monkeypatch, capsys):
    monkeypatch.setattr(lab, "open_lab", lambda port, browser: pytest.fail("opened"))
    fake_venv(lab, "*'labsupport.cli setup'*) exit 2;;")
    assert lab.main(["start", "--torch", "cpu"]) == 2
    assert "Set-up stopped" in capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_that_cannot_be_written_is_one_line(lab, monkeypatch, capsys, number):
    def fail():
        raise OSError(number, os.strerror(number), "some/file")

    monkeypatch.setattr(lab, "check_machine", fail)
    assert lab.main(["start"]) == 2
    assert "Cannot write some/file" in one_line(capsys)


# ---------------------------------------------------------------- verbs


def test_help_needs_no_environment(lab, capsys):
    assert lab.main(["help"]) == 0
    assert "lab.py start" in capsys.readouterr().out


def test_other_verbs_without_an_environment_say_run_start(lab, capsys):
    assert lab.main(["doctor", "--json"]) == 2
    assert "lab.py start" in one_line(capsys)


def test_other_verbs_are_handed_on_with_their_status(lab):
    calls = fake_venv(lab, "*doctor*) exit 1;;")
    assert lab.main(["doctor", "--json"]) == 1
    assert calls() == ["-m labsupport.cli doctor --json"]


# ---------------------------------------------------------------- the learner's copies


def test_notebooks_are_copied_and_never_overwritten(lab, capsys):
    (lab.ROOT / "notebooks" / "01.ipynb").write_text("first edition")
    lab.copy_notebooks()
    mine = lab.WORK / "01.ipynb"
    assert mine.read_text() == "first edition"
    mine.write_text("with my answers")
    (lab.ROOT / "notebooks" / "02.ipynb").write_text("two")
    lab.copy_notebooks()
    assert capsys.readouterr().err == ""
    assert mine.read_text() == "with my answers"
    assert (lab.WORK / "02.ipynb").exists()

    (lab.ROOT / "notebooks" / "01.ipynb").write_text("second edition")
    lab.copy_notebooks()
    assert "newer edition of 01.ipynb" in one_line(capsys)
    assert mine.read_text() == "with my answers"
    mine.rename(lab.WORK / "old.ipynb")  # as the message says
    lab.copy_notebooks()
    lab.copy_notebooks()
    assert capsys.readouterr().err == ""
    assert mine.read_text() == "second edition"


@pytest.mark.parametrize("damaged", ["{", "[]", "null", '["a"]', "3"])
def test_a_damaged_list_of_editions_is_survived(lab, damaged):
    (lab.ROOT / "notebooks" / "01.ipynb").write_text("one")
    lab.copy_notebooks()
    (lab.WORK / "01.ipynb").write_text("mine")
    (lab.WORK / ".editions.json").write_text(damaged)
    (lab.ROOT / "notebooks" / "02.ipynb").write_text("two")
    lab.copy_notebooks()
    assert (lab.WORK / "01.ipynb").read_text() == "mine"
    assert list(json.loads((lab.WORK / ".editions.json").read_text())) == ["02.ipynb"]


def test_a_full_disk_leaves_no_half_a_notebook(lab, monkeypatch, capsys):
    (lab.ROOT / "notebooks" / "01.ipynb").write_text("whole")

    def half(_, target):
        Path(target).write_text("wh")
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    with monkeypatch.context() as patch:
        patch.setattr(lab.shutil, "copyfile", half)
        patch.setattr(lab, "ensure_ready", lambda _: None)
        assert lab.main(["start"]) == 2
    assert "No space left" in one_line(capsys)
    lab.copy_notebooks()
    assert (lab.WORK / "01.ipynb").read_text() == "whole"


# ---------------------------------------------------------------- JupyterLab


def test_a_port_in_use_is_one_line_and_the_default_goes_round_it(lab, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert lab.main(["start", "--port", str(port)]) == 2
        assert f"Port {port} is in use" in one_line(capsys)
    first = lab.free_port(None)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first))
        taken.listen()
        assert lab.free_port(None) > first


def test_an_impossible_port_is_one_line(lab, capsys):
    assert lab.main(["start", "--port", "70000"]) == 2
    assert "Port 70000" in one_line(capsys)


@pytest.mark.parametrize("user, allow_root", [(0, True), (1000, False)])
def test_jupyter_listens_here_only_and_keeps_its_token(lab, monkeypatch, capsys, user, allow_root):
    seen = {}

    def run(command, **options):
        seen.update(command=command, **options)
        return subprocess.CompletedProcess(command, 0)

    lab.WORK.mkdir()
    (lab.WORK / "00_start_here.ipynb").write_text("{}")
    monkeypatch.setattr(lab.subprocess, "run", run)
    monkeypatch.setattr(lab.os, "geteuid", lambda: user, raising=False)
    assert lab.open_lab(9100, browser=False) == 0
    token = seen["env"]["JUPYTER_TOKEN"]
    assert len(token) >= 32
    assert token not in " ".join(seen["command"])
    assert "--ServerApp.ip=127.0.0.1" in seen["command"] and "--ServerApp.port=9100" in seen["command"]
    assert "--no-browser" in seen["command"]
    assert ("--allow-root" in seen["command"]) == allow_root
    address = f"http://127.0.0.1:9100/lab/tree/my_work/00_start_here.ipynb?token={token}"
    assert address in capsys.readouterr().err

    lab.open_lab(9100, browser=True)
    assert "--no-browser" not in seen["command"]
    assert seen["env"]["JUPYTER_TOKEN"] != token
