"""Checking an exercise: run the learner's function beside the reference and say what is wrong.

A wrong answer is first compared with the exercise's known mistakes, each an implemented wrong
answer with its own message; only then do type, shape and size of the difference speak.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

from labsupport.checking import running
from labsupport.checking.comparing import brief, mismatches, plain
from labsupport.checking.global_state import same_start

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
        if not callable(self._cases):
            return list(self._cases)
        with same_start():
            return list(self._cases())

    def check(self, fn) -> Result:
        """Judge a learner's function. Raises nothing but KeyboardInterrupt; changes no global state."""
        try:
            return self._verdict(fn)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            text = f"The check could not judge what it returned ({running.error_text(error)})."
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

    def agree(self, expected: list | None, got: list | None) -> bool:
        """Whether two lists of outputs agree in every case; None (it raised) agrees with nothing."""
        if expected is None or got is None:
            return False
        pairs = zip(expected, got, strict=True)
        return not any(mismatches(e, g, self.tolerance) for e, g in pairs)

    def named(self, arguments: tuple) -> dict:
        """The arguments by the reference's parameter names."""
        try:
            return dict(inspect.signature(self.reference).bind(*arguments).arguments)
        except (TypeError, ValueError):
            return {f"argument {i}": value for i, value in enumerate(arguments, start=1)}

    def _verdict(self, fn) -> Result:
        if fn is None or fn is ... or running.is_stub(fn):
            return self._to_do("Write the function, then run this cell again.")
        if not callable(fn):
            text = f"This is not a function but {brief(fn)} ({type(fn).__name__})."
            return self._wrong(f"{text} Give check the function's name, without brackets.")
        try:
            cases = self.cases()
            expected = running.outputs(self.reference, cases)
        except Exception as error:
            text = f"The reference solution fails here: {running.error_text(error)}."
            return self._to_do(f"{text} That is the course's fault; your answer was not looked at.")
        problem = running.signature_problem(fn, [(case, self.named(case)) for case in cases])
        if problem:
            return self._wrong(problem)
        got, changed = [], []
        for number, arguments in enumerate(cases, start=1):
            try:
                value, own = running.call(fn, arguments)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                if running.is_to_do(fn, error):
                    return self._to_do("It still raises NotImplementedError.")
                return self._wrong(f"{running.told(fn, error)},{self._in_case(number, arguments)}")
            if value is ...:
                return self._to_do("It still returns `...`.")
            got.append(plain(value))  # at once: the function may use its buffer again
            changed.append(running.changed_positions(arguments, own))
        problem = self._wrong_result(cases, expected, got) or self._changed_argument(cases, changed)
        if problem:
            return self._wrong(problem)
        return Result("correct", "It gives the right result in every case.", self.name)

    def _wrong_result(self, cases: list[tuple], expected: list, got: list) -> str | None:
        """The diagnosis of the first or largest difference, None if the results agree."""
        if self.agree(expected, got):
            return None
        # A known mistake knows best, also where it returns NaN or another type.
        for wrong, message in self.mistakes:
            if self.agree(running.outputs_or_none(wrong, cases), got):
                return message
        found = []
        for number, (e, g) in enumerate(zip(expected, got, strict=True), start=1):
            if g is None and e is not None:
                text = "Your function returned None: is a return statement missing?"
                return f"{text} This was{self._in_case(number, cases[number - 1])}"
            found += [(m, number) for m in mismatches(e, g, self.tolerance)]
        worst, number = min(found, key=lambda item: (item[0].rank, -item[0].size))
        return f"{worst.text},{self._in_case(number, cases[number - 1])}"

    def _changed_argument(self, cases: list[tuple], changed: list[list[int]]) -> str | None:
        """What to say of a function with the right results that changes its caller's data, else None."""
        for number, (arguments, positions) in enumerate(zip(cases, changed, strict=True), start=1):
            if positions:
                names = list(self.named(arguments))
                names = names if len(names) == len(arguments) else range(1, len(arguments) + 1)
                which = " and ".join(str(names[i]) for i in positions)
                text = f"Its results are right, but it changes argument {which} in place, so what the caller"
                where = f"This was{self._in_case(number, arguments)}"
                return f"{text} gave is changed too: work on a copy. {where}"
        return None

    def _in_case(self, number: int, arguments: tuple) -> str:
        named = ", ".join(f"{key}={brief(value)}" for key, value in self.named(arguments).items())
        return f" in case {number}: arguments {named or '(none)'}."

    def _to_do(self, message: str) -> Result:
        return Result("not attempted", message, self.name)

    def _wrong(self, message: str) -> Result:
        return Result("wrong", message, self.name)
