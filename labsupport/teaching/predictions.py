"""Predict, then measure: one line that sets a learner's guess beside the measurement."""

from __future__ import annotations

import math
import reprlib

from labsupport.core.text import number, with_unit


def compare(guess, measured, unit: str = "", word: str = "measured") -> None:
    """Print guess, measurement and how far apart they are. `word`: say "predicted" or "computed" if it is no
    measurement.

    No guess (None or `...`) and a guess that is no number are said, not raised; TypeError if
    `measured` is no number.
    """
    real = plain_number(measured)
    if real is None:
        raise TypeError(f"measured must be a number, not {reprlib.repr(measured)}.")
    shown = f"{word} {with_unit(real, unit)}"
    if guess is None or guess is ...:
        print(f"no guess; {shown}")
        return
    mine = plain_number(guess)
    if mine is None or not math.isfinite(mine):
        ask = "give a plain number, such as guess = 3.5"
        print(f"your guess {reprlib.repr(guess)} cannot be compared: {ask}; {shown}")
        return
    print(f"your guess {with_unit(mine, unit)}, {shown}: {verdict(mine, real, unit)}")


def verdict(guess: float, measured: float, unit: str) -> str:
    """How far a guess is from a measurement, both in that unit: "close: within 5 %", "1.7 times too high"."""
    if not math.isfinite(measured):
        return "nothing to compare with"
    difference = abs(guess - measured)
    if difference == 0:
        return "exactly right"
    if measured and difference <= 0.1 * abs(measured) * (1 + 1e-9):
        percent = math.ceil(100 * difference / abs(measured) - 1e-6)
        return f"close: within {max(1, percent)} %"
    side = "high" if guess > measured else "low"
    if guess <= 0 or measured <= 0:  # a ratio says nothing across zero
        return f"too {side} by {with_unit(difference, unit)}"
    ratio = guess / measured if guess > measured else measured / guess
    return f"{number(float(f'{ratio:.2g}'))} times too {side}"


def plain_number(value) -> int | float | None:
    """A python, numpy or torch scalar as a python number; None for everything else."""
    if getattr(value, "shape", None) == ():
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    # Beyond float's range there is no ratio to show.
    return value if isinstance(value, float) or abs(value) < 10**300 else None
