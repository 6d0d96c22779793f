"""The numbers to beat: what the baselines are called, and reading their published record.

The baselines themselves: rule_based.py (no language model) and prompting.py (no training).
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from labsupport.core.files import LabError
from labsupport.evaluation import intervals
from labsupport.tasks import tickets

# The names of the record's cells, with what they are.
ABOUT = {
    "majority": "the commonest value of each field",
    "rules": "pattern, TF-IDF + logistic regression, word tagger",
    "rules_few": "the same from one row of each family",
    "zero_shot": "prompt only",
    "few_shot": "prompt with fixed examples",
    "retrieved": "prompt with the most similar training rows",
}

PROMPTED = ("zero_shot", "few_shot", "retrieved")

SETS = ("test_lookalike", "test_production")
TRAIN_ROWS = 512  # one of each family: what examples are taken from, and what LoRA trains on

FLAGS = {True: "1", False: "0"}


def flags(right: dict[str, bool]) -> str:
    """Which fields are right as four characters, "1011" in the order of tickets.FIELDS: a short record."""
    return "".join(FLAGS[bool(right[field])] for field in tickets.FIELDS)


def one_each(split: str) -> list[dict]:
    """One row of each family of a split: the rows that the record holds."""
    return tickets.one_of_each_family(tickets.load(split))


@functools.cache
def family_of(split: str) -> dict[str, str]:
    """Row id -> family. Read once: a notebook asks a hundred times."""
    return {row["id"]: row["family"] for row in tickets.load(split)}


def results(record: dict, baseline: str, split: str, constrained: bool = False) -> dict[str, dict]:
    """Row id -> {"exact": bool, field: bool ...} of one baseline on one test set.

    constrained: for a prompted baseline, with constrained decoding. Raises LabError for what the record
    does not hold.
    """
    cells = {cell["cell"]["baseline"]: cell["metrics"] for cell in record["cells"]}
    if baseline not in cells or split not in SETS or constrained and baseline not in PROMPTED:
        what = f"{baseline!r}{', constrained,' if constrained else ''} on {split!r}"
        raise LabError(f"No record of {what}. Baselines: {', '.join(cells)}; sets: {', '.join(SETS)}.")
    key = "constrained" if constrained else "right"
    return {
        row["id"]: {"exact": row[f"{key}_exact"]}
        | {field: flag == "1" for field, flag in zip(tickets.FIELDS, row[key], strict=True)}
        for row in cells[baseline][split]
    }


def methods(record: dict) -> dict[str, dict[str, dict]]:
    """Every method of the record, the prompted ones plain and constrained: name -> set -> row results."""
    found = {}
    for cell in record["cells"]:
        baseline = cell["cell"]["baseline"]
        for constrained in (False, True) if baseline in PROMPTED else (False,):
            name = baseline + (" + constrained" if constrained else "")
            found[name] = {split: results(record, baseline, split, constrained) for split in SETS}
    return found


def interval(rows: dict[str, dict], split: str, measure: str | Callable = "exact"):
    """Mean, low and high (95 %, whole families drawn) of a measure of row results, as shares.

    measure: "exact", a field, or a function of a row's result.
    """
    value = measure if callable(measure) else lambda row: row[measure]
    family = family_of(split)
    return intervals.interval([value(row) for row in rows.values()], [family[i] for i in rows])


def differences(first: dict[str, dict], second: dict[str, dict], split: str, measure: str = "exact"):
    """(first minus second, family) for each row that both results have. LabError if there is none."""
    common = [i for i in first if i in second]
    if not common:
        raise LabError("The two results have no row in common: were they made from the same test set?")
    family = family_of(split)
    values = [float(first[i][measure]) - float(second[i][measure]) for i in common]
    return values, [family[i] for i in common]


def paired(first: dict[str, dict], second: dict[str, dict], split: str, measure: str = "exact"):
    """Mean, low and high (95 %) of first minus second on the rows that both have."""
    return intervals.interval(*differences(first, second, split, measure))


def detectable(first: dict[str, dict], second: dict[str, dict], split: str, measure: str = "exact") -> float:
    """The smallest difference that these rows would show in four cases of five."""
    return intervals.detectable(*differences(first, second, split, measure))


def best(record: dict, names, split: str) -> str:
    """Of some methods (see `methods`) the one with the highest exact match on a set; ties by fields right."""
    found = methods(record)

    def rank(name: str):
        rows = found[name][split].values()
        fields = np.mean([[row[field] for field in tickets.FIELDS] for row in rows])
        return np.mean([row["exact"] for row in rows]), fields

    return max(names, key=rank)
