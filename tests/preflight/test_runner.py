"""One pass over the rows: which are seen token by token, how many at a time, and what is counted."""

from pathlib import Path

from clean_rows import clean_rows
from hypothesis import given
from hypothesis import strategies as st
from seen_rows import records

from labsupport.findings.check import Run, View
from labsupport.preflight import runner
from labsupport.training_data.record import Record


def text(length: int, number: int = 1) -> Record:
    return Record(number, f"line {number}", "text", {}, text="x" * length)


def run() -> Run:
    return Run(Path("rows.jsonl"), "prompt_completion")


@given(st.lists(st.integers(0, 30)), st.integers(1, 50))
def test_rows_are_turned_into_tokens_in_pieces_of_bounded_length(lengths, most):
    rows = [text(length) for length in lengths]
    pieces = list(runner.by_length(rows, most))
    assert [row for piece in pieces for row in piece] == rows
    assert all(piece for piece in pieces)
    assert all(len(piece) == 1 or sum(len(row.text) for row in piece) <= most for piece in pieces)


def test_of_many_rows_the_first_are_seen_and_then_a_sample(monkeypatch):
    monkeypatch.setattr(runner, "ALL_TOKENS", 40)
    monkeypatch.setattr(runner, "THEN_EVERY", 10)
    seen, looked_at = run(), []

    def views(few):
        looked_at.extend(record.number for record in few)
        return [View([5, 6, 7], [False, True, True], 9, ["a", "b", "c"]) for _ in few]

    runner.inspect(seen, records(clean_rows(100)), views=views)
    assert looked_at == [*range(1, 41), 50, 60, 70, 80, 90, 100]
    assert (seen.rows, seen.sampled, seen.tokens, seen.trained, seen.longest) == (100, 46, 138, 92, 9)
    assert any("(46 of 100)" in note for note in seen.notes)


def test_a_row_that_the_trainer_cannot_read_has_no_tokens():
    seen = run()
    runner.inspect(seen, records(clean_rows(30)), views=lambda few: [None] * len(few))
    assert (seen.rows, seen.sampled, seen.tokens) == (30, 0, 0)


def test_the_worst_and_the_most_frequent_come_first():
    rows = clean_rows(40)
    rows += rows[:3]  # a warning each
    rows[7]["completion"][0]["content"] = ""  # an error
    rows[8]["prompt"][0]["content"] += " caf\u00c3\u00a9"
    findings = runner.inspect(run(), records(rows)).findings
    found = [(one.rule.severity, one.count) for one in findings]
    assert found == sorted(found, key=lambda one: (runner.SEVERITIES.index(one[0]), -one[1]))
    assert {severity for severity, _ in found} >= {"error", "warning"}


def test_the_rows_of_the_evaluation_are_counted_for_themselves():
    seen = run()
    report = runner.inspect(seen, records(clean_rows(30)), records(clean_rows(40)))
    assert (seen.rows, seen.eval_rows) == (30, 40)
    assert "evaluation-leak" in [one.rule.id for one in report.findings]
