"""An hour's folder, opened at home: its results by name, and the learner's sealed guesses beside them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from labsupport.core import files
from labsupport.core.files import LabError, short
from labsupport.core.tables import Table
from labsupport.core.text import with_unit
from labsupport.gpu_hour import figures
from labsupport.gpu_hour.keeping import Book
from labsupport.teaching import predictions, sealed

REHEARSED = "a rehearsal with a small model on a processor, which says nothing about a card"
REHEARSE = "`python3 lab.py gpu-hour --budget 2 --rate 0.80 --dry-run`"
FOLDERS = ("gpu_hour", "gpu_hour_rehearsal")  # in runs/; a card's results count before a rehearsal's


def seal(name: str, guess, again: bool = False) -> None:
    """Seal a guess of one of figures.UNITS, in its unit, as sealed.seal does. LabError for another name."""
    sealed.seal(name, guess, figures.unit(name), again, opened_by="reading.compare()")


def home() -> Path | None:
    """The folder in runs/ that holds results, the hour's rather than its rehearsal's; None without any."""
    folders = [files.RUNS / name for name in FOLDERS]
    return next((folder for folder in folders if any((folder / "results").glob("*.json"))), None)


def opened(folder: str | Path | None = None) -> dict[str, dict]:
    """Job -> its document, of every result in the folder (by default that of `home`); stopped jobs have
    "finished": False. LabError, naming the file, where there is none or one is damaged."""
    folder = (home() or files.RUNS / FOLDERS[0]) if folder is None else Path(folder)
    found = sorted((folder / "results").glob("*.json"))
    if not found:
        raise LabError(
            f"{short(folder)} holds no results: copy the folder of the rented machine there, or rehearse by "
            f"{REHEARSE}."
        )
    results = {}
    for file in found:
        document = files.read_json(file)
        if not isinstance(document, dict) or not isinstance(document.get("steps"), dict):
            raise LabError(f"{short(file)} is damaged: copy it from the rented machine again.")
        results[file.stem] = document
    return results


def compare(
    folder: str | Path | None = None, guesses: Mapping[str, float | None] | None = None
) -> Table | None:
    """A table of every figure that the folder holds: guess, plan, measurement, and how far the guess is off.

    folder: by default that of `home`; without one a line says how to get one. guesses: names of figures.UNITS
    -> a number or None; by default those that were sealed. LabError as `opened`, for a damaged file of
    guesses and for a guess that is no number.
    """
    folder = home() if folder is None else Path(folder)
    if folder is None:
        print(
            f"No results yet. Rehearse the hour by {REHEARSE}, or copy the rented machine's folder to "
            f"{short(files.RUNS / FOLDERS[0])}; then run this again."
        )
        return None
    results, book = opened(folder), Book(folder)
    known = _sealed() if guesses is None else _given(guesses)
    rows, missing = [], []
    for name, unit in figures.UNITS.items():
        value = figures.measured(results, book, name)
        if value is None:
            missing.append(name)
            continue
        guess, off = _guessed(known.get(name, []), value, unit)
        rows.append([name, guess, _planned(book, name, unit), with_unit(value, unit), off])
    headings = ["figure", "your guess", "plan", "measured", "your guess is"]
    return Table(headings, rows, _caption(results, book, missing))


def _sealed() -> dict[str, list[tuple]]:
    """Name -> (guess, unit) of every guess that was sealed, the last first."""
    return {name: [guess[:2] for guess in reversed(kept)] for name, kept in sealed.history().items()}


def _given(guesses: Mapping[str, float | None]) -> dict[str, list[tuple]]:
    """The same of guesses that were handed over, in the figures' units."""
    for name, guess in guesses.items():
        if guess is not None and not sealed.is_guess(guess):
            raise LabError(f"The guess of {name} is {guess!r}: give a plain number, or None.")
    return {name: [(guess, figures.unit(name))] for name, guess in guesses.items() if guess is not None}


def _guessed(kept: list[tuple], value: float, unit: str) -> tuple[str, str]:
    """(the guess and those that it replaced, how far it is off)."""
    if not kept:
        return "none", ""
    (guess, own), *before = kept
    shown = with_unit(guess, own)
    if before:
        shown += f" (before: {', '.join(with_unit(*one) for one in before)})"
    return shown, predictions.verdict(guess, value, unit) if own == unit else f"not in {unit or 'this unit'}"


def _planned(book: Book, name: str, unit: str) -> str:
    planned = figures.plan(book, name)
    if planned is None:
        return "none"
    low, high = (with_unit(end, "", 2) for end in planned)
    return f"{low if low == high else f'{low} to {high}'} {unit}".strip()


def _caption(results: Mapping[str, dict], book: Book, missing: list[str]) -> str:
    """Where the measurements come from, and which figures are not among them."""
    if book.about.get("rehearsal") or any(document.get("rehearsal") for document in results.values()):
        origin = f"From {REHEARSED}; the plan is for {book.about.get('planned_for', 'a card')}"
    else:
        origin = f"Measured on {(book.about.get('card') or {}).get('name', 'a rented card')}"
    return f"{origin}." + (f" Not in this folder: {'; '.join(missing)}." if missing else "")
