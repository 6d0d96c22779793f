"""Comparing two answers of any kind: numbers in any container, tensors, text, dicts, nested lists."""

from __future__ import annotations

import math
import re
import reprlib
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

HALF = ("float16", "bfloat16")


# Values in short ----------------------------------------------------------------------------


class _Brief(reprlib.Repr):
    """Reprs that fit a sentence and are the same in every run."""

    def __init__(self):
        super().__init__()
        self.maxstring = self.maxother = 60

    def repr_Tensor(self, x, level):
        if math.prod(x.shape) <= 6:
            return self.repr1(x.tolist(), level)
        return f"{type(x).__name__} of shape {tuple(x.shape)}"

    repr_Parameter = repr_ndarray = repr_Tensor

    def repr_float(self, x, level):
        return repr(float(f"{x:.6g}"))

    def repr_instance(self, x, level):
        # No addresses: they change from run to run.
        return re.sub(r" at 0x[0-9a-f]+", "", " ".join(super().repr_instance(x, level).split()))


def brief(value) -> str:
    """A short repr for a message."""
    try:
        return _Brief().repr(value)
    except Exception:  # a meta tensor, or a learner's class with a broken __repr__
        return f"a {type(value).__name__}"


# Values in a common form --------------------------------------------------------------------


class Numbers(NamedTuple):
    """Numbers of any origin as one array, with the dtype they had and the type that held them.

    differentiable: whether autograd would follow them back, as a result of a tensor that needs a gradient.
    """

    array: np.ndarray
    dtype: str
    origin: str
    differentiable: bool = False

    @property
    def exact(self) -> bool:
        return self.array.dtype.kind not in "fc"


def plain(value) -> Any:
    """A snapshot of a result as Numbers, str, None, lists and dicts, whatever container held it."""
    torch = sys.modules.get("torch")
    origin = type(value).__name__
    if torch is not None and isinstance(value, torch.Tensor):
        dtype, differentiable = str(value.dtype).removeprefix("torch."), value.requires_grad
        value = value.detach().cpu()
        value = value.double() if value.is_floating_point() else value
        return Numbers(value.numpy().copy(), dtype, origin, differentiable)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (bool, int, float, complex, np.generic, np.ndarray)):
        array = np.array(value)
        if array.dtype.kind not in "biufc" and not isinstance(value, int):  # huge ints are objects
            return plain(value.tolist())
        return Numbers(array, array.dtype.name, origin)
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, range)):
        return _stacked([plain(item) for item in value], origin)
    return value


def _stacked(items: list, origin: str) -> Numbers | list:
    """One array for a list of equally shaped numbers, so that it equals an array or a tensor.

    Integers beside floats stay apart: a count must not get the tolerance of its neighbour.
    """
    if not items:
        return Numbers(np.empty(0, int), "int64", origin)
    if not all(isinstance(item, Numbers) for item in items):
        return items
    if len({(item.array.shape, item.exact) for item in items}) > 1:
        return items
    coarsest = max((item.dtype for item in items), key=default_tolerance)
    arrays = [item.array for item in items]
    if items[0].exact and np.result_type(*arrays).kind == "f":  # of uint64 and int64: would be rounded
        arrays = [array.astype(object) for array in arrays]
    return Numbers(np.stack(arrays), coarsest, origin, any(item.differentiable for item in items))


def default_tolerance(dtype: str) -> float:
    """Relative and absolute tolerance of floats of that dtype."""
    return 1e-2 if dtype in HALF else 1e-5 if dtype == "float32" else 1e-6


def _kind(value) -> str:
    if isinstance(value, Numbers):
        return "sequence" if value.array.ndim else "number"
    if isinstance(value, list):
        return "sequence"
    return type(value).__name__


def _rows(value: Numbers | list) -> list:
    if isinstance(value, list):
        return value
    if value.array.ndim > 1:
        return [value._replace(array=row) for row in value.array]
    return [value._replace(array=np.asarray(x), origin=type(x).__name__) for x in value.array.tolist()]


def _described(value) -> str:
    if isinstance(value, Numbers) and value.array.ndim:
        return f"{a_or_an(value.origin)} of shape {value.array.shape}"
    if isinstance(value, Numbers):
        return f"{a_or_an(value.origin)} ({_number(value.array.item())})"
    if isinstance(value, str):
        return f"a str ({brief(value)})"
    return "None" if value is None else a_or_an(type(value).__name__)


def a_or_an(name: str) -> str:
    return f"an {name}" if name[0] in "aeiouAEIOU" else f"a {name}"


def _number(value) -> str:
    if isinstance(value, int):
        # Python refuses to print integers of thousands of digits.
        return f"{value:,}" if value.bit_length() <= 128 else f"an integer of {value.bit_length()} bits"
    return f"{value:.4g}"


# Comparing ----------------------------------------------------------------------------------


class Mismatch(NamedTuple):
    """One difference. The lowest rank speaks first; within a rank, the largest size."""

    rank: int
    size: float
    text: str


TYPE, NOT_FINITE, KEYS, SHAPE, VALUE, GRADIENT = range(6)


def mismatches(expected, got, tolerance: float | None = None, path: str = "") -> list[Mismatch]:
    """All differences between two values in plain form; an empty list if they agree.

    Integers, strings and None must agree exactly, whatever the tolerance; for floats it is
    relative and absolute, and by default follows the dtype. Which of the two is "expected" matters in
    three ways only: it says whether numbers are integers, how precise floats are, and whether they need
    a gradient. An expected 3.0 accepts 3, and an expected 3 accepts 3.0 but not 3.0000001.
    """
    at = f" at {path}" if path else ""
    if _kind(expected) != _kind(got):
        text = f"It returned {_described(got)}{at} where {_described_type(expected)} was expected"
        return [Mismatch(TYPE, 0, text)]
    if isinstance(expected, dict):
        return _dict_mismatches(expected, got, tolerance, path)
    if isinstance(expected, Numbers) and isinstance(got, Numbers):
        return _number_mismatches(expected, got, tolerance, at)
    if _kind(expected) == "sequence":
        return _list_mismatches(_rows(expected), _rows(got), tolerance, path)
    if isinstance(expected, str):
        return [] if expected == got else [Mismatch(VALUE, 0, _text_difference(expected, got, at))]
    if expected == got:
        return []
    text = f"It returned {brief(got)}{at} where {brief(expected)} was expected"
    return [Mismatch(VALUE, 0, text)]


def value_mismatches(expected, got, tolerance: float | None = None) -> list[Mismatch]:
    """Those of `mismatches` that are none of lost gradients."""
    return [m for m in mismatches(expected, got, tolerance) if m.rank != GRADIENT]


def _described_type(value) -> str:
    """The expected type, without giving the expected value away."""
    if _kind(value) == "number":
        return f"a number ({value.origin})"
    return "a str" if isinstance(value, str) else _described(value)


def _dict_mismatches(expected: dict, got: dict, tolerance, path: str) -> list[Mismatch]:
    missing = [brief(key) for key in expected if key not in got]
    extra = [brief(key) for key in got if key not in expected]
    if missing or extra:
        parts = [f"misses {', '.join(missing)}"] if missing else []
        parts += [f"has {', '.join(extra)} too many"] if extra else []
        where = f" at {path}" if path else ""
        return [Mismatch(KEYS, 0, f"Its dict{where} has other keys: it {' and '.join(parts)}")]
    found = [mismatches(expected[k], got[k], tolerance, f"{path}[{k!r}]") for k in expected]
    return [mismatch for some in found for mismatch in some]


def _list_mismatches(expected: list, got: list, tolerance, path: str) -> list[Mismatch]:
    if len(expected) != len(got):
        where = f" at {path}" if path else ""
        text = f"It returned length {len(got)}{where} where {len(expected)} was expected"
        return [Mismatch(SHAPE, 0, text)]
    pairs = enumerate(zip(expected, got, strict=True))
    found = [mismatches(e, g, tolerance, f"{path}[{i}]") for i, (e, g) in pairs]
    return [mismatch for some in found for mismatch in some]


CUT_OFF = "something like .detach(), .data, .item(), .tolist(), numpy or no_grad cuts it off"


def _number_mismatches(expected: Numbers, got: Numbers, tolerance, at: str) -> list[Mismatch]:
    e, g = expected.array, got.array
    if e.shape != g.shape:
        text = f"It returned shape {g.shape}{at} where {e.shape} was expected"
        if e.ndim == g.ndim == 1:
            text = f"It returned length {len(g)}{at} where {len(e)} was expected"
        return [Mismatch(SHAPE, 0, text)]
    apart = differing(expected, got, tolerance)
    if apart.any():
        note = _half_note(expected, got)
        return [_not_finite(expected, got, at) or _largest(e, g, ~apart, note, at)]
    if expected.differentiable and not got.differentiable:
        return [Mismatch(GRADIENT, 0, f"Its values are right, but it has no gradient{at}: {CUT_OFF}")]
    return []


def differing(expected: Numbers, got: Numbers, tolerance: float | None = None) -> np.ndarray:
    """A mask of the elements of two equally shaped arrays that do not agree."""
    e, g = expected.array, got.array
    if expected.exact:
        # As Python's numbers: numpy would round integers above 2**53 to compare them with floats.
        return ~np.asarray(e.astype(object) == g.astype(object), bool)
    return ~_close(
        _floats(e), _floats(g), _float_tolerance(expected, got) if tolerance is None else tolerance
    )


def _floats(array: np.ndarray) -> np.ndarray:
    """As float64 or complex128; integers beyond their range become infinite."""
    if array.dtype.kind == "O":
        top = sys.float_info.max
        items = [x if abs(x) <= top else math.inf if x > 0 else -math.inf for x in array.flat]
        return np.array(items, float).reshape(array.shape)
    return array.astype(complex if array.dtype.kind == "c" else float)


def _close(e: np.ndarray, g: np.ndarray, limit: float) -> np.ndarray:
    """Where two arrays of floats are equal, both NaN, or apart by at most limit * (1 + the larger size)."""
    with np.errstate(all="ignore"):
        finite = np.isfinite(e) & np.isfinite(g)
        near = np.abs(e - g) <= limit + limit * np.maximum(np.abs(e), np.abs(g))
        return (e == g) | (finite & near) | (np.isnan(e) & np.isnan(g))


def _float_tolerance(expected: Numbers, got: Numbers) -> float:
    """The reference's dtype decides; float32 is fine where python floats were expected.

    Half precision is not: it would pass answers that are wrong in the third digit.
    """
    both = max(default_tolerance(expected.dtype), default_tolerance(got.dtype))
    return default_tolerance(expected.dtype) if got.dtype in HALF else both


def _not_finite(expected: Numbers, got: Numbers, at: str) -> Mismatch | None:
    if got.exact:
        return None
    fine = np.ones(got.array.shape, bool) if expected.exact else np.isfinite(expected.array)
    for name, found in (("NaN", np.isnan(got.array)), ("infinity", np.isinf(got.array))):
        count = int((found & fine).sum())
        # Where the right result has some itself, they are values like others.
        if count and not (name == "infinity" and not expected.exact and np.isinf(expected.array).any()):
            what = f"{name} in {count:,} of {got.array.size:,} values" if got.array.ndim else name
            return Mismatch(NOT_FINITE, 0, f"It returned {what}{at}, not a finite number")
    return None


def _largest(e: np.ndarray, g: np.ndarray, agree: np.ndarray, note: str, at: str) -> Mismatch:
    """The size of the difference, at the element where it is largest."""
    if {e.dtype.kind, g.dtype.kind} & {"f", "c"}:
        with np.errstate(all="ignore"):
            apart = np.asarray(np.abs(_floats(e) - _floats(g)))
    else:  # Python's integers neither wrap around (uint8) nor round (above 2**53)
        apart = np.asarray(np.abs(e.astype(object) - g.astype(object)))
    sizes = np.where(agree, 0.0, np.nan_to_num(_floats(apart), nan=np.inf, posinf=np.inf))
    index = np.unravel_index(int(sizes.argmax()), e.shape)
    difference, wanted = (x.item() if isinstance(x, np.generic) else x for x in (apart[index], e[index]))
    place = f" (element {list(map(int, index))})" if e.ndim else ""
    text = f"The largest difference is {_number(difference)} where {_number(wanted)} was expected"
    if isinstance(wanted, bool) or not np.isfinite(_floats(apart)[index]):
        returned = g[index].item() if isinstance(g[index], np.generic) else g[index]
        text = f"It returned {returned if isinstance(wanted, bool) else _number(returned)} where "
        text += f"{wanted if isinstance(wanted, bool) else _number(wanted)} was expected"
    return Mismatch(VALUE, float(sizes[index]), f"{text}{at}{place}{note}")


def _half_note(expected: Numbers, got: Numbers) -> str:
    if got.dtype not in HALF or expected.dtype in HALF or expected.exact:
        return ""
    return f" (your values are {got.dtype}, the expected ones {expected.dtype})"


def _text_difference(expected: str, got: str, at: str) -> str:
    same = 0
    while same < min(len(expected), len(got)) and expected[same] == got[same]:
        same += 1
    if max(len(expected), len(got)) <= 60:
        return f"It returned {got!r}{at} where {expected!r} was expected"
    start = max(0, same - 15)
    mine, theirs = got[start : same + 25], expected[start : same + 25]
    text = f"Its text{at} differs from character {same + 1} on"
    return f"{text}: ...{mine!r} where ...{theirs!r} was expected"
