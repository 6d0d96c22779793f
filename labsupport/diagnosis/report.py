"""A diagnosis in words, and as JSON."""

from __future__ import annotations

from labsupport.core.files import short
from labsupport.core.text import number
from labsupport.diagnosis.verdict import Diagnosis, Found
from labsupport.preflight.report import counted, indented, visible
from labsupport.run_folders.causes import PROVES

NOTHING = "Nothing was found that explains a bad result."


def in_words(diagnosis: Diagnosis) -> str:
    """The report for a terminal: what was looked at, each cause with its evidence, what to check next and the
    fix, then what could not be checked."""
    parts = [head(diagnosis), *(paragraph(one) for one in diagnosis.found)]
    if diagnosis.following:
        lines = [f"{one.cause.id} follows from {root.cause.id}." for one, root in diagnosis.following]
        parts.append("Not causes of their own: " + " ".join(lines))
    if diagnosis.run.notes:
        parts.append("\n".join(diagnosis.run.notes))
    parts.append(verdict(diagnosis))
    return visible("\n\n".join(parts))


def head(diagnosis: Diagnosis) -> str:
    """One or two lines: which run, and what was looked at."""
    return f"{short(diagnosis.run.folder)}\nLooked at: {', '.join(looked_at(diagnosis)) or 'nothing'}"


def looked_at(diagnosis: Diagnosis) -> list[str]:
    """What there was to look at."""
    run = diagnosis.run
    seen = []
    if run.state:
        seen.append(f"the log ({counted(len(run.log), 'line')}, {run.state.get('global_step') or 0:,} steps)")
    if run.place is not None:
        rank = run.adapter_config.get("r")
        seen.append(f"the adapter (rank {rank})" if isinstance(rank, int) else "the adapter")
    if run.arguments:
        seen.append("the settings")
    for rows, what in (
        (run.train_rows, "training row"),
        (run.eval_rows, "evaluation row"),
        (run.replies, "replie"),
    ):
        if rows is not None:
            seen.append(counted(len(rows), what) if what != "replie" else replies(len(rows)))
    return seen


def replies(count: int) -> str:
    return "1 reply" if count == 1 else f"{count:,} replies"


def paragraph(found: Found) -> str:
    """A cause: id, title and how sure it is; then evidence, why, what to check and the fix."""
    cause = found.cause
    lines = [f"{cause.id}: {cause.title} ({sureness(found)})"]
    lines += [indented(said(sign)) for sign in found.signs]
    lines += [indented(f"{label}: {text}") for label, text in advice(cause)]
    return "\n".join(lines)


def said(sign) -> str:
    """A sign's text, with where it stands if the text does not say so."""
    return sign.text if not sign.where or sign.where in sign.text else f"{sign.where}: {sign.text}"


def sureness(found: Found) -> str:
    return "proven" if found.strength == PROVES else "suggested, not proven"


def advice(cause) -> list[tuple[str, str]]:
    """What belongs to a cause, whatever the evidence."""
    return [("Why", cause.why), ("Check next", cause.check), ("Fix", cause.fix)]


def verdict(diagnosis: Diagnosis) -> str:
    """The last line."""
    if not diagnosis.found:
        return NOTHING
    first = diagnosis.found[0]
    rest = f", of {number(len(diagnosis.found))} causes found" if len(diagnosis.found) > 1 else ""
    return f"Most likely: {first.cause.id} ({sureness(first)}){rest}."


def as_document(diagnosis: Diagnosis) -> dict:
    """The report for --json: only lists, dicts, strings, numbers and null."""
    run = diagnosis.run
    return {
        "run": str(run.folder),
        "base": run.base,
        "healthy": not diagnosis.found,
        "causes": [as_cause(one) for one in diagnosis.found],
        "following": [as_cause(one) | {"root": root.cause.id} for one, root in diagnosis.following],
        "looked_at": looked_at(diagnosis),
        "notes": list(run.notes),
        "files": {name: str(path) for name, path in run.files.items()},
    }


def as_cause(found: Found) -> dict:
    """A cause for --json."""
    cause = found.cause
    return {
        "id": cause.id,
        "title": cause.title,
        "strength": found.strength,
        "evidence": [
            {"strength": sign.strength, "text": sign.text, "where": sign.where or None}
            for sign in found.signs
        ],
        "why": cause.why,
        "check": cause.check,
        "fix": cause.fix,
    }
