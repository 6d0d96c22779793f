"""Where an answer is right and where it is wrong: what of the arguments tells the two apart."""

from __future__ import annotations

import itertools

from labsupport.differences.numerical import numbers_of


def told_apart(right: list[dict], wrong: list[dict]) -> str | None:
    """A sentence on arguments by name, of the cases that are right and those that are wrong, or None."""
    if not right or not wrong:
        return None
    for name, value in _switches(wrong[0]).items():
        if all(_switches(named).get(name) is value for named in wrong) and all(
            _switches(named).get(name) is (not value) for named in right
        ):
            return f"It is wrong where {name} is {value} and right where it is {not value}."
    numbers = [numbers_of(named) for named in right]
    others = [numbers_of(named) for named in wrong]
    for name in numbers[0]:
        if all(n.get(name) == 1 for n in numbers) and all(n.get(name, 1) != 1 for n in others):
            return f"It is right only where {name} is 1."
    sides = [name for name in numbers[0] if ".shape[" in name]
    for one, other in itertools.combinations(sides, 2):
        if all(n.get(one) == n.get(other) for n in numbers) and all(
            n.get(one) != n.get(other) for n in others
        ):
            return f"It is right only where {one} is {other}."
    return None


def _switches(named: dict) -> dict[str, bool]:
    """The arguments that are True or False, also in dicts."""
    found = {}
    for name, value in named.items():
        found |= (
            _switches(value) if isinstance(value, dict) else {name: value} if isinstance(value, bool) else {}
        )
    return found
