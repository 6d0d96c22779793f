"""Configurations that are unusual and right are traced, whatever they say of positions, widths or tokens."""

import resource
import sys
import time

import pytest
from family_configs import small
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labsupport.allocations import streams
from labsupport.configs import architectures, config_fields, rope
from labsupport.core.files import LabError
from labsupport.memory import tracing
from labsupport.planning import footprint
from labsupport.setups.setup import Setup, checked

POSITIONS = [
    {"type": "dynamic", "factor": 2.0},
    {"type": "su", "short_factor": [1.0], "long_factor": [2.0]},
    {"rope_type": "longrope", "short_factor": [1.0] * 8, "long_factor": [2.0] * 8, "factor": 4.0},
    {"type": "mrope", "mrope_section": [4, 2, 2]},
    {"rope_type": "yarn", "factor": 4.0},
    {"type": "linear", "factor": 8},
    {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4},
]


def traced(config: dict, **fields) -> int:
    """Bytes at the peak of a step of a few tokens."""
    options = {"batch": 2, "length": 64, "rank": 4, "trainer": "plain"} | fields
    setup = checked(Setup(config, **options))
    return streams.peak(tracing.record_steps(setup, 3)[0]).bytes


@pytest.mark.parametrize("kind", ["llama", "phi3", "gemma3"])
def test_every_type_of_positions_takes_the_memory_of_the_default_one(kind):
    usual = traced(small(kind, 3))
    assert {traced(small(kind, 3) | {"rope_scaling": positions}) for positions in POSITIONS} == {usual}


def test_the_types_whose_positions_can_be_traced_take_that_memory_as_they_are(monkeypatch):
    """So the default type may stand for them."""
    usual = traced(small("llama", 3))
    monkeypatch.setattr(rope, "plain", lambda config: config)
    for positions in POSITIONS[4:]:
        assert traced(small("llama", 3) | {"rope_parameters": positions}) == usual
    with pytest.raises(Exception, match="meta"):
        traced(small("llama", 3) | {"rope_parameters": POSITIONS[0]})


@pytest.mark.parametrize("kind", ["llama", "gemma2", "phi3"])
def test_ids_of_tokens_beyond_the_vocabulary_change_nothing(kind):
    config = small(kind, 3)
    assert traced(config | {"pad_token_id": config["vocab_size"], "eos_token_id": 10**9}) == traced(config)


@pytest.mark.parametrize("activation", config_fields.ACTIVATIONS[::5])
def test_activations_are_traced(activation):
    assert traced(small("llama", 3) | {"hidden_act": activation}) > 0


@pytest.mark.parametrize("head_dim", [2, 100])
@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_heads_of_any_even_width_are_traced(kind, head_dim):
    assert traced(small(kind, 3) | {"head_dim": head_dim}) > 0


def misplaced(stream: streams.Stream) -> list:
    """Events in which a block appears twice, or goes without having appeared."""
    alive, found = set(), []
    for event in stream.events:
        number, appears = event[:2]
        if appears == (number in alive):
            found.append(event)
        alive ^= {number}
    return found


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize(
    ("kind", "method", "trainer"),
    [
        ("llama", "qdora", "sft"),
        ("gpt2", "qlora", "sft"),
        ("llama", "dora", "plain"),
        ("qwen3", "full", "sft"),
    ],
)
def test_micro_batches_of_a_deep_model_are_in_order(kind, method, trainer, padded):
    fields = {"batch": 1, "length": 16, "rank": 4, "trainer": trainer, "padded": padded, "accumulation": 2}
    stream, _ = footprint.trace_steps(checked(Setup(small(kind, 6), method, **fields)))
    assert misplaced(stream) == []


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(1, 300), st.floats(0, 1), st.sampled_from(["silu", "gelu", "4096"])
)


@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(architectures.NAMES),
    st.dictionaries(st.sampled_from(sorted(config_fields._CHECKS)), VALUES, max_size=2),
    st.sampled_from(["lora", "qlora", "dora", "full"]),
    st.sampled_from(["sft", "plain"]),
)
def test_any_configuration_is_one_line_or_a_trace_in_bounded_time(kind, changes, method, trainer):
    began = time.monotonic()
    names = {"gemma3_text": "gemma3", "qwen3_moe": "qwen3 moe"}
    changes = {name: value for name, value in changes.items() if name != "model_type"}
    try:
        setup = Setup(
            small(names.get(kind, kind), 3) | changes, method, rank=2, batch=1, length=8, trainer=trainer
        )
        footprint.trace_steps(checked(setup))
    except LabError as error:
        assert "\n" not in str(error)
    assert time.monotonic() - began < 60


@pytest.mark.skipif(sys.platform == "win32", reason="resource")
def test_the_deepest_model_and_the_most_tokens_take_bounded_memory_and_time():
    deepest = small("llama", 3) | {"num_hidden_layers": config_fields.LAYERS[1]}
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    footprint.trace_steps(checked(Setup(deepest, batch=2, length=64, trainer="plain", checkpointing=False)))
    wide = small("llama", 3) | {"max_position_embeddings": 2**20, "vocab_size": 300_000}
    footprint.trace_steps(checked(Setup(wide, batch=1, length=2**20, trainer="sft")))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024  # MiB; kB on Linux
    assert time.monotonic() - began < 120 and (grown < 1000 or sys.platform == "darwin")
