"""What the estimates of the rented hour are made for is what the hour trains."""

import dataclasses

import pytest

from labsupport.core import profiles
from labsupport.gpu_jobs import ranges
from labsupport.setups.setup import config_named
from labsupport.sizes import counting, gpus


@pytest.mark.parametrize("card", ["t4", "l4", "h100"])
def test_adapters_are_in_float32_on_every_card_as_the_recipe_makes_them(card):
    found = gpus.find(card)
    at = ranges.ground(found, ranges.profile_for(found), config_named("qwen2.5-7b-instruct"))
    assert at.setup.trainer == "sft" and at.setup.adapters_in == "float32"


def test_that_costs_what_their_gradients_and_states_take_more():
    config = dict(config_named("smollm2-135m"), num_hidden_layers=4)
    at = ranges.ground(gpus.find("l4"), profiles.get("gpu-24gb"), config)
    assert at.setup.method == "qlora"
    left = dataclasses.replace(at, setup=dataclasses.replace(at.setup, adapters=None))
    more = (ranges.training_gib(at) - ranges.training_gib(left)) * 2**30
    numbers = counting.lora_count(at.setup.config, at.setup.rank)
    assert more > 2 * 3 * numbers  # a weight and two moments, each two bytes longer
