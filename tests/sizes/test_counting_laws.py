"""What holds of the counts of every Llama-like model: hypothesis makes one up and looks for a breach."""

import math

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from labsupport.core import dtypes
from labsupport.core.files import LabError
from labsupport.sizes import counting
from labsupport.sizes.counting import ALL_LINEAR

# A slow machine, or one with other work, is no reason to fail.
slowly = [HealthCheck.too_slow]
laws = settings(max_examples=100, suppress_health_check=slowly)

TARGETS = st.lists(st.sampled_from(ALL_LINEAR), min_size=1, unique=True)
ANY_TARGETS = st.lists(st.sampled_from([*ALL_LINEAR, *counting.OUTSIDE]), min_size=1, unique=True)


@st.composite
def configs(draw) -> dict:
    """A config.json of a small model; heads of any width, keys shared by any number of them."""
    kv_heads, shared = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    return {
        "model_type": draw(st.sampled_from(["llama", "mistral", "qwen2"])),
        "hidden_size": draw(st.integers(1, 300)),
        "intermediate_size": draw(st.integers(1, 500)),
        "num_hidden_layers": draw(st.integers(1, 12)),
        "num_attention_heads": kv_heads * shared,
        "num_key_value_heads": kv_heads,
        "head_dim": draw(st.integers(1, 40)),
        "vocab_size": draw(st.integers(1, 2000)),
        "tie_word_embeddings": draw(st.booleans()),
        "attention_bias": draw(st.booleans()),
        "mlp_bias": draw(st.booleans()),
    }


def largest_rank(config: dict, targets) -> int:
    return min(min(counting.shapes(config)[name]) for name in targets)


def ranks(config: dict, targets) -> st.SearchStrategy[int]:
    return st.integers(1, largest_rank(config, targets))


def with_layers(config: dict, layers: int) -> dict:
    return config | {"num_hidden_layers": layers}


# ---------------------------------------------------------------- the model


@laws
@given(configs())
def test_parts_add_up_and_each_layer_adds_the_same(config):
    one, two, three = (counting.model_parameters(with_layers(config, n)) for n in (1, 2, 3))
    assert one == sum(counting.model_parts(with_layers(config, 1)).values())
    assert two - one == three - two > 0


@laws
@given(configs())
def test_an_untied_head_is_a_second_embedding(config):
    tied, untied = (counting.model_parameters(config | {"tie_word_embeddings": t}) for t in (True, False))
    assert untied - tied == config["vocab_size"] * config["hidden_size"]


@laws
@given(configs())
def test_sharing_keys_and_values_saves_weights_of_k_and_v_alone(config):
    shared, own = (
        counting.model_parts(config | {"num_key_value_heads": heads})
        for heads in (1, config["num_attention_heads"])
    )
    changed = {name for name in shared if shared[name] != own[name]}
    assert changed <= {"k_proj", "v_proj", "biases"}
    assert own["k_proj"] == config["num_attention_heads"] * shared["k_proj"]


@laws
@given(configs())
def test_naive_counting_loses_half_of_the_packed_weights(config):
    linears = sum(math.prod(shape) for shape in counting.block_shapes(config).values())
    lost = counting.model_parameters(config) - counting.naive_4bit(config)
    assert lost == linears * config["num_hidden_layers"] // 2


@laws
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 10**9)), min_size=1), st.sampled_from([1, 2, 4]))
def test_packed_weights_are_counted_alike_in_every_storage(matrices, size):
    """8 weights fill 4 bytes: an element of any of the types."""
    described = [
        ("Params4bit", 8 * count // (2 * size), size) if packed else ("Parameter", 8 * count, size)
        for packed, count in matrices
    ]
    assert counting.unpacked(described) == sum(8 * count for _, count in matrices)


# ---------------------------------------------------------------- LoRA and DoRA


@laws
@given(configs(), ANY_TARGETS, st.data())
def test_lora_is_additive_over_targets(config, targets, data):
    rank = data.draw(ranks(config, targets))
    cut = data.draw(st.integers(1, len(targets)))
    parts = [part for part in (targets[:cut], targets[cut:]) if part]
    assert counting.lora_count(config, rank, targets) == sum(
        counting.lora_count(config, rank, part) for part in parts
    )
    assert counting.lora_count(config, rank, targets) == sum(
        counting.lora_by_module(config, rank, targets).values()
    )


@laws
@given(configs(), ANY_TARGETS, st.data())
def test_lora_is_linear_in_the_rank(config, targets, data):
    rank = data.draw(ranks(config, targets))
    assert counting.lora_count(config, rank, targets) == rank * counting.lora_count(config, 1, targets)


@laws
@given(configs(), TARGETS, st.integers(1, 12))
def test_lora_is_linear_in_the_layers(config, targets, layers):
    one = counting.lora_count(with_layers(config, 1), 1, targets)
    assert counting.lora_count(with_layers(config, layers), 1, targets) == layers * one


@laws
@given(configs(), ANY_TARGETS, st.data())
def test_dora_adds_magnitudes_that_no_rank_changes(config, targets, data):
    rank = data.draw(ranks(config, targets))
    magnitudes = counting.dora_count(config, rank, targets) - counting.lora_count(config, rank, targets)
    assert magnitudes == sum(counting.dora_by_module(config, targets).values())
    assert magnitudes == counting.dora_count(config, 1, targets) - counting.lora_count(config, 1, targets)


@laws
@given(configs(), TARGETS, st.data())
def test_order_and_repetition_of_targets_do_not_matter(config, targets, data):
    shuffled = data.draw(st.permutations(targets + targets[:1]))
    assert counting.lora_by_module(config, 1, targets) == counting.lora_by_module(config, 1, shuffled)
    assert counting.target_names(shuffled) == counting.target_names(counting.target_names(targets))


@laws
@given(configs(), ANY_TARGETS, st.integers())
def test_a_rank_is_taken_or_refused_in_one_sentence(config, targets, rank):
    if 1 <= rank <= largest_rank(config, targets):
        assert counting.lora_count(config, rank, targets) > 0
    else:
        with pytest.raises(LabError) as caught:
            counting.lora_count(config, rank, targets)
        assert str(rank) in str(caught.value) and "\n" not in str(caught.value)


@laws
@given(configs(), TARGETS, st.data())
def test_the_search_finds_every_configuration_that_was_counted(config, targets, data):
    limit = largest_rank(config, ALL_LINEAR)
    rank = data.draw(st.integers(1, limit))
    found = counting.configurations(config, counting.lora_count(config, rank, targets), {1, rank, limit})
    assert (rank, "+".join(counting.target_names(targets))) in found
    assert found == sorted(set(found))
    wanted = counting.lora_count(config, rank, targets)
    assert all(counting.lora_count(config, r, names.split("+")) == wanted for r, names in found)


# ---------------------------------------------------------------- the file


@laws
@given(configs(), TARGETS, st.booleans(), st.sampled_from(dtypes.NAMES), st.data())
def test_the_adapters_file_holds_what_is_trained(config, targets, dora, dtype, data):
    rank = data.draw(ranks(config, targets))
    trained = (counting.dora_count if dora else counting.lora_count)(config, rank, targets)
    shapes = counting.adapter_tensors(config, rank, targets, dora)
    assert sum(map(math.prod, shapes.values())) == trained
    assert len(shapes) == config["num_hidden_layers"] * len(targets) * (3 if dora else 2)
    header, tensors = counting.adapter_bytes(config, rank, targets, dora, dtype)
    assert tensors == dtypes.find(dtype).bytes * trained
    assert header % 8 == 0
    # The length, the braces, and a name, a type, a shape and two places a tensor.
    assert 8 + sum(map(len, shapes)) < header < 100 + 200 * len(shapes)


# ---------------------------------------------------------------- other ways of adapting


@laws
@given(configs(), st.integers(1, 500), st.integers(1, 500))
def test_other_adapters_are_linear_in_their_size(config, one, two):
    for count in (counting.prompt_tuning, counting.prefix_tuning, counting.bottleneck_adapters):
        assert count(config, one) + count(config, two) == count(config, one + two)


@laws
@given(configs(), TARGETS)
def test_biases_trained_with_the_targets_are_among_all(config, targets):
    assume(counting.with_bias(config))
    none, some, every = (counting.bias_count(config, kind, targets) for kind in ("none", "lora_only", "all"))
    assert none == 0 <= some <= every == counting.model_parts(config)["biases"]
