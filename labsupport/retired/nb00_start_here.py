"""Exercises that notebook 00 had before; copies of it in a learner's folder still ask for them."""

from __future__ import annotations

from labsupport.baselines import rule_based
from labsupport.checking.exercise import Exercise
from labsupport.tasks import tickets

SOLUTION = "an earlier edition of notebook 00, which no longer has it"


def _rows(*rows):
    return [dict(zip(tickets.FIELDS, row, strict=True)) for row in rows]


majority = Exercise(
    name="start_here.majority",
    reference=rule_based.majority,
    cases=[
        (_rows(*[("return", "tent", "RL-1", "high")] * 2, *[("defect", None, None, "low")] * 3),),
        (_rows(*[("account", "stove", "RL-9", "low")] * 3, *[("change", "tarp", None, "normal")] * 2),),
    ],
    mistakes=[
        (
            lambda rows: {field: rows[0][field] for field in tickets.FIELDS},
            "You return the first row's label without counting anything.",
        ),
    ],
    hints=["{field: Counter(row[field] for row in rows).most_common(1)[0][0] for field in fields}"],
    minutes=5,
    difficulty=1,
    solution=SOLUTION,
)


def most_likely(candidates: dict[str, list[float]]) -> str:
    """The candidate whose tokens together are the likeliest: the largest sum of log-probabilities."""
    return max(candidates, key=lambda name: sum(candidates[name]))


likeliest = Exercise(
    name="start_here.likeliest",
    reference=most_likely,
    cases=[
        ({"return": [-2.0, -0.4], "exchange": [-1.5, -1.6, -0.3], "account": [-2.6, -0.2, -0.1, -0.2]},),
        ({"low": [-1.2, -0.9], "normal": [-1.6, -0.3], "high": [-2.5, -0.1]},),
        ({"m": [-0.1, -3.0], "n": [-0.6, -0.6], "o": [-0.7, -0.7, -0.7]},),
    ],
    mistakes=[
        (
            lambda candidates: max(
                candidates, key=lambda name: sum(candidates[name]) / len(candidates[name])
            ),
            "You take the mean per token: long values win because their later tokens are easy.",
        ),
    ],
    hints=["max(candidates, key=lambda name: sum(candidates[name]))"],
    minutes=5,
    difficulty=1,
    solution=SOLUTION,
)
