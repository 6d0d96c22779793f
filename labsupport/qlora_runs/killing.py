"""A training that is killed half-way, as a preempted machine or a closed laptop would."""

from __future__ import annotations

import inspect
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from labsupport.core import files
from labsupport.core.files import LabError

# What a notebook's make_trainer may use; it is run again in the process that is to be killed.
HEADER = """
from labsupport.core import upstream

upstream.quiet_known_noise()
upstream.guard_4bit_on_cpu()
upstream.keep_freed_memory()
upstream.score_only_labels()

import torch
from datasets import Dataset
from peft import LoraConfig, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, PrinterCallback
from trl import SFTConfig, SFTTrainer

from labsupport.core import files, profiles
from labsupport.models import base_model
from labsupport.tasks import tickets
from labsupport.training import prefixes, recipe, run_store

profile = profiles.current()
torch.set_num_threads(profile.threads)
"""
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # Windows ends a process at once by either


def train_and_kill(functions: list[Callable], name: str, wait_s: float = 1800) -> str:
    """Train what the last of `functions` returns, a trainer, as the recorded run `name` in another process,
    and kill that at the first sealed checkpoint; returns what happened, a sentence.

    The functions' sources are run there under HEADER's imports. An older run of this name is deleted first.
    LabError with the other process's last line if it fails, and after `wait_s` seconds without a checkpoint.
    """
    for old in files.RUNS.glob(f"{name}-*"):
        shutil.rmtree(old)
    files.RUNS.mkdir(parents=True, exist_ok=True)
    script, log = files.RUNS / f"{name}.py", files.RUNS / f"{name}.log"
    sources = "\n\n".join(map(inspect.getsource, functions))
    script.write_text(f"{HEADER}\n\n{sources}\n\nrun_store.recorded({functions[-1].__name__}(), {name!r})\n")
    with log.open("w") as out:
        process = subprocess.Popen([sys.executable, str(script)], stdout=out, stderr=out)
        try:
            at = _first_checkpoint(process, name, wait_s)
        finally:
            if process.poll() is None:
                process.send_signal(KILL)
            status = process.wait()
    if at is None and status == 0:
        return "it was done before it could be killed"
    if at is None:
        raise LabError(f"The training that was to be killed failed by itself: {_last_line(log)}")
    return f"killed; it leaves {at.name} behind"


def _first_checkpoint(process, name: str, wait_s: float) -> Path | None:
    """The first checkpoint that has its manifest; None if the process ends without. LabError after wait_s."""
    until = time.monotonic() + wait_s
    while process.poll() is None:
        sealed = sorted(files.RUNS.glob(f"{name}-*/checkpoints/checkpoint-*/manifest.json"))
        if sealed:
            return sealed[0].parent
        if time.monotonic() > until:
            raise LabError(
                f"No checkpoint after {wait_s:.0f} s: the training that was to be killed is stuck."
            )
        time.sleep(0.05)
    return None


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing."
