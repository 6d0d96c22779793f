"""The mended copy: what goes, what is cleaned, what is listed, and that nothing is half-written."""

import errno
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from interrupted import just_after

from labsupport.core.files import LabError
from labsupport.training_data import fixing
from labsupport.training_data.forms import find_form, to_record
from labsupport.training_data.reading import Rows


def chat(asked, answered, **more):
    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
    return {"messages": turns, **more}


CLEAN = [chat(f"Question {i}?", f"Answer {i}.") for i in range(3)]


def fixed(folder, rows, **more):
    """The rows of the copy, the listed changes, and what was returned."""
    out = folder / "fixed.jsonl"
    form = find_form(rows)
    records = [to_record(i, f"line {i}", row, form) for i, row in enumerate(rows, start=1)]
    changes = fixing.fix(records, out, form, **more)
    texts = [path.read_text(encoding="utf-8").split("\n")[:-1] for path in (out, changes.listed)]
    return *([json.loads(line) for line in lines] for lines in texts), changes


def test_clean_rows_are_copied_as_they_are(tmp_path):
    rows = [*CLEAN, chat("With tools", "Yes", tools=[{"type": "function"}], id=7)]
    copy, listed, changes = fixed(tmp_path, rows)
    assert copy == rows
    assert listed == []
    assert "4 of 4 rows, as messages; mended: nothing; left out: nothing." in changes.in_words()


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        (chat("Question 1?", "Answer 1."), "duplicate-rows"),
        (chat("Question  1?\n", "Answer\n1. "), "duplicate-rows"),
        (chat("Question\u200b 1?", "Answer 1."), "duplicate-rows"),  # equal once it is clean
        (chat("Question 9?", " "), "no-answer"),
        (chat("Question 9?", ""), "no-answer"),
        ({"messages": [{"role": "user", "content": "Question 9?"}]}, "no-answer"),
        ({"messages": None}, "unreadable-row"),
        ({"text": "Of another form."}, "mixed-forms"),
    ],
)
def test_rows_that_are_left_out(tmp_path, row, rule):
    copy, listed, changes = fixed(tmp_path, [*CLEAN, row])
    assert copy == CLEAN
    assert listed == [{"row": 4, "where": "line 4", "rule": rule, "before": row, "after": None}]
    assert changes.dropped == {rule: 1}


def test_rows_of_the_evaluation_are_left_out(tmp_path):
    copy, listed, _ = fixed(tmp_path, CLEAN, leaks=lambda record: record.number == 2)
    assert copy == [CLEAN[0], CLEAN[2]]
    assert [change["rule"] for change in listed] == ["evaluation-leak"]


@pytest.mark.parametrize(
    ("wrong", "right", "rule"),
    [
        ("The caf\u00c3\u00a9 is open.", "The caf\u00e9 is open.", "wrong-encoding"),
        ("zero\u200bwidth", "zerowidth", "invisible-characters"),
        ("a bell\x07", "a bell", "control-characters"),
        ("half \ud83d a pair", "half \ufffd a pair", "lone-surrogates"),
    ],
)
def test_texts_are_cleaned_and_the_change_is_listed(tmp_path, wrong, right, rule):
    copy, listed, changes = fixed(tmp_path, [*CLEAN, chat(wrong, "Yes.")])
    assert copy[3] == chat(right, "Yes.")
    assert listed == [{"row": 4, "where": "line 4", "rule": rule, "before": wrong, "after": right}]
    assert changes.mended == {rule: 1}


@pytest.mark.parametrize(
    ("role", "known"),
    [("human", "user"), (" User\n", "user"), ("gpt", "assistant"), ("ASSISTANT", "assistant")],
)
def test_roles_get_the_names_that_templates_know(tmp_path, role, known):
    row = {
        "messages": [*CLEAN[0]["messages"], {"role": role, "content": "Go on."}, *chat("a", "b")["messages"]]
    }
    copy, listed, _ = fixed(tmp_path, [row, *CLEAN])
    assert copy[0]["messages"][2] == {"role": known, "content": "Go on."}
    assert [(change["rule"], change["before"], change["after"]) for change in listed] == [
        ("unknown-role", role, known)
    ]


def test_a_role_that_nobody_knows_stays(tmp_path):
    row = {"messages": [{"role": "narrator", "content": "Once"}, *CLEAN[0]["messages"]]}
    assert fixed(tmp_path, [row])[0] == [row]


def test_empty_turns_at_the_end_go(tmp_path):
    row = {"messages": [*CLEAN[0]["messages"], {"role": "user", "content": " "}]}
    copy, listed, _ = fixed(tmp_path, [row])
    assert copy == [CLEAN[0]]
    assert [(change["rule"], change["after"]) for change in listed] == [("empty-turn", None)]


@pytest.mark.parametrize(
    ("row", "written"),
    [
        (
            {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "id": 7},
            chat("q", "a", id=7),
        ),
        (
            {"instruction": "q", "input": "i", "output": "a", "category": "x"},
            {
                "prompt": [{"role": "user", "content": "q\n\ni"}],
                "completion": [{"role": "assistant", "content": "a"}],
                "category": "x",
            },
        ),
        (
            {"question": "q", "answer": "a"},
            {
                "prompt": [{"role": "user", "content": "q"}],
                "completion": [{"role": "assistant", "content": "a"}],
            },
        ),
        ({"prompt": "q", "completion": "a", "text": None}, {"prompt": "q", "completion": "a"}),
        ({"text": "t", "label": 1}, {"text": "t", "label": 1}),
        (chat("q", "a", prompt="q"), chat("q", "a")),  # at this column TRL would stop
    ],
)
def test_the_copy_is_in_a_form_that_trl_reads(tmp_path, row, written):
    copy, _, _ = fixed(tmp_path, [row])
    assert copy == [written]


def test_what_is_right_in_its_row_stays(tmp_path):
    row = chat("How do I write an ampersand in HTML?", "Write &amp; for it.")
    assert fixed(tmp_path, [row, *CLEAN])[0][0] == row


def test_the_copy_of_messages_needs_no_fix(tmp_path):
    rows = [*CLEAN, CLEAN[0], chat("caf\u00c3\u00a9 \u200b", "ok"), chat("q", "")]
    copy, _, _ = fixed(tmp_path, rows)
    again, listed, _ = fixed(tmp_path, copy)
    assert again == copy
    assert listed == []


def test_what_is_read_is_never_written_over(tmp_path):
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join(map(json.dumps, CLEAN)))
    (tmp_path / "linked.jsonl").symlink_to(data)
    (tmp_path / "also.jsonl").hardlink_to(data)
    form = find_form(CLEAN)
    for name in ("data.jsonl", "linked.jsonl", "also.jsonl", "../" + tmp_path.name + "/data.jsonl"):
        with pytest.raises(LabError, match=r"would write over .*data.jsonl"):
            fixing.fix([], tmp_path / name, form, inputs=[data])
    with pytest.raises(LabError, match="name the file fixed.jsonl, not fixed.csv"):
        fixing.fix([], tmp_path / "fixed.csv", form)
    with pytest.raises(LabError, match="File name too long"):
        fixing.fix([], tmp_path / f"{'x' * 300}.jsonl", form)
    assert [row for _, _, row in Rows(data)] == CLEAN


@pytest.mark.parametrize("full_at", [1, 2, 3])
def test_a_full_disk_leaves_the_old_files(tmp_path, monkeypatch, full_at):
    copy, _, _ = fixed(tmp_path, CLEAN)
    written = []

    def line(row):
        written.append(row)
        if len(written) == full_at:
            raise OSError(errno.ENOSPC, "No space left on device")
        return b"{}\n"

    monkeypatch.setattr(fixing, "line", line)
    with pytest.raises(LabError, match="Cannot write .*: No space left on device. Nothing was"):
        fixed(tmp_path, CLEAN)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fixed.jsonl", "fixed.jsonl.changes.jsonl"]
    assert [row for _, _, row in Rows(tmp_path / "fixed.jsonl")] == copy


@pytest.mark.parametrize("file", ["fixed.jsonl", "fixed.jsonl.changes.jsonl"])
def test_ctrl_c_just_after_a_file_was_made_leaves_the_old_files(file, tmp_path, monkeypatch):
    copy, _, _ = fixed(tmp_path, CLEAN)
    monkeypatch.setattr(Path, "open", just_after("open", f".{file}."))
    with pytest.raises(KeyboardInterrupt):
        fixed(tmp_path, CLEAN)
    monkeypatch.undo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fixed.jsonl", "fixed.jsonl.changes.jsonl"]
    assert [row for _, _, row in Rows(tmp_path / "fixed.jsonl")] == copy


def test_no_row_left_writes_nothing(tmp_path):
    with pytest.raises(LabError, match="no row would be left"):
        fixed(tmp_path, [chat("q", "")])
    assert list(tmp_path.iterdir()) == []


TURNS = st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["user", "assistant", "human", " gpt", "system", "x"]),
            "content": st.text(max_size=8) | st.sampled_from(["", "caf\u00c3\u00a9", "a\u200bb", "\ud83d"]),
        }
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=100)
@given(st.lists(TURNS, min_size=1, max_size=4))
def test_fixing_twice_changes_nothing_more(tmp_path_factory, chats):
    folder = tmp_path_factory.mktemp("fixing")
    answered = [{"role": "assistant", "content": "yes"}]
    copy, _, changes = fixed(folder, [{"messages": turns + answered} for turns in chats])
    assert changes.rows == len(chats) == changes.written + changes.dropped.total()
    again, listed, _ = fixed(folder, copy)
    assert (again, listed) == (copy, [])
