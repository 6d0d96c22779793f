#!/usr/bin/env python3
"""The one command of LoRA Lab. Standard library only.

    python3 lab.py start     set up everything, then open JupyterLab on the course
    python3 lab.py test      set up everything, then run every test
    python3 lab.py help      the other verbs

`start` and `test` create `.venv` beside this file, install the pinned packages into it and fetch the
base model. Both are safe to repeat and to interrupt: what is finished is not done again; of two at once
the second waits for the first. Every other verb is handed to `labsupport/cli.py` inside that environment.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import hashlib
import json
import os
import platform
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    import msvcrt

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
LOCK = ROOT / "requirements.lock"
WORK = ROOT / "my_work"
CONTENTS = "contents.ipynb"  # shows the learner's progress, so it is written anew, not copied

TORCH = "2.13.0"
# PyTorch's public index. Below it, a folder a build: without CUDA (a fifth of the download), and for CUDA
# 12.6. The one for CUDA 13.0 is what pip's own index has for Linux.
TORCH_INDEX = "https://download.pytorch.org/whl"
# The oldest drivers: 580 for CUDA 13.x, 525 for CUDA 12.x by minor-version compatibility, so 12.6 does not
# need its own 560 (NVIDIA, "CUDA Compatibility", table "CUDA Toolkit 11.x, 12.x, and 13.x Driver Version").
DRIVER_FOR_CUDA_13, DRIVER_FOR_CUDA_12 = 580, 525
# Compute capabilities with kernels in PyTorch 2.12 to 2.14 (RELEASE.md, "PyTorch CUDA Support Matrix"): from
# 7.5 on for CUDA 13.0, up to 9.0 for CUDA 12.6. That one has older cards, too; the course is written for
# none of them. labsupport/core/profiles.py has the same numbers.
OLDEST_CARD, NEWEST_CARD_OF_CUDA_12 = (7, 5), (9, 0)
# What the lock and PyTorch have wheels for; pyproject.toml says the same.
OLDEST_PYTHON, NEWEST_PYTHON, FAULTY_PYTHON = (3, 11), (3, 14), (3, 14, 1)
# Measured on Linux x86-64: environment 1.9 GiB, model 0.6 GiB with its wheel, and room for unpacking.
NEEDED_GIB = {"cpu": 6, "cuda": 14, "cu126": 14}
PLATFORMS = {("Linux", "x86_64"), ("Linux", "aarch64"), ("Darwin", "arm64"), ("Windows", "AMD64")}


def state_folder() -> Path:
    """Where the model and the settings lie; labsupport goes by the same rule.

    A relative LAB_CACHE counts from the repository: kernels start in other folders than this file.
    """
    asked = Path(os.environ.get("LAB_CACHE") or ".lab")
    with contextlib.suppress(RuntimeError):  # "~nobody": a folder of that name, then
        asked = asked.expanduser()
    return ROOT / asked


STATE = state_folder()


class SetupError(Exception):
    """One line for the learner: what went wrong and what to do."""


def say(text: str) -> None:
    """Progress goes to standard error, so that `--json` output stays clean."""
    print(text, file=sys.stderr, flush=True)


def venv_python() -> Path:
    folder, name = ("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")
    return VENV / folder / name


# ---------------------------------------------------------------- checks before anything is written


def python_problem(version) -> str:
    """Why this Python is none of those that the lock and PyTorch have wheels for; empty if it is one."""
    if version < OLDEST_PYTHON:
        return "too old"
    if version[:2] > NEWEST_PYTHON:
        return "too new"
    return "faulty (networkx, which PyTorch needs, refuses it)" if version[:3] == FAULTY_PYTHON else ""


def check_machine() -> None:
    problem = python_problem(sys.version_info)
    if problem:
        raise SetupError(
            f"Python {platform.python_version()} is {problem}: LoRA Lab needs 3.11 to 3.14, except 3.14.1. "
            "Install one of them and run this command with it, for example `python3.13 lab.py start`."
        )
    here = (platform.system(), platform.machine())
    if here not in PLATFORMS:
        raise SetupError(
            f"{here[0]} on {here[1]} is not supported: PyTorch {TORCH} has no build for it. Use Linux "
            "(x86-64, arm64), macOS on Apple silicon or Windows 11 (x64)."
        )


def check_disk(flavour: str) -> None:
    free = shutil.disk_usage(ROOT).free / 2**30
    if free < NEEDED_GIB[flavour]:
        raise SetupError(
            f"Too little disk: set-up needs {NEEDED_GIB[flavour]} GiB free in {ROOT} and there are "
            f"{free:.1f}. Free some, or move the folder, and run the command again."
        )


def torch_flavour(asked: str | None) -> str:
    """The build of PyTorch: "cpu", "cuda" (pip's, for CUDA 13.0) or "cu126".

    asked: "cpu" or "cuda"; None: CUDA where an NVIDIA driver answers. SetupError if the driver or the card
    is too old for every build with CUDA.
    """
    driver, capability, name = nvidia_card() if asked != "cpu" else NO_CARD
    if not driver:
        if not asked and has_nvidia_smi():
            say("nvidia-smi finds no card: taking PyTorch without CUDA. Run nvidia-smi to see why.")
        return asked or "cpu"  # "cuda" asked without a driver: for an image that will run elsewhere
    go_on = "To go on without the card, run `LAB_PROFILE=cpu python3 lab.py start --torch cpu`."
    if capability and capability < OLDEST_CARD:
        raise SetupError(
            f"{name} has compute capability {shown(capability)} and this course needs {shown(OLDEST_CARD)}, "
            f"a T4 or newer. {go_on}"
        )
    major = int(driver.split(".")[0])
    if major >= DRIVER_FOR_CUDA_13 or platform.system() != "Linux":  # elsewhere pip's index has no CUDA
        return "cuda"
    if major < DRIVER_FOR_CUDA_12:
        raise SetupError(
            f"The NVIDIA driver {driver} is too old for PyTorch {TORCH}, whose oldest build, for CUDA 12.6, "
            f"needs {DRIVER_FOR_CUDA_12}. A container has its host's driver: take another host. {go_on}"
        )
    if capability and capability > NEWEST_CARD_OF_CUDA_12:
        raise SetupError(
            f"{name} (compute capability {shown(capability)}) needs PyTorch's build for CUDA 13.0, and that "
            f"driver {DRIVER_FOR_CUDA_13}; here is {driver}. A container has its host's driver: take "
            f"another host. {go_on}"
        )
    return "cu126"


def shown(capability: tuple) -> str:
    return ".".join(map(str, capability))


NO_CARD = ("", None, "")


def has_nvidia_smi() -> bool:
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")  # as whoever wants no card sets it
    return not hidden and shutil.which("nvidia-smi") is not None


def nvidia_card() -> tuple:
    """(driver, compute capability as (8, 9), name) of the newest card, by nvidia-smi; NO_CARD where no driver
    answers or CUDA_VISIBLE_DEVICES hides every card. An old driver does not know the capability."""
    if not has_nvidia_smi():
        return NO_CARD
    for fields in ("driver_version,compute_cap,name", "driver_version"):
        command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        except (OSError, subprocess.SubprocessError):
            return NO_CARD
        cards = [read_card(line) for line in done.stdout.splitlines()]
        cards = [card for card in cards if card[0]] if done.returncode == 0 else []
        if cards:
            return max(cards, key=lambda card: card[1] or (0, 0))
    return NO_CARD


def read_card(line: str) -> tuple:
    """nvidia-smi's "550.54, 8.9, NVIDIA L4" as ("550.54", (8, 9), "NVIDIA L4")."""
    driver, capability, name = [part.strip() for part in (line + ",,").split(",")][:3]
    parts = capability.split(".")
    known = tuple(map(int, parts)) if len(parts) == 2 and all(p.isdigit() for p in parts) else None
    return driver if driver.split(".")[0].isdigit() else "", known, name or "The card"


# ---------------------------------------------------------------- one set-up at a time


@contextlib.contextmanager
def set_up_alone():
    """Hold the set-up lock; wait for whoever holds it, and say so.

    It is the operating system's lock on an open file, so it ends with its process, however that ends. The
    file lies outside STATE: that may be elsewhere for two processes which share this `.venv`.
    """
    path = ROOT / ".lab" / "setup.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        wait_for(file)
        file.truncate(0)
        file.write(f"process {os.getpid()}, since {time.strftime('%H:%M:%S')}")
        file.flush()
        yield


def wait_for(file) -> None:
    """Return once the lock is ours, or if the file system has no locks."""
    refused = 0
    try:
        while not take_lock(file):
            refused += 1
            if refused == 2:  # by now its holder has written its name
                file.seek(0)
                holder = file.read() or "another process"
                say(f"Another set-up is at work here ({holder}). Waiting for it; Ctrl-C stops waiting.")
            time.sleep(0.3)
    except OSError as error:
        say(f"{file.name} cannot be locked ({error.strerror}): do not run lab.py twice at the same time.")


def take_lock(file) -> bool:
    """Try to lock the open file until it is closed; False if another process holds it."""
    try:
        if os.name == "nt":
            # Windows keeps others from reading what is locked: not the text at the beginning.
            os.lseek(file.fileno(), 2**30, os.SEEK_SET)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


# ---------------------------------------------------------------- the environment


def environment_stamp(flavour: str) -> str:
    parts = [LOCK.read_bytes(), (ROOT / "pyproject.toml").read_bytes(), flavour.encode()]
    return hashlib.sha256(b"\0".join([*parts, TORCH.encode(), sys.version.encode()])).hexdigest()


def pip(step: str, *arguments: str) -> None:
    """Run pip in the environment, one line of progress, the whole log under .lab/."""
    STATE.mkdir(parents=True, exist_ok=True)
    log = STATE / "setup.log"
    command = [str(venv_python()), "-m", "pip", "--disable-pip-version-check", *arguments]
    started, tail = time.monotonic(), []
    with log.open("a", encoding="utf-8") as file:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
        try:
            for line in process.stdout:
                file.write(line)
                tail = [*tail[-30:], line.strip()]
                if line.startswith(("Collecting", "  Downloading", "Installing")):
                    show_progress(f"{step}: {line.strip()}")
        finally:  # Ctrl-C ends pip as well, and a full disk must; the next set-up must not meet it
            process.stdout.close()
            process.wait()
    show_progress("")
    if process.returncode:
        errors = [line for line in tail if line.startswith("ERROR")] or tail[-1:] or ["no output"]
        raise SetupError(
            f"{step} failed: {errors[0]} Check the network connection and the disk, then run the "
            f"same command again: finished downloads are kept. The full log is {log}."
        )
    say(f"  {step}: {time.monotonic() - started:.0f} s")


def show_progress(text: str) -> None:
    """Overwrite one line on a terminal; print nothing where the output is a file."""
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns - 1
        print(f"\r{text[:width]:<{width}}", end="" if text else "\r", file=sys.stderr, flush=True)


def ensure_environment(asked: str | None) -> None:
    """Create `.venv` and install the pinned packages, unless the stamp says it is done."""
    stamp_file = VENV / "lab-stamp"
    stamped = stamp_file.read_text().split() if stamp_file.exists() else []
    kept = None if asked else stamped[1:2]
    flavour = kept[0] if kept else torch_flavour(asked)
    stamp = environment_stamp(flavour)
    if stamped == [stamp, flavour] and venv_python().exists():
        return
    check_disk(flavour)
    say(f"Setting up the environment in {VENV} (several minutes, once)")
    # To pip, 2.13.0+cpu is 2.13.0: another flavour of torch only gets in where there is none.
    if stamped[1:] not in ([], [flavour]) or not venv_works():
        make_venv()
    stamp_file.write_text(f"unfinished {flavour}\n")
    pip("[1/3] pinned packages", "install", "--require-hashes", "--no-deps", "-r", str(LOCK))
    install_torch(flavour)
    pip("[3/3] this course", "install", "--no-deps", "--no-build-isolation", "-e", str(ROOT))
    stamp_file.write_text(f"{stamp} {flavour}\n")


def install_torch(flavour: str) -> None:
    """Install torch alone: whatever it needs besides CUDA's packages is there, out of the lock."""
    step, pin = "[2/3] PyTorch", f"torch=={TORCH}"
    if flavour == "cpu" and platform.system() == "Linux":
        only_there = ["--no-deps", "--index-url", f"{TORCH_INDEX}/cpu", "--timeout", "15", "--retries", "1"]
        with contextlib.suppress(SetupError):
            pip(step, "install", *only_there, pin)
            check_torch()
            return
        say(
            "  PyTorch's own index gave no build that works here: taking the one of pip's index. If that is "
            f"built for CUDA, it needs {NEEDED_GIB['cuda']} GiB of disk in all."
        )
    if flavour == "cu126":  # CUDA's packages are there, too
        say(f"  The driver is older than {DRIVER_FOR_CUDA_13}: taking PyTorch's build for CUDA 12.6.")
        pip(step, "install", "--index-url", f"{TORCH_INDEX}/{flavour}", pin)
    else:
        pip(step, "install", pin)
    check_torch()


def check_torch() -> None:
    """A build for CUDA without CUDA's packages installs well, but cannot be imported."""
    done = subprocess.run([str(venv_python()), "-c", "import torch"], capture_output=True, text=True)
    if done.returncode:
        last = ["no output", *done.stderr.strip().splitlines()][-1]
        raise SetupError(
            f"PyTorch {TORCH} is installed but cannot be imported: {last} Delete {VENV} and run the same "
            f"command again. The log of the installation is {STATE / 'setup.log'}."
        )


def venv_works() -> bool:
    """Whether `.venv` has a Python with pip; an interrupted `python -m venv` leaves one without."""
    if not venv_python().exists():
        return False
    return subprocess.run([str(venv_python()), "-m", "pip", "--version"], capture_output=True).returncode == 0


def make_venv() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", str(VENV)], capture_output=True, text=True
    )
    if done.returncode:
        last = ["no output", *(done.stderr or done.stdout).strip().splitlines()][-1]
        raise SetupError(
            f"Python could not create a virtual environment: {last} "
            "On Debian or Ubuntu: `sudo apt install python3-venv`, then run this command again."
        )


def hold_interrupts() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


HOLD_INTERRUPTS = hold_interrupts if hasattr(signal, "pthread_sigmask") else None  # Windows has no such thing


def support(*arguments: str, **options) -> int:
    """Run `labsupport.cli` inside the environment; its exit status.

    Ctrl-C reaches it, too, and is held back until it can answer with a line of its own.
    """
    command = [str(venv_python()), "-m", "labsupport.cli", *arguments]
    return ended(subprocess.Popen(command, preexec_fn=HOLD_INTERRUPTS, **options))


def ended(process: subprocess.Popen) -> int:
    """Wait for a process that Ctrl-C reaches, too, and that ends of itself then; its exit status.
    (`subprocess.run` would kill it after a quarter of a second.)"""
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


def ensure_ready(asked_torch: str | None) -> None:
    """Everything `start` and `test` need: packages, base model, number format and speed."""
    ensure_environment(asked_torch)
    status = 0 if measured() else support("setup")
    if status == 130:
        raise KeyboardInterrupt
    if status:
        raise SetupError("Set-up stopped; the line above says why. Nothing half-done is kept.")


def examine_card() -> None:
    """Print `doctor --gpu`, a minute or two, until it has found nothing bad with this environment and card.

    It stops nothing: what it finds bad is better read in JupyterLab than not at all.
    """
    driver, _, name = nvidia_card()
    stamp = (VENV / "lab-stamp").read_text().split() if (VENV / "lab-stamp").exists() else []
    if not driver or stamp[1:] == ["cpu"]:
        return
    passed = STATE / "card-examined"
    now = " ".join([*stamp, driver, name])
    if passed.exists() and passed.read_text(encoding="utf-8") == now:
        return
    say("Trying the graphics card (a minute or two, once)")
    status = support("doctor", "--gpu")
    if status == 130:
        raise KeyboardInterrupt
    if status:
        say(
            "The card is not ready: the lines marked BAD say why. The course opens all the same; mend that "
            "first and run `python3 lab.py doctor --gpu`, or set LAB_PROFILE=cpu."
        )
        return
    passed.write_text(now, encoding="utf-8")


def measured() -> bool:
    """Whether ready.json holds everything that `labsupport.cli setup` writes into it."""
    try:
        settings = json.loads((STATE / "ready.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    kinds = {"dtype": str, "threads": int, "tokens_per_second": dict, "model": str}
    return isinstance(settings, dict) and all(isinstance(settings.get(k), kinds[k]) for k in kinds)


# ---------------------------------------------------------------- the learner's copies


def copy_notebooks() -> None:
    """Copy new notebooks into my_work/, never over a file; say where a newer edition exists."""
    WORK.mkdir(exist_ok=True)
    editions_file = WORK / ".editions.json"
    try:
        editions = dict(json.loads(editions_file.read_text()))
    except (OSError, ValueError, TypeError):
        editions = {}
    try:
        for source in sorted({*(ROOT / "notebooks").glob("*.ipynb")} - {ROOT / "notebooks" / CONTENTS}):
            content = source.read_bytes()
            edition = hashlib.sha256(content).hexdigest()
            mine = WORK / source.name
            if not mine.exists():
                write_whole(mine, content)
                editions[source.name] = edition
            elif editions.get(source.name, edition) != edition:
                say(
                    f"A newer edition of {source.name} exists. Yours is untouched; to get the new one, "
                    f"rename my_work/{source.name} and run start again."
                )
    finally:
        write_whole(editions_file, json.dumps(editions, indent=1).encode())


def write_whole(path: Path, content: bytes) -> None:
    """Write a file; a full disk or Ctrl-C leaves no half of it and nothing beside it."""
    scratch = path.with_name(f".{path.name}.part")
    try:
        scratch.write_bytes(content)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


# ---------------------------------------------------------------- JupyterLab


def free_port(asked: int | None) -> int:
    """The port asked for, or the first free one from 8888 on."""
    for port in [asked] if asked else range(8888, 8988):
        with socket.socket() as probe, contextlib.suppress(OSError, OverflowError):
            if os.name != "nt":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    where = f"Port {asked} is" if asked else "Ports 8888 to 8987 are all"
    raise SetupError(f"{where} in use or not allowed: pass another one, for example `--port 9100`.")


SETTINGS = {  # of JupyterLab's; whatever else is set there stays
    # An offline course has no news, and the question covers what the learner reads.
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    # A notebook that is opened again shows its explorers and questions, and not "model not found".
    "@jupyter-widgets/jupyterlab-manager:plugin": {"saveState": True},
    "@jupyterlab/docmanager-extension:plugin": {"defaultViewers": {"markdown": "Markdown Preview"}},
}
# The default workspace before its first use: with the file browser open, half of a small window is left.
LAYOUT = {
    "data": {"layout-restorer:data": {"left": {"collapsed": True}, "right": {"collapsed": True}}},
    "metadata": {"id": "default"},
}


def configure_lab() -> Path:
    """Write the settings above into `.venv`, and the layout where there is none; the layout's folder."""
    overrides = VENV / "share" / "jupyter" / "lab" / "settings" / "overrides.json"
    merged = {**read_settings(overrides), **SETTINGS}
    workspaces = ROOT / ".lab" / "workspaces"  # not the user's: its tabs are of other folders
    layout = workspaces / f"default-{hashlib.sha256(b'default').hexdigest()[:4]}.jupyterlab-workspace"
    for file, content in ((overrides, merged), (layout, LAYOUT)):
        if file == overrides or not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(file, json.dumps(content, indent=1).encode())
    return workspaces


def read_settings(file: Path) -> dict:
    """What the file sets; nothing if it is missing or damaged."""
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return settings if isinstance(settings, dict) else {}


def open_lab(port: int, browser: bool) -> int:
    workspaces = configure_lab()
    token = secrets.token_hex(24)
    first = next((page for page in [WORK / CONTENTS, *sorted(WORK.glob("*.ipynb"))] if page.exists()), None)
    page = f"/lab/tree/my_work/{first.name}" if first else "/lab"
    options = [
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.root_dir={ROOT}",
        # Keeps the token, which settings of the machine may switch off. They cannot change an option.
        "--ServerApp.identity_provider_class=labsupport.upkeep.own_token.OwnToken",
        f"--LabApp.default_url={page}",
        f"--LabApp.workspaces_dir={workspaces}",
        "--LabApp.extension_manager=readonly",
        "--LabApp.news_url=None",
        "--JupyterApp.answer_yes=True",  # one Ctrl-C ends it and its kernels
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--Application.log_level=WARN",
    ]
    if not browser:
        options.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # the default in rented containers
        options.append("--allow-root")
    say(f"JupyterLab: http://127.0.0.1:{port}{page}?token={token}")
    say("Stop it with Ctrl-C. Your copies of the notebooks are in my_work/.")
    environment = {**os.environ, "JUPYTER_TOKEN": token}
    command = [str(venv_python()), "-m", "jupyterlab", *options]
    return ended(subprocess.Popen(command, env=environment, cwd=ROOT))


# ---------------------------------------------------------------- the verbs


def start(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="lab.py start", description="Set up, then open the course.")
    parser.add_argument("--no-browser", action="store_true", help="print the address only")
    parser.add_argument("--port", type=int, help="default: the first free one from 8888 on")
    parser.add_argument("--torch", choices=["cpu", "cuda"], help="default: what the machine has")
    asked = parser.parse_args(arguments)
    if asked.port:
        free_port(asked.port)  # fail before the minutes of set-up, in which the port may still be taken
    with set_up_alone():
        ensure_ready(asked.torch)
        examine_card()
        copy_notebooks()
        support("contents", stdout=subprocess.DEVNULL)  # without it the course is all there
    return open_lab(free_port(asked.port), browser=not asked.no_browser)


def test(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="lab.py test", description="Set up, then run every test.")
    parser.add_argument("--fast", action="store_true", help="no training, under 4 minutes")
    parser.add_argument("--torch", choices=["cpu", "cuda"], help="default: what the machine has")
    asked = parser.parse_args(arguments)
    with set_up_alone():
        ensure_ready(asked.torch)
    command = [str(venv_python()), str(ROOT / "tests" / "run.py")]
    return subprocess.run(command + ["--fast"] * asked.fast, cwd=ROOT).returncode


def main(arguments: list[str]) -> int:
    verb, rest = (arguments[0], arguments[1:]) if arguments else ("help", [])
    try:
        if verb in ("help", "-h", "--help") and not venv_python().exists():
            print(__doc__.strip())
            return 0
        check_machine()
        if verb == "start":
            return start(rest)
        if verb == "test":
            return test(rest)
        if not venv_python().exists():
            raise SetupError(f"Nothing is installed yet: run `python3 {Path(__file__).name} start`.")
        return support(verb, *rest)
    except SetupError as error:
        say(str(error))
    except KeyboardInterrupt:
        say("Stopped. Run the same command again to go on.")
        return 130
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT):
            raise
        say(f"Cannot write {error.filename or ROOT}: {error.strerror}. Free the disk or its rights.")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
