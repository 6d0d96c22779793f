"""A preflight that is stopped with Ctrl-C says one line, and leaves no half of a copy."""

import os
import signal
import subprocess
import sys
import time

import pytest
from clean_rows import clean_rows
from preflight_typed import written

from labsupport.core.files import ROOT

PATIENCE = 120  # seconds until the copy has begun, on a busy machine
POSIX = pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="signals of POSIX")


@POSIX
@pytest.mark.slow  # it looks at all rows before it writes
@pytest.mark.parametrize("writing", [False, True], ids=["while it looks", "while it writes"])
def test_ctrl_c_is_one_line_and_leaves_no_part_of_a_copy(writing, tmp_path):
    data = written(tmp_path / "rows.jsonl", clean_rows(400) * 15)
    words = ["preflight", str(data), "--fix", str(tmp_path / "mended.jsonl")]
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "lab.py"), *words],
        stdout=pipe, stderr=pipe, text=True, cwd=ROOT, process_group=0,
    )  # fmt: skip
    began = time.monotonic()
    while writing and not list(tmp_path.glob(".mended.jsonl.*")) and time.monotonic() - began < PATIENCE:
        time.sleep(0.01)
    if not writing:
        time.sleep(3)
    os.killpg(process.pid, signal.SIGINT)
    out, complaints = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, ""), complaints
    assert complaints.startswith("Stopped.") and complaints.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]
