"""The exercises of notebook 00, each with the mistakes people make."""

from __future__ import annotations

import math
from collections import Counter

from labsupport.baselines import prompt_scoring, rule_based
from labsupport.checking.exercise import Exercise
from labsupport.evaluation import intervals
from labsupport.tasks import tickets

SOLUTION = "solutions/00_start_here.ipynb"

# ---------------------------------------------------------------- the commonest value of each field


def _rows(*rows):
    return [dict(zip(tickets.FIELDS, row, strict=True)) for row in rows]


def _majority_cases():
    first = _rows(
        ("return", "tent", "RL-1", "high"),
        ("return", "tent", "RL-1", "high"),
        ("defect", None, None, "normal"),
        ("defect", None, None, "normal"),
        ("defect", "rope", None, "normal"),
        ("payment", None, "RL-2", "low"),
        ("change", None, None, "low"),
    )
    second = _rows(("account", "stove", "RL-9", "low")) * 2 + _rows(("change", "tarp", None, "low")) * 3
    third = _rows(("change", None, None, "high")) * 3 + _rows(("account", "stove", "RL-9", "low"))
    return [(first,), (second,), (third,)]


def _whole_label(rows):
    common = Counter(tuple(row[f] for f in tickets.FIELDS) for row in rows).most_common(1)[0][0]
    return dict(zip(tickets.FIELDS, common, strict=True))


def _without_null(rows):
    counts = {f: Counter(row[f] for row in rows if row[f] is not None) for f in tickets.FIELDS}
    return {f: c.most_common(1)[0][0] if c else None for f, c in counts.items()}


def _counts(rows):
    return {f: Counter(row[f] for row in rows).most_common(1)[0][1] for f in tickets.FIELDS}


def _rarest(rows):
    return {f: Counter(row[f] for row in rows).most_common()[-1][0] for f in tickets.FIELDS}


majority = Exercise(
    name="start_here.majority",
    reference=rule_based.majority,
    cases=_majority_cases,
    mistakes=[
        (
            _whole_label,
            "You count whole labels. Count each field by itself: the values need not go together.",
        ),
        (_without_null, "You leave null out. It is an answer like any other, and often the commonest."),
        (_rarest, "That is the rarest value of each field; the baseline says the commonest."),
        (
            lambda rows: {f: rows[0][f] for f in tickets.FIELDS},
            "You return the first row's label without counting anything.",
        ),
        (_counts, "You return how often the commonest value occurs; return the value itself."),
        (
            lambda rows: rule_based.majority(rows) | {"product": None, "order_id": None},
            "You take for granted that product and order_id are null; count them too.",
        ),
    ],
    hints=[
        "Treat the four fields one by one: which value occurs most often in this column?",
        "collections.Counter counts any values, None included; most_common(1) gives the first.",
        "{field: Counter(row[field] for row in rows).most_common(1)[0][0] for field in fields}",
    ],
    solution=SOLUTION,
)

# ---------------------------------------------------------------- the standard error with families


def _by_family(values, families):
    groups: dict = {}
    for value, family in zip(values, families, strict=True):
        groups.setdefault(family, []).append(value)
    return list(groups.values())


def _root_of_squares(values):
    return math.sqrt(sum(value**2 for value in values))


def _centred(values):
    mean = sum(values) / len(values)
    return [value - mean for value in values]


def _of_family_means(values, families):
    means = [sum(group) / len(group) for group in _by_family(values, families)]
    return _root_of_squares(_centred(means)) / len(means)


def _not_centred(values, families):
    return _root_of_squares(map(sum, _by_family(values, families))) / len(values)


def _absolute(values, families):
    sizes = [abs(deviation) for deviation in _centred(values)]
    return _root_of_squares(map(sum, _by_family(sizes, families))) / len(values)


clustered_error = Exercise(
    name="start_here.clustered_error",
    reference=intervals.clustered_error,
    cases=[
        ([1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0], ["a", "a", "a", "b", "b", "c", "d"]),
        ([0.2, 0.4, 0.9, 0.7], ["p", "q", "q", "p"]),
        ([1.0, 0.0, 0.0, 0.0, 1.0], ["u", "v", "w", "x", "y"]),
    ],
    mistakes=[
        (
            lambda values, families: _root_of_squares(_centred(values)) / len(values),
            "You treat rows as independent: add the deviations within a family before you square.",
        ),
        (
            _of_family_means,
            "You average families first, so a family of one row weighs as much as one of five.",
        ),
        (
            lambda v, families: intervals.clustered_error(v, families) * len(v) / len(set(families)),
            "You divide by the number of families; the mean was over rows, so divide by rows.",
        ),
        (_not_centred, "You square sums of values, not of deviations: subtract the mean first."),
        (
            lambda values, families: intervals.clustered_error(values, families) ** 2,
            "That is the variance of the mean: the standard error is its square root.",
        ),
        (_absolute, "You add absolute deviations: right and wrong rows of a family must be able to cancel."),
        (
            lambda values, families: 1.96 * intervals.clustered_error(values, families),
            "That is half a 95 % interval; the standard error is without the 1.96.",
        ),
        (
            lambda values, families: intervals.clustered_error(values, families) * len(values),
            "You forget to divide by the number of rows: the error of the sum, not of the mean.",
        ),
    ],
    hints=[
        "First the mean of all values, then each value's deviation from it.",
        "Add the deviations within each family; rows that err together then add up instead of averaging out.",
        "Square the families' sums, add them, take the root, divide by the number of rows.",
    ],
    solution=SOLUTION,
)

# ---------------------------------------------------------------- a constrained choice


def _highest(score):
    """A choice by another score of the log-probabilities of a value's tokens."""
    return lambda candidates: max(candidates, key=lambda name: score(candidates[name]))


likeliest = Exercise(
    name="start_here.likeliest",
    reference=prompt_scoring.likeliest,
    cases=[
        ({"return": [-2.0, -0.4], "exchange": [-1.5, -1.6, -0.3], "account": [-2.6, -0.2, -0.1, -0.2]},),
        ({"low": [-1.2, -0.9], "normal": [-1.6, -0.3], "high": [-2.5, -0.1]},),
        ({"yes": [-0.7, -2.2], "no": [-1.1, -0.6], "perhaps": [-3.0, -0.9, -0.05]},),
        ({"a": [-1.0], "b": [-0.9, -0.3], "c": [-1.4, -0.01]},),
        ({"m": [-0.1, -3.0], "n": [-0.6, -0.6], "o": [-0.7, -0.7, -0.7]},),
    ],
    mistakes=[
        (
            _highest(lambda logs: sum(logs) / len(logs)),
            "You take the mean per token: long values win because their later tokens are easy.",
        ),
        (
            _highest(lambda logs: logs[0]),
            "You only look at the first token. Greedy decoding does that; you can look ahead.",
        ),
        (_highest(lambda logs: logs[-1]), "You only look at the last token, mostly the easiest one."),
        (
            _highest(lambda logs: -sum(logs)),
            "That is the least likely one: log-probabilities are negative, the largest is nearest 0.",
        ),
        (
            _highest(lambda logs: sum(map(math.exp, logs))),
            "You add probabilities; those of successive tokens multiply, their logs add.",
        ),
        (_highest(max), "You take the value with the single best token; all its tokens must be written."),
    ],
    hints=[
        "The probability of a value is the product of its tokens' probabilities.",
        "The logarithm of a product is a sum.",
        "max(candidates, key=lambda name: sum(candidates[name]))",
    ],
    solution=SOLUTION,
)
