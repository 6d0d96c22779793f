"""Rows that ask for the same thing in other words, and answer otherwise than most of them."""

from __future__ import annotations

from collections import Counter, defaultdict

from labsupport.copies.near import words_of
from labsupport.run_signs.unguessable import is_unguessable
from labsupport.training_data.record import Record


def odd_ones(train: list[Record], asked: list[Record]) -> tuple[list[tuple[Record, Record]], int]:
    """([(training row, a row that asks for the same and answers as most do)], training rows with company).

    Only where answers follow from nothing, such as codes: there two rows on one thing have one answer. What a
    row asks for is not known, so every pair of neighbouring words of its question is tried: those of a name
    stand in few rows, and most of these agree. A row that is right by one of its pairs is no odd one, since
    it may share another by chance ("faint garden", "faint river").
    """
    if not is_unguessable(train, list(dict.fromkeys(answer(record) for record in train))):
        return [], 0
    groups = defaultdict(list)
    for record in [*train, *asked]:
        if record.text is None and record.answers:
            for pair in pairs_of(record):
                groups[pair].append(record)
    trained = {id(record) for record in train}
    right, odd = set(), {}
    for group in groups.values():
        agreed, times = Counter(map(answer, group)).most_common(1)[0]
        if times < 2 or 2 * times <= len(group):
            continue
        witness = next(record for record in group if answer(record) == agreed)
        for record in group:
            if answer(record) == agreed:
                right.add(id(record))
            elif id(record) in trained:
                odd[id(record)] = (record, witness)
    found = [pair for place, pair in odd.items() if place not in right]
    return found, len(found) + len(right & trained)


def answer(record: Record) -> str:
    """The last answer, without its blanks."""
    return "".join((record.answers or [""])[-1].split())


def pairs_of(record: Record) -> set[tuple[str, str]]:
    """The pairs of neighbouring words of the question."""
    words = words_of(record.prompt)
    return set(zip(words, words[1:], strict=False))
