"""A verb of lab.py as a job: what it prints as JSON is kept as the job's result.

    python -m labsupport.gpu_jobs.command_job FOLDER NAME STATUSES VERB [OPTIONS]

STATUSES: which of the verb's exit statuses are an answer, "0" or "0,1"; any other is the job's own. In a
rehearsal a verb that finds no card has answered, too. This process touches no card: the verb's has it alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from labsupport.gpu_jobs import job_process

NO_CARD = ("no CUDA card", "no NVIDIA card")  # in what `gpu-check` and `doctor --gpu` say
status = 0


def job(folder: Path) -> None:
    """Run the verb and keep its document."""
    global status
    name, statuses, *verb = sys.argv[2:]
    began = time.monotonic()
    command = [sys.executable, "-m", "labsupport.cli", *verb]
    rehearsal = os.environ.get("LAB_PROFILE") == "smoke"  # asking the profile might open the card
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if rehearsal else None,
        text=True,
    )
    said = read(done.stdout)
    print(done.stderr or "", end="", flush=True)
    for finding in said.get("findings", []) if isinstance(said, dict) else []:
        if not finding["ok"]:  # the doctor's: they are in the document, and the log shall say them, too
            print(f"{finding['name']}: {finding['seen']} {finding['fix']}", flush=True)
    from labsupport.gpu_jobs.results import Record  # imports torch: not before the verb is done

    record = Record(folder, name)
    record.document["steps"].clear()  # the verb was asked anew
    seconds = round(time.monotonic() - began, 1)
    record.step(" ".join(verb), lambda: {"status": done.returncode, "seconds": seconds, "said": said})
    without_card = rehearsal and any(words in f"{done.stdout}{done.stderr}" for words in NO_CARD)
    status = 0 if str(done.returncode) in statuses.split(",") or without_card else done.returncode
    if status == 0:
        record.finish()


def read(text: str):
    """The JSON document that a verb printed; its text where it is none."""
    try:
        return json.loads(text)
    except ValueError:
        print(text, end="", flush=True)
        return text


if __name__ == "__main__":
    sys.exit(job_process.run(job) or status)
