"""For the authors of exercises: what is wrong with an exercise itself."""

from __future__ import annotations

import numpy as np

from labsupport.checking import running
from labsupport.checking.comparing import Numbers, default_tolerance
from labsupport.checking.exercise import Exercise


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
    expected = running.outputs_or_none(exercise.reference, cases)
    if expected is None:
        return [*problems, "The reference raises."]
    verdict = exercise.check(exercise.reference)
    if verdict.status != "correct":
        problems.append(f"The reference does not pass its own check: {verdict.message}")
    problems += _constant_arguments(exercise, cases)
    return problems + _coarse(exercise, expected) + _mistake_problems(exercise, cases, expected)


def _constant_arguments(exercise: Exercise, cases: list[tuple]) -> list[str]:
    """A problem for each argument that is the same in every case: an answer could leave it out."""
    named = [exercise.named(arguments) for arguments in cases]
    first = named[0]
    return [
        f"Argument {name} is the same in every case."
        for name in first
        if all(name in other and not running.differ(first[name], other[name]) for other in named[1:])
    ]


def _mistake_problems(exercise: Exercise, cases: list[tuple], expected: list) -> list[str]:
    problems, earlier = [], []
    for number, (wrong, message) in enumerate(exercise.mistakes, start=1):
        got = running.outputs_or_none(wrong, cases)
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
