"""The record of the experiment `adapter_sums`, read: what each combination has left of the two skills."""

from __future__ import annotations

import math

from labsupport.core.tables import Table
from labsupport.evaluation import intervals
from labsupport.format_runs import prompt_formats
from labsupport.merge_runs import sums
from labsupport.tasks import facts

TRAINED = "tickets", "facts", "both"
SUM = {"tickets": 1.0, "facts": 1.0}
# Measure -> the part of a model's scores that it is taken from, and its unit.
MEASURES = {
    "nats": ("tickets", "nats an answer with its end token"),
    "exact": ("tickets", "share of answers with every token the first choice, the end token, too"),
    "bits": ("facts", "bits stored of a fact's 40"),
    "symbols": ("facts", "share of symbols that are the first choice"),
    "kl": ("general", "KL(base ‖ model), nats a token of general text"),
}


# ---------------------------------------------------------------- what the record holds


def at(record: dict) -> dict[int, dict]:
    """Seed -> metrics."""
    return {cell["cell"]["seed"]: cell["metrics"] for cell in record["cells"]}


def models(record: dict) -> list[str]:
    """The models that were scored, in the experiment's order."""
    return list(next(iter(at(record).values()))["scores"])


def of_rows(scores: dict, measure: str) -> list[float]:
    """A measure of one model on each row; `kl` is summed over a passage's tokens. ValueError for a measure
    that is none of MEASURES."""
    if measure not in MEASURES:
        raise ValueError(f"measure is {measure!r}: give one of {', '.join(MEASURES)}.")
    found = scores[MEASURES[measure][0]]
    if measure == "nats":
        return [sum(parts) for parts in zip(*(found[c] for c in prompt_formats.COLUMNS), strict=True)]
    if measure == "exact":
        return [float(a and b) for a, b in zip(found["exact"], found["stops"], strict=True)]
    if measure == "bits":
        return [facts.bits_learned(nll, 1) for nll in found["nll"]]
    if measure == "symbols":
        return [right / facts.LENGTH for right in found["right"]]
    return found[measure]


def level(record: dict, model: str, measure: str) -> tuple[float, float, float]:
    """A measure of a model: mean and 95 % interval over seeds and rows; `kl` is of a token."""
    return _interval(
        record, {seed: of_rows(m["scores"][model], measure) for seed, m in at(record).items()}, measure
    )


def gap(record: dict, model: str, than: str, measure: str) -> tuple[float, float, float]:
    """A measure of one model less that of another on the same rows and seeds: mean and paired interval."""
    columns = {}
    for seed, metrics in at(record).items():
        ours, theirs = (of_rows(metrics["scores"][name], measure) for name in (model, than))
        columns[seed] = [a - b for a, b in zip(ours, theirs, strict=True)]
    return _interval(record, columns, measure)


def _interval(record: dict, columns: dict[int, list[float]], measure: str) -> tuple[float, float, float]:
    """Over seeds and rows (each a family of its own) of a column by seed; of `kl` over tokens."""
    values, rows, seeds, sizes = [], [], [], []
    for seed, column in columns.items():
        values += column
        rows += map(str, range(len(column)))
        seeds += [seed] * len(column)
        sizes += (
            next(iter(at(record)[seed]["scores"].values()))["general"]["tokens"] if measure == "kl" else []
        )
    return intervals.interval(values, rows, seeds, sizes=sizes or None)


def by_seed(record: dict, model: str, measure: str) -> list[float]:
    """A measure's mean for each seed; `kl` of a token."""
    found = []
    for metrics in at(record).values():
        scores = metrics["scores"][model]
        rows = of_rows(scores, measure)
        found.append(sum(rows) / (sum(scores["general"]["tokens"]) if measure == "kl" else len(rows)))
    return found


# ---------------------------------------------------------------- the updates


def cosine(record: dict, one: str | dict[str, float], other: str | dict[str, float]) -> list[float]:
    """The cosine of two updates over all layers, for each seed; of a name, or of a sum by its weights."""
    return [sums.cosine(metrics["updates"], one, other) for metrics in at(record).values()]


def relative(record: dict, update: str | dict[str, float]) -> list[float]:
    """|dW| / |W| of an update, as in `cosine`, over all layers, for each seed."""
    return [sums.relative(metrics["updates"], update) for metrics in at(record).values()]


# ---------------------------------------------------------------- shown


def table(record: dict) -> Table:
    """Every model: tickets, facts, general text."""
    lines = []
    for model in models(record):
        line = [model, intervals.shown(level(record, model, "nats"), ".2f")]
        line += [f"{100 * level(record, model, 'exact')[0]:.0f}"]
        line += [intervals.shown([100 * x for x in level(record, model, "symbols")], ".0f")]
        line += [f"{level(record, model, 'bits')[0]:.1f}", f"{level(record, model, 'kl')[0]:.2g}"]
        lines.append(line)
    headings = ["model", "tickets: nats an answer [95 %]", "exact (%)", "facts: symbols right (%) [95 %]"]
    headings += ["bits of 40", "general text: KL, nats a token"]
    return Table(headings, lines, f"{_seeds(record)}: intervals over seeds and rows")


def negations_table(record: dict) -> Table:
    """What is subtracted, and from what: the change of each measure, paired by row."""
    lines = []
    for model in models(record):
        start, _, taken = model.partition(" − ")
        if taken:
            line = [start, taken, intervals.shown(gap(record, model, start, "nats"), "+.2f")]
            for measure, times in (("symbols", 100), ("kl", 1)):
                found = [times * x for x in gap(record, model, start, measure)]
                line.append(intervals.shown(found, "+.0f" if times > 1 else "+.2f"))
            lines.append(line)
    headings = ["from", "taken away", "tickets: more nats [95 %]", "facts: more symbols right (%) [95 %]"]
    headings.append("general text: more KL [95 %]")
    return Table(headings, lines, f"{_seeds(record)}: paired intervals over seeds and rows")


def updates_table(record: dict) -> Table:
    """Every update and the sum: its length beside the weights', its cosine with those that were trained."""
    names = next(iter(at(record).values()))["updates"]["names"]
    lines = []
    for name, update in ({name: name for name in names} | {"tickets + facts": SUM}).items():
        line = [name, _each([100 * x for x in relative(record, update)], ".2f")]
        lines.append(line + [_each(cosine(record, update, other), "+.3f") for other in TRAINED])
    headings = ["update", "|dW| / |W| (%)", *(f"cosine with {name}" for name in TRAINED)]
    return Table(headings, lines, f"All layers as one vector; {_seeds(record)}, one number each")


def _each(values: list[float], form: str) -> str:
    return ", ".join("–" if math.isnan(value) else format(value, form) for value in values)


def _seeds(record: dict) -> str:
    count = len(at(record))
    return f"{count} seed" + "s" * (count > 1)
