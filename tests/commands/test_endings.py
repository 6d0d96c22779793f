"""How a command ends when its reader goes away, the disk is full or the learner stops it."""

import os
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
@pytest.mark.parametrize("delay", [0.5, 0.8, 1.2, 2.0])
def test_ctrl_c_at_any_moment_is_one_line_and_status_130(delay):
    """The terminal sends it to the whole group. Before half a second Python may be
    still starting, and the lines are its own."""
    arguments = [*LAB, "plan", "--model", "llama-3.1-8b", "--gpu", "l4", "--seq", "8192"]
    pipe = subprocess.PIPE
    process = subprocess.Popen(arguments, stdout=pipe, stderr=pipe, text=True, cwd=ROOT, process_group=0)
    time.sleep(delay)
    os.killpg(process.pid, signal.SIGINT)
    out, complaints = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
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
