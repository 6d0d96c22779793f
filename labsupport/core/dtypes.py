"""The number formats of the course in one table: how many bytes, and what each is called where. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from labsupport.core.files import LabError, nearest_first


@dataclass(frozen=True)
class Dtype:
    """name: torch's; short: that of command lines; bytes: of one number; code: safetensors' in a header."""

    name: str
    short: str
    bytes: int
    code: str


DTYPES = (
    Dtype("float32", "fp32", 4, "F32"),
    Dtype("bfloat16", "bf16", 2, "BF16"),
    Dtype("float16", "fp16", 2, "F16"),
)
NAMES = tuple(dtype.name for dtype in DTYPES)
SHORT_NAMES = tuple(dtype.short for dtype in DTYPES)
_KNOWN = {name: dtype for dtype in DTYPES for name in (dtype.name, dtype.short)}


def find(name: str) -> Dtype:
    """The format of that name, long or short ("bfloat16", "bf16"). LabError, naming all, if there is none."""
    if name not in _KNOWN:
        near = nearest_first(str(name), _KNOWN)
        raise LabError(f"There is no dtype {name!r} here. Known, the nearest first: {near}.")
    return _KNOWN[name]
