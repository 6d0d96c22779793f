"""How many tokens the rows of a learner's own file have, roughly: for an estimate before any tokenizer."""

from __future__ import annotations

import json
import math
from pathlib import Path

from labsupport.core.files import LabError, short

CHARACTERS_A_TOKEN = 4


def row_lengths(path: str | Path) -> list[int]:
    """Tokens of each row of a JSON Lines file, at 4 characters a token. LabError if unreadable."""
    path = Path(path)
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        rows = [json.loads(line) for line in lines]
    except OSError as error:
        raise LabError(f"Cannot read {short(path)}: {error.strerror or error}.") from error
    except ValueError as error:
        raise LabError(f"{short(path)} is not JSON Lines: {error}.") from error
    if not rows:
        raise LabError(f"{short(path)} holds no rows.")
    return [max(1, math.ceil(characters(row) / CHARACTERS_A_TOKEN)) for row in rows]


def characters(value) -> int:
    """Characters of all values in a JSON value, keys not counted."""
    if isinstance(value, dict):
        return sum(map(characters, value.values()))
    if isinstance(value, list):
        return sum(map(characters, value))
    return len(str(value))
