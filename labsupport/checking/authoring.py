"""For the authors of exercises: what is wrong with an exercise itself."""

from __future__ import annotations

import numpy as np

from labsupport.checking import running
from labsupport.checking.exercise import Exercise
from labsupport.differences.comparing import Numbers, default_tolerance


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
    expected = running.outcomes(exercise.run(exercise.reference), cases)
    if any(outcome.error for outcome in expected):
        return [*problems, "The reference raises."]
    verdict = exercise.check(exercise.reference)
    if verdict.status != "correct":
        problems.append(f"The reference does not pass its own check: {verdict.message}")
    problems += _effort(exercise) + _idle_arguments(exercise, cases, expected)
    problems += _square(exercise, cases, expected) + _coarse(exercise, [o.value for o in expected])
    return problems + _mistake_problems(exercise, cases, expected)


def _effort(exercise: Exercise) -> list[str]:
    problems = []
    if not isinstance(exercise.minutes, int) or not 0 < exercise.minutes <= 90:
        problems.append(f"minutes is {exercise.minutes!r}: give a whole number from 1 to 90.")
    if exercise.difficulty not in (1, 2, 3):
        problems.append(f"difficulty is {exercise.difficulty!r}: give 1, 2 or 3.")
    return problems


def _idle_arguments(exercise: Exercise, cases: list[tuple], expected: list) -> list[str]:
    """A problem for each argument that an answer could leave out, or fix at one case's value."""
    names, problems = exercise.argument_names(cases[0]), []
    if len({len(arguments) for arguments in cases}) > 1:
        return []
    for i, name in enumerate(names):
        values = [arguments[i] for arguments in cases]
        if not any(running.differ(values[0], value) for value in values[1:]):
            problems.append(f"Argument {name} is the same in every case.")
            continue
        for number, value in enumerate(values, start=1):
            fixed = [(*arguments[:i], value, *arguments[i + 1 :]) for arguments in cases]
            if exercise.alike(expected, running.outcomes(exercise.run(exercise.reference), fixed)):
                problems.append(
                    f"Argument {name} could be left out: as in case {number}, it passes everywhere."
                )
                break
    return problems


def _square(exercise: Exercise, cases: list[tuple], expected: list) -> list[str]:
    """A problem for each matrix that is square in every case: nobody could see that it is transposed."""
    names = exercise.argument_names(cases[0])
    columns = {
        f"Argument {name}": [case[i] for case in cases if i < len(case)] for i, name in enumerate(names)
    }
    columns["The expected result"] = [outcome.result for outcome in expected]
    return [
        f"{name} is square in every case: a transposed one would not be seen."
        for name, values in columns.items()
        if all(getattr(value, "ndim", 0) == 2 and len(set(value.shape)) == 1 for value in values)
    ]


SHAPES_RAISE = (RuntimeError, ValueError, IndexError)  # what a mistake may raise: wrong shapes do


def _mistake_problems(exercise: Exercise, cases: list[tuple], expected: list) -> list[str]:
    problems, earlier = [], []
    for number, (wrong, message) in enumerate(exercise.mistakes, start=1):
        got = exercise.of_mistake(number - 1, cases)
        alike = [n for n, other in earlier if exercise.alike(other, got)]
        errors = [outcome.error for outcome in got if outcome.error is not None]
        if not all(isinstance(error, SHAPES_RAISE) for error in errors):
            problems.append(f"Mistake {number} raises {running.error_text(errors[0])}.")
        elif exercise.alike(expected, got):
            problems.append(f"Mistake {number} gives the reference's outputs in every case.")
        elif alike:
            problems.append(f"Mistake {number} gives the same outputs as mistake {alike[0]}.")
        elif exercise.check(wrong).message != message:
            problems.append(f"Mistake {number} is told: {exercise.check(wrong).message}")
        earlier.append((number, got))
    if len(set(exercise.messages)) < len(exercise.messages):
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
