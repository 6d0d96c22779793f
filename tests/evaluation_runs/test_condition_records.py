"""What is read out of the records of evaluation_conditions, judge, refusals and one_process."""

import pytest

from labsupport.evaluation import experiments
from labsupport.evaluation_runs import conditions, judging
from labsupport.tasks import policy, tickets


def test_a_difference_is_paired_over_both_sets():
    way = {split: {"nll": [1.0, 2.0], "exact": [1, 0]} for split in conditions.SETS}
    base = {split: {"nll": [1.0, 4.0], "exact": [0, 0]} for split in conditions.SETS}
    assert conditions.difference({"a": way, "b": base}, "a", "b")[0] == pytest.approx(50.0)
    assert conditions.difference({"a": way}, "a", "a") == (0, 0, 0)


def test_a_ticket_is_told_from_a_sentence():
    assert conditions.looks_like_a_ticket(tickets.answer(tickets.load("train")[0]))
    assert not conditions.looks_like_a_ticket("The capital of France is Paris.")


def test_the_published_conditions_can_be_shown():
    record = experiments.published("evaluation_conditions")
    ways = conditions.ways_of_scoring(record)
    assert conditions.REFERENCE in ways and len(conditions.scoring_table(record).rows) == len(ways)
    [own] = [row for row in conditions.scoring_table(record).rows if row[0] == conditions.REFERENCE]
    assert own[2] == "0.00" and own[3] == "0 of 211"
    assert len(conditions.nearness(record)) == 4
    for split in conditions.SETS:
        found = conditions.judged(record, conditions.GREEDY, split)
        assert all(valid >= right for valid, right in zip(found["valid"], found["right"], strict=True))


def preferences(first: float, second: float) -> dict:
    rows = [{"id": "x", "right_first": first, "right_second": second}]
    record = {"cells": [{"cell": {"pair": "wrong"}, "metrics": {"rows": rows}}]}
    return judging.preferences(record, "wrong")[0]


def test_place_and_answer_are_taken_apart():
    fair = preferences(2.0, -2.0)  # A when the right answer is A, B when it is B
    assert (fair["place"], fair["answer"], fair["both"]) == (0.0, 2.0, "AB")
    lazy = preferences(3.0, 3.0)  # A both times
    assert (lazy["place"], lazy["answer"], lazy["both"]) == (3.0, 0.0, "AA")


def test_an_answer_against_itself_has_no_better_one():
    record = experiments.published("judge")
    assert all(row["answer"] == 0 for row in judging.preferences(record, "same"))


def test_shares_of_refusals_are_over_the_right_questions():
    rows = policy.load("test")
    perfect = [{"id": row["id"], **policy.judge(row, row["answer"])} for row in rows]
    shy = [{"id": row["id"], **policy.judge(row, policy.REFUSAL)} for row in rows]
    for replies, expected in ((perfect, [1, 1, 0, 0]), (shy, [0, 1, 0, 1])):
        made = {"cells": [{"cell": {"arm": "untuned", "seed": 0}, "metrics": {"test": replies}}]}
        shares = judging.refusal_shares(made, "untuned")
        assert [shares[key][0] for key in shares] == expected


def test_the_model_of_faulty_labels_is_judged_by_both():
    rows = tickets.load("test_lookalike")
    chosen = [next(row["id"] for row in rows if row["intent"] == name) for name in ("exchange", "return")]
    metrics = {
        "test_lookalike, same": {"id": chosen, "intent": [1.0, 1.0]},
        "test_lookalike, right": {"id": chosen, "intent": [4.0, 1.0]},
    }
    faulty = {"cells": [{"cell": {"seed": 0}, "metrics": metrics}]}
    clean = {"template": {"test_lookalike": {"id": chosen, "intent": [0.5, 1.5]}}}
    clean = {"cells": [{"cell": {"arm": "template", "seed": 0}, "metrics": clean}]}
    found = judging.process_nats(faulty, clean).values()
    assert [nats["all"][0] for nats in found] == [1, 2.5, 1]
    assert [nats["exchange"][0] for nats in found] == [1, 4, 0.5]


def test_the_published_process_is_that_of_the_table():
    faulty, clean = experiments.published("one_process"), experiments.published("chat_formats")
    table = judging.process_table(faulty, clean)
    ids = faulty["cells"][0]["metrics"]["test_lookalike, right"]["id"]
    intents = {row["id"]: row["intent"] for row in tickets.load("test_lookalike")}
    assert f"{len(ids)} lookalike" in table.caption
    assert f"{sum(intents[name] == 'exchange' for name in ids)} of them exchanges" in table.caption
