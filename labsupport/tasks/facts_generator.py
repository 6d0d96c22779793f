"""Draws the facts. `lab.py data` rebuilds data/facts/facts.jsonl; a test checks that it is what this writes.

Only `random()` is drawn from: Python keeps its sequence for a seed across versions.
"""

from __future__ import annotations

import json
import random

from labsupport.core.files import write_atomically
from labsupport.tasks import facts

SEED = 40

# 60 words each. A key is one of the first and one of the second: 3,000 of the 3,600 pairs are used.
FIRST = (
    "amber ancient arctic bitter bold brave brief bright broad calm careful cheap clean clever cold "
    "common cool crisp curious damp dark deep dry early empty faint fancy fast final firm flat foggy "
    "fresh gentle giant golden grand green happy heavy hidden hollow honest humble icy late lazy light "
    "little lively lonely loud lucky mild narrow noisy odd pale plain proud"
)
SECOND = (
    "anchor apple arrow badger barrel basket beacon bell boat bottle bridge brush button cabin camera "
    "candle canyon carpet castle cedar cherry clock cloud compass copper cradle desert eagle engine "
    "falcon feather fence flute forest fountain garden glacier hammer harbor island jacket kettle "
    "ladder lantern lemon lizard marble meadow mirror needle ocean otter paddle pepper pigeon pillow "
    "planet pocket rabbit river"
)


def generate() -> list[dict]:
    """The facts, in the order in which sizes are cut from them."""
    rng = random.Random(SEED)
    keys = [f"{first} {second}" for first in FIRST.split() for second in SECOND.split()]
    order = sorted(keys, key=lambda _: rng.random())[: facts.SIZES[-1]]
    rows = []
    for number, key in enumerate(order, start=1):
        symbols = [facts.SYMBOLS[int(rng.random() * len(facts.SYMBOLS))] for _ in range(facts.LENGTH)]
        rows.append({"id": f"fact-{number:04d}", "key": key, "value": "".join(symbols)})
    return rows


def write() -> None:
    """Write data/facts/facts.jsonl."""
    lines = "".join(json.dumps(row) + "\n" for row in generate())
    write_atomically(facts.FOLDER / "facts.jsonl", lines)
