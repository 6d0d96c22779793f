"""Checking an exercise: run the learner's function beside the reference and say what is wrong.

A wrong answer is first compared with the exercise's known mistakes, each an implemented wrong
answer with its own message; then with what all its wrong results have in common (a factor, the order);
only then do type, shape and size of the difference speak. The smallest case that is wrong comes after it.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass

from labsupport.checking import gradients, running
from labsupport.checking.global_state import same_start
from labsupport.checking.running import Outcome
from labsupport.checking.time_limit import TooSlow
from labsupport.core import course
from labsupport.differences import conditions, showing, structural
from labsupport.differences.comparing import brief, mismatches, value_mismatches
from labsupport.teaching import progress

# What a learner sees ------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Result:
    """A verdict: status is "correct", "not attempted" or "wrong". A notebook shows it as text.

    message: what is wrong, or what to do. evidence: of a wrong answer, what it returned beside what was
    expected in the smallest case that is wrong, and in how many it is right.
    """

    status: str
    message: str
    exercise: str
    evidence: str = ""

    def __repr__(self) -> str:
        heading = "not attempted yet" if self.status == "not attempted" else self.status
        text = f"{self.exercise}: {heading}. {self.message}"
        return f"{text}\n{self.evidence}" if self.evidence else text


def _cut(text: str, length: int = 70) -> str:
    return text if len(text) <= length else f"{text[: length - 3]}..."


# The exercise -------------------------------------------------------------------------------


def told(*wrong_and_message) -> list[tuple]:
    """An Exercise's mistakes, written one after the other: a wrong answer, then what its author is told."""
    return list(zip(wrong_and_message[::2], wrong_and_message[1::2], strict=True))


def _worked_notebook(exercise: str) -> str:
    """Where an exercise of that name is solved: of "lora_math.cut" solutions/02_lora_math.ipynb."""
    subject = exercise.partition(".")[0]
    found = (notebook for notebook in course.notebooks() if notebook.partition("_")[2] == subject)
    return next((f"solutions/{notebook}.ipynb" for notebook in found), "solutions/")


class Exercise:
    """A function to write, and everything needed to judge it and to help.

    cases: argument tuples, or a function returning them (so that torch loads only for a check).
    mistakes: pairs of a wrong function, or a tuple of them, and the message for whoever wrote that; it may
    raise, as a product of the wrong shapes does. hints: up to three, escalating. minutes and difficulty (1 to
    3): what to expect of it. tolerance: for floats, relative and absolute, instead of the one by dtype.
    returns: "tensor" or "list" where the next cells need one: wherever the reference's result has one, the
    learner's must have it, too. A gradient is required wherever the reference gives one. seconds: the time
    limit of one call. used: of an exercise that is a class, what to do with one: a function of the class and
    a case's arguments, whose result is compared. solution: where the worked solution is, if not in the
    notebook that the name begins with ("lora_math.cut" is of 02_lora_math).
    """

    def __init__(
        self,
        name: str,
        reference: Callable,
        cases: list[tuple] | Callable[[], list[tuple]],
        mistakes=(),
        hints=(),
        *,
        minutes: int | None = None,
        difficulty: int | None = None,
        tolerance: float | None = None,
        returns: str | None = None,
        seconds: float | None = 60,
        used: Callable | None = None,
        solution: str | None = None,
    ):
        self.name, self.reference, self._cases = name, reference, cases
        pairs = [(wrong if isinstance(wrong, tuple) else (wrong,), message) for wrong, message in mistakes]
        self.mistakes = [(one, message) for several, message in pairs for one in several]
        self.messages, self.hints = [message for _, message in pairs], list(hints)
        self.minutes, self.difficulty = minutes, difficulty
        self.tolerance, self.returns, self.seconds = tolerance, returns, seconds
        self.used, self.solution = used, solution or _worked_notebook(name)
        self._hints_given = 0
        self._of_mistakes: dict[int, list[Outcome]] = {}  # the cases are the same in every check

    @property
    def effort(self) -> str:
        """As "20 minutes, ●●○": how long it takes and how hard it is, of three dots."""
        unit = "minute" if self.minutes == 1 else "minutes"
        dots = "●" * self.difficulty + "○" * (3 - self.difficulty)
        return f"{self.minutes} {unit}, {dots}"

    @property
    def effort_in_words(self) -> str:
        """As "20 minutes, difficulty 2 of 3", for where dots are not read."""
        return f"{self.effort.partition(',')[0]}, difficulty {self.difficulty} of 3"

    def cases(self) -> list[tuple]:
        """The argument tuples that functions are tried with."""
        if not callable(self._cases):
            return list(self._cases)
        with same_start():
            return list(self._cases())

    def run(self, fn) -> Callable:
        """What is called with a case's arguments: the function itself, or the use of a class."""
        return fn if self.used is None else functools.partial(self.used, fn)

    def check(self, fn) -> Result:
        """Judge a learner's function, and remember if it is correct, for the contents page.

        Raises nothing but KeyboardInterrupt; changes no global state.
        """
        try:
            result = self._verdict(fn)
            if result.status == "correct":
                with contextlib.suppress(OSError):  # the verdict counts more
                    progress.record_passed(self.name)
            return result
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            text = f"The check could not judge what it returned ({running.error_text(error)})."
            return self._wrong(f"{text} Return plain numbers, strings, lists, dicts or tensors.")

    def hint(self) -> None:
        """Print the next hint; after the last one, that one again and where the worked solution is.

        It prints, because a notebook shows no value that stands above another line of its cell.
        """
        solution = f"The worked solution is in {self.solution}."
        if not self.hints:
            print(f"{self.name}: this exercise has no hints. {solution}")
            return
        self._hints_given += 1
        number = min(self._hints_given, len(self.hints))
        text = f"Hint {number} of {len(self.hints)}: {self.hints[number - 1]}"
        print(text if self._hints_given <= len(self.hints) else f"{text} {solution}")

    def or_reference(self, fn) -> Callable:
        """The learner's function if it is correct, else the reference; prints which."""
        if self.check(fn).status == "correct":
            print(f"{self.name}: using your function.")
            return fn
        print(f"{self.name}: using the reference solution from here on, so that the rest runs.")
        return self.reference

    def of_mistake(self, number: int, cases: list[tuple]) -> list[Outcome]:
        """What a mistake does, by its place in `mistakes`; computed once."""
        if number not in self._of_mistakes:
            self._of_mistakes[number] = running.outcomes(
                self.run(self.mistakes[number][0]), cases, self.seconds
            )
        return self._of_mistakes[number]

    def alike(self, one: list[Outcome], other: list[Outcome]) -> bool:
        """Whether two functions did the same in every case, whether they give a gradient or not.

        Both must raise in the same cases; if they do in all of them, with the same text.
        """
        pairs = list(zip(one, other, strict=False))
        if len(one) != len(other) or any((a.error is None) != (b.error is None) for a, b in pairs):
            return False
        returned = [(a.value, b.value) for a, b in pairs if a.error is None]
        if not returned:
            return all(running.error_text(a.error) == running.error_text(b.error) for a, b in pairs)
        return not any(self._differences(a, b) for a, b in returned)

    def _differences(self, expected, got) -> list:
        return value_mismatches(expected, got, self.tolerance)

    def named(self, arguments: tuple) -> dict:
        """The arguments by the reference's parameter names."""
        try:
            return dict(inspect.signature(self.run(self.reference)).bind(*arguments).arguments)
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
            expected = running.outcomes(self.run(self.reference), cases)
        except Exception as error:
            return self._fault(error)
        failed = next((outcome.error for outcome in expected if outcome.error), None)
        if failed:
            return self._fault(failed)
        problem = running.signature_problem(self.run(fn), [(case, self.named(case)) for case in cases])
        if problem:
            return self._wrong(problem)
        got = running.outcomes(self.run(fn), cases, self.seconds)
        if any(running.is_to_do(fn, outcome.error) for outcome in got if outcome.error):
            return self._to_do("It still raises NotImplementedError.")
        if any(outcome.result is ... for outcome in got):
            return self._to_do("It still returns `...`.")
        return self._judged(fn, cases, expected, got)

    def _judged(self, fn, cases: list[tuple], expected: list[Outcome], got: list[Outcome]) -> Result:
        failing = [
            number
            for number, (e, g) in enumerate(zip(expected, got))  # noqa: B905 - a slow function's end early
            if g.error is not None or self._differences(e.value, g.value)
        ]
        changed = self._changed_argument(cases, got)
        if failing:
            message = self._diagnosis(fn, cases, expected, got, failing)
            shown = self._evidence(cases, expected, got, failing)
            also = f" It also {changed[0]}: work on a copy." if changed else ""
            return self._wrong(message, shown + also)
        if changed:
            text = f"Its results are right, but it {changed[0]}, so what the caller gave is changed too"
            return self._wrong(f"{text}: work on a copy.", f"This was {changed[1]}.")
        problem = self._unfit(cases, expected, got)
        if problem:
            return self._wrong(problem[0], f"This was {problem[1]}.")
        return Result("correct", "It gives the right result in every case.", self.name)

    def _diagnosis(self, fn, cases, expected, got, failing: list[int]) -> str:
        """What is wrong with it; a known mistake knows best, also where it raises or returns NaN."""
        if isinstance(got[-1].error, TooSlow):
            return f"{running.told(fn, got[-1].error)}?"
        for number, (_, message) in enumerate(self.mistakes):
            if self.alike(self.of_mistake(number, cases), got):
                return message
        for number in failing:
            if got[number].error is not None:
                return f"{running.told(fn, got[number].error)}, in case {number + 1}."
            if got[number].value is None and expected[number].value is not None:
                if all(outcome.value is None for outcome in got):
                    return "Your function returned None: is a return statement missing?"
                return f"It returned None in case {number + 1}: does every way through it end with a return?"
        wrong = [structural.Failing(expected[n].value, got[n].value, self.named(cases[n])) for n in failing]
        same = structural.common(wrong, self.tolerance, len(cases) - len(wrong))
        if same:
            return same
        found = [(m, n) for n in failing for m in self._differences(expected[n].value, got[n].value)]
        worst, number = min(found, key=lambda item: (item[0].rank, -item[0].size))
        right = [self.named(case) for n, case in enumerate(cases) if n not in failing]
        where = conditions.told_apart(right, [self.named(cases[n]) for n in failing])
        return f"{worst.text}, in case {number + 1}.{f' {where}' if where else ''}"

    def _evidence(self, cases, expected, got, failing: list[int]) -> str:
        """The smallest case that is wrong, if possible one with a result, and in how many it is right."""
        number = min(failing, key=lambda n: (got[n].error is not None, running.size(cases[n]), n))
        if isinstance(got[number].error, TooSlow):
            said = "it was stopped"
        elif got[number].error is not None:
            said = f"it raised {running.error_text(got[number].error)}"
        else:
            said = showing.side_by_side(expected[number].value, got[number].value, self.tolerance)
        count = f"Right in {len(cases) - len(failing)} of {len(cases)} cases"
        if len(got) < len(cases):
            count = "The other cases were not tried"
        return f"{self._for_case(number, cases)}{said}. {count}."

    def _changed_argument(self, cases: list[tuple], got: list[Outcome]) -> tuple[str, str] | None:
        """Of a function that changes its caller's data, what it does and in which case; else None."""
        for number, outcome in enumerate(got):
            if outcome.changed:
                names = self.argument_names(cases[number])
                which = " and ".join(names[i] for i in outcome.changed)
                return f"changes argument {which} in place", self._in_case(number, cases)
        return None

    def _unfit(self, cases, expected, got) -> tuple[str, str] | None:
        """Why the next cells could not go on with results of the right values, and the case; else None."""
        for number, (e, g) in enumerate(zip(expected, got, strict=True)):
            problem = running.another_container(self.returns, e.result, g.result) if self.returns else None
            found = mismatches(e.value, g.value, self.tolerance)  # a gradient at most
            problem = problem or (f"{found[0].text}." if found else None)
            problem = problem or gradients.problem(e, g, self.argument_names(cases[number]))
            if problem:
                return problem, self._in_case(number, cases)
        return None

    def argument_names(self, arguments: tuple) -> list[str]:
        """The reference's names of these arguments, or their numbers."""
        names = list(self.named(arguments))
        return names if len(names) == len(arguments) else [str(i + 1) for i in range(len(arguments))]

    def _in_case(self, number: int, cases: list[tuple]) -> str:
        parts = [
            f"{key} of shape {tuple(value.shape)}"
            if running.size(value) > 6 and hasattr(value, "shape")
            else f"{key}={_cut(brief(value))}"
            for key, value in self.named(cases[number]).items()
        ]
        return f"in case {number + 1}, for {', '.join(parts)}" if parts else f"in case {number + 1}"

    def _for_case(self, number: int, cases: list[tuple]) -> str:
        """The case as the beginning of a sentence; nothing if there is but one, without arguments."""
        where = self._in_case(number, cases)
        return f"{where[0].upper()}{where[1:]}, " if len(cases) > 1 or cases[number] else "Here "

    def _fault(self, error: BaseException) -> Result:
        text = f"The reference solution fails here: {running.error_text(error)}."
        return self._to_do(f"{text} That is the course's fault; your answer was not looked at.")

    def _to_do(self, message: str) -> Result:
        return Result("not attempted", message, self.name)

    def _wrong(self, message: str, evidence: str = "") -> Result:
        return Result("wrong", message, self.name, evidence)
