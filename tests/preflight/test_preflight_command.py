"""`lab.py preflight` as it is typed: what is clean, what it writes, and its status."""

import json
import re

import pytest
from clean_rows import clean_rows
from preflight_typed import document, flat, ids, preflight, written
from seen_rows import FIXTURES

from labsupport.preflight import session
from labsupport.tasks import tickets

FORMS = {
    "messages": lambda asked, answered: {"messages": turns(asked, answered)},
    "prompt_completion": lambda asked, answered: {"prompt": asked, "completion": answered},
    "text": lambda asked, answered: {"text": f"{asked}\n\n{answered}"},
    "alpaca": lambda asked, answered: {"instruction": asked, "input": "", "output": answered},
    "sharegpt": lambda asked, answered: {
        "conversations": [{"from": "human", "value": asked}, {"from": "gpt", "value": answered}]
    },
}
NESTED = {"messages", "sharegpt"}  # which CSV can hold as texts only


def turns(asked: str, answered: str) -> list[dict]:
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]


def clean(form: str) -> list[dict]:
    return [FORMS[form](asked, answered) for asked, answered in flat(clean_rows(60))]


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "parquet"])
@pytest.mark.parametrize("form", FORMS)
def test_clean_rows_are_clean_in_each_form_and_file(form, ending, capsys, tmp_path):
    rows = clean(form)
    if ending == "csv" and form in NESTED:
        rows = [{column: json.dumps(cell) for column, cell in row.items()} for row in rows]
    found = document(capsys, written(tmp_path / f"rows.{ending}", rows))
    assert (found["form"], found["rows"], found["rows_seen_token_by_token"]) == (form, 60, 60)
    faults = [one["id"] for one in found["findings"] if one["severity"] != "note"]
    assert faults == (["messages-as-text"] if ending == "csv" and form in NESTED else [])


@pytest.mark.parametrize("as_messages", [False, True])
def test_the_courses_own_data_is_clean(as_messages, capsys, tmp_path):
    files = []
    for split in ("train", "validation"):
        rows = tickets.as_prompt_completion(tickets.load(split))
        if as_messages:
            rows = [{"messages": row["prompt"] + row["completion"]} for row in rows]
        files.append(written(tmp_path / f"{split}.jsonl", rows))
    found = document(capsys, files[0], "--eval", files[1], "--model", "smollm2-135m-instruct")
    assert found["clean"] and (found["rows"], found["eval_rows"]) == (1200, 300)


def test_the_courses_own_recipe_is_clean_with_its_data_and_card(capsys, tmp_path):
    data = written(tmp_path / "train.jsonl", tickets.as_prompt_completion(tickets.load("train")))
    words = ("--config", FIXTURES / "clean-course.yaml", "--model", "smollm2-135m-instruct")
    assert ids(capsys, data, *words, "--gpu", "l4", "--rate", "0.8") == ["time-and-money"]


# ---------------------------------------------------------------- status and report


@pytest.mark.parametrize(
    ("fixture", "status"), [("bare-strings", 0), ("near-duplicate-rows", 1), ("secret", 1)]
)
def test_notes_alone_are_status_0_and_what_is_worse_is_1(fixture, status, capsys):
    found, out, err = preflight(capsys, FIXTURES / f"{fixture}.jsonl")
    assert (found, err) == (status, "") and fixture in out
    assert ("No fault was found" in out) is (status == 0)


def test_rows_that_cannot_be_read_are_findings_beside_those_that_can(capsys):
    found = document(capsys, FIXTURES / "unreadable-row.jsonl")
    assert (found["rows"], found["clean"], found["findings"][0]["count"]) == (24, False, 2)


def test_columns_that_are_named_are_the_ones_that_are_read(capsys, tmp_path):
    rows = [{"a": asked, "b": answered} for asked, answered in flat(clean_rows(40))]
    data, evaluation = (
        written(tmp_path / "a.csv", rows),
        written(tmp_path / "e.jsonl", clean_rows(40, seed=1)),
    )
    words = ("--prompt-column", "a", "--completion-column", "b", "--eval", evaluation)
    found = document(capsys, data, *words)
    assert (found["form"], found["eval_rows"], found["clean"]) == ("prompt_completion", 40, True)


def test_the_same_can_be_asked_for_in_a_notebook():
    found = session.look(FIXTURES / "secret.jsonl", model="smollm2-135m-instruct")
    assert [finding.rule.id for finding in found.findings] == ["secret"]
    with pytest.raises(TypeError, match="no option html"):
        session.look(FIXTURES / "secret.jsonl", html="x.html")


def test_a_page_stands_alone_and_says_what_was_found_and_mended(capsys, tmp_path):
    page, out = tmp_path / "page.html", tmp_path / "mended.jsonl"
    status, _, _ = preflight(capsys, FIXTURES / "html-entities.jsonl", "--html", page, "--fix", out)
    text = page.read_text("utf-8")
    assert status == 1 and text.startswith("<!doctype html>") and text.rstrip().endswith("</html>")
    assert "html-entities" in text and "Mended copy: " in text
    assert not re.search(r"<script|<link|<img|src=|href=|url\(|@import", text)


# ---------------------------------------------------------------- the mended copy

MENDED = (
    *("form-not-of-trl", "messages-as-text", "prompt-hides-the-rest", "text-takes-the-end"),
    *("unreadable-row", "mixed-forms", "no-answer", "unknown-role", "duplicate-rows", "evaluation-leak"),
    *("control-characters", "invisible-characters", "wrong-encoding", "html-entities"),
)
IN_FORM_ALONE = MENDED[:4]  # nothing is changed but the columns


@pytest.mark.parametrize("rule", MENDED)
def test_a_mended_copy_is_clean_of_what_was_found(rule, capsys, tmp_path):
    out, listed = tmp_path / "mended.jsonl", tmp_path / "mended.jsonl.changes.jsonl"
    evaluation = FIXTURES / f"{rule}.eval.jsonl"
    beside = ("--eval", evaluation) if evaluation.exists() else ()
    found = document(capsys, FIXTURES / f"{rule}.jsonl", *beside, "--fix", out)
    assert [one["id"] for one in found["findings"]] == [rule]
    assert "Mended copy: " in found["notes"][-1]
    changes = [json.loads(line) for line in listed.read_text("utf-8").splitlines()]
    assert bool(changes) is (rule not in IN_FORM_ALONE)
    assert {change["rule"] for change in changes} <= {rule}
    assert ids(capsys, out, *beside) == []


def test_what_is_clean_is_copied_as_it_is(capsys, tmp_path):
    data, out = written(tmp_path / "rows.jsonl", clean_rows(30)), tmp_path / "mended.jsonl"
    assert document(capsys, data, "--fix", out)["clean"]
    assert [json.loads(line) for line in out.read_text().splitlines()] == clean_rows(30)


def test_what_was_found_is_told_though_no_copy_can_be_made(capsys, tmp_path):
    rows = [{"messages": [{"role": "user", "content": text}]} for text, _ in flat(clean_rows(12))]
    data, out = written(tmp_path / "rows.jsonl", rows), tmp_path / "mended.jsonl"
    status, said, err = preflight(capsys, data, "--fix", out, "--json")
    assert status == 2 and err.count("\n") == 1 and "no row would be left" in err
    assert "no-answer" in [one["id"] for one in json.loads(said)["findings"]]
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_the_column_that_the_settings_name_is_the_one_that_is_read(capsys, tmp_path):
    """TRL trains on it, whatever else the rows have; a mended copy has it, too."""
    config = tmp_path / "recipe.yaml"
    config.write_text("dataset_text_field: content\n")
    bodies = [f"{asked}\n\n{answered}" for asked, answered in flat(clean_rows(60))]
    for titles in ({}, {"text": "A title"}):
        rows = [{"content": body} | titles for body in [*bodies, bodies[0]]]
        data, fixed = written(tmp_path / "rows.jsonl", rows), tmp_path / "fixed.jsonl"
        found = document(capsys, data, "--config", config, "--fix", fixed)
        assert found["form"] == "text" and "duplicate-rows" in [one["id"] for one in found["findings"]]
        copy = [json.loads(line) for line in fixed.read_text().splitlines()]
        assert copy == rows[:-1]
        fixed.unlink()
