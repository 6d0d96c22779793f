"""The jobs of the hour, in the order of their value, with the time and the memory that each may take.

First what keeps the rest from being paid for in vain: the machine, then the planner's memory on this card.
Then the fine-tune, then what single notebooks ask for, the cheapest answer for its minutes first.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from labsupport.core.profiles import Profile
from labsupport.cost.step_time import Range, plus, times
from labsupport.gpu_jobs import ranges
from labsupport.gpu_jobs.job import Job
from labsupport.gpu_jobs.ranges import Ground

PACKAGE = "labsupport.gpu_jobs"
DOCTOR = (30.0, 240.0)  # seconds of `lab.py doctor --gpu`: its own limits; an assumption
CHECKED = 8  # minutes after which `lab.py gpu-check` begins no further setting
CHECK = (120.0, 60.0 * CHECKED + 180)  # seconds of it: the last setting may end after that
REHEARSED = (5.0, 240.0)  # seconds of any job with a tiny model on a processor
PROMPT = 300  # tokens of the longest wording
SHOT = 75  # tokens of an example with its answer
TUNED = 24 * (3 + 3 + 2 + 3 + 1)  # validation rows that the prompts are chosen on
FORMATS_ROWS = 8 * 2 * 48  # formats, sets, rows


def batch(at: Ground, folder: Path) -> list[Job]:
    """All jobs for a card and a base model; `folder` is where their results go."""
    training, scoring = ranges.training_gib(at), ranges.scoring_gib(at, PROMPT, 8)
    prompts = ranges.scoring_gib(at, PROMPT + 16 * SHOT, 8)
    return [
        Job(
            "doctor",
            "does this machine do what the course asks of it?",
            _verb(folder, "doctor", "0", "doctor", "--gpu", "--json"),
            DOCTOR,
        ),
        Job(
            "gpu_check",
            "does the planner's memory hold on this card?",
            _verb(folder, "gpu_check", "0,1", "gpu-check", "--limit", str(CHECKED), "--json"),
            CHECK,
            after=("doctor",),
        ),
        Job(
            "download",
            "is the base model here before anything waits for it?",
            _script("notebook_jobs", folder, "download"),
            ranges.download(at),
            after=("doctor",),
        ),
        Job(
            "qlora",
            "what does the fine-tune gain over prompts, at what memory, speed and loss of the rest?",
            _script("qlora_job", folder),
            qlora_seconds(at),
            training,
            after=("download",),
        ),
        Job(
            "templates",
            "notebook 06: does a tuned 7B model forgive a wrong chat template?",
            _script("notebook_jobs", folder, "templates"),
            plus(ranges.load(at), loaded(at), ranges.forward(at, FORMATS_ROWS, at.setup.length, 8)),
            scoring,
            after=("qlora",),
        ),
        Job(
            "nf4_error",
            "notebook 04: how large is NF4's error on weights as they were published?",
            _script("notebook_jobs", folder, "nf4_error"),
            plus(ranges.load(at), ranges.over(4 * ranges.file_bytes(at), ranges.DISK)),
            ranges.footprint.CONTEXT_GIB + 1,  # one matrix at a time, in 16 and 32 bits
            after=("download",),
        ),
        Job(
            "prompts",
            "notebook 00: how good do prompts get when they are chosen on validation?",
            _script("notebook_jobs", folder, "prompts"),
            prompts_seconds(at),
            prompts,
            after=("download",),
        ),
        Job(
            "forgetting",
            "notebook 07: what is forgotten at each quarter of a run, and how far do two seeds lie apart?",
            _script("notebook_jobs", folder, "forgetting"),
            forgetting_seconds(at),
            training,
            after=("qlora",),
        ),
    ]


def rehearsal(at_card: list[Job]) -> list[Job]:
    """The same jobs at home, where no card's time and memory count."""
    return [dataclasses.replace(job, seconds=REHEARSED, memory_gib=None) for job in at_card]


def _verb(folder: Path, name: str, statuses: str, *verb: str) -> tuple[str, ...]:
    return (f"{PACKAGE}.command_job", str(folder), name, statuses, *verb)


def _script(module: str, folder: Path, *arguments: str) -> tuple[str, ...]:
    return (f"{PACKAGE}.{module}", str(folder), *arguments)


def python(job: Job) -> list[str]:
    """The command line of a job."""
    return [sys.executable, "-u", "-m", *job.command]


# ---------------------------------------------------------------- seconds


def loaded(at: Ground) -> Range:
    """A trained run found again: its fingerprint is computed."""
    return ranges.over(ranges.closed_form.weight_bytes(at.setup), ranges.HASHED)


def qlora_seconds(at: Ground) -> Range:
    """Training, the test sets by three ways, replies, general text twice, the canary twice."""
    profile: Profile = at.profile
    rows = ranges.test_rows(at)
    return plus(
        ranges.load(at),
        ranges.train(at),
        ranges.forward(at, rows, at.setup.length, 8),
        times(2, ranges.forward(at, rows, at.setup.length, 8)),
        times(4, ranges.forward(at, 1, PROMPT + 8 * SHOT, 1)),
        times(2, ranges.write(at, min(16, profile.generate_rows))),
        general_seconds(at),
        times(2, ranges.forward(at, 4 * min(120, profile.eval_rows), 30, 32, scored=10)),
    )


def general_seconds(at: Ground) -> Range:
    """General text without adapters, with them, and without again as the reference."""
    passages, tokens = ranges.general_tokens()
    rows = min(passages * 4 // 5, at.profile.eval_rows)
    return times(3, ranges.forward(at, rows, tokens, 1, scored=tokens))


def prompts_seconds(at: Ground) -> Range:
    """Tuning and testing three ways to prompt; the examples of one way differ from row to row."""
    rows = ranges.test_rows(at)
    shared, own = at.setup.length, PROMPT + 4 * SHOT
    return plus(
        ranges.load(at),
        ranges.forward(at, TUNED + 2 * rows, shared, 8),
        ranges.forward(at, rows, own, 8),
        times(3, ranges.forward(at, rows, 1, 8)),  # the grammar looks at all logits once more
        times(12, ranges.forward(at, 1, PROMPT + 16 * SHOT, 1)),
    )


def forgetting_seconds(at: Ground) -> Range:
    return plus(
        ranges.load(at),
        ranges.train(at),
        times(4, general_seconds(at)),
        ranges.forward(at, ranges.test_rows(at), at.setup.length, 8),
    )
