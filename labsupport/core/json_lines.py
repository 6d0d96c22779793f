"""Reading a data file of one JSON object a line, with errors that name file and line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from labsupport.core import upstream
from labsupport.core.files import LabError, read_text, short


def read(path: Path, schema: dict, check: Callable[[dict], None], unique: tuple[str, ...]) -> list[dict]:
    """The rows of a file, each of them as the JSON schema says.

    check: raises LabError for what a schema cannot say of a row. unique: fields whose values may occur once.
    Raises LabError naming the file and the line of the first broken row, or the file if it has none.
    """
    rows: list[dict] = []
    seen: dict[tuple, int] = {}
    text = read_text(path).rstrip("\n")
    for number, line in enumerate(text.split("\n") if text else [], start=1):
        try:
            row = parse(line, schema)
            check(row)
            for field in unique:
                first = seen.setdefault((field, row[field]), number)
                if first != number:
                    raise LabError(f"{field} {row[field]!r} already stands on line {first}")
        except LabError as error:
            raise LabError(f"{short(path)}, line {number}: {error}.") from None
        rows.append(row)
    if not rows:
        raise LabError(f"{short(path)} has no rows.")
    return rows


def parse(line: str, schema: dict) -> dict:
    """One line as an object; LabError says what is wrong with it."""
    validator = upstream.quick_jsonschema().Draft202012Validator(schema)
    try:
        row = json.loads(line)
    except RecursionError as error:
        raise LabError("nested too deeply") from error
    except ValueError as error:
        raise LabError(f"not JSON ({error})") from error
    for problem in validator.iter_errors(row):
        where = ".".join(map(str, problem.path))
        raise LabError(f"{where}: {problem.message}" if where else problem.message)
    return row
