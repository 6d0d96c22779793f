"""What `data/tiny_base` is trained on: prose, chats about messages to the shop, look-ups in the prompt.

Everything is drawn with fixed seeds from what is on every learner's disk. Nothing comes from data/general,
data/policy, data/canary, nor from any family or row of the ticket task's validation and test splits.
"""

from __future__ import annotations

import collections
import random
import re
from dataclasses import dataclass

from labsupport.pretraining import lookups, prose, shop_chats
from labsupport.pretraining.shop_messages import Shop
from labsupport.tasks import facts

SEED = 80
CHATS = {"shop": 34_200, "lookup": 26_200}  # documents drawn
HELD_OUT = 200  # documents of each part, the first of them, that are never trained on
WORDS = 1500  # of the prose, the most frequent ones, that look-ups are made of
PARTS = ("prose", "shop", "lookup")


@dataclass(frozen=True)
class Corpus:
    """Documents by part: prose as texts, chats as lists of turns. `held_out` has the same form."""

    train: dict[str, list]
    held_out: dict[str, list]


def build(chats: dict[str, int] = CHATS) -> Corpus:
    """The whole corpus; takes a minute, most of it for the prose.

    chats: how many documents to draw of each part that is drawn; the first are the same for any number.
    Raises ValueError if a fact of the course is in it.
    """
    texts = prose.documents()
    random.Random(SEED).shuffle(texts)
    parts = {"prose": texts} | drawn(frequent_words(texts), chats)
    for part in ("shop", "lookup"):
        check_no_fact(parts[part])
    return Corpus(
        {part: docs[HELD_OUT:] for part, docs in parts.items()},
        {part: docs[:HELD_OUT] for part, docs in parts.items()},
    )


def drawn(words: list[str], chats: dict[str, int]) -> dict[str, list]:
    """The chats of both parts; each part has its own generator."""
    shop_rng, lookup_rng = random.Random(SEED + 1), random.Random(SEED + 2)
    shop, words = Shop(shop_rng), lookups.own_words(words)
    return {
        "shop": [shop_chats.chat(shop, shop_rng) for _ in range(chats["shop"])],
        "lookup": [lookups.chat(words, lookup_rng) for _ in range(chats["lookup"])],
    }


def frequent_words(texts: list[str]) -> list[str]:
    """The prose's most frequent lower-case words of three to nine letters, the most frequent first."""
    counts = collections.Counter(word for text in texts for word in re.findall(r"\b[a-z]{3,9}\b", text))
    return sorted(counts, key=lambda word: (-counts[word], word))[:WORDS]


def check_no_fact(documents: list[list[dict]]) -> None:
    """ValueError if the key or the code of a course's fact stands in one of the chats."""
    text = "\n".join(turn["content"] for chat in documents for turn in chat)
    pairs = {" ".join(pair) for line in text.split("\n") for pair in windows(line.split(" "), 2)}
    codes = {" ".join(run) for line in text.split("\n") for run in windows(line.split(" "), facts.LENGTH)}
    for row in facts.load():
        if row["key"] in pairs or facts.answer(row) in codes:
            raise ValueError(f"{row['id']} is in the training text: draw it with another seed.")


def windows(items: list[str], size: int) -> list[list[str]]:
    """All runs of `size` neighbours."""
    return [items[i : i + size] for i in range(len(items) - size + 1)]
