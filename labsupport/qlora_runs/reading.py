"""The record of the experiment `qlora`, read: gaps between arms with paired intervals, and bumpy curves."""

from __future__ import annotations

import math
import statistics

from labsupport.core.tables import Table
from labsupport.evaluation import intervals
from labsupport.tasks import tickets

SETS = {"test_lookalike": "lookalike", "test_production": "production"}
FIELDS = (*tickets.FIELDS, "rest", "end")
NAMES = {
    "full": "full precision",
    "nf4": "NF4",
    "noise": "noise of NF4's size",
    "nf4, adapters in bfloat16": "NF4, adapters in bfloat16",
}
CALM = 8  # steps of the warm-up and the first fall, which is no bump


def cells(record: dict, arm: str) -> dict[int, dict]:
    """Seed -> metrics of an arm."""
    return {c["cell"]["seed"]: c["metrics"] for c in record["cells"] if c["cell"]["arm"] == arm}


def nats(found: dict, field: str) -> list[float]:
    """NLL of each row in a field, or "answer": of the whole answer without its end token."""
    names = FIELDS[:-1] if field == "answer" else [field]
    return [sum(values) for values in zip(*(found[name] for name in names), strict=True)]


def gap(
    record: dict, arm: str, base: str, split: str, measure: str, where: str = "own", base_where: str = "own"
) -> tuple[float, float, float]:
    """A measure of one arm less that of another on the same rows with the same seeds, and its interval over
    seeds and rows (each row is a family of its own here).

    measure: "exact" (share of 1), "answer" or a field (nats). where: "before", "own" or "other", as in the
    experiment. ValueError if they share no seed.
    """
    ours, theirs = cells(record, arm), cells(record, base)
    values, names, seeds = [], [], []
    for seed in sorted(set(ours) & set(theirs)):
        if where not in ours[seed] or base_where not in theirs[seed]:
            continue
        one, other = ours[seed][where][split], theirs[seed][base_where][split]
        pairs = zip(of_rows(one, measure), of_rows(other, measure), strict=True)
        values += [a - b for a, b in pairs]
        names += one["id"]
        seeds += [seed] * len(one["id"])
    if not values:
        raise ValueError(f"{arm} and {base} share no seed that has {where} and {base_where}")
    return intervals.interval(values, names, seeds)


def of_rows(found: dict, measure: str) -> list[float]:
    """The measure of each row."""
    return [float(x) for x in found["exact"]] if measure == "exact" else nats(found, measure)


def level(record: dict, arm: str, split: str, measure: str, where: str = "own") -> tuple[float, float, float]:
    """A measure of one arm by itself: mean and interval over seeds and rows."""
    values, names, seeds = [], [], []
    for seed, metrics in cells(record, arm).items():
        if where in metrics:
            found = metrics[where][split]
            values += of_rows(found, measure)
            names += found["id"]
            seeds += [seed] * len(found["id"])
    return intervals.interval(values, names, seeds)


def arms_table(record: dict) -> Table:
    """Each arm after training, and how far it is from full precision, on both sets."""
    lines = []
    for arm, name in NAMES.items():
        for split, set_name in SETS.items():
            found = level(record, arm, split, "answer")
            right = [100 * x for x in level(record, arm, split, "exact")]
            away, points = "—", "—"
            if arm != "full":
                away = intervals.shown(gap(record, arm, "full", split, "answer"), "+.2f")
                exact = gap(record, arm, "full", split, "exact")
                points = intervals.shown([100 * x for x in exact], "+.1f")
            lines.append([name, set_name, f"{found[0]:.2f}", f"{right[0]:.0f}", away, points])
    headings = ["base in training and test", "set", "nats an answer", "exact (%)"]
    headings += ["more nats than full precision", "more points"]
    seeds = len(cells(record, "full"))
    return Table(headings, lines, f"After training, {seeds} paired seeds, 95 % intervals over seeds and rows")


def fields_table(record: dict) -> Table:
    """NF4 less full precision after training, field by field: nats with intervals, both sets."""
    lines = [
        [name, *(intervals.shown(gap(record, "nf4", "full", split, name), "+.2f") for split in SETS)]
        for name in FIELDS
    ]
    headings = ["field", *(f"{name} [95 %]" for name in SETS.values())]
    return Table(headings, lines, "NF4: nats more than full precision, by field")


def bases_table(record: dict) -> Table:
    """Adapters on the base they were trained on, and on the other one."""
    lines = []
    for arm, other in (("full", "nf4"), ("nf4", "full")):
        for split, set_name in SETS.items():
            own, moved = (level(record, arm, split, "answer", where)[0] for where in ("own", "other"))
            change = gap(record, arm, arm, split, "answer", "other", "own")
            lines.append(
                [
                    NAMES[arm],
                    set_name,
                    f"{own:.2f}",
                    f"{moved:.2f} ({NAMES[other]})",
                    intervals.shown(change, "+.2f"),
                ]
            )
    headings = ["trained on", "set", "there: nats an answer", "on the other base", "change"]
    return Table(headings, lines, "Adapters moved to the other base, the same seeds and rows")


# ---------------------------------------------------------------- bumps


def bumpiness(losses: list[float], calm: int = CALM) -> float:
    """Root mean square of the change of the loss from step to step, in nats, after the first `calm` steps.

    ValueError for fewer than calm + 2 losses.
    """
    if len(losses) < calm + 2:
        raise ValueError(f"{len(losses)} losses: bumps need at least {calm + 2}")
    return math.sqrt(statistics.fmean(change**2 for change in changes(losses, calm)))


def changes(losses: list[float], calm: int = CALM) -> list[float]:
    """The change of the loss from step to step after the first `calm` steps."""
    later = losses[calm:]
    return [b - a for a, b in zip(later, later[1:], strict=False)]


def together(record: dict, arm: str, shift: int = 0) -> list[float]:
    """For each seed, the correlation of an arm's changes with full precision's, of the same seed or of the
    one `shift` further on, which had other batches."""
    ours, theirs = cells(record, arm), cells(record, "full")
    seeds = sorted(set(ours) & set(theirs))
    pairs = [(seed, seeds[(place + shift) % len(seeds)]) for place, seed in enumerate(seeds)]
    return [
        statistics.correlation(changes(ours[one]["losses"]), changes(theirs[other]["losses"]))
        for one, other in pairs
    ]


def bump_ratio(record: dict, arm: str) -> tuple[float, float, float]:
    """How bumpy the curves of an arm are as a ratio to those of full precision with the same batches: the
    geometric mean over seeds, and its 95 % interval by Student's t on the logarithms."""
    ours, theirs = cells(record, arm), cells(record, "full")
    logs = [
        math.log(bumpiness(ours[seed]["losses"]) / bumpiness(theirs[seed]["losses"]))
        for seed in sorted(set(ours) & set(theirs))
    ]
    mean, low, high = over_seeds(logs)
    return math.exp(mean), math.exp(low), math.exp(high)


def over_seeds(values: list[float]) -> tuple[float, float, float]:
    """Mean of a value of each seed, and its 95 % interval by Student's t."""
    from scipy import stats

    mean, error = statistics.fmean(values), statistics.stdev(values) / math.sqrt(len(values))
    reach = float(stats.t.ppf(0.975, len(values) - 1)) * error
    return mean, mean - reach, mean + reach
