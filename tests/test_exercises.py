"""Every exercise: each known mistake gets its own diagnosis, and other right answers pass."""

import importlib
import json
import pkgutil

import pytest

from labsupport import exercises
from labsupport.exercises.engine import Exercise, ambiguities

NAMES = [m.name for m in pkgutil.iter_modules(exercises.__path__) if m.name not in ("engine", "compare")]
EXERCISES = [
    exercise
    for name in NAMES
    for exercise in vars(importlib.import_module(f"labsupport.exercises.{name}")).values()
    if isinstance(exercise, Exercise)
]
OTHER_RIGHT_ANSWERS = {
    name: function
    for module in NAMES
    for name, function in importlib.import_module(f"right_answers.{module}").ANSWERS.items()
}
MISTAKES = [(exercise, mistake) for exercise in EXERCISES for mistake in exercise.mistakes]


def stub(*arguments, **keywords):
    raise NotImplementedError


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.name)
def test_exercise_is_well_made(exercise):
    assert ambiguities(exercise) == []
    assert len(exercise.mistakes) >= 3
    assert 1 <= len(exercise.hints) <= 3


@pytest.mark.parametrize(
    ("exercise", "mistake"), MISTAKES, ids=lambda x: x[0].__name__ if isinstance(x, tuple) else x.name
)
def test_each_mistake_gets_its_own_diagnosis(exercise, mistake):
    function, message = mistake
    result = exercise.check(function)
    assert result.status == "wrong"
    assert message in repr(result)
    assert sum(text in repr(result) for _, text in exercise.mistakes) == 1


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.name)
def test_stub_reference_and_another_right_answer(exercise, capsys):
    assert exercise.check(stub).status == "not attempted"
    assert exercise.check(exercise.reference).status == "correct"
    other = OTHER_RIGHT_ANSWERS[exercise.name]
    assert other is not exercise.reference
    assert exercise.check(other).status == "correct", repr(exercise.check(other))
    assert exercise.or_reference(other) is other
    assert exercise.or_reference(stub) is exercise.reference
    assert "reference" in capsys.readouterr().out


def test_every_exercise_of_a_notebook_has_another_right_answer():
    assert sorted(OTHER_RIGHT_ANSWERS) == sorted(e.name for e in EXERCISES)


def test_exercise_cases_use_real_answers():
    """The reply cases hold at least one right and several wrong replies, as JSON and not."""
    module = importlib.import_module("labsupport.exercises.first_fine_tune")
    right = OTHER_RIGHT_ANSWERS["first_fine_tune.is_right"]
    cases = module.is_right.cases() if callable(module.is_right.cases) else module.is_right.cases
    verdicts = [right(*case) for case in cases]
    assert 3 <= sum(verdicts) < len(verdicts) - 5
    assert json.loads(cases[0][0])["intent"] == "defect"
