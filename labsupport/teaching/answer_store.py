"""The learner's answers: one JSON file, `my_work/progress.json` (elsewhere: the variable LAB_PROGRESS)."""

from __future__ import annotations

import datetime
import json
import os
from pathlib import Path

import filelock

from labsupport.core.files import ROOT, LabError, cannot_write, short, write_atomically

VERSION = 1
PATIENCE = 5  # seconds to wait for another notebook


def path() -> Path:
    return Path(os.environ.get("LAB_PROGRESS") or ROOT / "my_work" / "progress.json")


def record(question: str, answer, right: bool) -> str:
    """Keep the latest answer to a question: "" if all is well, else one sentence for the learner.

    Never raises LabError: a full disk must not spoil a notebook.
    """
    try:
        with locked():
            answers, note = read_or_set_aside()
            plain = answer if isinstance(answer, (str, int, float)) else str(answer)
            today = datetime.date.today().isoformat()
            answers[question] = {"answer": plain, "right": bool(right), "date": today}
            content = {"version": VERSION, "answers": dict(sorted(answers.items()))}
            write_atomically(path(), json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    except LabError as error:
        return f"This answer was not recorded. {error}"
    return note


def load() -> tuple[dict[str, dict], str]:
    """The answers, {id: {answer, right, date}}, and "" or a sentence about a damaged file now set aside.

    Raises LabError for a file that cannot be read or that a newer edition of the course wrote.
    """
    answers = read()
    if answers is not None:
        return answers, ""
    with locked():
        return read_or_set_aside()


def locked():
    """Two notebooks may answer at once; without the lock one answer would be lost."""
    file = path().with_name(f".{path().name}.lock")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        return filelock.FileLock(file, timeout=PATIENCE).acquire()
    except filelock.Timeout as error:
        raise LabError(f"{short(path())} is in use by another notebook. Answer again in a moment.") from error
    except OSError as error:
        raise cannot_write(path(), error) from error


def read_or_set_aside() -> tuple[dict[str, dict], str]:
    answers = read()
    return ({}, set_aside()) if answers is None else (answers, "")


def read() -> dict[str, dict] | None:
    """The answers, {} without a file, None for a damaged one."""
    try:
        content = json.loads(path().read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        fix = "Mend its rights or, if it is a folder, rename it"
        raise LabError(f"Cannot read {short(path())}: {error.strerror}. {fix}.") from error
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    version = content.get("version")
    if isinstance(version, int) and version > VERSION:
        raise LabError(
            f"{short(path())} was written by a newer edition of the course (version {version}; this one "
            f"knows {VERSION}). Update the course, or rename the file to begin a new one."
        )
    answers = content.get("answers")
    return answers if version == VERSION and are_answers(answers) else None


def are_answers(answers) -> bool:
    return isinstance(answers, dict) and all(
        isinstance(entry, dict)
        and isinstance(entry.get("answer"), (str, int, float))
        and isinstance(entry.get("right"), bool)
        and isinstance(entry.get("date"), str)
        for entry in answers.values()
    )


def set_aside() -> str:
    """Rename the damaged file, over no earlier one; the sentence that says so."""
    bad, count = path().with_name(f"{path().name}.bad"), 1
    while bad.exists():
        count += 1
        bad = path().with_name(f"{path().name}.bad{count}")
    try:
        path().rename(bad)
    except OSError as error:
        raise cannot_write(bad, error) from error
    return (
        f"{short(path())} was damaged and is now {bad.name}; a new one begins. "
        "If you can mend the old file, rename it back."
    )
