"""The progress file: no answer is lost silently, and no fault of the file stops a notebook."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from labsupport.core.files import ROOT, LabError
from labsupport.teaching import answer_store, progress, quiz


@pytest.fixture(autouse=True)
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_PROGRESS", str(tmp_path / "my_work" / "progress.json"))
    return tmp_path / "my_work" / "progress.json"


def damaged(file, text):
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(text if isinstance(text, bytes) else text.encode())


def test_answers_are_kept_in_one_versioned_file(file):
    assert progress.record("01.2", 2.08, True) == ""
    assert progress.record("00.1", "b", False) == ""
    assert progress.record("01.2", "é", False) == ""
    content = json.loads(file.read_text(encoding="utf-8"))
    assert content["version"] == 1 and list(content["answers"]) == ["00.1", "01.2"]
    answers, note = progress.load()
    assert answers == content["answers"] and note == ""
    assert answers["01.2"]["answer"] == "é" and answers["01.2"]["right"] is False
    assert len(answers["00.1"]["date"]) == len("2026-01-31")


def test_file_lies_among_the_learners_notebooks(monkeypatch):
    for value in (None, ""):
        monkeypatch.delenv("LAB_PROGRESS") if value is None else monkeypatch.setenv("LAB_PROGRESS", value)
        assert answer_store.path() == ROOT / "my_work" / "progress.json"


def test_reading_writes_nothing(file):
    assert progress.load() == ({}, "")
    progress.report()
    assert not file.parent.exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        b"\xff\xfe{}",
        "[" * 100_000,
        '{"version": 0, "answers": {}}',
        '{"version": "1", "answers": {}}',
        '{"version": 1}',
        '{"version": 1, "answers": []}',
        '{"version": 1, "answers": {"01.1": "b"}}',
        '{"version": 1, "answers": {"01.1": {"answer": "b", "right": "yes", "date": "2026-01-31"}}}',
        '{"version": 1, "answers": {"01.1": {"answer": "b", "right": true}}}',
    ],
)
def test_damaged_file_is_set_aside_and_that_is_said(file, text):
    damaged(file, text)
    before = file.read_bytes()
    note = progress.record("01.1", "a", True)
    assert "progress.json was damaged" in note and "progress.json.bad" in note and "\n" not in note
    assert file.with_name("progress.json.bad").read_bytes() == before
    assert list(progress.load()[0]) == ["01.1"]


def test_second_damaged_file_does_not_overwrite_the_first(file):
    for text in ("first", "second", "third"):
        damaged(file, text)
        assert "damaged" in progress.load()[1]
    kept = sorted(path.read_text() for path in file.parent.glob("progress.json.bad*"))
    assert kept == ["first", "second", "third"]


def test_file_of_a_newer_edition_is_not_touched(file):
    damaged(file, '{"version": 2, "answers": {"01.1": 1}}')
    before = file.read_bytes()
    note = progress.record("01.1", "a", True)
    assert "not recorded" in note and "newer edition" in note and "progress.json" in note
    with pytest.raises(LabError, match="Update the course"):
        progress.report()
    assert file.read_bytes() == before and [p.name for p in file.parent.glob("progress*")] == [file.name]


def test_folder_that_cannot_be_written_is_a_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LAB_PROGRESS", str(tmp_path / "file" / "progress.json"))
    note = progress.record("01.1", "a", True)
    assert note.startswith("This answer was not recorded. ") and "progress.json" in note


def test_full_disk_keeps_the_earlier_answers(file, monkeypatch):
    progress.record("01.1", "a", True)

    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("labsupport.core.files.os.fsync", full)
    assert "No space left on device" in progress.record("01.2", "b", True)
    assert list(progress.load()[0]) == ["01.1"]


def test_file_that_is_a_folder_is_a_sentence(file):
    file.mkdir(parents=True)
    assert "Cannot read" in progress.record("01.1", "a", True)
    with pytest.raises(LabError, match="Cannot read"):
        progress.report()


def test_answers_given_at_once_are_all_kept():
    with ThreadPoolExecutor(8) as pool:
        notes = list(pool.map(lambda k: progress.record(f"01.{k}", "a", True), range(40)))
    assert set(notes) == {""} and len(progress.load()[0]) == 40


def test_lock_held_by_another_process_is_a_sentence_and_is_released_after_use(file, monkeypatch):
    progress.record("01.1", "a", True)
    code = (
        "import sys; from labsupport.teaching import answer_store\n"
        "lock = answer_store.locked(); print('locked', flush=True); sys.stdin.read()\n"
    )
    monkeypatch.setattr(answer_store, "PATIENCE", 0.2)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "locked\n"
        assert "in use by another notebook" in progress.record("01.2", "a", True)
        assert list(progress.load()[0]) == ["01.1"]  # reading needs no lock
        other.stdin.close()
        other.wait()
    assert progress.record("01.2", "a", True) == ""


def test_report_counts_by_notebook_and_names_what_is_open():
    for id, right in (("00.1", True), ("00.2", False), ("00.3", True), ("99.9", True)):
        progress.record(id, "a", right)
    result = progress.as_json()
    rows = {row["notebook"]: row for row in result["notebooks"]}
    assert list(rows) == list(quiz.catalogue())
    expected = {"questions": 4, "answered": 3, "right": 2, "next": "00.2"}
    assert rows["00_start_here"] == {"notebook": "00_start_here", **expected}
    assert rows["01_first_fine_tune"]["answered"] == 0 and rows["01_first_fine_tune"]["next"] == "01.1"
    assert result["next"] == "00.2"
    table = progress.report()
    (line,) = [line for line in table.splitlines() if line.startswith("00_start_here")]
    assert line.split() == ["00_start_here", "4", "3", "2", "00.2"]
    assert "Next: question 00.2, at the end of 00_start_here." in table


def test_report_when_all_is_right():
    for questions in quiz.catalogue().values():
        for question in questions:
            progress.record(question.id, "a", True)
    assert progress.as_json()["next"] is None
    assert progress.report().endswith("All are right.")


def test_report_tells_of_a_damaged_file(file):
    damaged(file, "{")
    assert "progress.json.bad" in progress.report().splitlines()[0]
    damaged(file, "{")
    assert "progress.json.bad2" in progress.as_json()["note"]


def test_verb(capsys):
    assert progress.main([]) == 0
    assert "00_start_here" in capsys.readouterr().out
    assert progress.main(["--json"]) == 0
    assert json.loads(capsys.readouterr().out)["next"] == "00.1"
    with pytest.raises(SystemExit) as stopped:
        progress.main(["--nonsense"])
    assert stopped.value.code == 2
    assert "lab.py progress" in capsys.readouterr().err
