"""From a step's time to hours and money, and what is said of it."""

import dataclasses
import json
import math

import pytest

from labsupport.configs import model_configs
from labsupport.core.files import LabError
from labsupport.cost import cost_model
from labsupport.cost.step_time import step_time
from labsupport.setups.setup import Setup
from labsupport.sizes import gpus

L4 = gpus.find("l4")


def setup(**options) -> Setup:
    return Setup(**({"config": model_configs.find("llama-3.1-8b"), "checkpointing": False} | options))


def test_hours_are_steps_of_so_many_seconds_and_money_is_hours_times_cards_times_rate():
    run, card = setup(length=1000, accumulation=2), gpus.find("a100-80")
    found = cost_model.estimate(run, rows=5000, epochs=2, card=card, rate=0.8, cards=2)
    step = step_time(run, card, 2)
    assert found.tokens == 10_000_000 and found.steps == 10_000_000 / 16_000
    for hours, money, seconds in zip(found.hours, found.money, step.seconds, strict=True):
        assert hours == pytest.approx(625 * seconds / 3600)
        assert money == pytest.approx(hours * 2 * 0.8)
    assert found.binds == step.binds and found.tokens_a_second == step.tokens_a_second


def test_the_terms_of_a_run_add_up_to_its_hours():
    found = cost_model.estimate(setup(method="qdora"), 700, 3, L4, 1, 4)
    for end in (0, 1):
        assert sum(term[end] for term in found.terms.values()) == pytest.approx(found.hours[end])
    assert set(found.terms) == set(cost_model.WHAT)


def test_hours_grow_with_the_tokens_and_short_rows_cost_more_a_token():
    def hours_a_token(length: int) -> float:
        found = cost_model.estimate(setup(length=length, batch=1), 1000, 1, L4, 0)
        return found.hours[1] / found.tokens

    once, twice = (cost_model.estimate(setup(), 1000, epochs, L4, 0).hours for epochs in (1, 2))
    assert twice == pytest.approx(tuple(2 * each for each in once))
    assert hours_a_token(50) > 2 * hours_a_token(1000)


def test_several_cards_split_the_model_only_where_none_holds_it():
    large = setup(config=model_configs.find("llama-3-70b"), method="qlora", checkpointing=True)
    split = cost_model.estimate(large, 1000, 1, L4, 1, 4)
    assert any("split over 4" in line for line in split.assumptions)
    whole = cost_model.estimate(large, 1000, 1, gpus.find("a100-80"), 1, 4)
    assert any("Each of 4 cards holds the whole model" in line for line in whole.assumptions)
    assert split.fits and not cost_model.estimate(large, 1000, 1, L4, 1).fits
    assert split.terms["sending"][0] > 100 * whole.terms["sending"][0]


def test_the_report_says_which_term_binds_what_would_be_cheaper_and_what_does_not_fit():
    long = cost_model.report((cost_model.estimate(setup(length=2048, checkpointing=True), 500, 1, L4, 1),))
    assert "what binds: products, multiplying with the weights" in long and "hours = steps x" in long
    short = cost_model.estimate(setup(method="qlora", length=64, batch=1, checkpointing=True), 500, 1, L4, 1)
    told = cost_model.report((short,))
    assert f"what binds: {short.binds}" in told and "cheaper: 64 rows a micro-batch" in told
    assert "cheaper: pack rows to 2,048 tokens" in told and "h100" in told
    assert "DOES NOT FIT" not in told
    full = cost_model.estimate(setup(method="full"), 500, 1, L4, 1)
    assert not full.fits and "DOES NOT FIT" in cost_model.report((full,))


def test_the_two_plans_of_the_page_are_qlora_on_one_card_and_lora_on_several():
    asked = setup(method="qlora", kbit_preparation=True, double_quantization=False)
    single, several = cost_model.compare(asked, 5000, 3, L4, 0.8, 4)
    assert (single.method, single.gpus, several.method, several.gpus) == ("qlora", 1, "lora", 4)
    assert single == cost_model.estimate(asked, 5000, 3, L4, 0.8)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rows": 0}, "rows is 0"),
        ({"rows": 10**16}, "rows is"),
        ({"rows": 2.5}, "rows is 2.5"),
        ({"epochs": 0}, "epochs is 0"),
        ({"epochs": math.inf}, "epochs is inf"),
        ({"epochs": 1e300}, "epochs is 1e"),
        ({"rate": math.nan}, "rate is nan"),
        ({"rate": -1}, "rate is -1"),
        ({"rate": 1e308}, "rate is 1e"),
        ({"cards": 0}, "gpus is 0"),
        ({"cards": 10**9}, "gpus is"),
        ({"rows": 10**15, "epochs": 1e6}, "counts up to 1e.15"),
        ({"rows": 1, "epochs": 1e-4}, "not one whole token"),
        ({"setup": setup(batch=10**7)}, "batch is 10000000"),
        ({"setup": setup(accumulation=10**30)}, "accumulation is"),
    ],
)
def test_absurd_numbers_are_one_sentence(options, words):
    given = {"setup": setup(), "rows": 5, "epochs": 1.0, "card": L4, "rate": 1.0, "cards": 1}
    with pytest.raises(LabError, match=words) as caught:
        cost_model.estimate(**given | options)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


def test_the_largest_run_that_is_counted_has_finite_figures():
    run = setup(config=model_configs.find("llama-3-70b"), method="full", batch=1, length=1)
    found = cost_model.estimate(run, 10**15, 1, gpus.find("t4"), 1e9, 10_000)
    assert "Infinity" not in json.dumps(dataclasses.asdict(found), allow_nan=False)
