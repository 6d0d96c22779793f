"""Running a learner's function, always on copies and from the same start; what it raised, in a sentence."""

from __future__ import annotations

import copy
import dis
import functools
import inspect
import linecache
import math
import sys
import traceback
from collections.abc import Callable
from types import CodeType
from typing import Any, NamedTuple

from labsupport.checking.global_state import same_start
from labsupport.checking.time_limit import TooSlow, limited
from labsupport.differences.comparing import Numbers, a_or_an, mismatches, plain


class Outcome(NamedTuple):
    """What a function did in one case: its result in plain form and as it was, or what it raised.

    own: the copies that it was called with. changed: which of them it changed in place.
    """

    value: Any = None
    result: Any = None
    error: BaseException | None = None
    own: tuple = ()
    changed: tuple[int, ...] = ()


def call(function: Callable, arguments: tuple, seconds: float | None = None) -> tuple[Any, tuple]:
    """Call with copies of the arguments and the random numbers and settings that everybody gets.

    Returns the result and the copies, which the function may have changed. The arguments and all global
    state stay as they were. Raises what the function raises, and TooSlow after so many seconds.
    """
    had_torch = "torch" in sys.modules
    own = copy.deepcopy(arguments)
    with same_start(), limited(seconds):
        result = function(*own)
    if not had_torch and "torch" in sys.modules:
        # It came with this call, so its generator was not seeded. Now it can be.
        return call(function, arguments, seconds)
    return result, own


def outcome(function: Callable, arguments: tuple, seconds: float | None = None) -> Outcome:
    """What the function does with copies of the arguments. Raises nothing but KeyboardInterrupt."""
    try:
        result, own = call(function, arguments, seconds)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return Outcome(error=error)
    value = plain(result)  # at once: the function may use its buffer again
    changed = tuple(
        i for i, (one, other) in enumerate(zip(arguments, own, strict=True)) if differ(one, other)
    )
    return Outcome(value, result, None, own, changed)


def outcomes(function: Callable, cases: list[tuple], seconds: float | None = None) -> list[Outcome]:
    """One outcome a case; they end with the first case that takes too long."""
    found = []
    for arguments in cases:
        found.append(outcome(function, arguments, seconds))
        if isinstance(found[-1].error, TooSlow):
            break
    return found


def differ(before, after) -> bool:
    """Whether two arguments differ, be it in the last bit or in whether a tensor needs a gradient."""
    if _dtypes(before) != _dtypes(after):
        return True
    before, after = _comparable(plain(before)), _comparable(plain(after))
    return bool(mismatches(before, after, 0.0) or mismatches(after, before, 0.0))


def _dtypes(value) -> list:
    """Of a tensor, its dtype and whether it holds a gradient, which comparing numbers does not show."""
    if hasattr(value, "is_leaf"):
        return [value.dtype, value.is_leaf and value.grad is not None]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return [_dtypes(item) for item in items]


def _comparable(value):
    """Plain form in which objects of other classes count as equal: a copy of one rarely equals it."""
    if isinstance(value, dict):
        return {key: _comparable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_comparable(item) for item in value]
    return value if value is None or isinstance(value, (Numbers, str)) else type(value).__name__


def size(arguments) -> int:
    """How many numbers, characters and other parts something has: of two cases, the smaller is shown."""
    if isinstance(arguments, (dict, list, tuple)):
        return sum(map(size, arguments.values() if isinstance(arguments, dict) else arguments))
    if hasattr(arguments, "shape"):
        return math.prod(arguments.shape)
    return len(arguments) if isinstance(arguments, str) else 1


def another_container(wanted: str, expected, got) -> str | None:
    """A sentence if `got` has no tensor, or no list, where `expected` has one; `wanted` says which."""
    if _is(wanted, expected):
        if _is(wanted, got):
            return None
        returned = a_or_an(type(got).__name__)
        return f"Its values are right, but it returned {returned} where the next cells need a {wanted}."
    if not isinstance(expected, (dict, list, tuple)):
        return None
    keys = expected if isinstance(expected, dict) else range(len(expected))
    problems = (another_container(wanted, expected[key], got[key]) for key in keys)
    return next((problem for problem in problems if problem), None)


def _is(wanted: str, value) -> bool:
    torch = sys.modules.get("torch")
    return isinstance(value, list if wanted == "list" else torch.Tensor if torch else ())


# No answer yet ------------------------------------------------------------------------------


def _code(fn) -> CodeType | None:
    """The code object of a function, or of the methods of a class or an instance, or None."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    fn = inspect.unwrap(fn)
    if hasattr(fn, "__code__"):
        return fn.__code__
    owner = fn if isinstance(fn, type) else type(fn)
    return next((item.__code__ for item in vars(owner).values() if inspect.isfunction(item)), None)


def _steps(code: CodeType) -> list[tuple]:
    return [(step.opname, step.argval) for step in dis.get_instructions(code) if step.opname != "NOP"]


def is_stub(fn) -> bool:
    """Whether the body is only `pass`, `...`, a docstring or `return None`."""
    code = _code(fn) if callable(fn) else None
    return code is not None and _steps(code) == _steps((lambda: None).__code__)


def is_to_do(fn, error: BaseException) -> bool:
    """Whether the learner's own lines raised NotImplementedError.

    Libraries raise it too (an operation that a device lacks, a Module without forward): that is
    a real error in an attempt, and not made by a `raise` in the learner's file.
    """
    code = _code(fn)
    if not isinstance(error, NotImplementedError) or code is None:
        return isinstance(error, NotImplementedError)
    last = error.__traceback__
    while last.tb_next is not None:
        last = last.tb_next
    frame_code = last.tb_frame.f_code
    raised = dis.opname[frame_code.co_code[last.tb_lasti]] == "RAISE_VARARGS"
    return raised and frame_code.co_filename == code.co_filename


# Errors and signatures in a sentence --------------------------------------------------------


def told(fn, error: BaseException) -> str:
    """What a learner's function raised and in which of its lines, as a sentence without its end."""
    code, where = _code(fn), ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        if code is not None and frame.f_code.co_filename == code.co_filename:
            source = linecache.getline(code.co_filename, line).strip()
            where = f" in line {line}" + (f", `{source}`" if source else "")
    if isinstance(error, TooSlow):
        return f"It took {error} and was stopped{where}: does a loop never end"
    if isinstance(error, RecursionError):
        return f"It called itself without end (RecursionError){where}"
    return f"It raised {error_text(error)}{where}"


def error_text(error: BaseException) -> str:
    """The error's type and the first line of its message, cut to 160 characters."""
    try:
        first = next(iter(str(error).strip().splitlines()), "")
    except Exception:  # a learner's exception with a broken __str__
        first = ""
    first = first if len(first) <= 160 else f"{first[:157]}..."
    return f"{type(error).__name__} ({first})" if first else type(error).__name__


def signature_problem(fn: Callable, named_cases: list[tuple[tuple, dict]]) -> str | None:
    """A sentence if the function cannot be called with the arguments of some case, else None.

    named_cases: for each case its arguments, and the same by the reference's parameter names.
    """
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):  # some builtins have none
        return None
    for arguments, named in named_cases:
        try:
            signature.bind(*arguments)
        except TypeError:
            count = f"{len(arguments)} argument{'' if len(arguments) == 1 else 's'}"
            takes = f"but your function takes {_brief_signature(signature)}"
            return f"It is called with {count} ({', '.join(named)}), {takes}."
    return None


def _brief_signature(signature: inspect.Signature) -> str:
    """The parameters without annotations: (rank, alpha=16)."""
    bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return str(inspect.Signature(bare))
