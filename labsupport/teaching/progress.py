"""Which checkpoint questions are answered, which are right, and what is open next."""

from __future__ import annotations

from labsupport.core.files import short
from labsupport.teaching import answer_store, quiz


def summary() -> dict:
    """{"file", "notebooks": [{notebook, questions, answered, right, next}], "next", "note"}.

    `next` is the first question that is not answered right yet, or None. Raises LabError for an unreadable
    file.
    """
    answers, note = answer_store.load()
    rows = []
    for notebook, questions in quiz.catalogue().items():
        given = {q.number: answers[q.kept_as]["right"] for q in questions if q.kept_as in answers}
        rows.append(
            {
                "notebook": notebook,
                "questions": len(questions),
                "answered": len(given),
                "right": sum(given.values()),
                "next": next((q.number for q in questions if not given.get(q.number)), None),
            }
        )
    following = next((row["next"] for row in rows if row["next"]), None)
    return {"file": short(answer_store.path()), "notebooks": rows, "next": following, "note": note}
