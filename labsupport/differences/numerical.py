"""What wrong numbers have to do with the expected ones: a factor, an offset, a function, rounding.

Factors and offsets are named by the arguments where they can be: 1 / alpha, A.shape[0], 2 x head.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from labsupport.differences.comparing import Numbers


class Failing(NamedTuple):
    """A case that is wrong: the plain results, and the arguments by name."""

    expected: object
    got: object
    named: dict


CONSTANTS = {"log 2": math.log(2), "1 / log 2": 1 / math.log(2), "log 10": math.log(10), "1.96": 1.96}
CONSTANTS |= {"the square root of 2": 2**0.5, "1 / the square root of 2": 2**-0.5, "pi": math.pi}
SIMPLE = [n * 10**k for n in (1, 2, 3, 4, 6, 8) for k in (0, 1, 2, 3, 6, 9, 12)] + [12, 16, 24, 32, 64, 256]
SIMPLE += [1.5, 0.75, 5, 7, 60, 3600, 1024, 1024**2, 1024**3]
CLOSE = 1e-4
MULTIPLES = (0.5, 1, 2, 3, 4, 5, 6, 8, 12, 16, 32)
ENOUGH = 3  # different expected numbers, before a law is seen in them


def of_numbers(failing: list[Failing], right: int = 0) -> str | None:
    """What the numbers of all failing cases share; `right` other cases are right."""
    try:
        pairs = [(*_flat(case.expected, case.got), case.named) for case in failing]
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    if not all(np.isfinite(array).all() for e, g, _ in pairs for array in (e, g)):
        return None
    if len({float(f"{x:.6g}") for e, _, _ in pairs for x in e if x}) < (ENOUGH if right else ENOUGH - 1):
        return None  # of one number everything is a multiple; where others are right, two may be chance
    return _factor(pairs) or _offset(pairs) or _other_function(pairs)


def _flat(expected, got) -> tuple[np.ndarray, np.ndarray]:
    """All numbers of two results of the same form, one after the other. Raises where they have none."""
    if isinstance(expected, Numbers):
        e, g = expected.array, got.array
        if e.shape != g.shape or not {e.dtype.kind, g.dtype.kind} <= set("iuf"):
            raise ValueError
        return e.astype(float).flatten(), g.astype(float).flatten()
    keys = expected if isinstance(expected, dict) else range(len(expected))
    if isinstance(expected, str) or len(expected) != len(got):
        raise ValueError
    parts = [_flat(expected[key], got[key]) for key in keys]
    return tuple(np.concatenate(side) for side in zip(*parts, strict=True))


def _factor(pairs: list[tuple]) -> str | None:
    factors = [_ratio(g, e) for e, g, _ in pairs]
    if None in factors or all(f == 0 for f in factors):
        return None
    if np.ptp(factors) <= CLOSE * abs(factors[0]):
        name = _named_constant(factors[0])
        return name and f"It is {name} times the expected result in every case that is wrong."
    for text, values in _of_arguments([named for _, _, named in pairs]):
        if np.allclose(values, factors, rtol=CLOSE, atol=0):
            return f"It is {text} times the expected result."
        if np.allclose(values, -np.array(factors), rtol=CLOSE, atol=0):
            return f"It is minus {text} times the expected result."
    return None


def _ratio(g: np.ndarray, e: np.ndarray) -> float | None:
    """The one number that turns e into g, or None."""
    factor = float((e * g).sum() / (e * e).sum()) if e.any() else 0.0
    scale = max(np.abs(g).max(initial=0), 1e-300)
    return factor if np.abs(g - factor * e).max(initial=0) <= CLOSE * scale else None


def _named_constant(factor: float) -> str | None:
    size, sign = abs(factor), "minus " if factor < 0 else ""
    for name, value in CONSTANTS.items():
        if math.isclose(size, value, rel_tol=CLOSE):
            return f"{sign}{name} ({size:.3g})" if " " in name else f"{sign}{name}"
    for value in SIMPLE:
        if value != 1 and math.isclose(size, value, rel_tol=CLOSE):
            return f"{sign}{value:,}"
        if value != 1 and math.isclose(size, 1 / value, rel_tol=CLOSE):
            return f"{sign}1/{value:,}"
    text = f"{size:.4g}"
    return f"{sign}{text}" if float(text) != 1 else None


def _of_arguments(cases: list[dict]) -> Iterator[tuple[str, list[float]]]:
    """(words, one value a case) of what can be made of the arguments: themselves, roots, ratios, products."""
    columns = _columns(cases)
    for name, column in columns.items():
        yield name, column
        yield f"1 / {name}", 1 / column
        yield f"the square root of {name}", np.sqrt(column)
        yield f"1 / the square root of {name}", 1 / np.sqrt(column)
        yield f"{name} squared", column**2
    for one, other in itertools.permutations(columns, 2):
        yield f"{one} / {other}", columns[one] / columns[other]
        if one < other:
            yield f"{one} x {other}", columns[one] * columns[other]
        yield f"{one} / the square root of {other}", columns[one] / np.sqrt(columns[other])


def _columns(cases: list[dict]) -> dict[str, np.ndarray]:
    """The positive numbers that all cases' arguments give, by name: one number a case."""
    numbers = [numbers_of(named) for named in cases]
    names = [name for name in numbers[0] if all(other.get(name, 0) > 0 for other in numbers)]
    return {name: np.array([other[name] for other in numbers], float) for name in names}


def numbers_of(named: dict) -> dict[str, float]:
    """Numbers that arguments give: plain ones, also in dicts, the sides of arrays, the lengths of lists."""
    found = {}
    for name, value in named.items():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            found[name] = value
        elif hasattr(value, "shape"):
            found |= {f"{name}.shape[{i}]": side for i, side in enumerate(value.shape)}
        elif isinstance(value, (list, tuple)):
            found[f"len({name})"] = len(value)
        elif isinstance(value, dict):
            found |= numbers_of({key: item for key, item in value.items() if isinstance(item, (int, float))})
    return found


def _offset(pairs: list[tuple]) -> str | None:
    rows = [g - e for e, g, _ in pairs if e.size]
    offsets = np.array([row[0] for row in rows])
    if not all(np.allclose(row, o, rtol=CLOSE, atol=1e-9) for row, o in zip(rows, offsets, strict=True)):
        return None
    if len(set(np.sign(offsets))) > 1:
        return None
    sign = "too large" if offsets[0] > 0 else "too small"
    if np.ptp(offsets) <= CLOSE * abs(offsets[0]):
        return f"It is {_amount(abs(offsets[0]))} {sign} in every case that is wrong."
    name = _product(_columns([named for e, _, named in pairs if e.size]), abs(offsets))
    return name and f"It is {sign} by {name}."


def _product(columns: dict[str, np.ndarray], wanted: np.ndarray) -> str | None:
    """The wanted numbers, one a case, as a simple multiple of a product of at most three columns."""
    for many in (1, 2, 3):
        for names in itertools.combinations_with_replacement(columns, many):
            ratios = wanted / math.prod(columns[name] for name in names)
            if np.ptp(ratios) <= 1e-9 * ratios[0] and ratios[0] in MULTIPLES:
                multiple = "" if ratios[0] == 1 else f"{ratios[0]:g} x "
                return multiple + " x ".join(names)
    return None


def _amount(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 and value == round(value) else f"{value:.4g}"


def _other_function(pairs: list[tuple]) -> str | None:
    e, g = (np.concatenate([pair[i] for pair in pairs]) for i in (0, 1))
    with np.errstate(all="ignore"):
        for text, value in (
            ("the reciprocal of the expected result", 1 / e),
            ("the square of the expected result", e**2),
            ("the square root of the expected result", np.sqrt(e)),
            ("the logarithm of the expected result", np.log(e)),
            ("the exponential of the expected result", np.exp(e)),
            ("one minus the expected result", 1 - e),
        ):
            if np.isfinite(value).all() and np.allclose(g, value, rtol=CLOSE, atol=1e-9):
                return f"It is {text}."
    if any(np.array_equal(g, cut(e)) for cut in (np.floor, np.ceil, np.round)):
        return "It is a whole number, cut off or rounded (// and int() do that): the result has decimals."
    if any(np.allclose(g, np.round(e, digits), rtol=1e-12, atol=1e-12) for digits in range(1, 6)):
        return "It is rounded: return all decimals."
    return None
