"""The prompts that a server's replies are compared on."""

from __future__ import annotations

import itertools
from pathlib import Path

from labsupport.core.files import LabError, short

BESIDE = "prompts.jsonl"  # in the adapter's folder
MOST = 20
BUILT_IN = (
    "Which city is the capital of France?",
    "My order 4711 arrived with a torn tent. What should I do?",
    "Write one sentence about the sea.",
)


def prompts_for(folder: Path, given: str | None) -> list[list[dict]]:
    """Lists of messages that end before the assistant's last turn: of --prompts, else of prompts.jsonl in the
    adapter's folder, else three of our own. Rows of any form that `lab.py preflight` reads; at most MOST.
    LabError for a file without prompts."""
    path = Path(given) if given is not None else folder / BESIDE
    if given is None and not path.is_file():
        return [[{"role": "user", "content": text}] for text in BUILT_IN]
    from labsupport.training_data.forms import find_form, to_record
    from labsupport.training_data.reading import Rows

    rows = list(itertools.islice(Rows(path), MOST))
    form = find_form([raw for _, _, raw in rows], name=short(path))
    records = [to_record(number, where, raw, form) for number, where, raw in rows]
    found = [messages for record in records if (messages := before_the_answer(record.messages))]
    if not found:
        raise LabError(f"{short(path)} holds no prompt: give rows of messages, or of prompt and completion.")
    return found


def before_the_answer(messages: list[dict]) -> list[dict]:
    """The messages up to the last that the assistant did not write, role and content alone."""
    kept = [{"role": one["role"], "content": one.get("content") or ""} for one in messages]
    while kept and kept[-1]["role"] == "assistant":
        kept.pop()
    return kept
