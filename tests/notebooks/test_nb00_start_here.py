"""Notebook 00: how the open exercise counts."""

import pytest

from labsupport.evaluation import metrics
from labsupport.notebooks.nb00_start_here import exercises, open_exercise
from labsupport.tasks import tickets

ROWS = tickets.load("validation")


def labelled(*fields):
    """The right label of every row, with these fields only."""
    return [{field: row[field] for field in fields} for row in ROWS]


@pytest.mark.parametrize("fields", [("urgency",), ("intent", "product"), tickets.FIELDS])
def test_all_fields_that_are_given_count_together(fields):
    labels = labelled(*fields)
    assert open_exercise.rights(labels, ROWS) == [1.0] * len(ROWS)
    labels[0] = labels[0] | {fields[-1]: "something else"}
    assert open_exercise.rights(labels, ROWS) == [0.0] + [1.0] * (len(ROWS) - 1)


def test_a_whole_ticket_counts_as_exact_match_does():
    replies = [tickets.answer(row) for row in ROWS[1:] + ROWS[:1]]  # each row's right answer, one row off
    labels = [tickets.parse(reply) for reply in replies]
    assert open_exercise.rights(labels, ROWS) == list(metrics.exact_match(ROWS, replies))


def test_the_score_stands_beside_the_recorded_number_of_the_same_fields():
    said = open_exercise.score(labelled("urgency"), ROWS)
    assert "urgency right in 300 of 300 validation messages: 100 % [100, 100]" in said
    assert said.endswith("The table's rules: 88 % on lookalike, 80 % on production.")
    whole = open_exercise.score(labelled(*tickets.FIELDS), ROWS)
    assert (
        "the whole ticket right in 300 of 300" in whole and "43 % on lookalike, 22 % on production" in whole
    )


def test_the_test_sets_stay_closed():
    texts = []
    exercises.beat.check(lambda text: (texts.append(text), {"urgency": "low"})[1])
    assert set(texts) == {row["text"] for row in ROWS}
