"""Answers that follow from nothing, such as random codes, told from those that can be worked out."""

from __future__ import annotations

import lzma
import math
import random
from collections import Counter

from labsupport.training_data.record import Record

FEWEST = 12  # different answers
LONGEST = 64  # signs of an answer that are looked at
ORDERLESS = 0.93  # of the size that the answers have with their signs exchanged between rows
COPIED = 0.2  # share of answers that stand in their question


def is_unguessable(records: list[Record], answers: list[str]) -> bool:
    """Whether the answers could only be learned by heart. answers: the different ones of the records.

    Where the signs of an answer have to do with each other, as in sentences or labels, exchanging each
    place's signs between the answers makes the whole harder to compress; in random codes, and in a few
    single words, it changes nothing. Answers that stand in their question need not be stored.
    """
    signs = ["".join(answer.split()) for answer in answers]
    if len(signs) < FEWEST or statistics_of_length(signs) > LONGEST:
        return False
    copied = sum("".join(record.answers[-1].split()) in "".join(record.prompt.split()) for record in records)
    if copied >= COPIED * len(records):
        return False
    return compressed(signs) >= ORDERLESS * compressed(exchanged(signs))


def statistics_of_length(signs: list[str]) -> float:
    """The mean length."""
    return sum(map(len, signs)) / len(signs)


def compressed(signs: list[str]) -> int:
    """Bytes of the answers, compressed, above those of nothing."""
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9, "lc": 3, "lp": 0, "pb": 0}]
    sizes = [
        len(lzma.compress(text.encode(), lzma.FORMAT_RAW, filters=filters)) for text in ("\n".join(signs), "")
    ]
    return sizes[0] - sizes[1]


def exchanged(signs: list[str]) -> list[str]:
    """The same signs at the same places, but each place's mixed between the answers of one length."""
    draw = random.Random(0)
    mixed = [list(one) for one in signs]
    for length in {len(one) for one in signs}:
        group = [i for i, one in enumerate(signs) if len(one) == length]
        for place in range(length):
            column = [signs[i][place] for i in group]
            draw.shuffle(column)
            for i, sign in zip(group, column, strict=True):
                mixed[i][place] = sign
    return ["".join(one) for one in mixed]


def bits_of(answers: list[str]) -> float:
    """Bits of one answer: the entropies of what stands at its places, added up."""
    signs = ["".join(answer.split()) for answer in answers]
    places = range(max(map(len, signs)))
    return sum(entropy([one[place : place + 1] for one in signs]) for place in places)


def entropy(values: list) -> float:
    """The entropy of how often each value stands there, in bits."""
    total = len(values)
    return -sum(n / total * math.log2(n / total) for n in Counter(values).values())
