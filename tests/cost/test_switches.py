"""The switches of a QLoRA recipe: each is turned alone, planned as `lab.py plan` does, and timed."""

import dataclasses

import pytest

from labsupport.allocations.streams import GIB
from labsupport.core.files import LabError
from labsupport.cost import switches
from labsupport.cost.step_time import step_time
from labsupport.cost.switches import Recipe
from labsupport.planning import closed_form, planner
from labsupport.sizes import counting, gpus

SMALL = Recipe("smollm2-135m", batch=2, accumulation=1, length=64)
L4 = gpus.find("l4")


def turned(recipe: Recipe) -> dict[str, Recipe]:
    """Words -> recipe of every switch turned."""
    return {flip.words: flip.recipe for flip in switches.flips(recipe)}


def changed(recipe: Recipe, other: Recipe) -> dict:
    return {name: value for name, value in vars(other).items() if value != getattr(recipe, name)}


def test_each_switch_is_turned_alone():
    recipe = Recipe(length=512)
    assert {words: changed(recipe, other) for words, other in turned(recipe).items()} == {
        "base in bfloat16": {"method": "lora"},
        "no double quantisation": {"double_quantization": False},
        "k-bit preparation": {"kbit_preparation": True},
        "no checkpointing": {"checkpointing": False},
        "plain loop: full logits": {"trainer": "plain"},
        "adamw_8bit": {"optimizer": "adamw_8bit"},
        "paged_adamw_8bit": {"optimizer": "paged_adamw_8bit"},
        "1 x 16 rows": {"batch": 1, "accumulation": 16},  # as many rows a step
        "1,024 tokens a row": {"length": 1024},
        "rank 64": {"rank": 64},
    }
    for flip in switches.flips(recipe):
        assert flip.switch in changed(recipe, flip.recipe)


@pytest.mark.parametrize("switch", ["method", "kbit_preparation", "checkpointing", "trainer", "optimizer"])
def test_a_switch_turned_twice_is_where_it_was(switch):
    recipe = Recipe(double_quantization=False)
    once = next(flip.recipe for flip in switches.flips(recipe) if flip.switch == switch)
    back = [flip.recipe for flip in switches.flips(once) if flip.switch == switch]
    assert once != recipe and recipe in back


def test_a_base_in_bfloat16_has_no_switches_of_4_bits():
    recipe = Recipe(method="lora", kbit_preparation=True, double_quantization=False)
    assert not {"double_quantization", "kbit_preparation"} & {f.switch for f in switches.flips(recipe)}
    setup = recipe.setup()
    assert setup.double_quantization is None and not setup.kbit_preparation
    packed = turned(recipe)["base in NF4"].setup()
    assert packed.kbit_preparation and packed.double_quantization is False


def test_numbers_are_turned_down_where_they_cannot_go_up_and_left_out_where_neither_can_be_planned():
    words = turned(Recipe("smollm2-135m", batch=1, accumulation=8, length=8192, rank=192))
    assert {"8 x 1 rows", "4,096 tokens a row", "rank 48"} <= set(words)
    switched = {flip.switch for flip in switches.flips(Recipe(batch=1, accumulation=1))}
    assert "batch" not in switched and "length" in switched
    rows = 2**20 // 8192 + 1  # more tokens in a pass than are planned
    far = Recipe("smollm2-135m", batch=1, accumulation=rows, length=8192)
    assert "batch" not in {flip.switch for flip in switches.flips(far)}


# ---------------------------------------------------------------- time


def test_a_factor_holds_for_every_stack_that_the_cost_model_allows():
    setup, other = Recipe().setup(), Recipe(method="lora").setup()
    low, high = switches.time_factor(setup, other, L4)
    before, after = step_time(setup, L4), step_time(other, L4)
    ends = [b / a for a, b in zip(before.seconds, after.seconds, strict=True)]
    assert low <= min(ends) < max(ends) <= high
    # A stack that multiplies fast and unpacks slowly gains more than either end of both.
    assert low < min(ends) - 0.01
    assert switches.time_factor(other, setup, L4) == pytest.approx((1 / high, 1 / low))
    assert switches.time_factor(setup, setup, L4) == (1, 1)


def test_without_checkpointing_a_quarter_of_the_operations_is_saved_at_least():
    low, high = switches.time_factor(Recipe().setup(), Recipe(checkpointing=False).setup(), L4)
    assert 0.66 < low < high < 0.75


def test_no_time_is_given_where_none_is_known():
    assert switches.time_factor(Recipe().setup(), Recipe(rank=8).setup(), gpus.find(24)) is None
    untimed = {flip.words for flip in switches.flips(Recipe()) if not flip.timed}
    assert untimed == {
        "no double quantisation",
        "k-bit preparation",
        "plain loop: full logits",
        "paged_adamw_8bit",
    }
    paged = switches.flips(Recipe(optimizer="paged_adamw_8bit"))
    assert not any(flip.timed for flip in paged if flip.switch == "optimizer")


# ---------------------------------------------------------------- memory


def test_what_can_be_paged_are_the_two_moments():
    count = counting.lora_count(Recipe().setup().config, 16)
    of = {name: switches.moment_bytes(Recipe(optimizer=name).setup()) / count for name in switches.OPTIMIZERS}
    assert of["adamw"] == 4  # of adapters that TRL makes bfloat16 on 4 bits
    assert 2 <= of["adamw_8bit"] == of["paged_adamw_8bit"] < 2.1
    assert switches.moment_bytes(Recipe(method="lora").setup()) / count == 8


def test_it_traces_what_lab_plan_traces_and_says_the_same_of_the_card():
    reserved = switches.traced(SMALL, L4).reserved_gib
    for room in (24, reserved + 0.49, 0.6):  # ample, less than is reserved where it is, and too little
        card = gpus.find(room)
        found, plan = switches.traced(SMALL, card), planner.plan(SMALL.setup(), card, suggest=False)
        assert found.peak_gib == plan.peak_allocated_gib and found.reserved_gib == plan.peak_reserved_gib
        assert found.fits == plan.fits
    assert not found.fits


def test_k_bit_preparation_costs_more_than_the_closed_form_says():
    """As the explorer tells: it leaves out that what flows through the blocks is float32."""
    prepared = dataclasses.replace(SMALL, kbit_preparation=True)
    closed = [closed_form.peak_bytes(each.setup()) / GIB for each in (SMALL, prepared)]
    traced = [switches.traced(each, L4).peak_gib for each in (SMALL, prepared)]
    assert traced[1] - traced[0] > 1.02 * (closed[1] - closed[0]) > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": "lama-3.1-8b"}, "nearest first: llama-3.1-8b"),
        ({"method": "dora"}, "give qlora or lora"),
        ({"method": ["qlora"]}, "give qlora or lora"),
        ({"double_quantization": None, "rank": 0}, "rank is 0"),
        ({"kbit_preparation": "yes"}, "must be True or False"),
        ({"optimizer": "sgd"}, "no optimiser 'sgd'"),
        ({"trainer": "unsloth"}, "no trainer 'unsloth'"),
        ({"batch": 2.5}, "batch is 2.5"),
        ({"accumulation": 0}, "accumulation is 0"),
        ({"length": 131_073}, "131072 positions"),
    ],
)
def test_it_says_what_is_wrong(options, words):
    with pytest.raises(LabError, match=words):
        Recipe(**options).setup()
