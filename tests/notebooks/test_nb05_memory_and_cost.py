"""Notebook 05: what copies of before ask for, and what its figures draw."""

import dataclasses

import pytest

from labsupport.allocations import moments, streams
from labsupport.core import schematics
from labsupport.memory.setup import Setup
from labsupport.notebooks.nb05_memory_and_cost import exercises, figures, schematic, step
from labsupport.sizes import gpus, model_configs

RUN = Setup(model_configs.find("smollm2-135m"), batch=1, length=256, padded=False)


def test_exercises_of_before_still_judge():
    assert (
        exercises.recipe_bytes.check(lambda w, g, m, master: w + g + 2 * m + 4 * master).status == "correct"
    )
    assert exercises.recipe_bytes.check(lambda w, g, m, master: w + g + m + 4 * master).status == "wrong"
    assert exercises.run_cost.check(lambda *values: values).status == "wrong"
    assert exercises.run_cost.or_reference(lambda *values: ...)(3.6e15, 1, 1, 1, 1, 2) == (1.0, 2.0)
    with pytest.raises(AttributeError, match="no attribute 'never_was'"):
        exercises.never_was  # noqa: B018


def test_the_outline_of_a_step_reaches_its_peak_and_shows_each_phase():
    stream = step.traced(RUN)
    places, heights = figures.drawn_moments(stream)
    peak = streams.peak(stream, unit=1).bytes / streams.GIB
    assert max(map(sum, heights)) == pytest.approx(peak)
    assert places == sorted(places)
    assert {int(place) for place in places} == set(range(len(moments.PHASES)))


def test_a_bar_is_all_that_lies_in_the_card():
    card = gpus.find("l4")
    *parts, idle, context = figures.bar(RUN, card)
    assert sum(parts) == pytest.approx(streams.peak(step.traced(RUN)).bytes / streams.GIB)
    assert idle > 0 and context == figures.footprint.CONTEXT_GIB
    fig = figures.against_a_card({"a": [RUN], "b": [dataclasses.replace(RUN, length=128)]}, card, "title")
    tops = [max(bar.get_y() + bar.get_height() for bar in axes.patches) for axes in fig.axes]
    assert tops[0] == pytest.approx(sum(parts) + idle + context) and tops[1] < tops[0]


def test_the_schematic_draws_the_same_bytes():
    assert schematics.png(schematic.draw()) == schematics.png(schematic.draw())
