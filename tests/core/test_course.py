"""Finding the parts of the course by the names of files."""

import importlib

from labsupport.core import course


def test_explorers_are_those_of_their_room_alone():
    found = course.parts("explorer")
    assert found["decision"] == "labsupport.explorers.decision_explorer"
    assert found["vram_planner"] == "labsupport.explorers.vram_planner_explorer"
    for module in found.values():
        assert module.startswith("labsupport.explorers.")
        assert importlib.import_module(module).explore.__module__ == module


def test_experiments_are_those_of_their_room_alone():
    found = course.parts("experiment")
    assert found["spectrum"] == "labsupport.experiments.spectrum_experiment"
    for module in found.values():
        assert module.startswith("labsupport.experiments.")
        assert importlib.import_module(module).run.__module__ == module


def test_notebooks_come_in_course_order_under_their_folders():
    names = list(course.notebooks())
    assert names == sorted(names) and "05_memory_and_cost" in names
    assert course.notebooks()["05_memory_and_cost"] == "nb05_memory_and_cost"
    assert course.module("nb05_memory_and_cost", "questions").__doc__
    assert course.module("nb05_memory_and_cost", "nothing") is None
