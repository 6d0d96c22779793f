"""Notebook 05: its drawing, and what its questions take for granted."""

import dataclasses

import pytest

from labsupport.allocations import streams
from labsupport.configs import model_configs
from labsupport.core import schematics
from labsupport.notebooks.nb05_memory_and_cost import questions, schematic
from labsupport.planning.footprint import stream_of
from labsupport.setups.setup import Setup


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
    peaks = [streams.peak(stream_of(dataclasses.replace(run, **change))) for change in (*changes, {})]
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
        streams.peak(stream_of(dataclasses.replace(run, trainer=name))).bytes for name in ("plain", "sft")
    ]
    assert (peaks[0] - peaks[1]) / 1e9 == pytest.approx(asked.answer(), rel=asked.tolerance)
