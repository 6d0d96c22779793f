"""Every exercise: each known mistake gets its own diagnosis, and other right answers pass."""

import ast
import importlib
import inspect
import json
import re

import pytest

from labsupport.checking.authoring import ambiguities
from labsupport.checking.exercise import Exercise
from labsupport.core import course

FOLDERS = [folder for folder in course.notebooks().values() if course.module(folder, "exercises")]
EXERCISES = [
    exercise
    for folder in FOLDERS
    for exercise in vars(course.module(folder, "exercises")).values()
    if isinstance(exercise, Exercise)
]
RIGHT_ANSWERS = {folder: importlib.import_module(f"right_answers.{folder}") for folder in FOLDERS}
OTHER_RIGHT_ANSWERS = {
    name: function for module in RIGHT_ANSWERS.values() for name, function in module.ANSWERS.items()
}
WRONG_ANSWERS = {
    name: answers
    for folder in FOLDERS
    for name, answers in importlib.import_module(f"wrong_answers.{folder}").ANSWERS.items()
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
    assert (result.status, result.message) == ("wrong", message)
    assert repr(result) == f"{exercise.name}: wrong. {message}\n{result.evidence}"
    assert re.search(r"Right in \d+ of \d+ cases\.$", result.evidence), result.evidence
    assert sum(text in message for text in exercise.messages) == 1


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.name)
def test_stub_reference_and_another_right_answer(exercise, capsys):
    assert exercise.check(stub).status == "not attempted"
    assert exercise.check(exercise.reference).status == "correct"
    other = OTHER_RIGHT_ANSWERS[exercise.name]
    assert exercise.check(other).status == "correct", repr(exercise.check(other))
    assert exercise.or_reference(other) is other
    assert exercise.or_reference(stub) is exercise.reference
    name = exercise.name
    assert capsys.readouterr().out.splitlines() == [
        f"{name}: using your function.",
        f"{name}: using the reference solution from here on, so that the rest runs.",
    ]


def test_every_exercise_of_a_notebook_has_another_right_answer_and_wrong_ones():
    assert sorted(OTHER_RIGHT_ANSWERS) == sorted(e.name for e in EXERCISES)
    assert sorted(WRONG_ANSWERS) == sorted(e.name for e in EXERCISES)


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.name)
def test_wrong_answers_are_wrong_and_told_so(exercise, monkeypatch):
    monkeypatch.setattr(exercise, "seconds", 2)  # for the loops without end
    for function, words in WRONG_ANSWERS[exercise.name]:
        result = exercise.check(function)
        assert result.status == "wrong", function
        assert (words or "") in result.message, (function, result)
        assert result.evidence and len(repr(result)) < 600, (function, result)


def test_most_wrong_answers_get_a_diagnosis():
    words = [words for answers in WRONG_ANSWERS.values() for _, words in answers]
    assert len(words) > 3 * len(EXERCISES)
    assert sum(word is not None for word in words) > 0.7 * len(words)


IN_PLACE = [
    (name, function)
    for name, answers in WRONG_ANSWERS.items()
    for function, words in answers
    if "in_place" in function.__name__ or "spoiled" in function.__name__
]


@pytest.mark.parametrize(("name", "function"), IN_PLACE, ids=lambda x: getattr(x, "__name__", x))
def test_arguments_changed_in_place_are_always_said(name, function):
    (exercise,) = [e for e in EXERCISES if e.name == name]
    result = exercise.check(function)
    assert re.search(r"changes argument \w+ in place", repr(result)), result


READS_DATA_ONLY = {"labsupport.tasks", "labsupport.tasks.tickets"}


def of_the_course(module):
    """What a module imports of labsupport, wherever in it the import stands."""
    names = set()
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name for name in names if name.startswith("labsupport")}


@pytest.mark.parametrize("folder", FOLDERS)
def test_another_right_answer_is_not_the_references_code(folder):
    """It is written out in its own module, which can reach nothing that a reference is made of."""
    module = RIGHT_ANSWERS[folder]
    assert {function.__module__ for function in module.ANSWERS.values()} == {module.__name__}
    assert of_the_course(module) <= READS_DATA_ONLY
    assert not READS_DATA_ONLY & {inspect.getmodule(e.reference).__name__ for e in EXERCISES}


def test_exercise_cases_use_real_answers():
    """The reply cases hold at least one right and several wrong replies, as JSON and not."""
    cases = course.module("nb01_first_fine_tune", "exercises").is_right.cases()
    right = OTHER_RIGHT_ANSWERS["first_fine_tune.is_right"]
    verdicts = [right(*case) for case in cases]
    assert 3 <= sum(verdicts) < len(verdicts) - 5
    assert json.loads(cases[0][0])["intent"] == "defect"
