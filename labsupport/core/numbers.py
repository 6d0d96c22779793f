"""Numbers that somebody typed: whole or not, within what makes sense, or one line that says what is wrong."""

from __future__ import annotations

import math

from labsupport.core.files import LabError

LONGEST = 60  # characters of a wrong value that a message repeats


def shown(value) -> str:
    """A wrong value as a message repeats it: on one line, the middle of a long one left out."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        return "a number of thousands of digits"
    except RecursionError:
        return "a value that is nested too deeply"
    half = LONGEST // 2
    return text if len(text) <= LONGEST else f"{text[:half]} ... {text[-half:]}"


def whole(value, name: str, least: int = 1, most: int | None = None) -> int:
    """The value as a whole number from `least` to `most`; 4096.0 is one, True and "4096" are not. LabError,
    naming `name` and the value, for what is none."""
    if isinstance(value, float) and value.is_integer():  # neither nan nor inf is
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise LabError(f"{name} is {shown(value)}: it must be {_wanted('a whole number', least, most)}.")
    if value < least or (most is not None and value > most):
        raise LabError(f"{name} is {shown(value)}: it must be {_wanted('a whole number', least, most)}.")
    return value


def real(value, name: str, least: float = 0.0, most: float | None = None, above: bool = False) -> float:
    """The value as a finite number from `least` (with `above`: from more than that) to `most`. LabError,
    naming `name` and the value, for what is none."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    too_low = is_number and (value < least or (above and value == least))
    too_high = is_number and most is not None and value > most
    if not is_number or too_low or too_high or not _is_finite(value):
        raise LabError(f"{name} is {shown(value)}: it must be {_wanted('a number', least, most, above)}.")
    return float(value)


def _is_finite(value: int | float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond the largest float
        return False


def _wanted(kind: str, least: float, most: float | None, above: bool = False) -> str:
    start = f"above {least:,.15g}" if above else f"of at least {least:,.15g}"
    return f"{kind} {start}" if most is None else f"{kind} {start} and at most {most:,.15g}"
