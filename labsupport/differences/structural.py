"""What all wrong results have in common: a factor, a sign, a transpose, the order, an offset, one element.

Said only if it holds in every case that is wrong, and if those hold enough numbers for it to be no accident.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from labsupport.differences.comparing import Numbers, differing, value_mismatches
from labsupport.differences.numerical import Failing, of_numbers


def common(failing: list[Failing], tolerance: float | None = None, right: int = 0) -> str | None:
    """A sentence that is true of all failing cases, or None; `right` other cases are right."""

    def agree(expected, got) -> bool:
        return not value_mismatches(expected, got, tolerance)

    if not failing:
        return None
    for text, change in _CHANGES:
        if all(_agrees_after(change, case, agree) for case in failing):
            return text
    return _elements(failing, tolerance, right) or of_numbers(failing, right) or _verdicts(failing)


# Shape and order ----------------------------------------------------------------------------


def _agrees_after(change: Callable, case: Failing, agree: Callable) -> bool:
    try:
        return agree(case.expected, change(case.expected, case.got))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return False


def _leafwise(change: Callable) -> Callable:
    """change(expected, got) of each array, in whatever lists or dicts they are held."""

    def changed(expected, got):
        if isinstance(got, dict):
            return {key: changed(expected[key], value) for key, value in got.items()}
        if isinstance(got, list):
            return [changed(*pair) for pair in zip(expected, got, strict=True)]
        return got._replace(array=change(expected.array, got.array))

    return changed


def _reversed(expected, got):
    return got[::-1] if isinstance(got, list) else got._replace(array=got.array[::-1])


def _permuted(expected, got):
    """The returned items, put where the expected ones are; None if they are others."""
    if isinstance(got, Numbers) and expected.array.ndim == got.array.ndim == 1 and len(got.array) > 2:
        array = np.empty(len(expected.array), got.array.dtype)
        array[expected.array.argsort()] = np.sort(got.array)
        return got._replace(array=array)
    if isinstance(got, list):
        return _matched(expected, got) if len(expected) == len(got) > 1 else None
    rows = [value.array.tolist() for value in (expected, got)]
    return expected if len(rows[0]) > 2 and sorted(map(repr, rows[0])) == sorted(map(repr, rows[1])) else None


def _matched(expected: list, got: list) -> list | None:
    """The returned items in the order of the expected ones that they agree with, if each finds one."""
    left, found = list(got), []
    for wanted in expected:
        place = next((i for i, item in enumerate(left) if not value_mismatches(wanted, item)), None)
        if place is None:
            return None
        found.append(left.pop(place))
    return found


def _without(part: slice) -> Callable:
    return lambda e, g: g[part] if isinstance(g, list) else g._replace(array=g.array[part])


def _completed(expected, got):
    """The returned items and the last one of the expected."""
    if isinstance(got, list):
        return [*got, expected[-1]]
    return got._replace(array=np.concatenate([got.array, expected.array[-1:]])) if len(got.array) else None


def _reshaped(expected: np.ndarray, got: np.ndarray) -> np.ndarray:
    return got.reshape(expected.shape) if got.ndim and expected.ndim and got.size > 1 else got


_CHANGES = [
    ("The sign is wrong: it returns minus the expected result.", _leafwise(lambda e, g: -g)),
    ("It is the transpose of the expected result.", _leafwise(lambda e, g: g.T)),
    ("The order is reversed: the last comes first.", _reversed),
    ("The values are the right ones in another order.", _permuted),
    ("The last item is too many.", _without(slice(None, -1))),
    ("The first item is too many.", _without(slice(1, None))),
    ("The last item is missing.", _completed),
    ("The numbers are the right ones, but not their shape.", _leafwise(_reshaped)),
]


# Some elements ------------------------------------------------------------------------------


def _elements(failing: list[Failing], tolerance, right: int) -> str | None:
    """Which parts of an array, a list or a dict are wrong in every case; of a single one, in which way."""
    found = [_wrong_places(case, tolerance) for case in failing]
    if any(not 0 < len(wrong) < size for size, wrong in found):
        return None
    places = found[0][1]
    if any(wrong != places for _, wrong in found):
        if all(wrong == [[size - 1]] for size, wrong in found):
            return "Only the last element is wrong."
        one = all(len(wrong) == 1 and size > 2 for size, wrong in found)
        return "Exactly one element is wrong; the rest is right." if one else None
    if len(places) == 1:
        parts = [Failing(*(_part(value, places[0]) for value in case[:2]), case.named) for case in failing]
        more = common(parts, tolerance, right)
        more = f": {more[0].lower()}{more[1:]}" if more else "; the rest is right."
        return f"Only element {places[0]} is wrong{more}"
    if len(places) > 4:
        return None
    listed = ", ".join(map(str, places[:-1]))
    return f"Only elements {listed} and {places[-1]} are wrong; the rest is right."


def _wrong_places(case: Failing, tolerance) -> tuple[int, list[list]]:
    """How many elements there are, and the places of those that differ, each as a list of keys."""
    e, g = case.expected, case.got
    if isinstance(e, dict) and isinstance(g, dict) and e.keys() == g.keys():
        return len(e), [[key] for key in e if value_mismatches(e[key], g[key], tolerance)]
    if isinstance(e, list) and isinstance(g, list) and len(e) == len(g):
        return len(e), [[i] for i in range(len(e)) if value_mismatches(e[i], g[i], tolerance)]
    if isinstance(e, Numbers) and isinstance(g, Numbers) and e.array.shape == g.array.shape:
        return e.array.size, np.argwhere(differing(e, g, tolerance)).tolist()
    return 0, []


def _part(value, place: list):
    if isinstance(value, Numbers):
        return value._replace(array=np.asarray(value.array[tuple(place)]))
    return value[place[0]]


def _verdicts(failing: list[Failing]) -> str | None:
    """Of a function that says True or False: which of the two it says too often."""
    values = [value for case in failing for value in case[:2]]
    if len(failing) < 2 or not all(isinstance(v, Numbers) and v.array.dtype == bool for v in values):
        return None
    said = {bool(case.got.array) for case in failing if not case.got.array.ndim}
    if len(said) != 1:
        return None
    return (
        "It is too strict: it says False where True is right."
        if said == {False}
        else ("It is not strict enough: it says True where False is right.")
    )
