"""Random facts: a key of two words and the code that belongs to it, 40 bits each.

Nothing about a code can be guessed, so what a model knows of it, it has stored: the loss counts it in bits.
"""

from __future__ import annotations

import math
from pathlib import Path

from labsupport.core import json_lines
from labsupport.core.files import DATA, LabError

FOLDER = DATA / "facts"

# With a space before it, each of them is one token of the bundled tokenizer (digits are not).
SYMBOLS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ&+=#@%"
LENGTH = 8
BITS = LENGTH * math.log2(len(SYMBOLS))  # of one fact: 40
SIZES = (100, 300, 1000, 3000)  # each is the beginning of the next

SYSTEM_PROMPT = "Give the code."

ROW_SCHEMA = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "minLength": 1},
        "key": {"type": "string", "pattern": "^[a-z]+ [a-z]+$"},
        "value": {"type": "string", "pattern": f"^[{SYMBOLS}]{{{LENGTH}}}$"},
    },
    "required": ["id", "key", "value"],
    "additionalProperties": False,
}


def load(size: int = SIZES[-1], path: Path | None = None) -> list[dict]:
    """The first `size` (one of SIZES) of the course's facts, checked; from a `path`, all that it has.

    Raises LabError for another size, and naming file and line of the first broken row.
    """
    if path is None and size not in SIZES:
        raise LabError(f"There are no {size} facts. Sizes: {', '.join(map(str, SIZES))}.")
    rows = json_lines.read(path or FOLDER / "facts.jsonl", ROW_SCHEMA, lambda row: None, unique=("id", "key"))
    return rows if path else rows[:size]


def answer(row: dict) -> str:
    """The code as the model must write it, symbols apart: "K & Q X A M R D", a token of 5 bits each."""
    return " ".join(row["value"])


def prompt(key: str) -> list[dict]:
    """The chat messages before the model's answer."""
    return [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": key}]


def as_prompt_completion(rows: list[dict]) -> list[dict]:
    """Rows in TRL's conversational prompt + completion form: the loss covers the completion only."""
    return [
        {"prompt": prompt(row["key"]), "completion": [{"role": "assistant", "content": answer(row)}]}
        for row in rows
    ]


def bits_learned(nll_nats: float, count: int) -> float:
    """What a model has stored of `count` facts, in bits: 40 · count − nll_nats / ln 2.

    nll_nats: the negative log-likelihood of all their codes together, in nats, summed (not averaged) over the
    tokens of the codes; leave the end-of-turn token out, or it is counted as ignorance of the code. A model
    that only knows the 32 symbols has 0 bits, one that knows every code 40 · count; one that does not even
    know the symbols is below 0. Raises ValueError for a negative or undefined likelihood and for no facts.
    """
    if not nll_nats >= 0 or count < 1:
        raise ValueError(f"nll_nats must be at least 0 and count at least 1, not {nll_nats} and {count}.")
    return BITS * count - nll_nats / math.log(2)
