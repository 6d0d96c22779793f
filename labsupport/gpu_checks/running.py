"""Runs what fits the card, one setting after the other in a process of its own, and keeps the record."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from labsupport.core import profiles
from labsupport.core.files import ROOT, LabError, read_json
from labsupport.gpu_checks import records, settings
from labsupport.gpu_checks.settings import Setting

MOST_SECONDS = 600  # of one setting: who takes longer hangs


def require_card() -> None:
    """LabError where PyTorch finds no CUDA card; it says how to mend a driver that it cannot use."""
    import torch

    if torch.cuda.is_available():
        return
    profiles.detect()
    raise LabError(
        "PyTorch finds no CUDA card here, and `gpu-check` measures on one: run it on a machine that has one. "
        "`lab.py plan` and `lab.py cost` predict without."
    )


def run(wanted: list[Setting], minutes: float, say: Callable[[str], None], device: str = "cuda") -> dict:
    """The record with what could be done of the settings in so many minutes, saved after each.

    What an earlier call did is kept. device: "cpu" is for tests. LabError if the card cannot be looked at.
    """
    end = time.monotonic() + 60 * minutes
    found = in_own_process({"ask": "card"})
    if "name" not in found:
        raise LabError(f"The card cannot be looked at: {found['said']}. Mend that, then do it again.")
    card, record = settings.card_of(found), records.begun(found)
    built: dict[str, dict] = {}  # the planner's models, by shape
    for number, setting in enumerate(wanted, start=1):
        step, row = f"[{number}/{len(wanted)}] {setting.key}", record["rows"].get(setting.key, {})
        if row.get("outcome") in records.TRIED:  # what failed otherwise may be mended by now
            say(f"{step}: done before")
            continue
        if time.monotonic() > end:
            say(f"The {minutes:g} minutes are over. The same command goes on from here.")
            break
        setup = setting.setup(settings.dtype_on(card))
        planned = settings.predicted(setup, card, built.setdefault(setting.model, {}))
        if settings.fits(planned, card):
            say(f"{step} ...")
            answer = in_own_process({"ask": "setting", "setup": dataclasses.asdict(setup), "device": device})
        else:
            answer = {"outcome": "not run"}
        record["rows"][setting.key] = row = records.row(setting, setup, planned, answer)
        records.save(record)
        say(records.described(row))
    return record


def in_own_process(job: dict) -> dict:
    """The worker's answer; {"outcome": "failed", "said": ...} if its process ended without one."""
    with tempfile.TemporaryDirectory() as folder:
        asked, answer = Path(folder) / "job.json", Path(folder) / "answer.json"
        asked.write_text(json.dumps(job), encoding="utf-8")
        command = [sys.executable, "-m", "labsupport.gpu_checks.worker", str(asked), str(answer)]
        try:
            done = subprocess.run(
                command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=MOST_SECONDS
            )
        except subprocess.TimeoutExpired:
            return {"outcome": "failed", "said": f"no answer within {MOST_SECONDS} seconds"}
        found = read_json(answer)
    if found is not None:
        return found
    lines = done.stderr.strip().splitlines() or ["it said nothing"]
    said = records.without_folders(lines[-1])
    return {"outcome": "failed", "said": f"its process ended with {done.returncode}: {said}"}


def environment() -> dict[str, str]:
    """One card, as TRL's trainer wants; no hub; the allocator's default settings, as the planner has them."""
    kept = {name: value for name, value in os.environ.items() if not name.endswith("ALLOC_CONF")}
    cards = kept.get("CUDA_VISIBLE_DEVICES", "0").split(",")
    return kept | {"CUDA_VISIBLE_DEVICES": cards[0], "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
