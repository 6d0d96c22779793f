"""Questions on a shop's policy: answered from the snippet in the prompt, or refused where it does not say.

`labsupport/tasks/policy_judge.py` decides whether a reply is right.
"""

from __future__ import annotations

from pathlib import Path

from labsupport.core import json_lines
from labsupport.core.files import DATA, LabError
from labsupport.tasks.policy_judge import judge, normalise

FOLDER = DATA / "policy"
SPLITS = ("train", "validation", "test")
REFUSAL = "I can't answer that from the policy."

SYSTEM_PROMPT = f'Answer from the policy in one sentence. If it does not say, write "{REFUSAL}"'

STRINGS = {"type": "array", "items": {"type": "string", "minLength": 1}}
ROW_SCHEMA = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "minLength": 1},
        "family": {"type": "string", "minLength": 1},
        "policy": {"type": "string", "minLength": 1},
        "question": {"type": "string", "minLength": 1},
        "answer": {"type": "string", "minLength": 1},
        "answerable": {"type": "boolean"},
        "must_contain": STRINGS,
        "must_not_contain": STRINGS,
    },
    "required": [
        "id", "family", "policy", "question", "answer", "answerable", "must_contain", "must_not_contain",
    ],
    "additionalProperties": False,
}  # fmt: skip


def prompt(row: dict) -> list[dict]:
    """The chat messages before the model's answer."""
    asked = f"Policy: {row['policy']}\n\nQuestion: {row['question']}"
    return [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": asked}]


def as_prompt_completion(rows: list[dict]) -> list[dict]:
    """Rows in TRL's conversational prompt + completion form: the loss covers the completion only."""
    return [
        {"prompt": prompt(row), "completion": [{"role": "assistant", "content": row["answer"]}]}
        for row in rows
    ]


def load(split: str, path: Path | None = None) -> list[dict]:
    """The rows of a split, checked. Raises LabError naming file and line of the first broken one."""
    if path is None and split not in SPLITS:
        raise LabError(f"Unknown split {split!r}. There are: {', '.join(SPLITS)}.")
    policies: dict[str, str] = {}

    def check(row: dict) -> None:
        check_row(row)
        if policies.setdefault(row["family"], row["policy"]) != row["policy"]:
            raise LabError(f"family {row['family']!r} has another policy further up")

    return json_lines.read(path or FOLDER / f"{split}.jsonl", ROW_SCHEMA, check, unique=("id",))


def check_row(row: dict) -> None:
    """LabError if a row contradicts itself: its answer must be right, and the refusal only where it is."""
    if row["answerable"] == (row["answer"] == REFUSAL):
        raise LabError(f"answer: must be {REFUSAL!r} where answerable is false, and only there")
    if row["answerable"] != bool(row["must_contain"]):
        raise LabError("must_contain: needs an entry where answerable is true, and only there")
    for entry in row["must_contain"] + row["must_not_contain"]:
        for wording in entry.split("|"):
            if normalise(wording) != wording:
                raise LabError(f"{wording!r} can never match: write {normalise(wording)!r}")
            if "*" in wording[:-1]:
                raise LabError(f"{wording!r} can never match: '*' may stand at the end only")
    if not judge(row, row["answer"])["right"]:
        raise LabError(f"answer {row['answer']!r} is not right by must_contain and must_not_contain")
