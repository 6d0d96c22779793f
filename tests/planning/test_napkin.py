"""Notebook 05's napkin beside the trace, and beside what a block is watched to keep."""

import dataclasses

import pytest

from labsupport.allocations import streams
from labsupport.configs import model_configs
from labsupport.memory import watching
from labsupport.planning import footprint, napkin
from labsupport.setups.setup import Setup

LARGE = Setup(model_configs.find("llama-3.1-8b"), batch=1, length=2048, padded=False, trainer="sft")


@pytest.mark.parametrize("trainer", ["sft", "plain"])
@pytest.mark.parametrize(
    "options",
    [
        {"method": "lora"},
        {"method": "lora", "accumulation": 4},
        {"method": "lora", "checkpointing": False},
        {"method": "qlora", "batch": 4},
        {"method": "qlora", "length": 512, "rank": 64},
        {"method": "qlora", "adapters": "float32", "checkpointing": False},
        {"method": "lora", "adapters": "bfloat16", "checkpointing": False},
    ],
)
def test_the_napkin_is_near_the_trace(trainer, options):
    run = dataclasses.replace(LARGE, trainer=trainer, **options)
    assert napkin.on_paper(run) == pytest.approx(streams.peak(footprint.stream_of(run)).bytes, rel=0.03)


@pytest.mark.parametrize("adapters", napkin.ADAPTERS)
def test_a_block_keeps_what_the_napkin_counts_and_a_number_a_norm(adapters):
    method, trainer = napkin.ADAPTERS[adapters]
    run = dataclasses.replace(LARGE, method=method, trainer=trainer)
    sizes = {"float32": 4, "bfloat16": 2}
    watched = sum(sizes[dtype] * width * many for (dtype, width), many in watching.kept_by_block(run).items())
    assert watched == napkin.kept_by_block(run.config, run.rank, adapters) + 2 * 4
    assert napkin.adapters_of(run) == adapters
