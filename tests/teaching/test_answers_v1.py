"""Answers that an older edition kept by position are shown as before, and none is lost on the way."""

import copy
import json
import re

import pytest

from labsupport.commands.progress import report
from labsupport.core.files import LabError
from labsupport.teaching import answer_store, answers_v1, progress, quiz

# As the edition before wrote it: letters, a number as text and as a number, a scored text, right and wrong,
# and an answer to a question that this edition does not have.
OLD = """{
 "version": 1,
 "answers": {
  "00.2": {
   "answer": "a",
   "right": false,
   "date": "2026-11-28"
  },
  "01.1": {
   "answer": "d",
   "right": true,
   "date": "2026-11-28"
  },
  "01.2": {
   "answer": "2.079 nats",
   "right": true,
   "date": "2026-11-28"
  },
  "02.4": {
   "answer": "die Schrittgröße wächst",
   "right": false,
   "date": "2026-11-28"
  },
  "03.1": {
   "answer": 0.78125,
   "right": true,
   "date": "2026-11-28"
  },
  "06.1": {
   "answer": "b",
   "right": true,
   "date": "2026-11-28"
  }
 }
}
"""
ENTRIES = json.loads(OLD)["answers"]
NAMES = {
    "start_here/was-the-tuning-worth-it": "00.2",
    "first_fine_tune/which-tokens-are-trained": "01.1",
    "first_fine_tune/nll-of-blind-guessing": "01.2",
    "lora_math/what-a-doubled-rank-changes": "02.4",
    "counting_parameters/share-of-a-square-matrix": "03.1",
    "06.1": "06.1",
}
EXPECTED = {name: ENTRIES[id] for name, id in NAMES.items()}


@pytest.fixture(autouse=True)
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_PROGRESS", str(tmp_path / "progress.json"))
    (tmp_path / "progress.json").write_text(OLD, encoding="utf-8")
    return tmp_path / "progress.json"


def files(file) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in file.parent.glob("progress*")}


# Questions of then that another question has replaced: their answers are no answers to these.
REPLACED = {
    "memory_and_cost/memory-of-logits-and-loss",
    "memory_and_cost/out-of-memory-in-the-loss",
    "memory_and_cost/bytes-of-full-fine-tuning",
    "lora_math/undo-a-doubled-alpha",
    "lora_math/high-rank-of-an-update",
}


def test_every_old_position_has_its_question():
    """Red if a key or the name of a notebook changes: answers already given would be lost."""
    present = {question.kept_as for questions in quiz.catalogue().values() for question in questions}
    assert set(answers_v1.TODAY.values()) - present == REPLACED
    assert len(set(answers_v1.TODAY.values())) == len(answers_v1.TODAY) == 24
    assert all(re.fullmatch(r"\d\d\.\d", id) for id in answers_v1.TODAY)


def test_reading_translates_and_writes_nothing(file):
    answers, note = answer_store.load()
    assert answers == EXPECTED and note == ""
    assert files(file) == {"progress.json": OLD}


@pytest.mark.parametrize("moved", [False, True])
def test_old_answers_are_shown_as_before(file, moved):
    """As read, and after the first new answer has replaced the file."""
    if moved:
        answer_store.record("start_here/retrieval-or-fine-tuning", "text", False)
    rows = {row["notebook"]: row for row in progress.summary()["notebooks"]}
    counts = {name: (row["answered"], row["right"]) for name, row in rows.items() if row["answered"]}
    assert counts == {
        "00_start_here": (1 + moved, 0),
        "01_first_fine_tune": (2, 2),
        "02_lora_math": (1, 0),
        "03_counting_parameters": (1, 1),
    }
    assert rows["01_first_fine_tune"]["next"] == "01.3"
    (line,) = [x for x in report(progress.summary()).splitlines() if x.startswith("01_first_fine_tune")]
    assert line.split()[-3:] == ["2", "2", "01.3"]
    shown = quiz.ask("01_first_fine_tune").verdicts
    assert shown == {
        "which-tokens-are-trained": {"right": True, "message": "Answered on 2026-11-28: right."},
        "nll-of-blind-guessing": {"right": True, "message": "Answered on 2026-11-28: right."},
    }
    assert quiz.ask("02_lora_math").verdicts["what-a-doubled-rank-changes"]["right"] is False


def test_first_answer_rewrites_the_file_and_keeps_the_old_one(file):
    assert answer_store.record("start_here/was-the-tuning-worth-it", "c", True) == ""
    now = files(file)
    assert set(now) == {"progress.json", "progress.v1.json"} and now["progress.v1.json"] == OLD
    content = json.loads(now["progress.json"])
    expected = copy.deepcopy(EXPECTED)
    expected["start_here/was-the-tuning-worth-it"] |= {"answer": "c", "right": True}
    today = content["answers"]["start_here/was-the-tuning-worth-it"].pop("date")
    del expected["start_here/was-the-tuning-worth-it"]["date"]
    assert content == {"version": 2, "answers": expected} and len(today) == 10
    assert answer_store.record("sample/later", "a", True) == ""
    assert set(files(file)) == set(now) and files(file)["progress.v1.json"] == OLD


class Killed(BaseException):
    """No Exception, as a kill is none."""


@pytest.mark.parametrize("write", [1, 2])
@pytest.mark.parametrize("before", [True, False])
def test_kill_at_any_write_loses_nothing(file, monkeypatch, write, before):
    written = []
    real = answer_store.write_atomically

    def write_and_die(path, content):
        written.append(path.name)
        if before and len(written) == write:
            raise Killed
        real(path, content)
        if len(written) == write:
            raise Killed

    monkeypatch.setattr(answer_store, "write_atomically", write_and_die)
    with pytest.raises(Killed):
        answer_store.record("sample/new", "a", True)
    assert written == ["progress.v1.json", "progress.json"][:write]
    monkeypatch.setattr(answer_store, "write_atomically", real)
    answers, note = answer_store.load()
    assert note == "" and {name: answers[name] for name in NAMES} == EXPECTED
    assert answer_store.record("sample/new", "a", True) == ""
    assert set(answer_store.load()[0]) == {*NAMES, "sample/new"}
    assert set(files(file)) == {"progress.json", "progress.v1.json"}
    assert files(file)["progress.v1.json"] == OLD


def test_an_earlier_copy_is_not_overwritten(file):
    """Somebody goes back to the older edition, answers there, and comes again."""
    file.with_name("progress.v1.json").write_text("an earlier copy")
    answer_store.record("sample/new", "a", True)
    now = files(file)
    assert now["progress.v1.json"] == "an earlier copy" and now["progress.v1.json2"] == OLD


def test_full_disk_leaves_the_old_file(file, monkeypatch):
    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("labsupport.core.files.os.fsync", full)
    assert "No space left on device" in answer_store.record("sample/new", "a", True)
    assert files(file) == {"progress.json": OLD}


def test_newer_version_is_refused_and_untouched(file):
    newer = OLD.replace('"version": 1', '"version": 3')
    file.write_text(newer, encoding="utf-8")
    with pytest.raises(LabError, match="newer edition of the course .version 3; this one knows 2"):
        answer_store.load()
    assert "not recorded" in answer_store.record("sample/new", "a", True)
    assert files(file) == {"progress.json": newer}
