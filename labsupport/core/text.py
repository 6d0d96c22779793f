"""Numbers as people read them: one set of formatters for the whole course."""

from __future__ import annotations

from collections.abc import Iterable


def number(value: float, digits: int = 3) -> str:
    """Whole numbers in full, others with so many significant digits; separators from 1,000 on.

    24,576 and 2.08 and 1,230 and 2e-05; from 1e15 on no number is written out.
    """
    if not float(value).is_integer():  # nor are NaN and infinity
        value = float(f"{value:.{digits}g}")
    in_full = abs(value) < 1e15 and (abs(value) >= 1000 or float(value).is_integer())
    return f"{value + 0:,.0f}" if in_full else f"{value:.{digits}g}"  # + 0: there is no -0


def with_unit(value: float, unit: str, digits: int = 3) -> str:
    """The same before its unit, which may be empty."""
    return f"{number(value, digits)} {unit}".rstrip()


def rough(value: float) -> str:
    """Of what is known roughly two significant digits, from 100 to a million all: 0.012, 12,345, 1.2e+07."""
    return f"{value:,.0f}" if 99.5 <= value < 1e6 else f"{value:.2g}"


def span(values: Iterable[float]) -> str:
    """A range of what is known roughly: 0.012 to 0.024."""
    return " to ".join(map(rough, values))


def size(value: float) -> str:
    """GiB or GB to the hundredth, below 1 to the thousandth, from 1,000 on whole."""
    decimals = 3 if abs(value) < 1 else 2 if abs(value) < 1000 else 0
    return f"{value:,.{decimals}f}"
