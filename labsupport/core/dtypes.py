"""The number formats of the course in one table: how many bytes, and what each is called where. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from labsupport.core.files import LabError, nearest_first
from labsupport.core.numbers import shown


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
# Other names of the same: torch's, and those of files. Capitals and "torch." before them make no difference.
_ALSO = {"half": "float16", "f16": "float16", "float": "float32", "f32": "float32", "single": "float32"}


def find(name: str) -> Dtype:
    """The format of that name ("bfloat16", "bf16", "torch.bfloat16", "half"). LabError, naming all, if there
    is none."""
    word = str(name).strip().lower().removeprefix("torch.")
    word = _ALSO.get(word, word)
    if word not in _KNOWN:
        near = nearest_first(word, _KNOWN)
        raise LabError(f"There is no dtype {shown(name)} here. Known, the nearest first: {near}.")
    return _KNOWN[word]
