"""How a command ends when its reader goes away, the disk is full or the learner stops it."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from labsupport.core.files import ROOT

LAB = [sys.executable, str(ROOT / "lab.py")]
POSIX = pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="signals of POSIX")


@POSIX
@pytest.mark.skipif(not shutil.which("pgrep"), reason="no pgrep to see whether the command has begun")
@pytest.mark.parametrize("delay", [0.1, 0.4, 0.8, 2.0])
def test_ctrl_c_at_any_moment_is_one_line_and_status_130(delay):
    """The terminal sends it to the whole group. Seconds count from when lab.py has begun the command: before,
    Python itself may still be starting, and the lines are its own."""
    arguments = [*LAB, "plan", "--model", "llama-3.1-8b", "--gpu", "l4", "--seq", "8192"]
    pipe = subprocess.PIPE
    process = subprocess.Popen(arguments, stdout=pipe, stderr=pipe, text=True, cwd=ROOT, process_group=0)
    looks = ["pgrep", "-P", str(process.pid)]
    while process.poll() is None and subprocess.run(looks, stdout=subprocess.DEVNULL).returncode:
        time.sleep(0.02)
    time.sleep(delay)
    os.killpg(process.pid, signal.SIGINT)
    out, complaints = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, ""), complaints
    assert complaints.startswith("Stopped.") and complaints.count("\n") == 1


@POSIX
@pytest.mark.parametrize("verb", [["help"], ["claims"], ["claims", "--json"]])
def test_a_reader_that_goes_away_is_no_error(verb):
    command = " ".join([sys.executable, "lab.py", *verb, "| head -c 20 > /dev/null; exit ${PIPESTATUS[0]}"])
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_disk_is_told_in_one_line():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*LAB, "claims"], stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr == "Cannot write the output: No space left on device.\n"
