"""The numbers to beat: what the baselines are called, and reading their published record.

The baselines themselves: baselines_rules.py (no language model) and baselines_prompting.py (no training).
"""

from __future__ import annotations

import functools
import math
from collections import Counter, defaultdict
from collections.abc import Callable

import numpy as np

from labsupport import tickets
from labsupport.files import LabError

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


def majority(rows: list[dict]) -> dict:
    """For each field its commonest value in `rows`; null counts as a value."""
    return {field: Counter(row[field] for row in rows).most_common(1)[0][0] for field in tickets.FIELDS}


def field_rights(labels: list[dict | None], rows: list[dict]) -> list[dict[str, bool]]:
    """For each row, which fields of its predicted label are right; none where there is no label."""
    return [
        {field: label is not None and label[field] == row[field] for field in tickets.FIELDS}
        for label, row in zip(labels, rows, strict=True)
    ]


def clustered_error(values: list[float], families: list[str]) -> float:
    """Standard error of the mean of `values` when rows of one family are not independent.

    se = sqrt(sum over families of (sum of the family's deviations from the mean)^2) / n: the sandwich
    estimator for clusters, without small-sample factor (Cameron & Miller 2015, section II).
    """
    mean = sum(values) / len(values)
    sums: dict[str, float] = defaultdict(float)
    for value, family in zip(values, families, strict=True):
        sums[family] += value - mean
    return math.sqrt(sum(total**2 for total in sums.values())) / len(values)


def likeliest(candidates: dict[str, list[float]]) -> str:
    """The candidate whose tokens together are the likeliest: the largest sum of log-probabilities."""
    return max(candidates, key=lambda name: sum(candidates[name]))


# ---------------------------------------------------------------- the published record

FLAGS = {True: "1", False: "0"}


def flags(right: dict[str, bool]) -> str:
    """Which fields are right as four characters, "1011" in the order of tickets.FIELDS: a short record."""
    return "".join(FLAGS[bool(right[field])] for field in tickets.FIELDS)


def one_each(split: str) -> list[dict]:
    """One row of each family of a split: the rows that the record holds."""
    return list({row["family"]: row for row in tickets.load(split)}.values())


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
    from labsupport import evaluation

    value = measure if callable(measure) else lambda row: row[measure]
    family = family_of(split)
    return evaluation.interval([value(row) for row in rows.values()], [family[i] for i in rows])


def paired(first: dict[str, dict], second: dict[str, dict], split: str, measure: str = "exact"):
    """Mean, low and high of first minus second on the rows that both have. LabError if there is none."""
    from labsupport import evaluation

    common = [i for i in first if i in second]
    if not common:
        raise LabError("The two results have no row in common: were they made from the same test set?")
    family = family_of(split)
    differences = [float(first[i][measure]) - float(second[i][measure]) for i in common]
    return evaluation.interval(differences, [family[i] for i in common])


def detectable(first: dict[str, dict], second: dict[str, dict], split: str, measure: str = "exact") -> float:
    """The smallest difference that these rows would show in four cases of five: 2.8 standard errors.

    (1.96 + 0.84) for a two-sided test at 5 % with 80 % power, with the clustered error of the differences.
    """
    common = [i for i in first if i in second]
    family = family_of(split)
    differences = [float(first[i][measure]) - float(second[i][measure]) for i in common]
    return 2.8 * clustered_error(differences, [family[i] for i in common])


def best(record: dict, names, split: str) -> str:
    """Of some methods (see `methods`) the one with the highest exact match on a set; ties by fields right."""
    found = methods(record)

    def rank(name: str):
        rows = found[name][split].values()
        fields = np.mean([[row[field] for field in tickets.FIELDS] for row in rows])
        return np.mean([row["exact"] for row in rows]), fields

    return max(names, key=rank)
