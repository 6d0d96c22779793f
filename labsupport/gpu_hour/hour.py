"""The hour from end to end: look at the machine, plan, and run or rehearse."""

from __future__ import annotations

import dataclasses
import os
import shlex
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

from labsupport.configs import model_configs
from labsupport.core import files
from labsupport.core.files import LabError, short, write_atomically
from labsupport.core.profiles import Profile
from labsupport.core.tables import Table
from labsupport.gpu_hour import figures, machine, running, schedule
from labsupport.gpu_hour.keeping import Book
from labsupport.gpu_hour.saying import Log
from labsupport.gpu_jobs import jobs, ranges
from labsupport.gpu_jobs.job import Job
from labsupport.setups.setup import config_named
from labsupport.sizes import gpus

PREDICTED = (
    "Minutes by `lab.py cost`'s model, memory by `lab.py plan`'s planner and, for scoring, by hand. Nothing "
    "here was measured on a card: written for 16, 24 and 80 GB cards, not yet run there."
)


@dataclass(frozen=True)
class Asked:
    """What the command was asked for. gpu: the card that is planned for where none is found; since: when,
    by the clock that is billed."""

    budget: float
    rate: float
    gpu: str = "l4"
    dry_run: bool = False
    since: float = field(default_factory=time.monotonic)

    def folder(self) -> Path:
        return files.RUNS / ("gpu_hour_rehearsal" if self.dry_run else "gpu_hour")

    def adapters(self) -> Path:
        folder = self.folder()
        return folder.with_name(f"{folder.name}_adapters")

    def command(self) -> str:
        """How to ask for the same again."""
        words = ["python3", "lab.py", "gpu-hour", "--budget", f"{self.budget:g}", "--rate", f"{self.rate:g}"]
        words += ["--gpu", self.gpu] if self.gpu != "l4" else []
        return shlex.join([*words, *(["--dry-run"] if self.dry_run else [])])


def environment(asked: Asked) -> dict[str, str]:
    """The jobs' environment: runs and adapters beside the folder; at home a small model on the processor."""
    found = dict(os.environ) | {"LAB_RUNS": str(asked.adapters().absolute())}
    if asked.dry_run:
        found |= {"LAB_PROFILE": "smoke", "CUDA_VISIBLE_DEVICES": "-1"}
        found |= {"LAB_BASE_MODEL": found.get("LAB_BASE_MODEL") or "data/tiny_base"}
        found |= {"LAB_THREADS": found.get("LAB_THREADS") or "1"}  # more only get in each other's way
    return found


@dataclass(frozen=True)
class Prepared:
    """An hour that could begin. found: what `machine` says; at: what the estimates rest on; on_card:
    the batch, with a card's estimates."""

    asked: Asked
    found: dict
    at: ranges.Ground
    on_card: list[Job]

    @property
    def batch(self) -> list[Job]:
        return jobs.rehearsal(self.on_card) if self.asked.dry_run else self.on_card


def prepare(asked: Asked) -> Prepared:
    """Look at everything that could go wrong before it costs time. LabError in one line."""
    schedule.seconds_for(asked.budget, asked.rate)
    named = gpus.find(asked.gpu)
    found = machine.ask(environment(asked))
    card = named if found["card"] is None else card_of(found["card"]["name"], named)
    if found["card"] is None:  # the profile of this processor plans nothing: that of the card does
        profile = ranges.profile_for(card)
        own = "" if asked.dry_run else os.environ.get("LAB_BASE_MODEL", "")
        profile = dataclasses.replace(profile, base_model=own or profile.base_model)
        config = profile.base_model
    else:
        profile, config = Profile(**found["profile"]), found["config"]
    at = ranges.ground(card, profile, sizes(config))
    return Prepared(asked, found, at, jobs.batch(at, asked.folder().absolute()))


def card_of(name: str, named: gpus.Card) -> gpus.Card:
    """The card found, as the estimates know it; the one that was named where they do not know it."""
    try:
        card = gpus.find(name)
    except LabError:
        return named
    return card if card.name in gpus.of_known_speed() else named


def sizes(model: str) -> dict:
    """A model's configuration, by its folder, its config.json or its name."""
    return model_configs.read(model) if Path(model).exists() else config_named(model.partition("@")[0])


def forecast(budget: float, rate: float, gpu: str = "l4") -> Table:
    """The plan for a card and the base model of its profile, whatever this machine is and has done: for the
    notebook. LabError for money that is no positive number and for an unknown card."""
    limit, card = schedule.seconds_for(budget, rate), gpus.find(gpu)
    profile = ranges.profile_for(card)
    name = profile.base_model.partition("@")[0]
    batch = jobs.batch(ranges.ground(card, profile, config_named(name)), Path())
    caption = f"A prediction for {card.sold_as} and {name}: "
    caption += f"{budget:g} at {rate:g} an hour are {schedule.minutes(limit)}"
    return schedule.table(schedule.choose(batch, limit - running.RESERVE), rate, caption)


def described(prepared: Prepared, choices: list[schedule.Choice]) -> str:
    """The plan: the table, and what it rests on."""
    asked, found = prepared.asked, prepared.found["card"]
    limit = schedule.minutes(schedule.seconds_for(asked.budget, asked.rate))
    on = f"{found['name']}, driver {found['driver']}" if found else "no card is here"
    caption = f"A prediction for {prepared.at.card.sold_as} ({on})"
    caption += f": {asked.budget:g} at {asked.rate:g} an hour are {limit}"
    return f"{schedule.table(choices, asked.rate, caption)}\n\n{PREDICTED}"


def plan(prepared: Prepared) -> tuple[Book, str]:
    """The state of before, and the plan for the card in words. LabError where the money is too little."""
    asked = prepared.asked
    book = Book(asked.folder())
    spent, done = (0.0, set()) if asked.dry_run else (book.spent, book.done())  # a rehearsal costs nothing
    left = schedule.seconds_for(asked.budget, asked.rate, spent) - running.RESERVE
    choices = schedule.choose(prepared.on_card, left, done)
    schedule.check_enough(choices, asked.budget, asked.rate, spent, running.RESERVE)
    return book, described(prepared, choices)


def run(prepared: Prepared) -> int:
    """Run or rehearse what was planned; 0 if every job that was begun finished, else 1."""
    asked = prepared.asked
    folder = asked.folder()
    if prepared.found["card"] is None and not asked.dry_run:
        raise LabError(
            "There is no CUDA card here, so nothing was begun: run this on the rented machine, or add "
            "--dry-run to rehearse it on the processor."
        )
    with running.unattended(folder):
        if asked.dry_run and Book(folder).done() >= {job.name for job in prepared.batch}:
            forget(asked)  # a rehearsal that was finished begins anew
        book, told = plan(prepared)  # again: now nobody else writes it
        write_atomically(folder / "plan.txt", told + "\n")
        book.begin(about(prepared))
        book.spent += (time.monotonic() - asked.since) * asked.rate / schedule.HOUR
        log = Log(folder / "log.txt")
        hour = running.Hour(book, log, asked.budget, asked.rate, jobs.python, environment(asked))
        log.say(f"{'Rehearsal' if asked.dry_run else 'Begun'}. Log: {short(folder / 'log.txt')}")
        try:
            choices = hour.run(prepared.batch)
        except KeyboardInterrupt:
            log.say(f"Stopped, nothing is lost. To go on: {asked.command()}")
            raise
        log.say(running.summary(hour, choices))
        log.say(f"Copy home: {short(folder)} ({size(folder):.1f} MB). Adapters: {short(asked.adapters())}")
        return 0 if all(job.get("ended") == "done" for job in book.jobs.values()) else 1


def forget(asked: Asked) -> None:
    """Delete what a rehearsal has left."""
    for name in ("done", "results"):
        shutil.rmtree(asked.folder() / name, ignore_errors=True)
    (asked.folder() / "state.json").unlink(missing_ok=True)
    shutil.rmtree(asked.adapters(), ignore_errors=True)


def about(prepared: Prepared) -> dict:
    """What the state says of the hour."""
    asked, found = prepared.asked, prepared.found
    return {
        "rehearsal": asked.dry_run,
        "base_model": found["base_model"],
        "profile": found["profile"]["name"],
        "card": found["card"],
        "planned_for": prepared.at.card.sold_as,
        "budget": asked.budget,
        "rate": asked.rate,
        "predicted": {
            job.name: {"seconds": job.seconds, "memory_gib": job.memory_gib} for job in prepared.on_card
        },
        "plan": figures.planned(prepared.at),
    }


def size(folder: Path) -> float:
    """MB of a folder's files, at least 0.1."""
    return max(0.1, sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6)
