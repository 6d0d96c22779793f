"""The course's task: a support message in, one line of JSON out.

The schema, the prompt, reading and checking the data files, and reading a model's answer.
"""

from __future__ import annotations

import json
from pathlib import Path

from labsupport.core import json_lines
from labsupport.core.files import DATA, LabError

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
    except (ValueError, RecursionError):
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
    return json_lines.read(path or FOLDER / f"{split}.jsonl", ROW_SCHEMA, check_row, unique=("id",))


def one_of_each_family(rows: list[dict]) -> list[dict]:
    """One row of each family, in the families' order: rows of a family share a phrasing.

    It is the last row, because the published records hold those.
    """
    return list({row["family"]: row for row in rows}.values())


def check_row(row: dict) -> None:
    """LabError if a row's product or order id is not its text's own words."""
    for field in ("product", "order_id"):
        if row[field] is not None and row[field] not in row["text"]:
            raise LabError(f"{field} {row[field]!r} does not occur in the text")
