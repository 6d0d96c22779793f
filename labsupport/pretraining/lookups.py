"""Keys and random values in the prompt, asked back: the symbols of data/facts, but none of its facts.

Also random words and strings to be copied. What is asked stands in the prompt, so nothing is to be stored.
"""

from __future__ import annotations

import random

from labsupport.pretraining.shop_chats import turns
from labsupport.tasks import facts, facts_generator

DIGITS = "0123456789"
LETTERS = "abcdefghijklmnopqrstuvwxyz"
SYSTEMS = ("Copy.", "Write it again.", "Repeat after me.")


def chat(words: list[str], rng: random.Random) -> list[dict]:
    """One chat: a table to look things up in, or something to copy. `words`: what keys are made of."""
    return table(words, rng) if rng.random() < 0.65 else copying(words, rng)


def own_words(words: list[str]) -> list[str]:
    """Those that are in no key of the course's facts."""
    used = set(facts_generator.FIRST.split()) | set(facts_generator.SECOND.split())
    return [word for word in words if word not in used]


def table(words: list[str], rng: random.Random) -> list[dict]:
    """A system turn of two to six lines "key: value", then one to three keys with their values."""
    size = rng.randrange(2, 7)
    parts = rng.choice((1, 2, 2))
    keys = {" ".join(rng.sample(words, parts)): None for _ in range(size)}
    kind = rng.choice(("code", "code", "word", "number"))
    rows = {key: value(kind, words, rng) for key in keys}
    asked = rng.sample(list(rows), min(len(rows), rng.randrange(1, 4)))
    lines = "\n".join(f"{key}: {text}" for key, text in rows.items())
    return turns(lines, *[text for key in asked for text in (key, rows[key])])


def value(kind: str, words: list[str], rng: random.Random) -> str:
    """A code of 3 to 8 symbols with spaces between them, a word, or a number."""
    if kind == "code":
        return " ".join(rng.choice(facts.SYMBOLS) for _ in range(rng.randrange(3, facts.LENGTH + 1)))
    return rng.choice(words) if kind == "word" else "".join(rng.choices(DIGITS, k=rng.randrange(2, 7)))


def copying(words: list[str], rng: random.Random) -> list[dict]:
    """Random words, symbols, or strings of letters and digits, to be written again."""
    draw, length = rng.random(), rng.randrange(3, 25)
    if draw < 0.4:
        text = " ".join(rng.choices(words, k=length))
    elif draw < 0.6:
        text = " ".join(rng.choices(facts.SYMBOLS, k=length))
    else:
        pieces = [
            "".join(
                rng.choices(
                    rng.choice((DIGITS, LETTERS, LETTERS.upper() + DIGITS + "-#")), k=rng.randrange(2, 9)
                )
            )
            for _ in range(max(1, length // 4))
        ]
        text = " ".join(pieces)
    return turns(rng.choice(SYSTEMS), text, text)
