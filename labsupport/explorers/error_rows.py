"""What the error browser browses: test rows with what each model answered, and which pass its filters."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from dataclasses import dataclass

from labsupport.baselines import comparisons
from labsupport.core.files import LabError
from labsupport.core.numbers import shown
from labsupport.evaluation import experiments, intervals
from labsupport.tasks import tickets

SETS = {"lookalike": "test_lookalike", "production": "test_production"}
OUTCOMES = ("any", "wrong", "only this model wrong", "all models right", "invalid JSON")
EVERY = "whole answer"
OWN_SET = "your rows"
NOT_FIELDS = ("id", "family", "text", "set")


@dataclass(frozen=True)
class Answer:
    """What is known of a model's answer to a row; None where something was not recorded.

    reply: its words; label: what they say, None also if they are no valid answer; right: of each field;
    exact: of all of them together.
    """

    reply: str | None = None
    label: dict | None = None
    right: dict[str, bool] | None = None
    exact: bool | None = None

    @property
    def invalid(self) -> bool:
        return self.reply is not None and self.label is None

    def is_right(self, field: str) -> bool | None:
        """In that field, or as a whole; None where that is not recorded."""
        if field == EVERY:
            return self.exact
        return None if self.right is None else self.right[field]


@dataclass(frozen=True)
class Row:
    """A test row: its message, what is expected, and of each model what it answered."""

    id: str
    family: str
    text: str
    expected: dict
    answers: dict[str, Answer]

    def is_right(self, model: str, field: str) -> bool | None:
        """Whether the model is right here; None where that is not recorded."""
        return self.answers[model].is_right(field)


@dataclass(frozen=True, eq=False)
class Data:
    """The rows of each set, which set is shown first, and what all of them have: models and fields.

    about: what a model's name means, where that is not plain.
    """

    sets: dict[str, list[Row]]
    first: str
    models: list[str]
    fields: list[str]
    about: str = ""


def row_with(row: dict, fields: Iterable[str], models: dict[str, dict[str, Answer]]) -> Row:
    """A row of a data file with the answers to it."""
    answers = {model: answers.get(row["id"], Answer()) for model, answers in models.items()}
    expected = {field: row[field] for field in fields}
    return Row(row["id"], str(row.get("family", row["id"])), row["text"], expected, answers)


def judged(reply: str | dict, expected: dict) -> Answer:
    """A reply, or a label, beside what is expected. An invalid reply is wrong in every field."""
    label = reply if isinstance(reply, dict) else parsed(reply, tuple(expected))
    right = {field: label is not None and label.get(field) == due for field, due in expected.items()}
    said = json.dumps(reply, ensure_ascii=False) if isinstance(reply, dict) else reply
    return Answer(said, label, right, all(right.values()))


def parsed(reply: str, fields: tuple[str, ...]) -> dict | None:
    """The label in a reply: exactly what the course's task asks for, or elsewhere a JSON object of the
    fields. None if it is none."""
    if fields == tickets.FIELDS:
        return tickets.parse(reply)
    try:
        label = json.loads(reply)
    except (ValueError, RecursionError):
        return None
    return label if isinstance(label, dict) and set(label) == set(fields) else None


# ---------------------------------------------------------------- the published records


@functools.cache
def recorded() -> Data:
    """The test rows with what the published records hold: notebook 01's fine-tune and the base model, the
    rules, and the prompt that does best on production rows. Read once."""
    fine_tune = {c["cell"]["model"]: c["metrics"] for c in experiments.published("first_fine_tune")["cells"]}
    baselines = experiments.published("baselines")
    methods = comparisons.methods(baselines)
    prompts = [name for name in methods if name.startswith(comparisons.PROMPTED)]
    best = comparisons.best(baselines, prompts, SETS["production"])
    sets, models = {}, {}
    for name, split in SETS.items():
        rows = {row["id"]: row for row in tickets.load(split)}
        models = {
            "LoRA": replied(fine_tune["lora"][split], rows),
            "rules": flagged(methods["rules"][split]),
            "best prompt": of_prompt(baselines, best, split, rows),
            "base model": replied(fine_tune["base"][split], rows),
        }
        sets[name] = [row_with(row, tickets.FIELDS, models) for row in rows.values()]
    prompt, _, constrained = best.partition(" + ")
    about = f"best prompt: {comparisons.ABOUT[prompt]}{', decoding constrained' if constrained else ''}"
    return Data(sets, "production", list(models), list(tickets.FIELDS), about)


def expected_of(row: dict) -> dict:
    return {field: row[field] for field in tickets.FIELDS}


def replied(records: list[dict], rows: dict[str, dict]) -> dict[str, Answer]:
    """Of a record with replies. Where none was written, it still says whether the right answer is the model's
    likeliest."""
    return {
        record["id"]: Answer(exact=record["exact"])
        if record["reply"] is None
        else judged(record["reply"], expected_of(rows[record["id"]]))
        for record in records
    }


def flagged(results: dict[str, dict]) -> dict[str, Answer]:
    """Of a record that says which fields are right and not what was answered."""
    return {
        name: Answer(right={field: row[field] for field in tickets.FIELDS}, exact=row["exact"])
        for name, row in results.items()
    }


def of_prompt(baselines: dict, method: str, split: str, rows: dict[str, dict]) -> dict[str, Answer]:
    """Of a prompted baseline. The few replies that are recorded were written under a grammar."""
    name, _, constrained = method.partition(" + ")
    found = flagged(comparisons.results(baselines, name, split, bool(constrained)))
    metrics = next(c["metrics"] for c in baselines["cells"] if c["cell"]["baseline"] == name)
    for record in metrics[split] if constrained else ():
        if record.get("reply") is not None:
            found[record["id"]] = judged(record["reply"], expected_of(rows[record["id"]]))
    return found


# ---------------------------------------------------------------- the learner's own


def own(rows: list[dict], answers: dict[str, dict]) -> Data:
    """The learner's rows, {"id", "text", and a key for each field}, and {model: {id: reply or label}}.

    LabError, in one line, for rows without ids, texts or the same fields, and for answers to no row.
    """
    rows = list(rows)
    fields = checked(rows)
    by_id = {str(row["id"]): row | {"id": str(row["id"])} for row in rows}
    if len(by_id) < len(rows):
        raise LabError(f"{len(rows)} rows have {len(by_id)} ids: give every row an id of its own.")
    if not answers:
        raise LabError('There are no answers: give {"name of the model": {row id: reply}}.')
    models = {}
    for model, given in answers.items():
        if not isinstance(given, dict) or not all(isinstance(reply, (str, dict)) for reply in given.values()):
            raise LabError(
                f"The answers of {model!r} must be a dict of row id: reply, as text or as a label."
            )
        unknown = next((name for name in given if str(name) not in by_id), None)
        if unknown is not None:
            raise LabError(f"{model!r} answers {shown(unknown)}, which is the id of no row.")
        models[model] = {
            str(name): judged(reply, {field: by_id[str(name)][field] for field in fields})
            for name, reply in given.items()
        }
    found = [row_with(row, fields, models) for row in by_id.values()]
    return Data({OWN_SET: found}, OWN_SET, list(models), fields)


def checked(rows: list) -> list[str]:
    """The fields that all rows have. LabError for the first row that has no id, no text or other fields."""
    if not rows:
        raise LabError("There are no rows to browse: give a list of dicts with id, text and the fields.")
    for number, row in enumerate(rows, start=1):
        missing = [key for key in ("id", "text") if not isinstance(row, dict) or row.get(key) in (None, "")]
        if missing:
            what = " and no ".join(missing)
            raise LabError(f"Row {number} has no {what}: give every row both; answers are found by the id.")
    fields = [key for key in rows[0] if key not in NOT_FIELDS]
    if not fields:
        raise LabError(
            f"The rows have no fields beside {', '.join(NOT_FIELDS)}: nothing is expected of them."
        )
    odd = next((row for row in rows if set(row) - set(NOT_FIELDS) != set(fields)), None)
    if odd:
        raise LabError(f"Row {shown(odd['id'])} has other fields than the first: {', '.join(fields)}.")
    return fields


# ---------------------------------------------------------------- which rows


def has(row: Row, model: str, text: str) -> bool:
    """Whether id, message, expected answer or the model's reply have that text, in capitals or not."""
    said = [row.id, row.text, *map(str, row.expected.values()), row.answers[model].reply or ""]
    return text.strip().lower() in " ".join(said).lower()


def compared(rows: list[Row], models: list[str], field: str) -> list[str]:
    """The models that are right at least once: one that never is tells nothing about a single row."""
    return [model for model in models if any(row.is_right(model, field) for row in rows)]


def passing(rows: list[Row], models: list[str], model: str, outcome: str, field: str) -> tuple[list, list]:
    """The rows with that outcome, and those among which they are: where it is known.

    "only this model wrong" and "all models right" are about the models that `compared` leaves.
    """
    others = [name for name in compared(rows, models, field) if name != model]
    if outcome == "any":
        return rows, rows
    if outcome == "invalid JSON":
        known = [row for row in rows if row.answers[model].reply is not None]
        return [row for row in known if row.answers[model].invalid], known
    if outcome == "wrong":
        known = [row for row in rows if row.is_right(model, field) is not None]
        return [row for row in known if not row.is_right(model, field)], known
    known = [row for row in rows if all(row.is_right(name, field) is not None for name in (model, *others))]
    if outcome == "only this model wrong":
        known = known if others else []
        return [
            row
            for row in known
            if not row.is_right(model, field) and all(row.is_right(name, field) for name in others)
        ], known
    everyone = compared(rows, models, field)
    return [row for row in known if everyone and all(row.is_right(name, field) for name in everyone)], known


@functools.lru_cache(maxsize=64)
def rates(data: Data, model: str) -> dict[str, dict[str, tuple]]:
    """set -> field -> the share of rows in which it is wrong and the 95 % interval over families, as shares
    of the rows where that is recorded."""
    found: dict[str, dict[str, tuple]] = {name: {} for name in data.sets}
    for name, rows in data.sets.items():
        for field in (EVERY, *data.fields):
            known = [row for row in rows if row.is_right(model, field) is not None]
            if known:
                wrong = [not row.is_right(model, field) for row in known]
                found[name][field] = intervals.interval(wrong, [row.family for row in known])
    return found
