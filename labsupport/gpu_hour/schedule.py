"""Which jobs the money is enough for, and why the others are left out. No clock, no process, no torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from labsupport.core import numbers, text
from labsupport.core.files import LabError
from labsupport.core.tables import Table
from labsupport.gpu_jobs.job import Job

HOUR = 3600.0


@dataclass(frozen=True)
class Choice:
    """What becomes of a job: "done", "run" or "left out"; why, where it is left out."""

    job: Job
    what: str
    why: str = ""


def seconds_for(budget: float, rate: float, spent: float = 0.0) -> float:
    """Seconds that are left of a budget at a rate an hour; both in one currency, like what is spent already.
    LabError for a budget or rate that is no positive number."""
    budget = numbers.real(budget, "--budget", above=True, most=1e9)
    rate = numbers.real(rate, "--rate", above=True, most=1e9)
    return max(0.0, (budget - spent) / rate * HOUR)


def choose(
    jobs: Sequence[Job], left: float, done: Collection[str] = (), ended: Mapping[str, str] | None = None
) -> list[Choice]:
    """A choice for each job, in their order: those whose slow ends add up to at most `left` seconds.

    done: not repeated. ended: name -> why, of jobs not to be begun again, nor what comes after them. A later
    job may fit where an earlier, longer one did not.
    """
    ended = ended or {}
    choices: list[Choice] = []
    promised = set(done)
    for job in jobs:
        missing = [name for name in job.after if name not in promised]
        if job.name in done:
            choices.append(Choice(job, "done"))
        elif job.name in ended:
            choices.append(Choice(job, "left out", ended[job.name]))
        elif missing:
            choices.append(Choice(job, "left out", f"it comes after {', '.join(missing)}"))
        elif job.seconds[1] > left:
            why = f"it may take {minutes(job.seconds[1])} and {minutes(left)} are left"
            choices.append(Choice(job, "left out", why))
        else:
            choices.append(Choice(job, "run"))
            promised.add(job.name)
            left -= job.seconds[1]
    return choices


def to_run(choices: Sequence[Choice]) -> list[Job]:
    """The jobs that are chosen, in their order."""
    return [choice.job for choice in choices if choice.what == "run"]


def check_enough(
    choices: Sequence[Choice], budget: float, rate: float, spent: float = 0.0, reserve: float = 0.0
) -> None:
    """LabError where there is something to do and the money is enough for none of it. reserve: seconds that
    are kept for ending a job."""
    if to_run(choices) or not (waiting := [c.job for c in choices if c.what == "left out"]):
        return
    done = {choice.job.name for choice in choices if choice.what == "done"}
    first = next((job for job in waiting if set(job.after) <= done), waiting[0])
    needed = spent + rate * (first.seconds[1] + reserve) / HOUR
    gone = f", of which {money(spent)} are spent," if spent else ""
    raise LabError(
        f"A --budget of {budget:g}{gone} at {rate:g} an hour is too small for anything: {first.name} comes "
        f"next and may take {minutes(first.seconds[1])}. Give at least {money(needed + 0.005)}."
    )


def minutes(seconds: float) -> str:
    """Seconds as somebody says them: "45 s", "12 min"."""
    return f"{seconds:.0f} s" if seconds < 99.5 else f"{seconds / 60:.0f} min"


def money(amount: float) -> str:
    """An amount to the hundredth, in the currency of the rate."""
    return f"{amount:.2f}"


def table(choices: Sequence[Choice], rate: float, caption: str) -> Table:
    """The batch with minutes, money and memory of each job, and what becomes of it."""
    rows = []
    for choice in choices:
        job, (fast, slow) = choice.job, choice.job.seconds
        rows.append(
            [
                job.name,
                f"{text.rough(fast / 60)} to {text.rough(slow / 60)}",
                f"{money(rate * fast / HOUR)} to {money(rate * slow / HOUR)}",
                "its own plan" if job.memory_gib is None else f"{job.memory_gib:.1f}",
                f"{choice.what}: {choice.why}" if choice.why else choice.what,
                job.question,
            ]
        )
    return Table(["job", "minutes", "money", "GiB", "choice", "question"], rows, caption)
