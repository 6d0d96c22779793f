"""Which settings are tried, and what of a card decides it."""

import dataclasses

import pytest

from labsupport.core.files import LabError
from labsupport.gpu_checks import settings
from labsupport.gpu_checks.settings import Setting
from labsupport.sizes import gpus


def found(name: str, total: float, free: float | None = None, capability=(8, 9)) -> dict:
    """A card as the worker describes it."""
    free = total - 0.5 if free is None else free
    return {"name": name, "memory_gib": total, "free_gib": free, "capability": list(capability)}


def test_what_a_time_limit_cuts_off_comes_last():
    order = settings.chosen(None, None)
    assert len(order) == len({one.key for one in order}) == 4 * 4 * 8
    usual = {(one.checkpointing, one.trainer, one.rows) for one in order[:16]}
    assert usual == {(True, "sft", "short")}
    assert {(one.model, one.method) for one in order[:16]} == {(one.model, one.method) for one in order}
    assert (order[-1].checkpointing, order[-1].trainer, order[-1].rows) == (False, "plain", "long")


def test_models_and_methods_are_chosen_by_name_and_a_wrong_one_is_named():
    some = settings.chosen("1b, 135m", "qlora")
    assert {one.model for one in some} == {"135m", "1b"} and {one.method for one in some} == {"qlora"}
    with pytest.raises(LabError, match="no model '7b'.*8b"):
        settings.chosen("7b", None)
    with pytest.raises(LabError, match="no method 'qdora'.*dora"):
        settings.chosen(None, "lora,qdora")


def test_every_setting_is_a_run_that_can_be_planned():
    for setting in settings.chosen(None, None):
        setup = setting.setup()
        assert setup.padded and setup.batch > 1  # the mask hides something in the trainer's batches, too


def test_a_card_is_the_tables_only_if_name_and_memory_are():
    l4 = settings.card_of(found("NVIDIA L4", 22.05))
    assert l4.name == "l4" and l4.sustained_tflops and l4.memory_gib == pytest.approx(22.05)
    part = settings.card_of(found("NVIDIA A100-SXM4-80GB", 19.5, capability=(8, 0)))
    other = settings.card_of(found("NVIDIA GeForce RTX 3060", 11.6, capability=(8, 6)))
    assert part.sustained_tflops is None and other.name == "NVIDIA GeForce RTX 3060"
    assert settings.card_of(found("NVIDIA L4", 22.05, free=10.0)).memory_gib == pytest.approx(10.5)
    old = settings.card_of(found("Tesla T4", 14.56, capability=(7, 5)))
    assert (settings.dtype_on(l4), settings.dtype_on(old)) == ("bfloat16", "float16")


def test_a_plan_must_leave_a_tenth_free():
    card = dataclasses.replace(gpus.find("l4"), memory_gib=20.5)
    assert settings.fits({"reserved_gib": 17.9}, card)
    assert not settings.fits({"reserved_gib": 18.1}, card)


def test_the_prediction_is_the_planners_and_the_cost_models():
    from labsupport.cost.step_time import step_time
    from labsupport.planning import planner

    setup, card = Setting("135m", "lora", True, "plain", "short").setup(), gpus.find("l4")
    told, plan = settings.predicted(setup, card), planner.plan(setup, card)
    assert told["allocated_gib"] == plan.peak_allocated_gib
    assert told["reserved_gib"] == plan.peak_reserved_gib
    assert told["tokens_a_second"] == list(step_time(setup, card).tokens_a_second)
    unknown = dataclasses.replace(card, sustained_tflops=None)
    assert settings.predicted(setup, unknown)["tokens_a_second"] is None
