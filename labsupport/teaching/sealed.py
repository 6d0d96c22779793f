"""Sealed guesses: written down before the measurement, opened beside it, perhaps days later.

One JSON file, `guesses.json` beside the progress file (my_work/). Of each name it keeps every guess in the
order given, with its unit and date. None is ever overwritten, so whoever opens one sees when it was made.
"""

from __future__ import annotations

import datetime
import json
import math
import reprlib
from pathlib import Path

import filelock

from labsupport.core.files import LabError, cannot_write, short, write_atomically
from labsupport.core.text import with_unit
from labsupport.teaching import answer_store, predictions

VERSION = 1
OPENED_BY = "sealed.guesses()"


def path() -> Path:
    return answer_store.path().with_name("guesses.json")


def seal(name: str, guess, unit: str = "", again: bool = False, opened_by: str = OPENED_BY) -> None:
    """Keep a guess under a name with its unit and today's date, and print one line.

    None and `...` are no guess yet, and what is no finite number is asked for again: neither is kept. A name
    that is sealed keeps its value; with `again` the new one is kept beside it and counts from then on.
    opened_by: what the line says that opens it. LabError for a name that is no text, and for a file that
    cannot be read or written.
    """
    if not isinstance(name, str) or not name.strip():
        raise LabError(f"A guess is sealed under a name, such as 'peak memory', not {reprlib.repr(name)}.")
    if guess is None or guess is ...:
        print(f"{name}: no guess yet")
        return
    value = predictions.plain_number(guess)
    if not is_guess(value):
        print(f"{name}: {reprlib.repr(guess)} cannot be sealed; give a plain number, such as 3.5")
        return
    with locked():
        kept = read()
        before = kept.get(name, [])
        same = bool(before) and (before[-1]["guess"], before[-1]["unit"]) == (value, unit)
        if same or (before and not again):
            refused = f"; {with_unit(value, unit)} was not kept: seal(..., again=True) keeps both"
            print(f"already sealed: {name}, {said(before[-1])}{'' if same else refused}")
            return
        entry = {"guess": value, "unit": unit, "date": datetime.date.today().isoformat()}
        kept[name] = [*before, entry]
        content = {"version": VERSION, "guesses": kept}
        write_atomically(path(), json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    also = f" (before: {'; '.join(map(said, before))})" if before else ""
    print(f"sealed: {name}, {said(entry)}{also}; open it with {opened_by}")


def guesses() -> dict[str, tuple[float, str, str]]:
    """Name -> (value, unit, date as "2026-11-29") of the guess that counts, the last; names in the order
    of sealing. LabError for a file that cannot be read."""
    return {name: kept[-1] for name, kept in history().items()}


def history() -> dict[str, list[tuple[float, str, str]]]:
    """The same of every guess under a name, the first first."""
    return {
        name: [(entry["guess"], entry["unit"], entry["date"]) for entry in entries]
        for name, entries in read().items()
    }


def said(entry: dict) -> str:
    """12 GiB on 29 November"""
    date = datetime.date.fromisoformat(entry["date"])
    return f"{with_unit(entry['guess'], entry['unit'])} on {date.day} {date:%B}"


# ---------------------------------------------------------------- the file


def read() -> dict[str, list[dict]]:
    """Name -> its guesses, the first first. LabError for a file that is damaged or of a newer edition, which
    stays as it is."""
    try:
        content = json.loads(path().read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        fix = "Mend its rights or, if it is a folder, rename it"
        raise LabError(f"Cannot read {short(path())}: {error.strerror}. {fix}.") from error
    except (ValueError, RecursionError):
        content = None
    version = content.get("version") if isinstance(content, dict) else None
    if isinstance(version, int) and version > VERSION:
        raise LabError(
            f"{short(path())} was written by a newer edition of the course: update it, or rename the file."
        )
    if version != VERSION or not are_guesses(content.get("guesses")):
        raise LabError(
            f"{short(path())}, the file of your sealed guesses, is damaged and was left as it is: mend it, "
            "or rename it to begin a new one."
        )
    return content["guesses"]


def are_guesses(found) -> bool:
    return isinstance(found, dict) and all(
        isinstance(entries, list) and entries and all(map(is_entry, entries)) for entries in found.values()
    )


def is_entry(entry) -> bool:
    if not isinstance(entry, dict) or set(entry) != {"guess", "unit", "date"}:
        return False
    try:
        datetime.date.fromisoformat(entry["date"])
    except (TypeError, ValueError):
        return False
    return isinstance(entry["unit"], str) and is_guess(entry["guess"])


def is_guess(value) -> bool:
    """A finite number of a size that can be compared."""
    return predictions.plain_number(value) is not None and math.isfinite(value)


def locked():
    """Two notebooks may seal at once; without the lock one guess would be lost."""
    file = path().with_name(f".{path().name}.lock")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        return filelock.FileLock(file, timeout=answer_store.PATIENCE).acquire()
    except filelock.Timeout as error:
        raise LabError(f"{short(path())} is in use by another notebook. Do it again in a moment.") from error
    except OSError as error:
        raise cannot_write(path(), error) from error
