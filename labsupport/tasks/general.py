"""General text that no task of the course is about: what a fine-tune does to it is forgetting."""

from __future__ import annotations

from pathlib import Path

from labsupport.core import json_lines
from labsupport.core.files import DATA, LabError

FOLDER = DATA / "general"

KINDS = (
    "encyclopedia", "how-to", "narrative", "dialogue", "letter", "report", "python", "mathematics", "recipe",
    "chat", "poem", "other-language",
)  # fmt: skip
CONTENT = {"type": "string", "minLength": 1}
MESSAGE = {
    "type": "object",
    "properties": {"role": {"enum": ["user", "assistant"]}, "content": CONTENT},
    "required": ["role", "content"],
    "additionalProperties": False,
}
ROW_SCHEMA = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "minLength": 1},
        "kind": {"enum": list(KINDS)},
        "text": CONTENT,
        "messages": {"type": "array", "items": MESSAGE, "minItems": 2},
    },
    "required": ["id", "kind"],
    "additionalProperties": False,
}


def load(path: Path | None = None) -> list[dict]:
    """The passages, checked: a row of kind "chat" has `messages`, any other has `text`.

    Raises LabError naming file and line of the first broken one.
    """
    seen: dict[str, str] = {}

    def check(row: dict) -> None:
        check_row(row)
        first = seen.setdefault(content(row), row["id"])
        if first != row["id"]:
            raise LabError(f"has the same content as {first!r}; remove one of them")

    return json_lines.read(path or FOLDER / "passages.jsonl", ROW_SCHEMA, check, unique=("id",))


def check_row(row: dict) -> None:
    """LabError if a row lacks the field that its kind has, has a ragged end, or a chat does not alternate."""
    field, other = ("messages", "text") if row["kind"] == "chat" else ("text", "messages")
    if field not in row or other in row:
        raise LabError(f"a row of kind {row['kind']!r} has {field!r}, and no {other!r}")
    for said in [row["text"]] if field == "text" else [message["content"] for message in row["messages"]]:
        if said != said.strip():
            raise LabError(f"{field}: {said.strip()[:20]!r} begins or ends with white space")
    roles = [message["role"] for message in row.get("messages", [])]
    if roles != ["user", "assistant"] * (len(roles) // 2):
        raise LabError("messages: must alternate, from 'user' to 'assistant' at the end")


def content(row: dict) -> str:
    """What a row says, without the markers of a chat template: the messages as paragraphs."""
    if "text" in row:
        return row["text"]
    return "\n\n".join(message["content"] for message in row["messages"])


def encode(row: dict, tokenizer) -> tuple[list[int], int]:
    """The passage as token ids, and the place of the first of them that is to be scored.

    A chat goes through the tokenizer's template. What that puts before the first message (often a system
    turn, the same for every row) is context only; of a text, the first token has nothing before it.
    """
    if "text" in row:
        return tokenizer(row["text"])["input_ids"], 1
    ids, others = (
        tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"]
        for messages in (row["messages"], [{"role": "user", "content": "\N{SNOWMAN}"}])
    )
    first = 0
    while ids[first] == others[first]:
        first += 1
    return ids, first
