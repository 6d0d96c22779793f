"""Checking an exercise: run the learner's function beside the reference and say what is wrong.

A wrong answer is first compared with the exercise's known mistakes, each an implemented wrong
answer with its own message; only then do type, shape and size of the difference speak.
"""

from __future__ import annotations

import copy
import dis
import functools
import inspect
import linecache
import random
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from labsupport.checking.comparing import Numbers, brief, default_tolerance, mismatches, plain

HALF = ("float16", "bfloat16")


# What a learner sees ------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Result:
    """A verdict: status is "correct", "not attempted" or "wrong". A notebook shows it as text."""

    status: str
    message: str
    exercise: str

    def __repr__(self) -> str:
        heading = "not attempted yet" if self.status == "not attempted" else self.status
        return f"{self.exercise}: {heading}. {self.message}"


class Shown(str):
    """A string that a notebook shows without quotes."""

    __repr__ = str.__str__


# Running a learner's function ---------------------------------------------------------------


def call(function: Callable, arguments: tuple) -> Any:
    """Call with fresh copies of the arguments and the same random numbers for everybody."""
    random.seed(0)
    np.random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
    return function(*copy.deepcopy(arguments))


def outputs(function: Callable, cases: list[tuple]) -> list:
    """The function's results in plain form, one a case."""
    return [plain(call(function, arguments)) for arguments in cases]


def _code(fn):
    """The code object of a function, or of the methods of a class or an instance, or None."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    fn = inspect.unwrap(fn)
    if hasattr(fn, "__code__"):
        return fn.__code__
    owner = fn if isinstance(fn, type) else type(fn)
    return next((item.__code__ for item in vars(owner).values() if inspect.isfunction(item)), None)


def _steps(code) -> list[tuple]:
    return [(step.opname, step.argval) for step in dis.get_instructions(code) if step.opname != "NOP"]


def _is_stub(fn) -> bool:
    """Whether the body is only `pass`, `...`, a docstring or `return None`."""
    code = _code(fn) if callable(fn) else None
    return code is not None and _steps(code) == _steps((lambda: None).__code__)


def _is_todo(fn, error: BaseException) -> bool:
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


def _raised(fn, error: BaseException) -> str:
    """What a learner's function raised and in which of its lines, as a sentence without its end."""
    code, where = _code(fn), ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        if code is not None and frame.f_code.co_filename == code.co_filename:
            source = linecache.getline(code.co_filename, line).strip()
            where = f" in line {line}" + (f", `{source}`" if source else "")
    if isinstance(error, RecursionError):
        return f"It called itself without end (RecursionError){where}"
    return f"It raised {_error_text(error)}{where}"


def _error_text(error: BaseException) -> str:
    try:
        first = next(iter(str(error).strip().splitlines()), "")
    except Exception:  # a learner's exception with a broken __str__
        first = ""
    first = first if len(first) <= 160 else f"{first[:157]}..."
    return f"{type(error).__name__} ({first})" if first else type(error).__name__


# The exercise -------------------------------------------------------------------------------


class Exercise:
    """A function to write, and everything needed to judge it and to help.

    cases: argument tuples, or a function returning them (so that torch loads only for a check).
    mistakes: pairs of a wrong function and the message for whoever wrote that. hints: up to
    three, escalating. tolerance: for floats, relative and absolute, instead of the one by dtype.
    solution: where the worked solution is.
    """

    def __init__(
        self,
        name: str,
        reference: Callable,
        cases: list[tuple] | Callable[[], list[tuple]],
        mistakes=(),
        hints=(),
        tolerance: float | None = None,
        solution: str = "the notebook of the same name in solutions/",
    ):
        self.name, self.reference, self._cases = name, reference, cases
        self.mistakes, self.hints = list(mistakes), list(hints)
        self.tolerance, self.solution = tolerance, solution
        self._hints_given = 0

    def cases(self) -> list[tuple]:
        """The argument tuples that functions are tried with."""
        return list(self._cases() if callable(self._cases) else self._cases)

    def check(self, fn) -> Result:
        """Judge a learner's function. Raises nothing but KeyboardInterrupt."""
        try:
            return self._verdict(fn)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            text = f"The check could not judge what it returned ({_error_text(error)})."
            return self._wrong(f"{text} Return plain numbers, strings, lists, dicts or tensors.")

    def hint(self) -> Shown:
        """The next hint; after the last one, that one again and where the worked solution is."""
        solution = f"The worked solution is in {self.solution}."
        if not self.hints:
            return Shown(f"{self.name}: this exercise has no hints. {solution}")
        self._hints_given += 1
        number = min(self._hints_given, len(self.hints))
        text = f"Hint {number} of {len(self.hints)}: {self.hints[number - 1]}"
        return Shown(text if self._hints_given <= len(self.hints) else f"{text} {solution}")

    def or_reference(self, fn) -> Callable:
        """The learner's function if it is correct, else the reference; prints which."""
        if self.check(fn).status == "correct":
            print(f"{self.name}: using your function.")
            return fn
        print(f"{self.name}: using the reference solution from here on, so that the rest runs.")
        return self.reference

    def _verdict(self, fn) -> Result:
        if fn is None or fn is ... or _is_stub(fn):
            return self._to_do("Write the function, then run this cell again.")
        if not callable(fn):
            text = f"This is not a function but {brief(fn)} ({type(fn).__name__})."
            return self._wrong(f"{text} Give check the function's name, without brackets.")
        try:
            cases = self.cases()
            expected = outputs(self.reference, cases)
        except Exception as error:
            text = f"The reference solution fails here: {_error_text(error)}."
            return self._to_do(f"{text} That is the course's fault; your answer was not looked at.")
        problem = self._signature_problem(fn, cases)
        if problem:
            return self._wrong(problem)
        got = []
        for number, arguments in enumerate(cases, start=1):
            try:
                value = call(fn, arguments)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                if _is_todo(fn, error):
                    return self._to_do("It still raises NotImplementedError.")
                return self._wrong(f"{_raised(fn, error)},{self._in_case(number, arguments)}")
            if value is ...:
                return self._to_do("It still returns `...`.")
            got.append(plain(value))
        return self._compared(cases, expected, got)

    def _compared(self, cases: list[tuple], expected: list, got: list) -> Result:
        if self.agree(expected, got):
            return Result("correct", "It gives the right result in every case.", self.name)
        # A known mistake knows best, also where it returns NaN or another type.
        for wrong, message in self.mistakes:
            if self.agree(_outputs_or_none(wrong, cases), got):
                return self._wrong(message)
        found = []
        for number, (e, g) in enumerate(zip(expected, got, strict=True), start=1):
            if g is None and e is not None:
                text = "Your function returned None: is a return statement missing?"
                return self._wrong(f"{text} This was{self._in_case(number, cases[number - 1])}")
            found += [(m, number) for m in mismatches(e, g, self.tolerance)]
        worst, number = min(found, key=lambda item: (item[0].rank, -item[0].size))
        return self._wrong(f"{worst.text},{self._in_case(number, cases[number - 1])}")

    def agree(self, expected: list | None, got: list | None) -> bool:
        """Whether two lists of outputs agree in every case; None (it raised) agrees with nothing."""
        if expected is None or got is None:
            return False
        pairs = zip(expected, got, strict=True)
        return not any(mismatches(e, g, self.tolerance) for e, g in pairs)

    def _signature_problem(self, fn, cases: list[tuple]) -> str | None:
        try:
            signature = inspect.signature(fn)
        except (TypeError, ValueError):  # some builtins have none
            return None
        for arguments in cases:
            try:
                signature.bind(*arguments)
            except TypeError:
                named = ", ".join(self._named(arguments))
                count = f"{len(arguments)} argument{'' if len(arguments) == 1 else 's'}"
                takes = f"but your function takes {brief_signature(signature)}"
                return f"It is called with {count} ({named}), {takes}."
        return None

    def _named(self, arguments: tuple) -> dict:
        """The arguments by the reference's parameter names."""
        try:
            return dict(inspect.signature(self.reference).bind(*arguments).arguments)
        except (TypeError, ValueError):
            return {f"argument {i}": value for i, value in enumerate(arguments, start=1)}

    def _in_case(self, number: int, arguments: tuple) -> str:
        named = ", ".join(f"{key}={brief(value)}" for key, value in self._named(arguments).items())
        return f" in case {number}: arguments {named or '(none)'}."

    def _to_do(self, message: str) -> Result:
        return Result("not attempted", message, self.name)

    def _wrong(self, message: str) -> Result:
        return Result("wrong", message, self.name)


def brief_signature(signature: inspect.Signature) -> str:
    """The parameters without annotations: (rank, alpha=16)."""
    bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return str(inspect.Signature(bare))


# For the authors of exercises ---------------------------------------------------------------


def _outputs_or_none(function: Callable, cases: list[tuple]) -> list | None:
    try:
        return outputs(function, cases)
    except Exception:
        return None


def ambiguities(exercise: Exercise) -> list[str]:
    """What is wrong with an exercise itself: each problem a sentence. Tests call it."""
    problems = []
    if len(exercise.hints) > 3:
        problems.append(f"{len(exercise.hints)} hints, more than three.")
    cases = exercise.cases()
    if not cases:
        return [*problems, "No cases."]
    if not all(isinstance(arguments, tuple) for arguments in cases):
        return [*problems, "A case is not a tuple of arguments."]
    expected = _outputs_or_none(exercise.reference, cases)
    if expected is None:
        return [*problems, "The reference raises."]
    verdict = exercise.check(exercise.reference)
    if verdict.status != "correct":
        problems.append(f"The reference does not pass its own check: {verdict.message}")
    return problems + _coarse(exercise, expected) + _mistake_problems(exercise, cases, expected)


def _mistake_problems(exercise: Exercise, cases: list[tuple], expected: list) -> list[str]:
    problems, earlier = [], []
    for number, (wrong, message) in enumerate(exercise.mistakes, start=1):
        got = _outputs_or_none(wrong, cases)
        alike = [n for n, other in earlier if exercise.agree(other, got)]
        if got is None:
            problems.append(f"Mistake {number} raises.")
        elif exercise.agree(expected, got):
            problems.append(f"Mistake {number} gives the reference's outputs in every case.")
        elif alike:
            problems.append(f"Mistake {number} gives the same outputs as mistake {alike[0]}.")
        elif exercise.check(wrong).message != message:
            problems.append(f"Mistake {number} is told: {exercise.check(wrong).message}")
        earlier.append((number, got))
    messages = [message for _, message in exercise.mistakes]
    if len(set(messages)) < len(messages):
        problems.append("Two mistakes have the same message.")
    return problems


def _coarse(exercise: Exercise, expected: list) -> list[str]:
    """A problem if all expected floats are so small that the absolute tolerance swallows them."""
    floats = [n for value in expected for n in _numbers_in(value) if not n.exact]
    sizes = [np.abs(n.array[np.isfinite(n.array)]).max(initial=0) for n in floats]
    largest = max(sizes, default=0)
    if not largest:
        return []
    limit = exercise.tolerance
    limit = max(default_tolerance(n.dtype) for n in floats) if limit is None else limit
    if limit / largest <= max(1e-3, 10 * limit):
        return []
    text = f"No expected float is above {largest:.3g}, so the absolute tolerance {limit:g}"
    return [f"{text} passes wrong answers: set a smaller tolerance."]


def _numbers_in(value) -> list[Numbers]:
    if isinstance(value, Numbers):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [number for item in inner for number in _numbers_in(item)]
