"""Exercises of earlier editions: a copy of a notebook finds them where it had them, and they still judge."""

import importlib
import pkgutil

import pytest

from labsupport import retired
from labsupport.checking.exercise import Exercise
from labsupport.core import course

FOLDERS = [m.name for m in pkgutil.iter_modules(retired.__path__) if m.name.startswith("nb")]
RETIRED = [
    pytest.param(folder, name, id=exercise.name)
    for folder in FOLDERS
    for name, exercise in vars(importlib.import_module(f"labsupport.retired.{folder}")).items()
    if isinstance(exercise, Exercise)
]


def test_each_file_with_a_notebooks_name_has_exercises_of_it():
    assert {folder for folder, _ in (each.values for each in RETIRED)} == set(FOLDERS)
    assert set(FOLDERS) <= set(course.notebooks().values())


@pytest.mark.parametrize(("folder", "name"), RETIRED)
def test_a_copy_finds_it_and_it_judges(folder, name):
    exercises = course.module(folder, "exercises")
    exercise = getattr(exercises, name)
    assert exercise.check(exercise.reference).status == "correct"
    assert exercise.check(lambda *arguments: "nonsense").status == "wrong"
    for wrong, message in exercise.mistakes:
        assert exercise.check(wrong).message == message
    assert name not in vars(exercises)  # so that progress counts today's


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_never_was_is_an_error_that_names_the_notebooks_module(folder):
    exercises = course.module(folder, "exercises")
    with pytest.raises(AttributeError, match=f"{folder}.exercises' has no attribute 'never_was'"):
        exercises.never_was  # noqa: B018
    with pytest.raises(ImportError, match="never_was"):
        exec(f"from {exercises.__name__} import never_was", {})


def test_answers_of_earlier_editions_are_still_right():
    """Written out here, without the code that is their reference."""
    answers = {
        "nb00_start_here.likeliest": lambda candidates: max(candidates, key=lambda n: sum(candidates[n])),
        "nb02_lora_math.delta": lambda A, B, alpha: B @ A * alpha / len(A),
        "nb03_counting_parameters.lora_parameters": lambda i, o, r: r * (i + o),
        "nb04_nf4_quantization.pack": lambda codes: codes[::2] * 16 + codes[1::2],
        "nb05_memory_and_cost.recipe_bytes": lambda w, g, m, master: w + g + 2 * m + 4 * master,
    }
    for place, answer in answers.items():
        folder, name = place.split(".")
        assert getattr(course.module(folder, "exercises"), name).check(answer).status == "correct", place
    run_cost = course.module("nb05_memory_and_cost", "exercises").run_cost
    assert run_cost.or_reference(lambda *values: ...)(3.6e15, 1, 1, 1, 1, 2) == (1.0, 2.0)
