"""`lab.py progress`: which checkpoint questions are answered, which are right, and what is open next."""

from __future__ import annotations

import argparse
import json

from labsupport.core.files import short
from labsupport.teaching import quiz
from labsupport.teaching.answer_store import load, path, record

__all__ = ["as_json", "load", "main", "record", "report"]


def as_json() -> dict:
    """{"file", "notebooks": [{notebook, questions, answered, right, next}], "next", "note"}.

    `next` is the first question that is not answered right yet, or None. Raises LabError for an unreadable
    file.
    """
    answers, note = load()
    return summary(answers) | {"note": note}


def summary(answers: dict[str, dict]) -> dict:
    rows = []
    for notebook, questions in quiz.catalogue().items():
        given = {q.id: answers[q.id]["right"] for q in questions if q.id in answers}
        rows.append(
            {
                "notebook": notebook,
                "questions": len(questions),
                "answered": len(given),
                "right": sum(given.values()),
                "next": next((q.id for q in questions if not given.get(q.id)), None),
            }
        )
    following = next((row["next"] for row in rows if row["next"]), None)
    return {"file": short(path()), "notebooks": rows, "next": following}


def report() -> str:
    """The same as a table and a sentence. Raises LabError for an unreadable file."""
    answers, note = load()
    result = summary(answers)
    rows = result["notebooks"]
    width = max([8, *(len(row["notebook"]) for row in rows)])
    lines = [f"{'notebook':{width}}  questions  answered  right  next"]
    for row in rows:
        counts = f"{row['questions']:9d}  {row['answered']:8d}  {row['right']:5d}"
        lines.append(f"{row['notebook']:{width}}  {counts}  {row['next'] or '-'}")
    notebook = next((row["notebook"] for row in rows if row["next"]), None)
    last = f"Next: question {result['next']}, at the end of {notebook}." if notebook else "All are right."
    return "\n".join([*([note] if note else []), *lines, last])


def main(arguments: list[str]) -> int:
    """The verb. Raises LabError for an unreadable file."""
    parser = argparse.ArgumentParser(prog="lab.py progress", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    asked = parser.parse_args(arguments)
    print(json.dumps(as_json(), indent=1) if asked.json else report())
    return 0
