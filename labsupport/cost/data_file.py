"""How many tokens the rows of a learner's own file have, roughly: for an estimate before any tokenizer."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path

from labsupport.core.files import LabError, read_text, short

CHARACTERS_A_TOKEN = 4


def row_lengths(path: str | Path) -> list[int]:
    """Tokens of each row of a file of JSON Lines or of one JSON array, at 4 characters a token. LabError,
    naming file and line, if it is neither."""
    path = Path(path)
    text = read_text(path)
    if text.lstrip().startswith("["):
        rows = parsed(text, f"{short(path)} begins like a JSON array and")
    else:
        # Not splitlines: JSON may hold U+2028 and its like, which end no line of JSON Lines.
        lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
        rows = [parsed(line, f"{short(path)}, line {number},") for number, line in lines]
    if not rows:
        raise LabError(f"{short(path)} holds no rows.")
    return [max(1, math.ceil(characters(row) / CHARACTERS_A_TOKEN)) for row in rows]


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
        raise LabError(f"{what} is not JSON: {error}.") from error


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
