"""The canary: 120 easy questions that the base model answers before any fine-tune."""

from __future__ import annotations

from pathlib import Path

from labsupport.core import json_lines
from labsupport.core.files import DATA, LabError

FOLDER = DATA / "canary"

CHOICES = 4

ROW_SCHEMA = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "minLength": 1},
        "subject": {"type": "string", "minLength": 1},
        "question": {"type": "string", "pattern": "\\?$"},
        "choices": {
            "type": "array",
            "items": {"type": "string", "pattern": "^\\S(.*\\S)?$"},
            "minItems": CHOICES,
            "maxItems": CHOICES,
        },
        "answer": {"type": "integer", "minimum": 0, "maximum": CHOICES - 1},
    },
    "required": ["id", "subject", "question", "choices", "answer"],
    "additionalProperties": False,
}


def load(path: Path | None = None) -> list[dict]:
    """The questions, checked: `answer` is the place of the right choice, from 0.

    Raises LabError naming file and line of the first broken one.
    """
    path = path or FOLDER / "questions.jsonl"
    return json_lines.read(path, ROW_SCHEMA, check_row, unique=("id", "question"))


def check_row(row: dict) -> None:
    """LabError if one choice repeats or begins with another."""
    lowered = [choice.lower() for choice in row["choices"]]
    for i, a in enumerate(lowered):
        for j, b in enumerate(lowered):
            # The summed likelihood of "ten" would contain that of "tennis".
            if i != j and b.startswith(a):
                raise LabError(f"choice {row['choices'][j]!r} repeats or begins with {row['choices'][i]!r}")
