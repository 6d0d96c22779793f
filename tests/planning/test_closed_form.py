"""What can be done on paper. The trace holds it to account in test_planning.py."""

import dataclasses

import hypothesis.strategies as some
import pytest
from hypothesis import given, settings

from labsupport.configs import model_configs
from labsupport.core import dtypes
from labsupport.planning import closed_form
from labsupport.setups.setup import METHODS, OPTIMIZERS, TRAINERS, Setup


def test_a_token_keeps_288_kib_in_a_layer_of_the_8b_model():
    run = Setup(config=model_configs.find("llama-3.1-8b"), padded=False, trainer="plain")
    assert closed_form.activation_bytes(run) / 1024 == pytest.approx(288, rel=0.01)


def test_trls_adapters_keep_half_of_their_inputs_and_on_4_bits_share_them():
    plain = Setup(config=model_configs.find("llama-3.1-8b"), trainer="plain")
    hidden, inner = 4096, 14336
    assert closed_form.adapter_input_bytes(plain) == 4 * (6 * hidden + inner + 7 * 16)
    sft = dataclasses.replace(plain, trainer="sft")
    assert closed_form.adapter_input_bytes(sft) == 2 * (6 * hidden + inner + 7 * 16)
    four_bits = dataclasses.replace(sft, method="qlora")
    assert closed_form.adapter_input_bytes(four_bits) == 2 * (2 * hidden + inner + 7 * 16)
    cast = dataclasses.replace(four_bits, adapters="float32")
    assert closed_form.adapter_input_bytes(cast) == closed_form.adapter_input_bytes(four_bits)
    assert closed_form.trainable_bytes(cast) == 4 == 2 * closed_form.trainable_bytes(four_bits)


def test_double_quantisation_is_on_unless_it_is_turned_off():
    run = Setup(config=model_configs.find("llama-3.1-8b"), method="qlora")
    on, off = (dataclasses.replace(run, double_quantization=choice) for choice in (True, False))
    assert closed_form.weight_bytes(run) == closed_form.weight_bytes(on) < closed_form.weight_bytes(off)


RUNS = some.builds(
    Setup,
    config=some.sampled_from([model_configs.find(name) for name in model_configs.names()]),
    method=some.sampled_from(METHODS),
    rank=some.integers(1, 512),
    batch=some.integers(1, 64),
    length=some.integers(1, 8192),
    dtype=some.sampled_from(dtypes.NAMES),
    checkpointing=some.booleans(),
    optimizer=some.sampled_from(OPTIMIZERS),
    padded=some.booleans(),
    trainer=some.sampled_from(TRAINERS),
    supervised=some.floats(0.01, 1.0),
    accumulation=some.integers(1, 4),
)


@settings(max_examples=100)
@given(RUNS, some.sampled_from(["rank", "batch", "length"]), some.integers(1, 1000))
def test_more_rank_rows_or_tokens_never_need_less(run, field, more):
    larger = dataclasses.replace(run, **{field: getattr(run, field) + more})
    assert closed_form.peak_bytes(larger) >= closed_form.peak_bytes(run)


@settings(max_examples=100)
@given(RUNS)
def test_the_parts_add_up_and_none_is_negative(run):
    _, parts = closed_form.peak_parts(run)
    assert all(size >= 0 for size in parts.values())
    assert sum(parts.values()) == closed_form.peak_bytes(run) >= closed_form.weight_bytes(run)
