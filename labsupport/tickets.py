"""The course's task: a support message in, one line of JSON out.

The schema, the prompt, reading and checking the data files, and reading a model's answer.
"""

from __future__ import annotations

import json
from pathlib import Path

from labsupport.files import DATA, LabError, short

FOLDER = DATA / "tickets"
INTENTS = ("delivery", "return", "exchange", "defect", "change", "question", "payment", "account")
URGENCIES = ("low", "normal", "high")
FIELDS = ("intent", "product", "order_id", "urgency")
SPLITS = ("train", "validation", "test_lookalike", "test_production")

SYSTEM_PROMPT = (
    f"JSON with intent: {'|'.join(INTENTS)}; "
    f"product, order_id: copied or null; urgency: {'|'.join(URGENCIES)}"
)

ROW_SCHEMA = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "minLength": 1},
        "family": {"type": "string", "minLength": 1},
        "text": {"type": "string", "minLength": 1},
        "intent": {"enum": list(INTENTS)},
        "product": {"type": ["string", "null"], "minLength": 1},
        "order_id": {"type": ["string", "null"], "minLength": 1},
        "urgency": {"enum": list(URGENCIES)},
    },
    "required": ["id", "family", "text", *FIELDS],
    "additionalProperties": False,
}


def answer(row: dict) -> str:
    """The right answer as the model must write it: compact JSON, keys in the order of FIELDS."""
    label = {field: row[field] for field in FIELDS}
    return json.dumps(label, separators=(",", ":"), ensure_ascii=False)


def prompt(text: str) -> list[dict]:
    """The chat messages before the model's answer."""
    return [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": text}]


def as_prompt_completion(rows: list[dict]) -> list[dict]:
    """Rows in TRL's conversational prompt + completion form: the loss covers the completion only."""
    return [
        {
            "prompt": prompt(row["text"]),
            "completion": [{"role": "assistant", "content": answer(row)}],
        }
        for row in rows
    ]


def parse(reply: str) -> dict | None:
    """A model's reply as a label, or None unless it is exactly the JSON object the task asks for."""
    try:
        label = json.loads(reply)
    except ValueError:
        return None
    if not isinstance(label, dict) or set(label) != set(FIELDS):
        return None
    spans_ok = all(label[f] is None or isinstance(label[f], str) for f in ("product", "order_id"))
    closed_ok = label["intent"] in INTENTS and label["urgency"] in URGENCIES
    return label if spans_ok and closed_ok else None


def load(split: str, path: Path | None = None) -> list[dict]:
    """The rows of a split, checked. Raises LabError naming file and line of the first broken one."""
    if path is None and split not in SPLITS:
        raise LabError(f"Unknown split {split!r}. There are: {', '.join(SPLITS)}.")
    path = path or FOLDER / f"{split}.jsonl"
    rows, seen = [], {}
    try:
        text = path.read_text(encoding="utf-8").rstrip("\n")
    except OSError as error:
        raise LabError(f"Cannot read {short(path)}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise LabError(f"{short(path)} is not UTF-8 text (byte {error.start}).") from error
    for number, line in enumerate(text.split("\n") if text else [], start=1):
        try:
            row = check_row(line)
            if row["id"] in seen:
                raise LabError(f"id {row['id']!r} already stands on line {seen[row['id']]}")
        except LabError as error:
            raise LabError(f"{short(path)}, line {number}: {error}.") from None
        seen[row["id"]] = number
        rows.append(row)
    if not rows:
        raise LabError(f"{short(path)} has no rows.")
    return rows


def check_row(line: str) -> dict:
    """One line of a data file as a row; LabError says what is wrong with it."""
    from jsonschema import Draft202012Validator

    try:
        row = json.loads(line)
    except ValueError as error:
        raise LabError(f"not JSON ({error})") from error
    for problem in Draft202012Validator(ROW_SCHEMA).iter_errors(row):
        where = ".".join(map(str, problem.path))
        raise LabError(f"{where}: {problem.message}" if where else problem.message)
    for field in ("product", "order_id"):
        if row[field] is not None and row[field] not in row["text"]:
            raise LabError(f"{field} {row[field]!r} does not occur in the text")
    return row
