"""Builds train, validation and test_lookalike from template families that a language model wrote.

A family is one way of phrasing a message (`data/tickets/families/INTENT.yaml`). Splits are made by
family, so every test row is phrased as no training row is. `lab.py data` rebuilds the three files;
a test checks that the committed ones are what this code writes.
"""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from labsupport.core.files import LabError, short, write_atomically
from labsupport.tasks import tickets

SEED = 20
FAMILIES = {"test_lookalike": 18, "validation": 8, "train": 64}  # an intent, 90 in all
ROWS = {"train": 1200, "validation": 300, "test_lookalike": 600}
SLOTS = {
    "product", "order", "size", "colour", "day", "name", "city", "money", "tracking", "phone", "n",
}  # fmt: skip
URGENCY_WEIGHTS = {"low": 3, "normal": 4, "high": 3}


@dataclass(frozen=True)
class Family:
    """`text` holds one {u}, where the phrase that settles the urgency goes."""

    name: str
    intent: str
    text: str
    urgencies: dict[str, str]


def read_families(intent: str, folder: Path = tickets.FOLDER / "families") -> list[Family]:
    """The families of one intent. Raises LabError naming the file and the family's number."""
    path = folder / f"{intent}.yaml"
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise LabError(f"{short(path)} cannot be read: {error}") from error
    families = []
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict):
            raise LabError(f"{short(path)}, family {number}: not a mapping with a text.")
        urgencies = {level: entry[level] for level in tickets.URGENCIES if level in entry}
        problem = family_problem(entry, urgencies)
        if problem:
            raise LabError(f"{short(path)}, family {number}: {problem}.")
        families.append(Family(f"{intent}-{number:02d}", intent, entry["text"], urgencies))
    return families


def family_problem(entry: dict, urgencies: dict[str, str]) -> str | None:
    """What is wrong with a family, or None."""
    text = entry.get("text", "")
    used = re.findall(r"\{(\w+)\}", " ".join([text, *urgencies.values()]))
    if set(entry) - {"text", *tickets.URGENCIES} or not text:
        return "keys are text and at least one of low, normal, high"
    if not urgencies:
        return "needs at least one of low, normal, high"
    if used.count("u") != 1:
        return "{u} must stand in the text exactly once"
    if set(used) - SLOTS - {"u"}:
        return f"unknown slots {sorted(set(used) - SLOTS - {'u'})}"
    if used.count("product") > 1 or used.count("order") > 1:
        return "{product} and {order} may stand there once each"
    return None


def split_families(rng: random.Random) -> dict[str, list[Family]]:
    """Deal each intent's families to the splits."""
    splits = {split: [] for split in FAMILIES}
    for intent in tickets.INTENTS:
        families = read_families(intent)
        rng.shuffle(families)
        for split, count in FAMILIES.items():
            splits[split] += families[:count]
            families = families[count:]
    return splits


def product_name(rng: random.Random, slots: dict, test: bool) -> str:
    """'Kestrel 2 tent', 'Kestrel tent', 'Kestrel 2' or plain 'tent'."""
    series, kind = rng.choice(slots["series"][test]), rng.choice(slots["kinds"])
    model = rng.choice(slots["models"])
    forms = [f"{series} {model} {kind}", f"{series} {kind}", f"{series} {model}", kind]
    return rng.choices(forms, weights=[4, 10, 1, 8])[0]


def order_id(rng: random.Random) -> tuple[str, str]:
    """An id as the customer writes it, and as it is labelled (without '#')."""
    digits = f"{rng.randrange(10_000, 100_000)}"
    forms = [f"RL-{digits}", f"rl{digits}", f"RL {digits}", f"#{digits}", digits,
             f"2024-RL-{digits[:3]}", f"#RL-{digits}"]  # fmt: skip
    written = rng.choices(forms, weights=[10, 2, 2, 2, 2, 1, 1])[0]
    return written, written.lstrip("#")


def typo(rng: random.Random, text: str) -> str:
    """Drop or swap one letter inside one word, never inside a slot."""
    spots = [m.start() + 1 for m in re.finditer(r"(?<![{\w])[a-z]{5,}(?![}\w])", text)]
    if not spots:
        return text
    i = rng.choice(spots)
    middle = text[i + 1] + text[i] if rng.random() < 0.5 else text[i + 1]
    return text[:i] + middle + text[i + 2 :]


def fill(family: Family, rng: random.Random, slots: dict, test: bool) -> dict:
    """One row: drop or keep the optional parts, choose the urgency, fill the slots, add some mess."""
    weights = [URGENCY_WEIGHTS[level] for level in family.urgencies]
    urgency = rng.choices(list(family.urgencies), weights=weights)[0]
    text = re.sub(r"\[(.*?)\]", lambda m: m[1] if rng.random() < 0.5 else "", family.text)
    text = text.replace("{u}", family.urgencies[urgency])
    for _ in range(rng.choices([0, 1, 2], weights=[7, 2, 1])[0]):
        text = typo(rng, text)
    written, labelled = order_id(rng)
    values = {slot: rng.choice(slots[slot]) for slot in ("size", "colour", "day", "name", "city")}
    values |= {
        "product": product_name(rng, slots, test),
        "order": written,
        "money": f"{rng.choice(['', '£', '€'])}{rng.randrange(9, 400)}.{rng.choice(['00', '90', '95'])}",
        "tracking": f"{rng.choice(['JD', '1Z', '0034', 'CX'])}{rng.randrange(10**9, 10**10)}",
        "phone": f"0{rng.randrange(100, 999)} {rng.randrange(100_000, 999_999)}",
        "n": str(rng.randrange(2, 10)),
    }
    row = {
        "text": tidy(text.format(**values)),
        "intent": family.intent,
        "product": values["product"] if "{product}" in text else None,
        "order_id": labelled if "{order}" in text else None,
        "urgency": urgency,
    }
    return careless(row) if rng.random() < 0.2 else row


def tidy(text: str) -> str:
    """Close the gaps that dropped parts and empty phrases leave."""
    text = re.sub(r"[ \t]+", " ", text)
    text = re.sub(r" +([,.;:!?])(?=\s|$)", r"\1", text)
    return "\n".join(line.strip() for line in text.splitlines()).strip()


def careless(row: dict) -> dict:
    """The same row from a customer who uses neither capitals nor a last full stop."""
    lowered = {key: row[key] and row[key].lower() for key in ("product", "order_id")}
    return row | {"text": row["text"].lower().rstrip("."), **lowered}


def generate() -> dict[str, list[dict]]:
    """The three generated splits. Rows come in rounds: the first round has one row of every family."""
    rng = random.Random(SEED)
    slots = yaml.safe_load((tickets.FOLDER / "slots.yaml").read_text(encoding="utf-8"))
    result = {}
    for split, families in split_families(rng).items():
        rows, texts = [], set()
        while len(rows) < ROWS[split]:
            rng.shuffle(families)
            for family in families[: ROWS[split] - len(rows)]:
                row = fill(family, rng, slots, test=split == "test_lookalike")
                while row["text"] in texts:
                    row = fill(family, rng, slots, test=split == "test_lookalike")
                texts.add(row["text"])
                rows.append({"id": f"{split}-{len(rows) + 1:04d}", "family": family.name, **row})
        result[split] = rows
    return result


def write() -> None:
    """Write the generated splits under data/tickets/."""
    for split, rows in generate().items():
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        write_atomically(tickets.FOLDER / f"{split}.jsonl", lines)
