"""The learner's answers: one JSON file, `my_work/progress.json` (elsewhere: the variable LAB_PROGRESS).

An answer is kept under the name of its notebook and the question's key, such as
"first_fine_tune/which-tokens-are-trained": no number, so questions and notebooks may move. Beside it stands a
hash of what was asked, so that a question that was rewritten is open again.
"""

from __future__ import annotations

import datetime
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import filelock

from labsupport.core.files import ROOT, LabError, cannot_write, folder_from, short, write_atomically
from labsupport.teaching import answers_v1

VERSION = 2
PATIENCE = 5  # seconds to wait for another notebook


def path() -> Path:
    return folder_from("LAB_PROGRESS", ROOT / "my_work" / "progress.json")


def record(name: str, answer, right: bool, asked: str = "") -> str:
    """Keep the latest answer to a question under that name: "" if all is well, else one sentence for the
    learner.

    asked: the question's hash. Never raises LabError: a full disk must not spoil a notebook.
    """
    try:
        with locked():
            answers, version, note = read_or_set_aside()
            if version < VERSION:
                keep_old()
            plain = answer if isinstance(answer, (str, int, float)) else str(answer)
            today = datetime.date.today().isoformat()
            entry = {"answer": plain, "right": bool(right), "date": today}
            answers[name] = entry | ({"asked": asked} if asked else {})
            content = {"version": VERSION, "answers": dict(sorted(answers.items()))}
            write_atomically(path(), json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    except LabError as error:
        return f"This answer was not recorded. {error}"
    return note


def load() -> tuple[dict[str, dict], str]:
    """The answers, {name: {answer, right, date}}, and "" or a sentence about a damaged file now set aside.

    Raises LabError for a file that cannot be read or that a newer edition of the course wrote.
    """
    found = read()
    if found is not None:
        return found[0], ""
    with locked():
        answers, _, note = read_or_set_aside()
    return answers, note


def given(answers: dict[str, dict], question) -> dict | None:
    """The learner's answer to a question as it is asked today, or None. Files of before have no hash: there
    the name alone decides."""
    entry = answers.get(question.kept_as)
    return entry if entry and entry.get("asked", "") in ("", question.asked) else None


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


def read_or_set_aside() -> tuple[dict[str, dict], int, str]:
    found = read()
    return ({}, VERSION, set_aside()) if found is None else (*found, "")


def read() -> tuple[dict[str, dict], int] | None:
    """The answers under today's names and the version of the file, or None for a damaged one.

    A file of version 1 is translated here, each time it is read: it is replaced with the next answer, and
    what stops a learner in between costs nothing.
    """
    try:
        content = json.loads(path().read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, VERSION
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
    if version not in (1, VERSION) or not are_answers(answers):
        return None
    return (answers_v1.renamed(answers) if version == 1 else answers), version


def are_answers(answers) -> bool:
    return isinstance(answers, dict) and all(
        isinstance(entry, dict)
        and isinstance(entry.get("answer"), (str, int, float))
        and isinstance(entry.get("right"), bool)
        and isinstance(entry.get("date"), str)
        for entry in answers.values()
    )


def keep_old() -> None:
    """Copy a file of version 1 beside itself before it is replaced, over no earlier copy."""
    old = path().read_bytes()
    for copy in names_like(path().with_suffix(f".v1{path().suffix}")):
        if not copy.exists():
            write_atomically(copy, old)
            return
        if copy.read_bytes() == old:  # we were stopped after copying
            return


def names_like(first: Path) -> Iterator[Path]:
    """NAME, NAME2, NAME3, ..."""
    yield first
    yield from (first.with_name(f"{first.name}{count}") for count in itertools.count(2))


def set_aside() -> str:
    """Rename the damaged file, over no earlier one; the sentence that says so."""
    bad = next(name for name in names_like(path().with_name(f"{path().name}.bad")) if not name.exists())
    try:
        path().rename(bad)
    except OSError as error:
        raise cannot_write(bad, error) from error
    return (
        f"{short(path())} was damaged and is now {bad.name}; a new one begins. "
        "If you can mend the old file, rename it back."
    )
