"""The progress file: no answer is lost silently, and no fault of the file stops a notebook."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from labsupport import cli
from labsupport.checking.exercise import Exercise
from labsupport.commands.progress import report
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
    assert answer_store.record("sample/why", 2.08, True) == ""
    assert answer_store.record("other/how-many", "b", False) == ""
    assert answer_store.record("sample/why", "é", False) == ""
    content = json.loads(file.read_text(encoding="utf-8"))
    assert content["version"] == 2 and list(content["answers"]) == ["other/how-many", "sample/why"]
    answers, note = answer_store.load()
    assert answers == content["answers"] and note == ""
    assert answers["sample/why"]["answer"] == "é" and answers["sample/why"]["right"] is False
    assert len(answers["other/how-many"]["date"]) == len("2026-01-31")


def test_file_lies_among_the_learners_notebooks(monkeypatch):
    for value in (None, ""):
        monkeypatch.delenv("LAB_PROGRESS") if value is None else monkeypatch.setenv("LAB_PROGRESS", value)
        assert answer_store.path() == ROOT / "my_work" / "progress.json"


def test_reading_writes_nothing(file):
    assert answer_store.load() == ({}, "")
    report(progress.summary())
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
        '{"version": 1, "answers": {"01.1": "b"}}',
        '{"version": 2, "answers": []}',
        '{"version": 2, "answers": {"sample/why": "b"}}',
        '{"version": 2, "answers": {"sample/why": {"answer": "b", "right": "yes", "date": "2026-01-31"}}}',
        '{"version": 2, "answers": {"sample/why": {"answer": "b", "right": true}}}',
    ],
)
def test_damaged_file_is_set_aside_and_that_is_said(file, text):
    damaged(file, text)
    before = file.read_bytes()
    note = answer_store.record("sample/why", "a", True)
    assert "progress.json was damaged" in note and "progress.json.bad" in note and "\n" not in note
    assert file.with_name("progress.json.bad").read_bytes() == before
    assert list(answer_store.load()[0]) == ["sample/why"]


def test_second_damaged_file_does_not_overwrite_the_first(file):
    for text in ("first", "second", "third"):
        damaged(file, text)
        assert "damaged" in answer_store.load()[1]
    kept = sorted(path.read_text() for path in file.parent.glob("progress.json.bad*"))
    assert kept == ["first", "second", "third"]


def test_file_of_a_newer_edition_is_not_touched(file):
    damaged(file, '{"version": 3, "answers": {"sample/why": 1}}')
    before = file.read_bytes()
    note = answer_store.record("sample/why", "a", True)
    assert "not recorded" in note and "newer edition" in note and "progress.json" in note
    with pytest.raises(LabError, match="Update the course"):
        report(progress.summary())
    assert file.read_bytes() == before and [p.name for p in file.parent.glob("progress*")] == [file.name]


def test_folder_that_cannot_be_written_is_a_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LAB_PROGRESS", str(tmp_path / "file" / "progress.json"))
    note = answer_store.record("sample/why", "a", True)
    assert note.startswith("This answer was not recorded. ") and "progress.json" in note


def test_full_disk_keeps_the_earlier_answers(file, monkeypatch):
    answer_store.record("sample/why", "a", True)

    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("labsupport.core.files.os.fsync", full)
    assert "No space left on device" in answer_store.record("sample/how", "b", True)
    assert list(answer_store.load()[0]) == ["sample/why"]


def test_file_that_is_a_folder_is_a_sentence(file):
    file.mkdir(parents=True)
    assert "Cannot read" in answer_store.record("sample/why", "a", True)
    with pytest.raises(LabError, match="Cannot read"):
        report(progress.summary())


def test_answers_given_at_once_are_all_kept():
    with ThreadPoolExecutor(8) as pool:
        notes = list(pool.map(lambda k: answer_store.record(f"sample/{k}", "a", True), range(40)))
    assert set(notes) == {""} and len(answer_store.load()[0]) == 40


def test_lock_held_by_another_process_is_a_sentence_and_is_released_after_use(file, monkeypatch):
    answer_store.record("sample/why", "a", True)
    code = (
        "import sys; from labsupport.teaching import answer_store\n"
        "lock = answer_store.locked(); print('locked', flush=True); sys.stdin.read()\n"
    )
    monkeypatch.setattr(answer_store, "PATIENCE", 0.2)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "locked\n"
        assert "in use by another notebook" in answer_store.record("sample/how", "a", True)
        assert list(answer_store.load()[0]) == ["sample/why"]  # reading needs no lock
        other.stdin.close()
        other.wait()
    assert answer_store.record("sample/how", "a", True) == ""


def test_report_counts_by_notebook_and_names_what_is_open():
    first, second, third, _ = quiz.catalogue()["00_start_here"]
    answer_store.record(first.kept_as, "a", True)
    answer_store.record(second.kept_as, "a", False)
    answer_store.record(third.kept_as, "a", True)
    answer_store.record("no_such_notebook/no-such-question", "a", True)
    result = progress.summary()
    rows = {row["notebook"]: row for row in result["notebooks"]}
    assert list(rows) == list(quiz.catalogue())
    names = progress.exercise_names("00_start_here")
    assert len(names) >= 3 and all(name.startswith("start_here.") for name in names)
    expected = {
        "questions": 4,
        "answered": 3,
        "right": 2,
        "next": "00.2",
        "exercises": len(names),
        "passed": 0,
    }
    assert rows["00_start_here"] == {"notebook": "00_start_here", **expected}
    assert rows["01_first_fine_tune"]["answered"] == 0 and rows["01_first_fine_tune"]["next"] == "01.1"
    assert result["next"] == "00.2"
    table = report(progress.summary())
    (line,) = [line for line in table.splitlines() if line.startswith("00_start_here")]
    assert line.split() == ["00_start_here", str(len(names)), "0", "4", "3", "2", "00.2"]
    assert "Next: question 00.2, at the end of 00_start_here." in table


def test_an_answer_to_other_words_does_not_count():
    first, *_ = quiz.catalogue()["00_start_here"]
    answer_store.record(first.kept_as, "a", True, "the hash of other words")
    assert progress.summary()["notebooks"][0]["answered"] == 0


def test_a_passed_exercise_is_remembered_once(file, monkeypatch):
    file.parent.mkdir()
    monkeypatch.chdir(file.parent)
    name = progress.exercise_names("00_start_here")[0]
    exercise = Exercise(name, lambda x: x + 1, [(1,), (2,)])
    exercise.check(lambda x: x)
    exercise.check(None)
    assert not file.exists()
    assert exercise.check(lambda x: 1 + x).status == "correct"
    assert {row["passed"] for row in progress.summary()["notebooks"]} == {1, 0}
    before = file.stat().st_mtime_ns
    exercise.check(lambda x: 1 + x)
    assert file.stat().st_mtime_ns == before


def test_what_runs_elsewhere_is_nobodys_progress(file, monkeypatch):
    for folder in (ROOT, ROOT / "solutions"):
        monkeypatch.chdir(folder)
        assert Exercise("sample.f", lambda x: x, [(1,), (2,)]).check(lambda x: +x).status == "correct"
    assert not file.exists()


def test_a_progress_file_that_cannot_be_written_spoils_no_verdict(file, monkeypatch):
    file.mkdir(parents=True)
    monkeypatch.chdir(file.parent)
    assert Exercise("sample.f", lambda x: x, [(1,), (2,)]).check(lambda x: +x).status == "correct"


def test_report_when_all_is_right():
    for questions in quiz.catalogue().values():
        for question in questions:
            answer_store.record(question.kept_as, "a", True)
    assert progress.summary()["next"] is None
    assert report(progress.summary()).endswith("All are right.")


def test_report_tells_of_a_damaged_file(file):
    damaged(file, "{")
    assert "progress.json.bad" in report(progress.summary()).splitlines()[0]
    damaged(file, "{")
    assert "progress.json.bad2" in progress.summary()["note"]


def test_verb(capsys):
    assert cli.main(["progress"]) == 0
    assert "00_start_here" in capsys.readouterr().out
    assert cli.main(["progress", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["next"] == "00.1"
