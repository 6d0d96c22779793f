"""What the figures of time draw."""

import dataclasses

import pytest

from labsupport.configs import model_configs
from labsupport.cost import evidence, figures, step_time
from labsupport.setups.setup import Setup
from labsupport.sizes import gpus

LARGE = Setup(model_configs.find("llama-3.1-8b"), batch=1, length=2048, padded=False, trainer="sft")


def test_published_times_stand_at_their_share_of_the_range_and_those_outside_are_crossed():
    row = evidence.rows()[0]
    held = [
        (dataclasses.replace(row, seconds=seconds), step_time.StepTime(100, {"products": (1.0, 4.0)}))
        for seconds in (2.0, 10.0)
    ]
    axes = figures.against_published(held, "title").axes[0]
    dots = {line.get_label(): list(line.get_ydata()) for line in axes.lines if line.get_marker() == "o"}
    assert dots["published, fitted"] == [1.0, 5.0]
    crosses = [
        list(line.get_ydata()) for line in axes.lines if line.get_marker() == "x" and len(line.get_ydata())
    ]
    assert crosses == [[5.0]]
    assert len(set(figures.places_of(held))) == 2


def test_the_band_over_the_tokens_lies_between_slow_and_fast():
    steps = [
        step_time.step_time(dataclasses.replace(LARGE, length=length), gpus.find("l4"))
        for length in (64, 512)
    ]
    axes = figures.over_tokens({"LoRA": steps, "QLoRA": steps}, "title").axes[0]
    band = axes.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(max(found.tokens_a_second[1] for found in steps))
    assert band[:, 1].min() == pytest.approx(min(found.tokens_a_second[0] for found in steps))
