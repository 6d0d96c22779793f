"""Every exercise: each known mistake gets its own diagnosis, and other right answers pass."""

import importlib
import json

import pytest

from labsupport.core import course
from labsupport.teaching.exercise import Exercise, ambiguities

FOLDERS = [folder for folder in course.notebooks().values() if course.module(folder, "exercises")]
EXERCISES = [
    exercise
    for folder in FOLDERS
    for exercise in vars(course.module(folder, "exercises")).values()
    if isinstance(exercise, Exercise)
]
OTHER_RIGHT_ANSWERS = {
    name: function
    for folder in FOLDERS
    for name, function in importlib.import_module(f"right_answers.{folder}").ANSWERS.items()
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
    module = course.module("nb01_first_fine_tune", "exercises")
    right = OTHER_RIGHT_ANSWERS["first_fine_tune.is_right"]
    cases = module.is_right.cases() if callable(module.is_right.cases) else module.is_right.cases
    verdicts = [right(*case) for case in cases]
    assert 3 <= sum(verdicts) < len(verdicts) - 5
    assert json.loads(cases[0][0])["intent"] == "defect"
