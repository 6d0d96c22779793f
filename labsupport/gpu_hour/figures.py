"""What can be guessed of the hour, by name.

The notebook's cells seal guesses under these names, state.json keeps the plan under them, and the table of
`reading.compare` sets results beside both.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from labsupport.core.files import LabError, nearest_first
from labsupport.gpu_hour import schedule
from labsupport.gpu_hour.keeping import Book
from labsupport.gpu_jobs import ranges

Range = tuple[float, float]  # (low, high)


@dataclass(frozen=True)
class Figure:
    """unit: of guess, plan and measurement. job: whose steps (name -> what was found) `of` reads. It returns
    None, or raises KeyError, for what the job did not come to or could not measure."""

    unit: str
    job: str
    of: Callable[[dict], float | None]


def _peak(kind: str) -> Callable[[dict], float | None]:
    return lambda steps: (steps["training"]["peak_gib"] or {}).get(kind)  # a processor has none


def _exact(step: str) -> Callable[[dict], float]:
    return lambda steps: 100 * steps[step]["exact_share"][0]


def _canary_lost(steps: dict) -> float:
    before, after = steps["canary"]["before"], steps["canary"]["after"]
    return 100 * (sum(before) - sum(after)) / len(before)


def _nf4_error(steps: dict) -> float | None:
    """The middle one of the relative squared errors of all matrices."""
    errors = [100 * matrix["nf4"] for file in steps.values() for matrix in file.values()]
    return statistics.median(errors) if errors else None


FIGURES = {
    "peak memory allocated": Figure("GiB", "qlora", _peak("allocated")),
    "peak memory reserved": Figure("GiB", "qlora", _peak("reserved")),
    "training time": Figure("min", "qlora", lambda steps: steps["training"]["seconds"] / 60),
    "training speed": Figure("tokens/s", "qlora", lambda steps: steps["training"]["tokens_a_second"]),
    "lookalike, zero-shot": Figure("%", "qlora", _exact("zero_shot, test_lookalike")),
    "lookalike, few-shot": Figure("%", "qlora", _exact("few_shot, test_lookalike")),
    "lookalike, tuned": Figure("%", "qlora", _exact("tuned, test_lookalike")),
    "production, zero-shot": Figure("%", "qlora", _exact("zero_shot, test_production")),
    "production, few-shot": Figure("%", "qlora", _exact("few_shot, test_production")),
    "production, tuned": Figure("%", "qlora", _exact("tuned, test_production")),
    "KL on general text": Figure("nats a token", "qlora", lambda steps: steps["general text"]["kl_a_token"]),
    "canary lost": Figure("points", "qlora", _canary_lost),
    "NF4 error": Figure("%", "nf4_error", _nf4_error),
}
# Of the whole hour, read from its state instead of a job's results.
TIME, MONEY = "hour, time", "hour, money"
UNITS = {name: figure.unit for name, figure in FIGURES.items()} | {TIME: "min", MONEY: ""}


def unit(name: str) -> str:
    """A figure's unit. LabError for a name that is none of UNITS."""
    if name not in UNITS:
        near = nearest_first(str(name), UNITS)
        raise LabError(f"There is no figure {name!r} of the hour. There are, the nearest first: {near}.")
    return UNITS[name]


def measured(results: Mapping[str, dict], book: Book, name: str) -> float | None:
    """A figure from `reading.opened`'s results and the hour's state; None where the hour did not come to it.
    LabError for another name and for a result whose contents are not those of its job."""
    unit(name)
    if name == TIME:
        return sum(job.get("seconds", 0.0) for job in book.jobs.values()) / 60 or None
    if name == MONEY:
        return book.spent or None
    figure = FIGURES[name]
    try:
        return figure.of(results[figure.job]["steps"])
    except KeyError:
        return None
    except (TypeError, ValueError, IndexError, AttributeError, ZeroDivisionError) as error:
        raise LabError(
            f"results/{figure.job}.json is damaged ({name} is not as its job writes it): copy it from the "
            "rented machine again."
        ) from error


# ---------------------------------------------------------------- the plan


def planned(at: ranges.Ground) -> dict[str, Range]:
    """Name -> (low, high) of what is planned of the fine-tune; nobody plans how good it gets. Kept in the
    state before anything runs."""
    fast, slow = ranges.train_steps(at)
    lengths = ranges.row_tokens("train")[: at.profile.train_rows]
    return {
        "peak memory allocated": (at.plan.peak_allocated_gib,) * 2,
        "peak memory reserved": (at.plan.peak_reserved_gib,) * 2,
        "training time": (fast / 60, slow / 60),
        "training speed": (sum(lengths) / slow, sum(lengths) / fast),
    }


def plan(book: Book, name: str) -> Range | None:
    """What the state says was planned of a figure; of the whole hour, of the jobs that were begun."""
    if name not in (TIME, MONEY):
        return book.about.get("plan", {}).get(name)
    jobs = [book.about.get("predicted", {}).get(job, {}).get("seconds") for job in book.jobs]
    rate = book.about.get("rate")
    if not jobs or not rate or None in jobs:
        return None
    low, high = (sum(seconds[end] for seconds in jobs) for end in (0, 1))
    each = 1 / 60 if name == TIME else rate / schedule.HOUR
    return low * each, high * each
