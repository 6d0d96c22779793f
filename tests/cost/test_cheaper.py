"""What would make a run cheaper: only what fits, in what share of the time, and where another card pays."""

import dataclasses
import math

import pytest

from labsupport.configs import model_configs
from labsupport.cost import cheaper
from labsupport.cost.step_time import step_time
from labsupport.planning import closed_form
from labsupport.setups.setup import Setup
from labsupport.sizes import gpus

L4, A100 = gpus.find("l4"), gpus.find("a100-80")
CONFIG = model_configs.find("llama-3.1-8b")


def said(setup: Setup, card: gpus.Card, cards: int = 1) -> str:
    return "; ".join(change.said for change in cheaper.changes(setup, card, cards))


def test_lora_is_cheaper_than_qlora_where_it_fits():
    run = Setup(CONFIG, "qlora", batch=1, length=512)
    assert "lora on 16-bit weights" in said(run, A100)
    large = dataclasses.replace(run, config=model_configs.find("llama-2-13b"))
    assert "16-bit weights" not in said(large, L4) and "16-bit weights" in said(large, A100)


def test_checkpointing_is_left_off_where_the_activations_fit():
    run = Setup(CONFIG, "qlora", batch=8, length=512)
    assert "no activation checkpointing" in said(run, A100)
    assert "checkpointing" not in said(dataclasses.replace(run, batch=32), L4)
    assert "checkpointing" not in said(dataclasses.replace(run, checkpointing=False), A100)


def test_packing_is_for_short_padded_rows():
    short = Setup(CONFIG, "lora", batch=1, length=100)
    assert "pack rows to 2,048 tokens" in said(short, A100)
    assert "pack" not in said(dataclasses.replace(short, padded=False), A100)
    assert "pack" not in said(dataclasses.replace(short, batch=8, length=512), A100)
    few = dataclasses.replace(short, config=CONFIG | {"max_position_embeddings": 1024})
    assert "pack rows to 1,024 tokens" in said(few, A100)


def test_more_rows_are_suggested_up_to_what_fits():
    run = Setup(CONFIG, "qlora", batch=1, length=1024)
    larger = cheaper.larger_batch(run, L4, 1)
    assert cheaper.fits(larger, L4)
    assert not cheaper.fits(dataclasses.replace(larger, batch=2 * larger.batch), L4)
    assert cheaper.larger_batch(run, A100, 1).batch == cheaper.LARGEST
    assert cheaper.larger_batch(dataclasses.replace(run, batch=64), A100, 1) is None


def test_shares_are_of_the_time_and_the_best_comes_first():
    run = Setup(CONFIG, "qdora", batch=1, length=200)
    found = cheaper.changes(run, A100, 1)
    shares = [change.share for change in found]
    assert shares == sorted(shares) and len(shares) >= 5 and max(shares) < cheaper.WORTH
    lora = dataclasses.replace(run, method="qlora")
    middle = [math.sqrt(math.prod(step_time(each, A100).seconds)) for each in (lora, run)]
    share = next(change.share for change in found if "instead of DoRA" in change.said)
    assert share == pytest.approx(middle[0] / middle[1])


def test_what_fits_leaves_a_tenth_of_the_card():
    run = Setup(CONFIG, "lora", batch=1, length=512)
    peak = closed_form.peak_bytes(run) / 2**30
    for free, fits in ((0.12, True), (0.08, False)):
        card = dataclasses.replace(L4, memory_gib=peak / (1 - free))
        assert cheaper.fits(run, card) == fits


def test_cards_split_a_model_that_none_of_them_holds():
    full = Setup(CONFIG, "full", batch=1, length=512)
    assert cheaper.must_shard(full, L4, 8) and not cheaper.must_shard(full, L4, 1)
    assert cheaper.fits(full, L4, 8) and not cheaper.fits(full, L4)
    assert not cheaper.must_shard(Setup(CONFIG, "qlora"), L4, 8)


def test_another_card_may_cost_as_many_times_as_much_as_it_is_faster():
    run = Setup(CONFIG, "qlora")
    found = cheaper.break_even(run, L4, 1)
    ratios = [math.sqrt(math.prod(step_time(run, card).seconds)) for card in (L4, gpus.find("h100"))]
    assert found["h100"] == pytest.approx(ratios[0] / ratios[1])
    assert list(found.values()) == sorted(found.values(), reverse=True) and "l4" not in found
    assert "t4" not in found  # no bfloat16
    assert "t4" in cheaper.break_even(dataclasses.replace(run, dtype="float16"), L4, 1)
    large = cheaper.break_even(Setup(model_configs.find("llama-3-70b"), "qlora", batch=1), A100, 1)
    assert "h100" in large and not {"a100-40", "4090", "l4"} & set(large)
