"""PEFT's published comparison of its methods, read as cited data: nothing in it was measured by this course.

One seed, one rate and one run a variant on 1,319 questions; data/published_runs/README.md says what each key
means and which of theirs it is.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from labsupport.core.files import DATA, LabError, nearest_first, read_text, short
from labsupport.core.numbers import real, whole
from labsupport.core.tables import Table

FILE = DATA / "published_runs" / "peft_methods.json"
DEFAULT_RATE = 1e-4  # of their default_training_params.json
LORA, DORA = "lora/llama-3.2-3B-rank32", "lora/llama-3.2-3B-rank32-dora"
CHOSEN = {  # the runs that a table and a figure name
    LORA: "LoRA, rank 32",
    DORA: "DoRA, rank 32",
    "lora/llama-3.2-3B-rank64": "LoRA, rank 64",
    "lora/llama-3.2-3B-rank64-rslora": "rsLoRA, rank 64",
    "lora/llama-3.2-3B-rank10-target-mlp": "LoRA, rank 10, MLP",
    "adalora/llama-3.2-3B-rank32": "AdaLoRA",
    "vera/llama-3.2-3B-default": "VeRA",
    "ia3/llama-3.2-3B-default": "IA3",
    "ia3/llama-3.2-3B-lr_0.001": "IA3, higher rate",
    "prompt_tuning/llama-3.2-3B-default": "prompt tuning",
    "prompt_tuning/llama-3.2-3B-lr_0.001": "prompt tuning, higher rate",
    "prefixtuning/llama-3.2-3B-tokens50-init_prefix-lr_0.005": "prefix tuning",
    "full-finetuning/llama-3.2-3B-lr_0.00001": "full fine-tuning",
}


@dataclass(frozen=True)
class Run:
    """A published run. accuracy: the share of `questions` answered right; reserved_gib: the allocator's peak;
    steps_seconds: of `steps` training steps alone; earlier: (date, accuracy) of the same settings run before,
    oldest first; same_adapter_as: the run with this adapter at another rate."""

    experiment: str
    source: str
    where: str
    trained: int
    rate: float
    accuracy: float
    questions: int
    reserved_gib: float
    steps: int
    steps_seconds: float
    train_seconds: float
    file_bytes: int
    card: str
    run: str
    versions: str
    same_adapter_as: str | None
    earlier: tuple[tuple[str, float], ...]

    @property
    def error(self) -> float:
        """Standard error of the accuracy by the number of questions: sqrt(p (1 - p) / n)."""
        return math.sqrt(self.accuracy * (1 - self.accuracy) / self.questions)


# ---------------------------------------------------------------- reading


def rows_of(path: Path) -> list[dict]:
    """The objects of a file of published figures. LabError for one that is missing or holds anything else."""
    try:
        found = json.loads(read_text(path))
    except ValueError as error:
        raise LabError(f"{short(path)} is not JSON ({error}): restore it with git checkout.") from error
    if not isinstance(found, list) or not found or not all(isinstance(row, dict) for row in found):
        raise LabError(f"{short(path)} must hold a list of objects: restore it with git checkout.")
    return found


def value_of(row: dict, key: str, place: str):
    """A row's value. LabError naming the place and the key where it is missing."""
    if key not in row:
        raise LabError(f"{place} has no {key!r}; it has {nearest_first(key, list(row))}.")
    return row[key]


def load(path: Path = FILE) -> dict[str, Run]:
    """Their experiments' names -> their runs, in the file's order. LabError for a file, a key or a value that
    is missing or wrong."""
    found = [read(row, f"{short(path)}, run {number + 1}") for number, row in enumerate(rows_of(path))]
    return {run.experiment: run for run in found}


def read(row: dict, place: str) -> Run:
    """The run of one object in the file; `place` begins what is said of a fault."""

    def number(key: str, check=real, **limits):
        return check(value_of(row, key, place), f"{place}: {key}", **limits)

    return Run(
        **{key: value_of(row, key, place) for key in ("experiment", "source", "where", "card", "run")},
        versions=value_of(row, "versions", place),
        trained=number("trained_parameters", whole),
        rate=number("learning_rate", above=True),
        accuracy=number("accuracy", most=1.0),
        questions=number("questions", whole),
        reserved_gib=number("reserved_gib", above=True),
        steps=number("steps", whole),
        steps_seconds=number("steps_seconds", above=True),
        train_seconds=number("train_seconds", above=True),
        file_bytes=number("file_bytes", whole),
        same_adapter_as=row.get("same_adapter_as"),
        earlier=tuple((before["run"], before["accuracy"]) for before in row.get("earlier", ())),
    )


def named(runs: dict[str, Run], experiment: str) -> Run:
    """The run of an experiment. LabError that lists the nearest names for one that they did not publish."""
    if experiment not in runs:
        nearest = ", ".join(nearest_first(experiment, list(runs)).split(", ")[:5])
        raise LabError(f"PEFT published no run {experiment!r}; near it: {nearest}.")
    return runs[experiment]


# ---------------------------------------------------------------- comparing


def difference(one: Run, other: Run) -> tuple[float, float, float]:
    """Accuracy of one less the other's: (points, standard error in points, z).

    As if each had drawn its own questions: which of them each answered right is not published. Errors are
    mostly shared on the same questions, and then the true standard error is smaller.
    """
    points = 100 * (one.accuracy - other.accuracy)
    error = 100 * math.hypot(one.error, other.error)
    return points, error, points / error if error else 0.0


def gaps(one: Run, other: Run) -> dict[str, float]:
    """Accuracy of one less the other's in points, for each day on which both were run."""
    ours, theirs = ({**dict(run.earlier), run.run: run.accuracy} for run in (one, other))
    return {day: 100 * (ours[day] - theirs[day]) for day in sorted(set(ours) & set(theirs))}


def comparison_table(runs: dict[str, Run], chosen: dict[str, str] = CHOSEN, base: str = LORA) -> Table:
    """Chosen runs: trained parameters, rate, accuracy and its standard error, the difference from `base` with
    its standard error and z, peak memory, seconds of a training step."""
    lines = []
    against = named(runs, base)
    for experiment, title in chosen.items():
        run = named(runs, experiment)
        line = [
            title,
            f"{run.trained:,}",
            f"{run.rate:g}",
            f"{100 * run.accuracy:.1f} ± {100 * run.error:.1f}",
        ]
        points, error, z = difference(run, against)
        line += [None, None] if run is against else [f"{points:+.1f} ± {error:.1f}", f"{z:+.1f}"]
        lines.append([*line, f"{run.reserved_gib:.1f}", f"{run.steps_seconds / run.steps:.3f}"])
    headings = ["method", "trained parameters", "rate", "% right ± SE"]
    headings += [f"less {chosen.get(base, base)} ± SE", "z", "peak GiB", "seconds a step"]
    caption = f"PEFT's own comparison (cited): Llama-3.2-3B, GSM8K, {against.questions:,} questions, one seed"
    return Table(headings, lines, caption)


def rates_table(runs: dict[str, Run]) -> Table:
    """The same adapter at two rates: what the rate alone did. (The weight decay follows it: their own
    setting replaces the default's.)"""
    lines = []
    for run in runs.values():
        if run.same_adapter_as:
            before = named(runs, run.same_adapter_as)
            points, error, z = difference(run, before)
            rates = f"{before.rate:g} to {run.rate:g}"
            right = f"{100 * before.accuracy:.1f} to {100 * run.accuracy:.1f}"
            method = run.experiment.split("/")[0]
            lines.append([method, rates, right, f"{points:+.1f} ± {error:.1f}", f"{z:+.1f}"])
    headings = ["method", "learning rate", "% right", "difference ± SE", "z"]
    return Table(headings, lines, "One adapter, two learning rates (PEFT, cited)")


def reruns_table(runs: dict[str, Run], chosen: tuple[str, ...] = (LORA, DORA)) -> Table:
    """The same settings and seed, run again under later libraries: % right by day, and the widest gap."""
    found = [named(runs, experiment) for experiment in chosen]
    by_run = [{**dict(run.earlier), run.run: run.accuracy} for run in found]
    days = sorted(set.intersection(*map(set, by_run)))
    lines = []
    for run, accuracies in zip(found, by_run, strict=True):
        values = [100 * accuracies[day] for day in days]
        title = CHOSEN.get(run.experiment, run.experiment)
        lines.append([title, *(f"{value:.1f}" for value in values), f"{max(values) - min(values):.1f}"])
    headings = ["% right", *days, "highest less lowest"]
    return Table(headings, lines, "One seed, run again as the libraries changed (PEFT, cited)")
