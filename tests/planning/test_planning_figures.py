"""What the figures of memory draw."""

import dataclasses

import pytest

from labsupport.allocations import moments, streams
from labsupport.configs import model_configs
from labsupport.core import plots
from labsupport.planning import evidence, figures, footprint
from labsupport.setups.setup import Setup
from labsupport.sizes import gpus

RUN = Setup(model_configs.find("smollm2-135m"), batch=1, length=256, padded=False, trainer="plain")


def drawn(fig) -> bytes:
    """That it can be drawn; returns the image's bytes."""
    return plots.show(fig, "a figure").data


def test_the_outline_of_a_step_reaches_its_peak_and_shows_each_phase():
    stream = footprint.stream_of(RUN)
    places, heights = figures.drawn_moments(stream)
    peak = streams.peak(stream, unit=1).bytes / streams.GIB
    assert max(map(sum, heights)) == pytest.approx(peak)
    assert places == sorted(places)
    assert {int(place) for place in places} == set(range(len(moments.PHASES)))


def test_both_trainers_are_drawn_on_the_same_axes_up_to_their_peaks():
    named = {name: footprint.stream_of(dataclasses.replace(RUN, trainer=name)) for name in figures.TRAINERS}
    fig = figures.two_trainers(named, "title", dict.fromkeys(named, (0, 0, "words")))
    (axes,) = fig.axes
    curves = {line.get_label(): line for line in axes.lines}
    for name, stream in named.items():
        top = max(curves[figures.TRAINERS[name][0]].get_ydata())
        assert top == pytest.approx(streams.peak(stream, unit=1).bytes / streams.GIB)
    standing = (axes.patches or axes.collections)[0].get_bbox().y1
    assert 0 < standing < min(min(line.get_ydata()) for line in curves.values() if len(line.get_xdata()) > 2)
    assert drawn(fig)


def test_a_bar_is_all_that_lies_in_the_card():
    card = gpus.find("l4")
    *parts, idle, context = figures.bar(RUN, card)
    assert sum(parts) == pytest.approx(streams.peak(footprint.stream_of(RUN)).bytes / streams.GIB)
    assert idle > 0 and context == footprint.CONTEXT_GIB
    fig = figures.against_a_card({"a": [RUN], "b": [dataclasses.replace(RUN, length=128)]}, card, "title")
    tops = [max(bar.get_y() + bar.get_height() for bar in axes.patches) for axes in fig.axes]
    assert tops[0] == pytest.approx(sum(parts) + idle + context) and tops[1] < tops[0]


def test_published_memory_is_drawn_at_its_ratio():
    rows = [dict(row, reserved_gib=None) for row in evidence.rows() if row.get("allocated_gib")][:2]
    found = [
        evidence.Compared(row, share * row["allocated_gib"], 0, True)
        for row, share in zip(rows, (1.02, 0.9), strict=True)
    ]
    axes = figures.against_published(found, "title").axes[0]
    places = [line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 1]
    assert places == pytest.approx([0.9, 1.02])
    assert axes.get_xlim()[0] < 0.9
