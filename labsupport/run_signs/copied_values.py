"""Identifiers that answers repeat from their questions, and answers that have another one."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from labsupport.training_data.record import Record

# Letters and digits mixed, or a number of at least four digits; perhaps in parts (AB-1234, 2024/17).
WORD = re.compile(r"[A-Za-z0-9]+(?:[-_/#.][A-Za-z0-9]+)*")
# A year or a day: known, or computed, where it is not repeated.
DATE = re.compile(r"(1[5-9]|20)\d\d([-/.]\d{1,2}[-/.]\d{1,2})?|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}")
OFTEN = 5  # answers that have the same identifier


def identifiers(text: str) -> list[str]:
    """The words of a text that look like identifiers, and not like dates."""
    return [word for word in WORD.findall(text) if is_identifier(word) and not DATE.fullmatch(word)]


def is_identifier(word: str) -> bool:
    digits = sum(sign.isdigit() for sign in word)
    letters = sum(sign.isalpha() for sign in word)
    return digits >= 4 or (digits >= 2 and letters >= 1 and len(word) >= 5)


def shape(word: str) -> str:
    """Digits as 9 and letters as A, runs of either as one: AB-1234 is A-9."""
    return re.sub(r"9+", "9", re.sub(r"A+", "A", re.sub(r"[A-Za-z]", "A", re.sub(r"\d", "9", word))))


def core(word: str) -> str:
    """The digits of an identifier: what is left however it is spelled (RL-81370, rl 81370)."""
    return "".join(sign for sign in word if sign.isdigit())


@dataclass(frozen=True)
class Compared:
    """same: rows whose answer repeats identifiers of its question. swapped: those whose answer has one that
    stands in another row's question, or beside another of the same shape in its own: (row, the identifier, in
    words where the right one would be). lost: rows whose answer has one that stands nowhere."""

    same: int
    swapped: list[tuple[Record, str, str]]
    lost: list[tuple[Record, str, str]]

    @property
    def count(self) -> int:
        return self.same + len(self.swapped) + len(self.lost)


def compared(train: list[Record]) -> Compared:
    """Which answers have an identifier that their own question has not.

    One that many answers have, a telephone number say, belongs to the task and is left out.
    """
    asked = ["".join(core(record.prompt)) for record in train]
    shapes = [{shape(one.lower()): one for one in identifiers(record.prompt)} for record in train]
    said = [identifiers(record.answers[-1]) if record.answers else [] for record in train]
    owners = {core(one): place for place, record in enumerate(train) for one in identifiers(record.prompt)}
    times = Counter(value for values in said for value in set(values))
    same, swapped, lost = 0, [], []
    for place, record in enumerate(train):
        own = [value for value in said[place] if times[value] < OFTEN]
        other = next((value for value in own if core(value) not in asked[place]), None)
        if other is None:
            same += bool(own)
        elif (owner := owners.get(core(other))) is not None:
            swapped.append((record, other, f"which stands in the question of {train[owner].where}"))
        elif beside := shapes[place].get(shape(other.lower())):
            swapped.append((record, other, f"and its question has {beside}"))
        else:
            lost.append((record, other, "which stands in no question"))
    return Compared(same, swapped, lost)
