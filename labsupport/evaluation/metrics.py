"""What a reply is worth: valid JSON, exact match, F1 by field."""

from __future__ import annotations

import numpy as np

from labsupport.evaluation import intervals
from labsupport.tasks import tickets


def valid_json(replies: list[str]) -> np.ndarray:
    """1 where a reply is exactly the JSON object the task asks for, else 0."""
    return np.array([float(tickets.parse(reply) is not None) for reply in replies])


def is_right(reply: str, row: dict) -> bool:
    """Exact match: the reply is valid JSON of the task's form and all four fields are the row's."""
    label = tickets.parse(reply)
    return label is not None and all(label[field] == row[field] for field in tickets.FIELDS)


def exact_match(rows: list[dict], replies: list[str]) -> np.ndarray:
    """1 where the reply is right, else 0."""
    return np.array([float(is_right(reply, row)) for row, reply in zip(rows, replies, strict=True)])


def f1(predicted: list, expected: list) -> float:
    """Micro F1 of one field: a value is a claim, None claims nothing.

    F1 = 2·TP / (claims made + claims due); NaN where there is neither.
    """
    right, claims = f1_terms(predicted, expected)
    return sum(right) / sum(claims) if sum(claims) else float("nan")


def f1_terms(predicted: list, expected: list) -> tuple[list[int], list[int]]:
    """For each row twice its true positives, and the claims made and due: F1 is the ratio of their sums."""
    pairs = list(zip(predicted, expected, strict=True))
    right = [2 * (due is not None and made == due) for made, due in pairs]
    return right, [(made is not None) + (due is not None) for made, due in pairs]


def field_f1(rows: list[dict], replies: list[str]) -> dict[str, tuple[float, float, float]]:
    """F1 of each field with its 95 % interval over families: (F1, low, high).

    A reply that is not valid JSON claims nothing. For intent and urgency, which are never null, F1 is the
    accuracy if every reply is valid.
    """
    labels = [tickets.parse(reply) or dict.fromkeys(tickets.FIELDS) for reply in replies]
    families = [row["family"] for row in rows]
    result = {}
    for field in tickets.FIELDS:
        right, claims = f1_terms([label[field] for label in labels], [row[field] for row in rows])
        result[field] = intervals.interval(right, families, sizes=claims)
    return result


def field_rights(labels: list[dict | None], rows: list[dict]) -> list[dict[str, bool]]:
    """For each row, which fields of its predicted label are right; none where there is no label."""
    return [
        {field: label is not None and label[field] == row[field] for field in tickets.FIELDS}
        for label, row in zip(labels, rows, strict=True)
    ]
