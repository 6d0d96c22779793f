"""Which exercises are passed, which questions answered and right, and what is open next."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from labsupport.core import course
from labsupport.core.files import ROOT, LabError, short
from labsupport.teaching import answer_store, quiz


def summary() -> dict:
    """{"file", "notebooks": [row of each], "next", "note"}.

    A row is {notebook, exercises, passed, questions, answered, right, next}: names and counts. `next` is the
    first question that is not answered right yet, or None. Raises LabError for an unreadable file.
    """
    answers, note = answer_store.load()
    asked, rows = quiz.catalogue(), []
    for notebook in course.notebooks():
        questions, exercises = asked.get(notebook, []), exercise_names(notebook)
        entries = {question.number: answer_store.given(answers, question) for question in questions}
        given = {number: entry["right"] for number, entry in entries.items() if entry}
        rows.append(
            {
                "notebook": notebook,
                "exercises": len(exercises),
                "passed": sum(name in answers for name in exercises),
                "questions": len(questions),
                "answered": len(given),
                "right": sum(given.values()),
                "next": next((q.number for q in questions if not given.get(q.number)), None),
            }
        )
    following = next((row["next"] for row in rows if row["next"]), None)
    return {"file": short(answer_store.path()), "notebooks": rows, "next": following, "note": note}


def record_passed(name: str) -> None:
    """Remember that the learner passed an exercise, once. It never raises LabError: the verdict counts more.

    Only in the folder of the progress file, where the learner's kernels start: a worked solution, a
    script or a test is nobody's progress.
    """
    if not Path.cwd().is_relative_to(answer_store.path().parent):
        return
    with contextlib.suppress(LabError):
        if name not in answer_store.load()[0]:
            answer_store.record(name, "passed", True)


def exercise_names(notebook: str) -> list[str]:
    """The exercises that a notebook asks for, such as "lora_math.forward": a passed one is recorded under it.

    Read from its master: importing the exercises takes seconds, for torch, and this takes none.
    """
    master = ROOT / "solutions" / f"{notebook}.py"
    text = master.read_text(encoding="utf-8") if master.exists() else ""
    subject = notebook.partition("_")[2]
    return [f"{subject}.{asked}" for asked in re.findall(r"^exercises\.(\w+)\.check\(", text, re.MULTILINE)]
