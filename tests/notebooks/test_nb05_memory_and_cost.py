"""Notebook 05: its napkin beside the trace, what its figures draw, what its questions take for granted."""

import dataclasses

import pytest

from labsupport.allocations import moments, streams
from labsupport.core import plots, schematics
from labsupport.cost import evidence as published_times
from labsupport.cost import step_time
from labsupport.memory.setup import Setup
from labsupport.notebooks.nb05_memory_and_cost import (
    cost_figures,
    exercises,
    figures,
    napkin,
    questions,
    schematic,
    step,
)
from labsupport.planning import evidence, footprint
from labsupport.sizes import gpus, model_configs

RUN = Setup(model_configs.find("smollm2-135m"), batch=1, length=256, padded=False, trainer="plain")
LARGE = Setup(model_configs.find("llama-3.1-8b"), batch=1, length=2048, padded=False, trainer="sft")


def drawn(fig) -> bytes:
    """That it can be drawn; returns the image's bytes."""
    return plots.show(fig, "a figure").data


@pytest.mark.parametrize("trainer", ["sft", "plain"])
@pytest.mark.parametrize(
    "options",
    [
        {"method": "lora"},
        {"method": "lora", "accumulation": 4},
        {"method": "lora", "checkpointing": False},
        {"method": "qlora", "batch": 4},
        {"method": "qlora", "length": 512, "rank": 64},
    ],
)
def test_the_napkin_is_near_the_trace(trainer, options):
    run = dataclasses.replace(LARGE, trainer=trainer, **options)
    assert napkin.on_paper(run) == pytest.approx(streams.peak(step.traced(run)).bytes, rel=0.03)


@pytest.mark.parametrize("adapters", napkin.ADAPTERS)
def test_a_block_keeps_what_the_napkin_counts_and_a_number_a_norm(adapters):
    method, trainer = napkin.ADAPTERS[adapters]
    run = dataclasses.replace(LARGE, method=method, trainer=trainer)
    sizes = {"float32": 4, "bfloat16": 2}
    watched = sum(sizes[dtype] * width * many for (dtype, width), many in step.kept_by_block(run).items())
    assert watched == exercises.block_keeps.reference(run.config, run.rank, adapters) + 2 * 4
    assert napkin.adapters_of(run) == adapters


def test_a_real_step_takes_what_the_trace_says():
    tiny = dict(RUN.config, num_hidden_layers=2, vocab_size=4096)
    run = Setup(tiny, length=16, batch=1, dtype="float32", attention="eager", trainer="plain")
    assert step.traced_here(run) == pytest.approx(step.real_peak(run), rel=1e-3)


def test_the_outline_of_a_step_reaches_its_peak_and_shows_each_phase():
    stream = step.traced(RUN)
    places, heights = figures.drawn_moments(stream)
    peak = streams.peak(stream, unit=1).bytes / streams.GIB
    assert max(map(sum, heights)) == pytest.approx(peak)
    assert places == sorted(places)
    assert {int(place) for place in places} == set(range(len(moments.PHASES)))


def test_both_trainers_are_drawn_on_the_same_axes_up_to_their_peaks():
    named = {name: step.traced(dataclasses.replace(RUN, trainer=name)) for name in figures.TRAINERS}
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
    assert sum(parts) == pytest.approx(streams.peak(step.traced(RUN)).bytes / streams.GIB)
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


def test_published_times_stand_at_their_share_of_the_range_and_those_outside_are_crossed():
    row = published_times.rows()[0]
    held = [
        (dataclasses.replace(row, seconds=seconds), step_time.StepTime(100, {"products": (1.0, 4.0)}))
        for seconds in (2.0, 10.0)
    ]
    axes = cost_figures.against_published(held, "title").axes[0]
    dots = {line.get_label(): list(line.get_ydata()) for line in axes.lines if line.get_marker() == "o"}
    assert dots["published, fitted"] == [1.0, 5.0]
    crosses = [
        list(line.get_ydata()) for line in axes.lines if line.get_marker() == "x" and len(line.get_ydata())
    ]
    assert crosses == [[5.0]]
    assert len(set(cost_figures.places_of(held))) == 2


def test_the_band_over_the_tokens_lies_between_slow_and_fast():
    steps = [
        step_time.step_time(dataclasses.replace(LARGE, length=length), gpus.find("l4"))
        for length in (64, 512)
    ]
    axes = cost_figures.over_tokens({"LoRA": steps, "QLoRA": steps}, "title").axes[0]
    band = axes.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(max(found.tokens_a_second[1] for found in steps))
    assert band[:, 1].min() == pytest.approx(min(found.tokens_a_second[0] for found in steps))


def test_the_schematic_draws_the_same_bytes():
    assert schematics.png(schematic.draw()) == schematics.png(schematic.draw())


def test_the_right_choice_is_the_best_one_by_trace_and_by_the_cost_model():
    run = Setup(
        model_configs.find("llama-2-13b"),
        "qlora",
        batch=8,
        length=1024,
        accumulation=2,
        padded=False,
        trainer="sft",
    )
    changes = [{"optimizer": "adamw_8bit"}, {"batch": 4, "accumulation": 4}, {"accumulation": 1}, {"rank": 8}]
    peaks = [streams.peak(step.traced(dataclasses.replace(run, **change))) for change in (*changes, {})]
    assert peaks[-1].phase == "backward"
    assert min(peaks, key=lambda peak: peak.bytes) is peaks[1]
    (asked,) = [question for question in questions.QUESTIONS if question.key == "rows-of-100-tokens"]
    shares = [int(choice.why.partition("%")[0].split()[-1]) for choice in asked.choices]
    assert min(shares) == next(s for s, choice in zip(shares, asked.choices, strict=True) if choice.right)


def test_the_tower_that_a_question_speaks_of():
    (asked,) = [question for question in questions.QUESTIONS if question.key == "from-a-loop-to-the-trainer"]
    run = questions.MOVED
    tower = 14 * run.config["vocab_size"] * run.batch * run.length / 1e9
    assert f"{tower:.1f} GB" in asked.why and f"{run.config['vocab_size']:,}" in asked.text
    assert asked.answer() < tower * (1 - asked.tolerance)
    peaks = [
        streams.peak(step.traced(dataclasses.replace(run, trainer=name))).bytes for name in ("plain", "sft")
    ]
    assert (peaks[0] - peaks[1]) / 1e9 == pytest.approx(asked.answer(), rel=asked.tolerance)
