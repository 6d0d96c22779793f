"""What was returned beside what was expected, in one sentence that fits a line or two."""

from __future__ import annotations

import numpy as np

from labsupport.differences.comparing import Numbers, brief, differing, value_mismatches

DIGITS = (4, 8, 17)  # significant ones: as few as tell the two apart


def side_by_side(expected, got, tolerance: float | None = None) -> str:
    """ "it returned 0 where 0.31 was expected", for two results in plain form that differ.

    Small results are shown whole; of larger ones the first part that differs, with its place.
    """
    place, expected, got, share = _first_difference(expected, got, tolerance)
    for digits in DIGITS:
        mine, right = _text(got, digits), _text(expected, digits)
        if mine != right:
            break
    where = f"at {place} " if place else ""
    return f"{where}it returned {mine} where {right} was expected{share}"


def _first_difference(expected, got, tolerance, place: str = "") -> tuple:
    """(place, its expected part, its returned part, of how many): the whole if that is short enough."""
    short = all(text is not None and len(text) <= 60 for text in (_short(expected), _short(got)))
    if short or type(expected) is not type(got):
        return place, expected, got, ""
    if isinstance(expected, Numbers):
        if expected.array.shape != got.array.shape:
            return place, expected, got, ""
        wrong = np.argwhere(differing(expected, got, tolerance))
        index = tuple(map(int, wrong[0]))
        part = [value._replace(array=np.asarray(value.array[index])) for value in (expected, got)]
        share = f" ({len(wrong):,} of {expected.array.size:,} differ)"
        return f"{place}{list(index)}", *part, share
    keys = expected if isinstance(expected, dict) else range(len(expected))
    if (
        not isinstance(expected, (dict, list))
        or len(expected) != len(got)
        or not all(_has(got, k) for k in keys)
    ):
        return place, expected, got, ""
    for key in keys:
        if value_mismatches(expected[key], got[key], tolerance):
            return _first_difference(expected[key], got[key], tolerance, f"{place}[{key!r}]")
    return place, expected, got, ""


def _has(value, key) -> bool:
    return key in value if isinstance(value, dict) else key < len(value)


def _text(value, digits: int) -> str:
    text = _short(value, digits)
    if text is not None:
        return text
    if isinstance(value, Numbers):
        return f"{value.origin} of shape {value.array.shape}"
    if isinstance(value, dict):
        return f"a dict with the keys {', '.join(map(brief, value))}"
    return f"a list of length {len(value)}" if isinstance(value, list) else brief(value)


def _short(value, digits: int = 4) -> str | None:
    """The value as it would be written, or None if it has more than six parts."""
    if isinstance(value, Numbers):
        return _nested(value.array.tolist(), digits) if value.array.size <= 6 else None
    if isinstance(value, (dict, list)):
        items = [_short(item, digits) for item in (value.values() if isinstance(value, dict) else value)]
        if len(items) > 6 or None in items:
            return None
        if isinstance(value, dict):
            return "{" + ", ".join(f"{k!r}: {text}" for k, text in zip(value, items, strict=True)) + "}"
        return f"[{', '.join(items)}]"
    return brief(value)


def _nested(value, digits: int) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_nested(item, digits) for item in value)}]"
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= 128:
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    return f"{value:.{digits}g}" if isinstance(value, (float, complex)) else brief(value)
