"""What a learner asked and named in the clinic: one JSON file, `clinic.json` beside the progress file.

Kept only where the learner's kernels start, in the folder of the progress file (my_work/): a worked solution,
a script or a test is nobody's bill, and its entries last as long as its process.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path

import filelock

from labsupport.core.files import LabError, cannot_write, short, write_atomically
from labsupport.teaching import answer_store

VERSION = 1
_of_this_process: dict[str, dict[str, dict]] = {}  # by edition, where no file is kept


def path() -> Path:
    return answer_store.path().with_name("clinic.json")


def kept() -> bool:
    """Whether entries outlast this process."""
    return Path.cwd().is_relative_to(path().parent)


def load(edition: str) -> tuple[dict[str, dict], str]:
    """Case number -> {"probes": [...], "named": [...]} in the order asked, and "" or a sentence about a file
    that was set aside: a damaged one, or one of other cases than this edition's.

    Raises LabError for a file that cannot be read or that a newer edition of the course wrote.
    """
    if not kept():
        return copy.deepcopy(_of_this_process.get(edition, {})), ""
    if not path().exists():
        return {}, ""
    with locked():
        return read_or_set_aside(edition)


def record(edition: str, case: str, kind: str, value: str) -> str:
    """Add a probe (kind "probes") or a cause ("named") to a case, once: "" if all is well, else one sentence.

    Never raises LabError: a full disk must not keep an answer that was paid for from its learner.
    """
    if not kept():
        add(_of_this_process.setdefault(edition, {}), case, kind, value)
        return ""
    try:
        with locked():
            cases, note = read_or_set_aside(edition)
            add(cases, case, kind, value)
            content = {"version": VERSION, "edition": edition, "cases": cases}
            write_atomically(path(), json.dumps(content, indent=1) + "\n")
    except LabError as error:
        return f"This was not recorded. {error}"
    return note


def add(cases: dict[str, dict], case: str, kind: str, value: str) -> None:
    entry = cases.setdefault(case, {"probes": [], "named": []})
    if value not in entry[kind]:
        entry[kind].append(value)


def locked():
    """Two notebooks may ask at once; without the lock one entry would be lost."""
    file = path().with_name(f".{path().name}.lock")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        return filelock.FileLock(file, timeout=answer_store.PATIENCE).acquire()
    except filelock.Timeout as error:
        raise LabError(f"{short(path())} is in use by another notebook. Do it again in a moment.") from error
    except OSError as error:
        raise cannot_write(path(), error) from error


def read_or_set_aside(edition: str) -> tuple[dict[str, dict], str]:
    """The entries and a note. Call it under the lock."""
    try:
        content = json.loads(path().read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, ""
    except OSError as error:
        raise LabError(f"Cannot read {short(path())}: {error.strerror}. Mend its rights.") from error
    except (ValueError, RecursionError):
        content = None
    version = content.get("version") if isinstance(content, dict) else None
    if isinstance(version, int) and version > VERSION:
        raise LabError(
            f"{short(path())} was written by a newer edition of the course: update it, or rename the file."
        )
    if version != VERSION or not are_entries(content.get("cases")):
        return {}, f"{short(path())} was damaged and is now {set_aside('bad')}; a new bill begins."
    if content.get("edition") != edition:
        return (
            {},
            f"The cases have changed: your earlier bill is now {set_aside('old')}, and a new one begins.",
        )
    return content["cases"], ""


def are_entries(cases) -> bool:
    return isinstance(cases, dict) and all(
        number.isdecimal()
        and isinstance(entry, dict)
        and set(entry) == {"probes", "named"}
        and all(isinstance(each, list) and all(isinstance(v, str) for v in each) for each in entry.values())
        for number, entry in cases.items()
    )


def set_aside(ending: str) -> str:
    """Rename the file, over no earlier one; its new name."""
    names = answer_store.names_like(path().with_name(f"{path().name}.{ending}"))
    target = next(name for name in names if not name.exists())
    try:
        path().rename(target)
    except OSError as error:
        raise cannot_write(target, error) from error
    return target.name
