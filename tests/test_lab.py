"""The bootstrap, lab.py: nothing is really installed, everything lies in a temporary folder."""

import ast
import collections
import errno
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

SOURCE = (
    next(folder for folder in Path(__file__).resolve().parents if (folder / "lab.py").exists()) / "lab.py"
)
READY = {"dtype": "float32", "threads": 2, "tokens_per_second": {"float32": 9.5}, "model": "some/folder"}
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


@pytest.mark.parametrize("version", [(3, 15, 0), (4, 0, 0), (3, 14, 1)])
def test_a_python_without_wheels_is_told_which_have_them(lab, monkeypatch, capsys, version):
    monkeypatch.setattr(lab.sys, "version_info", version)
    lab.platform.python_version = lambda: ".".join(map(str, version))
    assert lab.main(["start"]) == 2
    line = one_line(capsys)
    assert ".".join(map(str, version)) in line and "3.11 to 3.14, except 3.14.1" in line
    assert not lab.VENV.exists()


def test_the_only_address_in_the_file_is_pytorchs_index(lab):
    addresses = re.findall(r"https?://[^\s\"'{]+", SOURCE.read_text())
    assert [a for a in addresses if a != "http://127.0.0.1:"] == [lab.TORCH_INDEX]


@pytest.mark.parametrize(
    "value, folder",
    [
        *[(None, ".lab"), ("", ".lab"), ("cache", "cache"), ("../cache", "../cache")],
        *[
            ("/somewhere/else", "/somewhere/else"),
            ("~/cache", "{home}/cache"),
            ("~nobody-here/x", "~nobody-here/x"),
        ],
    ],
)
def test_the_cache_is_the_same_folder_for_lab_and_for_every_kernel(tmp_path, value, folder):
    """Kernels start in my_work/: a folder relative to the current one would be another in each of them."""
    environment = {name: text for name, text in os.environ.items() if name != "LAB_CACHE"}
    environment |= {"HOME": str(tmp_path)} | ({} if value is None else {"LAB_CACHE": value})
    program = "import lab; from labsupport.core import files; print(lab.STATE, files.STATE, sep='\\n')"
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(SOURCE.parent)!r}); {program}"]
    said = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.splitlines() == [str(SOURCE.parent / folder.format(home=tmp_path))] * 2


# ---------------------------------------------------------------- one set-up at a time

START = """
import importlib.util, sys
from pathlib import Path

spec = importlib.util.spec_from_file_location("lab", sys.argv[1])
lab = importlib.util.module_from_spec(spec)
spec.loader.exec_module(lab)
lab.ROOT = Path(sys.argv[2])
lab.WORK = lab.ROOT / "my_work"

def stays_in(what):
    print(what, flush=True)
    sys.stdin.readline()
    return 0

lab.check_machine = lambda: None
lab.ensure_ready = lambda asked: stays_in("set-up")
lab.support = lambda *_, **__: 0
lab.open_lab = lambda port, browser: stays_in("Lab")
sys.exit(lab.main(["start"]))
"""


@pytest.fixture
def started(tmp_path):
    """A function that runs `lab.py start` in the temporary folder; each step waits for a line of input."""
    running = []

    def start(stdin=subprocess.DEVNULL):
        pipes = {"stdin": stdin, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        command = [sys.executable, "-c", START, str(SOURCE), str(tmp_path)]
        running.append(subprocess.Popen(command, **pipes, text=True))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def test_a_second_start_waits_for_the_set_up_of_the_first_but_not_for_its_lab(started):
    first = started(stdin=subprocess.PIPE)
    assert first.stdout.readline() == "set-up\n"
    second = started()
    line = second.stderr.readline()
    assert f"process {first.pid}, since " in line and "Ctrl-C" in line
    assert second.poll() is None
    first.stdin.write("\n")
    first.stdin.flush()
    assert first.stdout.readline() == "Lab\n"
    said, complaints = second.communicate(timeout=60)
    assert (second.returncode, said, complaints) == (0, "set-up\nLab\n", "")
    assert first.poll() is None


def test_the_lock_of_a_killed_set_up_is_gone(started, tmp_path):
    first = started(stdin=subprocess.PIPE)
    assert first.stdout.readline() == "set-up\n"
    first.kill()
    first.wait()
    assert str(first.pid) in (tmp_path / ".lab" / "setup.lock").read_text()
    said, complaints = started().communicate(timeout=60)
    assert (said, complaints) == ("set-up\nLab\n", "")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send")
def test_ctrl_c_ends_the_waiting_and_leaves_the_first_alone(started):
    first = started(stdin=subprocess.PIPE)
    assert first.stdout.readline() == "set-up\n"
    second = started()
    assert "Waiting" in second.stderr.readline()
    second.send_signal(signal.SIGINT)
    said, complaints = second.communicate(timeout=60)
    assert (second.returncode, said) == (130, "")
    assert complaints == "Stopped. Run the same command again to go on.\n"
    assert first.poll() is None


@pytest.mark.parametrize("verb", ["start", "test"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_lock_that_cannot_be_written_is_one_line(lab, monkeypatch, capsys, verb, number):
    def fail(path, *_, **__):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(lab.Path, "open", fail)
    assert lab.main([verb]) == 2
    line = one_line(capsys)
    assert "Cannot write" in line and "setup.lock" in line and os.strerror(number) in line


def test_a_file_system_without_locks_is_used_without_one(lab, monkeypatch, capsys):
    def fail(_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lab, "take_lock", fail)
    with lab.set_up_alone():
        pass
    line = one_line(capsys)
    assert "setup.lock cannot be locked (No locks available)" in line and "twice at the same time" in line


def test_windows_locks_far_behind_the_text_and_waits(lab, monkeypatch, capsys):
    """There a locked byte can be read by nobody else, and the waiting one wants to read the text."""
    path = lab.ROOT / ".lab" / "setup.lock"
    path.parent.mkdir()
    path.write_text("process 7, since 10:00:00")
    positions = []

    def locking(handle, mode, count):
        positions.append(os.lseek(handle, 0, os.SEEK_CUR))
        if len(positions) < 4:
            raise PermissionError(errno.EACCES, "Permission denied")

    windows = SimpleNamespace(name="nt", lseek=os.lseek, SEEK_SET=os.SEEK_SET, getpid=lambda: 8)
    monkeypatch.setattr(lab, "os", windows)
    monkeypatch.setattr(lab, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK=2), raising=False)
    monkeypatch.setattr(lab.time, "sleep", lambda _: None)
    with lab.set_up_alone():
        assert path.read_text().startswith("process 8, since ")
    assert "(process 7, since 10:00:00)" in one_line(capsys)
    assert positions == [2**30] * 4


# ---------------------------------------------------------------- which PyTorch fits the card

NVIDIA_SMI = """#!/bin/sh
case "$*" in
*compute_cap*) {answer};;
*) echo '{driver}';;
esac
"""


@pytest.fixture
def insert_card(tmp_path, monkeypatch):
    """A function that makes nvidia-smi answer with these lines; without, as one too old for compute_cap."""

    def insert(*lines, driver=""):
        folder = tmp_path / "driver"
        folder.mkdir(exist_ok=True)
        answer = "; ".join(f"echo '{line}'" for line in lines) or "echo 'Field is not valid'; exit 2"
        (folder / "nvidia-smi").write_text(NVIDIA_SMI.format(answer=answer, driver=driver))
        (folder / "nvidia-smi").chmod(0o755)
        monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return insert


@pytest.mark.parametrize(
    "lines, expected",
    [
        (["580.65.06, 7.5, Tesla T4"], "cuda"),
        (["590.10, 12.0, NVIDIA GeForce RTX 5090"], "cuda"),
        (["570.86.15, 8.9, NVIDIA L4"], "cu126"),
        (["525.60.13, 9.0, NVIDIA H100, PCIe"], "cu126"),
        (["550.54, 6.1, NVIDIA GeForce GTX 1080", "550.54, 8.6, NVIDIA A10"], "cu126"),
        (["550.54, [N/A], NVIDIA L4"], "cu126"),
        (["NVIDIA-SMI has failed"], "cpu"),
    ],
)
def test_the_driver_decides_which_build_of_torch_is_taken(lab, insert_card, lines, expected):
    insert_card(*lines)
    assert lab.torch_flavour(None) == expected
    assert lab.torch_flavour("cpu") == "cpu"
    assert lab.torch_flavour("cuda") == ("cuda" if expected == "cpu" else expected)


@pytest.mark.parametrize("asked", [[], ["--torch", "cuda"]])
@pytest.mark.parametrize(
    "lines, driver, told",
    [
        (["550.54, 7.0, Tesla V100-SXM2-16GB"], "", "V100-SXM2-16GB has compute capability 7.0 .* 7.5"),
        (["580.65, 6.0, Tesla P100-PCIE-16GB"], "", "P100-PCIE-16GB has compute capability 6.0 .* 7.5"),
        (["515.105, 8.0, NVIDIA A100"], "", "driver 515.105 is too old .* needs 525.*another host"),
        ([], "470.82", "driver 470.82 is too old .* needs 525.*another host"),
        (
            ["575.51, 12.0, NVIDIA GeForce RTX 5090"],
            "",
            "RTX 5090 .*12.0.* 580; here is 575.51.*another host",
        ),
    ],
)
def test_a_card_or_driver_without_a_build_is_one_line(lab, insert_card, capsys, asked, lines, driver, told):
    """A container's user cannot change the driver, so nobody is told to."""
    insert_card(*lines, driver=driver)
    assert lab.main(["start", *asked]) == 2
    line = one_line(capsys)
    assert re.search(told, line), line
    assert "`LAB_PROFILE=cpu python3 lab.py start --torch cpu`" in line and "update" not in line
    assert not lab.VENV.exists()


def test_under_an_older_driver_torch_comes_from_its_own_index_with_cudas_packages(lab, insert_card, capsys):
    insert_card("550.54, 8.9, NVIDIA L4")
    calls = fake_venv(lab)
    lab.ensure_environment(None)
    _, torch, _ = installs(calls)
    assert torch == f"--index-url {lab.TORCH_INDEX}/cu126 torch=={lab.TORCH}"
    assert "CUDA 12.6" in capsys.readouterr().err
    before = calls()
    lab.ensure_environment(None)
    lab.ensure_environment("cuda")
    assert calls() == before


def test_on_a_host_with_an_older_driver_asking_for_cuda_changes_the_build(lab, insert_card, monkeypatch):
    """An environment on a rented disk moves from host to host."""
    monkeypatch.setattr(lab, "make_venv", lambda: fake_venv(lab))
    insert_card("580.65, 8.9, NVIDIA L4")
    calls = fake_venv(lab)
    lab.ensure_environment(None)
    insert_card("550.54, 8.9, NVIDIA L4")
    lab.ensure_environment("cuda")
    assert [line for line in installs(calls) if "torch==" in line] == [
        f"torch=={lab.TORCH}",
        f"--index-url {lab.TORCH_INDEX}/cu126 torch=={lab.TORCH}",
    ]


def test_an_nvidia_smi_without_a_driver_is_told(lab, insert_card, capsys):
    insert_card("NVIDIA-SMI has failed")
    assert lab.torch_flavour(None) == "cpu"
    assert "Run nvidia-smi to see why" in one_line(capsys)


@pytest.mark.parametrize("status, runs", [(0, 1), (1, 2)])
def test_start_tries_the_card_until_it_is_fine_and_opens_all_the_same(
    lab, insert_card, monkeypatch, capsys, status, runs
):
    insert_card("580.65, 8.9, NVIDIA L4")
    monkeypatch.setattr(lab, "open_lab", lambda port, browser: 0)
    calls = fake_venv(lab, f"*'doctor --gpu'*) exit {status};;")
    (lab.STATE).mkdir()
    (lab.STATE / "ready.json").write_text(json.dumps(READY))
    assert [lab.main(["start"]), lab.main(["start"])] == [0, 0]
    assert calls().count("-m labsupport.cli doctor --gpu") == runs
    assert ("lab.py doctor --gpu" in capsys.readouterr().err) == bool(status)
    insert_card("580.65, 7.5, Tesla T4")  # the disk is at another host now
    assert lab.main(["start"]) == 0
    assert calls().count("-m labsupport.cli doctor --gpu") == runs + 1


def test_start_does_not_try_a_card_that_was_declined(lab, insert_card, monkeypatch):
    insert_card("580.65, 8.9, NVIDIA L4")
    monkeypatch.setattr(lab, "open_lab", lambda port, browser: 0)
    calls = fake_venv(lab)
    assert lab.main(["start", "--torch", "cpu"]) == 0
    assert not any("--gpu" in call for call in calls())


# ---------------------------------------------------------------- the environment


def installs(calls):
    return [call.partition(" install ")[2] for call in calls() if " install " in call]


def test_packages_are_installed_once_pinned_and_hashed_and_torch_alone_from_its_index(lab):
    calls = fake_venv(lab)
    lab.ensure_environment("cpu")
    packages, torch, course = installs(calls)
    assert packages == f"--require-hashes --no-deps -r {lab.LOCK}"
    assert torch.startswith(f"--no-deps --index-url {lab.TORCH_INDEX}/cpu ")
    assert torch.endswith(f" torch=={lab.TORCH}")
    assert course.endswith(f"-e {lab.ROOT}")
    assert not any("extra-index" in call for call in calls())
    before = calls()
    lab.ensure_environment("cpu")
    lab.ensure_environment(None)  # keeps what was chosen
    assert calls() == before


INDEX_IS_DEAD = "*--index-url*) echo 'ERROR: No matching distribution'; exit 1;;"
BUILD_NEEDS_CUDA = "*'import torch'*) test -e {0} || {{ touch {0}; echo no libcudart >&2; exit 1; }};;"


@pytest.mark.parametrize("answers", [INDEX_IS_DEAD, BUILD_NEEDS_CUDA])
def test_without_pytorchs_index_torch_comes_from_pips_with_what_it_needs(lab, capsys, answers):
    calls = fake_venv(lab, answers.format(lab.ROOT / "imported"))
    lab.ensure_environment("cpu")
    _, first, second, course = installs(calls)
    assert f"{lab.TORCH_INDEX}/cpu" in first and "--retries 1" in first
    assert int(re.search(r"--timeout (\d+)", first)[1]) <= 30  # seconds, and twice at most
    assert second == f"torch=={lab.TORCH}"
    assert course.endswith(f"-e {lab.ROOT}")
    lines = capsys.readouterr().err.splitlines()
    assert sum("PyTorch's own index" in line and "14 GiB" in line for line in lines) == 1


@pytest.mark.parametrize("system, flavour", [("Linux", "cuda"), ("Darwin", "cpu"), ("Windows", "cpu")])
def test_elsewhere_torch_comes_from_pips_index_at_once(lab, system, flavour):
    lab.platform.system = lambda: system
    calls = fake_venv(lab)
    lab.ensure_environment(flavour)
    packages, torch, _ = installs(calls)
    assert "--require-hashes" in packages
    assert torch == f"torch=={lab.TORCH}"


def test_a_torch_that_cannot_be_imported_stops_the_start(lab, capsys):
    fake_venv(lab, "*'import torch'*) echo 'ImportError: no libcudart' >&2; exit 1;;")
    assert lab.main(["start", "--torch", "cpu"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert f"PyTorch {lab.TORCH}" in line and "ImportError: no libcudart" in line and str(lab.VENV) in line
    calls = fake_venv(lab)
    lab.ensure_environment(None)
    assert len(installs(calls)) > 4  # it was not taken for finished


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
    assert "[1/3] pinned packages failed: ERROR: No matching distribution" in line
    assert "run the same command again" in line
    assert "No matching distribution" in (lab.STATE / "setup.log").read_text()

    calls = fake_venv(lab)
    assert lab.main(["start"]) == 0
    assert any("--require-hashes" in call for call in calls())
    assert any("labsupport.cli setup" in call for call in calls())
    before = calls()
    (lab.STATE / "ready.json").write_text(json.dumps(READY))
    assert lab.main(["start"]) == 0
    assert calls() == [*before, "-m labsupport.cli contents"]


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


DAMAGED = ["", "{", "[]", "null", "3", "{}", json.dumps(READY | {"dtype": None}), "\udcff"]


@pytest.mark.parametrize("damaged", DAMAGED + [json.dumps({k: READY[k] for k in READY if k != "model"})])
def test_damaged_measurements_are_taken_anew(lab, damaged):
    ready = lab.STATE / "ready.json"
    calls = fake_venv(lab, f"""*'labsupport.cli setup'*) echo '{json.dumps(READY)}' > {ready};;""")
    lab.ensure_ready("cpu")
    assert json.loads(ready.read_text()) == READY
    ready.write_bytes(damaged.encode(errors="surrogateescape"))
    lab.ensure_ready("cpu")
    assert json.loads(ready.read_text()) == READY
    before = calls()
    lab.ensure_ready("cpu")
    assert calls() == before


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


def test_ctrl_c_between_two_copies_leaves_whole_notebooks_and_their_list(lab, monkeypatch):
    for name in ("01", "02"):
        (lab.ROOT / "notebooks" / f"{name}.ipynb").write_text(name)
    real = lab.Path.replace

    def stopped(path, target):
        if target.name == "02.ipynb":
            raise KeyboardInterrupt
        return real(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(lab.Path, "replace", stopped)
        with pytest.raises(KeyboardInterrupt):
            lab.copy_notebooks()
    assert sorted(path.name for path in lab.WORK.iterdir()) == [".editions.json", "01.ipynb"]
    assert list(json.loads((lab.WORK / ".editions.json").read_text())) == ["01.ipynb"]


ENDS_SLOWLY = """
import os, pathlib, signal, sys, time

time.sleep(0.5)  # whoever waits is waiting
os.kill(os.getppid(), signal.SIGINT)  # as the terminal does, which sends it to both
time.sleep(1)
pathlib.Path(sys.argv[1]).write_text("ended")
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send")
def test_ctrl_c_lets_jupyterlab_end_by_itself(lab, tmp_path):
    """It has kernels to shut down, which takes longer than `subprocess.run` waits."""
    process = subprocess.Popen([sys.executable, "-c", ENDS_SLOWLY, str(tmp_path / "end")])
    assert lab.ended(process) == 0 and (tmp_path / "end").read_text() == "ended"


def test_a_full_disk_leaves_no_half_a_notebook(lab, monkeypatch, capsys):
    (lab.ROOT / "notebooks" / "01.ipynb").write_text("whole")

    def half(path, content):
        path.write_text("wh")
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(lab.Path, "write_bytes", half)
        patch.setattr(lab, "ensure_ready", lambda _: None)
        assert lab.main(["start"]) == 2
    assert "No space left" in one_line(capsys)
    assert list(lab.WORK.iterdir()) == []
    lab.copy_notebooks()
    assert (lab.WORK / "01.ipynb").read_text() == "whole"


def test_the_contents_page_is_written_anew_and_not_copied(lab, monkeypatch):
    """It shows the learner's progress. Without it the course opens all the same."""
    opened = []
    monkeypatch.setattr(lab, "ensure_ready", lambda _: None)
    monkeypatch.setattr(lab, "open_lab", lambda port, browser: opened.append(port) or 0)
    (lab.ROOT / "notebooks" / "contents.ipynb").write_text("of the folder")
    calls = fake_venv(lab, "*contents*) exit 2;;")
    assert lab.main(["start"]) == 0 and len(opened) == 1
    assert calls() == ["-m labsupport.cli contents"]
    assert not (lab.WORK / "contents.ipynb").exists()


# ---------------------------------------------------------------- JupyterLab


@pytest.mark.parametrize("there", ["", "{", "[]", '{"@jupyterlab/notebook-extension:tracker": {"a": 1}}'])
def test_settings_are_added_to_those_that_are_there(lab, there):
    overrides = lab.VENV / "share" / "jupyter" / "lab" / "settings" / "overrides.json"
    overrides.parent.mkdir(parents=True)
    overrides.write_text(there)
    for _ in range(2):
        lab.configure_lab()
        written = json.loads(overrides.read_text())
        assert written["@jupyterlab/apputils-extension:notification"]["fetchNews"] == "false"
        assert written["@jupyter-widgets/jupyterlab-manager:plugin"] == {"saveState": True}
        assert ("@jupyterlab/notebook-extension:tracker" in written) == ("tracker" in there)


def test_the_file_browser_begins_closed_and_stays_as_the_learner_leaves_it(lab):
    """That JupyterLab reads this file is tested in a browser."""
    (workspace,) = lab.configure_lab().iterdir()
    layout = json.loads(workspace.read_text())["data"]["layout-restorer:data"]
    assert layout["left"]["collapsed"] and layout["right"]["collapsed"]
    workspace.write_text("as the learner left it")
    assert list(lab.configure_lab().iterdir()) == [workspace]
    assert workspace.read_text() == "as the learner left it"


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


@pytest.mark.parametrize("asked", [True, False])
def test_a_port_taken_during_set_up_is_noticed_before_jupyterlab_starts(lab, monkeypatch, capsys, asked):
    fake_venv(lab)
    port = lab.free_port(None)
    opened = []
    monkeypatch.setattr(lab, "open_lab", lambda port, browser: opened.append(port) or 0)
    with socket.socket() as taken:

        def take_it(_):
            taken.bind(("127.0.0.1", port))
            taken.listen()

        monkeypatch.setattr(lab, "ensure_ready", take_it)
        status = lab.main(["start", *(["--port", str(port)] if asked else [])])
    if asked:
        assert (status, opened) == (2, [])
        assert f"Port {port} is in use" in one_line(capsys)
    else:
        assert status == 0
        assert opened[0] > port


def test_a_port_asked_for_that_is_in_use_is_told_before_the_set_up(lab, monkeypatch, capsys):
    monkeypatch.setattr(lab, "ensure_ready", lambda _: pytest.fail("set up first"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert lab.main(["start", "--port", str(port)]) == 2
    assert f"Port {port} is in use" in one_line(capsys)


def test_an_impossible_port_is_one_line(lab, capsys):
    assert lab.main(["start", "--port", "70000"]) == 2
    assert "Port 70000" in one_line(capsys)


@pytest.mark.parametrize("user, allow_root", [(0, True), (1000, False)])
def test_jupyter_listens_here_only_and_keeps_its_token(lab, monkeypatch, capsys, user, allow_root):
    seen = {}

    class Started:
        def __init__(self, command, **options):
            seen.update(command=command, **options)

        def wait(self):
            return 0

    lab.WORK.mkdir()
    (lab.WORK / "00_start_here.ipynb").write_text("{}")
    monkeypatch.setattr(lab.subprocess, "Popen", Started)
    monkeypatch.setattr(lab.os, "geteuid", lambda: user, raising=False)
    assert lab.open_lab(9100, browser=False) == 0
    token = seen["env"]["JUPYTER_TOKEN"]
    assert len(token) >= 32
    assert token not in " ".join(seen["command"])
    assert f"--LabApp.workspaces_dir={lab.ROOT / '.lab' / 'workspaces'}" in seen["command"]
    assert "--ServerApp.ip=127.0.0.1" in seen["command"] and "--ServerApp.port=9100" in seen["command"]
    assert "--no-browser" in seen["command"]
    assert ("--allow-root" in seen["command"]) == allow_root
    address = f"http://127.0.0.1:9100/lab/tree/my_work/00_start_here.ipynb?token={token}"
    assert address in capsys.readouterr().err

    (lab.WORK / "contents.ipynb").write_text("{}")
    lab.open_lab(9100, browser=True)
    assert "/lab/tree/my_work/contents.ipynb?token=" in capsys.readouterr().err
    assert "--no-browser" not in seen["command"]
    assert seen["env"]["JUPYTER_TOKEN"] != token
