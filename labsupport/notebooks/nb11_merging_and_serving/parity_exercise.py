"""Notebook 11's exercise on token parity: where two replies begin to differ."""

from __future__ import annotations

from labsupport.checking.exercise import Exercise, told
from labsupport.models import merging

CASES = [
    ([5, 9, 3, 2, 2, 2], [5, 9, 3], 2),  # padded, and with its end left out
    ([5, 9, 3, 7, 2, 0, 0], [5, 9, 4, 8, 2], 2),
    ([8, 4, 1, 0], [8, 4, 1, 6, 5, 0], 0),  # theirs goes on
    ([5, 6, 7, 2], [5, 6], 2),
    ([7, 7, 5], [7, 7, 5, 6, 4], 3),  # neither has an end
    ([4, 6, 1, 5, 5], [4, 6, 1, 9], 1),  # after the end
    ([3, 2, 8, 2], [3, 2], 2),
    ([9, 3], [6, 3], 3),  # at once
    ([1], [], 1),
    ([5, 6], [5, 6], 4),
    ([5, 2, 6, 7], [5, 6, 7, 2], 2),
    ([5, 6, 7, 2], [5, 6, 2, 0], 2),  # ours goes on
]


def _before_end(ids, end):
    return ids[: ids.index(end)] if end in ids else ids


def _difference(ours, theirs):
    for i, (one, other) in enumerate(zip(ours, theirs)):  # noqa: B905 - the shorter one ends it
        if one != other:
            return i
    return None if len(ours) == len(theirs) else min(len(ours), len(theirs))


def _cut(cut):
    """A right one, but for what it takes as a reply."""
    return lambda ours, theirs, end: _difference(cut(ours, end), cut(theirs, end))


def _said(change):
    """A right one, but for what it makes of its result: change(place, ours, theirs), both cut at the end."""

    def answer(ours, theirs, end):
        ours, theirs = _before_end(ours, end), _before_end(theirs, end)
        return change(_difference(ours, theirs), ours, theirs)

    return answer


def _until_the_shorter(place, ours, theirs):
    return None if place == min(len(ours), len(theirs)) else place


def _zipped(ours, theirs, end):
    for i, (one, other) in enumerate(zip(ours, theirs)):  # noqa: B905
        if one != other:
            return i
        if one == end:
            break
    return None


def _count(place, ours, theirs):
    apart = sum(one != other for one, other in zip(ours, theirs)) + abs(len(ours) - len(theirs))  # noqa: B905
    return apart or None


def _last_end(ids, end):
    return ids[: len(ids) - 1 - ids[::-1].index(end)] if end in ids else ids


def _trailing_ends(ids, end):
    count = len(ids)
    while count and ids[count - 1] == end:
        count -= 1
    return ids[:count]


def _at_our_end(ours, theirs, end):
    count = len(_before_end(ours, end))
    return _difference(ours[:count], theirs[:count])


def _not_at_all_if_longer(place, ours, theirs):
    return 0 if len(ours) != len(theirs) else place


first_difference = Exercise(
    name="merging_and_serving.first_difference",
    reference=merging.first_difference,
    cases=CASES,
    mistakes=told(
        (_said(_until_the_shorter), _zipped),
        "zip stops with the shorter reply, so one that goes on counts as the same: there they differ at the "
        "place where the shorter one stops.",
        _cut(lambda ids, end: ids),
        "What comes after the end counts: that is padding. A reply is the ids before its first `end`.",
        _cut(lambda ids, end: _before_end(ids, end) + [end] * (end in ids)),
        "You want the end in both replies, and a server leaves it out: cut before it, not after it.",
        _cut(_last_end),
        "You cut at the last end, and padding can be the same token: cut at the first.",
        _cut(_trailing_ends),
        "You cut ends at the end of the list only: after the first one anything may stand.",
        _cut(lambda ids, end: [one for one in ids if one != end]),
        "You take the ends out and keep what comes after them: cut at the first.",
        _at_our_end,
        "You cut both replies where ours ends, so theirs may go on, or end before: cut each at its own end.",
        _said(lambda place, *_: None if place is None else place + 1),
        "You count from 1: the first token is at place 0.",
        _said(lambda place, *_: place or None),
        "A difference at place 0 is taken for none: ask `is None`, as 0 counts as False.",
        _said(lambda place, *_: -1 if place is None else place),
        "For replies that say the same you return -1: return None, as -1 is a place in a list, too.",
        _said(lambda place, ours, _: len(ours) if place is None else place),
        "For replies that say the same you return their length: return None.",
        _said(lambda place, *_: place is None),
        "You return whether they say the same: return the place of the first difference, or None.",
        _said(_count),
        "That is how many tokens differ: return the place of the first.",
        _said(_not_at_all_if_longer),
        "Replies of two lengths do not differ from place 0 on: look at the tokens first.",
    ),
    hints=[
        "Cut each reply before its first end, if it has one. Then compare place by place.",
        "ids[: ids.index(end)] if end in ids else ids. If no place differs, but one reply is longer, they "
        "differ at the length of the shorter one.",
        "for i in range(max(len(ours), len(theirs))): if ours[i : i + 1] != theirs[i : i + 1]: return i. A "
        "slice behind the end is empty, so it differs from a token.",
    ],
    minutes=8,
    difficulty=1,
)
