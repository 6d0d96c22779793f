"""How many tokens the rows of a learner's own file have, roughly: for an estimate before any tokenizer."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from labsupport.core.files import LabError, short
from labsupport.core.numbers import shown

CHARACTERS_A_TOKEN = 4
WANTED = "give JSON Lines, one row a line, or one JSON array of rows"
WRAPPERS = ("data", "rows", "train", "examples", "instances", "dataset")  # keys under which all rows stand


def row_lengths(path: str | Path) -> list[int]:
    """Tokens of each row of a file of JSON Lines or of one JSON array, at 4 characters a token. LabError,
    naming file and line, if it is neither. Of JSON Lines one line at a time is held in memory."""
    path = Path(path)
    lines = _lines(path)
    first = next(lines, None)
    if first is None:
        raise LabError(f"{short(path)} holds no rows.")
    if first[1].startswith("["):
        rows = _of_array_or_lines(path, [first, *lines])
    else:
        rows = (
            _row(line, f"{short(path)}, line {number},") for number, line in itertools.chain([first], lines)
        )
    lengths = [max(1, math.ceil(characters(row) / CHARACTERS_A_TOKEN)) for row in rows]
    if not lengths:
        raise LabError(f"{short(path)} holds no rows.")
    return lengths


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number, line) of a file's lines that are not blank, without blanks at their ends. Only a line feed
    ends one: JSON may hold U+2028 and its like."""
    try:
        if path.exists() and not (path.is_file() or path.is_fifo()):
            raise LabError(f"{short(path)} is no file: {WANTED}.")
        with path.open("rb") as file:
            before = 0
            for number, line in enumerate(file, start=1):
                if text := line.decode("utf-8-sig" if number == 1 else "utf-8").strip():
                    yield number, text
                before += len(line)
    except OSError as error:
        raise LabError(f"Cannot read {short(path)}: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise LabError(f"{short(path)} is not UTF-8 text (byte {before + error.start}): {WANTED}.") from error


def _of_array_or_lines(path: Path, lines: list[tuple[int, str]]) -> list:
    """The items of one JSON array, or, of lines that are an array each, these."""
    begins = f"{short(path)} begins like a JSON array and"
    try:
        return parsed("\n".join(line for _, line in lines), begins)
    except LabError:
        if len(lines) == 1:
            raise
        with contextlib.suppress(LabError):
            return [parsed(line, "") for _, line in lines]
        raise


def _row(line: str, where: str):
    """The row on one line of JSON Lines. LabError for what is none, or holds all rows at once."""
    row = parsed(line, where)
    if not isinstance(row, (dict, list, str)):
        raise LabError(f"{where} holds {shown(row)}, which is no row: {WANTED}.")
    for key in WRAPPERS:
        if isinstance(row, dict) and isinstance(row.get(key), list):
            raise LabError(f"{where} holds {len(row[key])} rows at once, under {key!r}: {WANTED}.")
    return row


def padded_length(lengths: list[int], rows: int) -> int:
    """Tokens a row that are computed where so many rows, drawn at random, are filled up to the longest.

    The longest of n draws is at most the i-th shortest of N lengths with a chance of (i / N)^n.
    """
    count, ordered = len(lengths), sorted(lengths)
    chances = ((place / count) ** rows for place in range(count + 1))
    return round(sum(one * (b - a) for one, (a, b) in zip(ordered, pairwise(chances), strict=True)))


def parsed(text: str, what: str):
    """The value of a JSON text; LabError that begins with `what`."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise LabError(f"{what} is nested too deeply.") from error
    except ValueError as error:
        raise LabError(f"{what} is not JSON: {error}; {WANTED}.") from error


def characters(value) -> int:
    """Characters of all values in a JSON value, keys not counted."""
    total, open_values = 0, [value]  # no recursion: what JSON could be read may be nested deeply
    while open_values:
        value = open_values.pop()
        if isinstance(value, dict):
            open_values += value.values()
        elif isinstance(value, list):
            open_values += value
        else:
            total += len(str(value))
    return total
