"""What the fields of a config.json may hold: each kind of wrong value, and anything at all."""

import dataclasses
import json
import time

import pytest
from family_configs import SMALLEST as GOOD
from hypothesis import given
from hypothesis import strategies as st

from labsupport.configs import architectures, config_fields, model_configs, rope
from labsupport.core.files import LabError

VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
NAMES = st.sampled_from([*config_fields._CHECKS, "pad_token_id", "torch_dtype", "to_dict", "return_dict"])


def problem(config: dict) -> str:
    with pytest.raises(LabError) as caught:
        model_configs.checked(config, "my/config.json")
    text = str(caught.value)
    assert text.startswith("my/config.json") and "\n" not in text and len(text) < 600
    return text


# ---------------------------------------------------------------- kinds of wrong values


@pytest.mark.parametrize("name", sorted(config_fields.COUNTS))
def test_what_counts_must_be_a_sensible_whole_number(name):
    for value in ("4096", "", True, 64.5, -1, 10**18, 10**400, float("nan"), [1], {}):
        text = problem(GOOD | {name: value})
        assert f"{name} is " in text and "whole number" in text


@pytest.mark.parametrize("name", sorted(config_fields.SWITCHES))
def test_a_switch_is_true_or_false(name):
    for value in ("true", "False", 1, 0, 1.0, []):
        assert f"{name} is {value!r}: it must be true or false" in problem(GOOD | {name: value})


@pytest.mark.parametrize("name", sorted(config_fields.NUMBERS))
def test_a_number_is_one_within_its_limits(name):
    for value in ("1e-5", True, -1, float("inf"), float("nan"), 1e300, [0.1]):
        assert f"{name} is " in problem(GOOD | {name: value})


@pytest.mark.parametrize("name", sorted(config_fields.ACTIVATION_FIELDS))
def test_an_activation_is_one_that_transformers_knows(name):
    for value, near in (("sillu", "silu"), ("gelu_tanh", "gelu_"), ("", ""), (3, ""), ({}, "")):
        text = problem(GOOD | {name: value})
        assert f"{name} is {value!r}: no such activation. Known, the nearest first: {near}" in text


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"layer_types": "full_attention"}, "layer_types is 'full_attention': it must be a list"),
        ({"layer_types": ["full_attention", "linear_attention"]}, "layer_types holds 'linear_attention'"),
        ({"layer_types": [1, 2]}, "layer_types holds 1"),
        ({"layer_types": ["full_attention"] * 3}, "layer_types is of 3 layers and num_hidden_layers is 2"),
        ({"layer_types": ["sliding_attention"] * 2}, "sliding_window must be a number"),
        ({"no_rope_layers": [True, 1]}, "no_rope_layers holds True"),
        ({"mlp_only_layers": ["a"]}, "mlp_only_layers holds 'a'"),
    ],
)
def test_lists_by_layer_must_fit_the_layers(wrong, words):
    assert words in problem(GOOD | wrong)


def test_100_000_layers_are_refused_and_as_many_as_anybody_has_are_not():
    assert "num_hidden_layers is 100000" in problem(GOOD | {"num_hidden_layers": 100_000})
    assert model_configs.checked(GOOD | {"num_hidden_layers": 126})["num_hidden_layers"] == 126


# ---------------------------------------------------------------- what is unusual and right


def test_whole_numbers_may_be_written_as_floats():
    config = model_configs.checked({k: float(v) if isinstance(v, int) else v for k, v in GOOD.items()})
    assert config == model_configs.checked(GOOD)
    assert all(isinstance(config[name], int) for name in GOOD if name != "model_type")


def test_heads_may_be_wider_together_than_the_model():
    config = model_configs.checked(GOOD | {"head_dim": 128})
    assert config["head_dim"] * config["num_attention_heads"] > config["hidden_size"]


def test_what_does_not_matter_may_hold_anything():
    odd = {
        "pad_token_id": 10**9,
        "torch_dtype": 3,
        "to_dict": {},
        "use_cache": "yes",
        "id2label": [],
        "x": None,
    }
    assert model_configs.checked(GOOD | odd) == model_configs.checked(GOOD)


def test_null_is_absent_but_where_it_says_that_there_is_none():
    config = GOOD | {"attention_bias": None, "head_dim": None, "rope_scaling": None, "sliding_window": None}
    completed = model_configs.checked(config)
    assert completed["head_dim"] == 16 and "attention_bias" not in completed
    assert completed["sliding_window"] is None  # Mistral's default would be a window of 4,096


# ---------------------------------------------------------------- anything


@given(st.dictionaries(NAMES, VALUES, max_size=3))
def test_any_value_in_any_field_is_one_line_or_a_configuration(changes):
    began = time.process_time()
    try:
        completed = model_configs.checked(GOOD | changes, "my/config.json")
    except LabError as error:
        text = str(error)
        assert text.startswith("my/config.json") and "\n" not in text and len(text) < 1000
    else:
        assert model_configs.checked(completed) == completed
        json.dumps(completed)
    assert time.process_time() - began < 2


@given(VALUES)
def test_any_value_instead_of_a_configuration(value):
    try:
        model_configs.checked(value)
    except LabError as error:
        assert "\n" not in str(error)


# ---------------------------------------------------------------- the table against transformers

# Fields of transformers' classes that change nothing here: ids of tokens, how weights are first drawn, what a
# model returns, the cache, parts of models for other tasks.
WITHOUT_EFFECT = {
    "initializer_range",
    "use_cache",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
    "pretraining_tp",
}
WITHOUT_EFFECT |= {"summary_type", "summary_use_proj", "summary_activation", "summary_proj_to_labels"}
WITHOUT_EFFECT |= {"summary_first_dropout"}


@pytest.mark.parametrize("kind", architectures.NAMES)
def test_every_field_that_a_family_has_is_looked_at_or_changes_nothing(kind):
    from transformers import PreTrainedConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    general = {field.name for field in dataclasses.fields(PreTrainedConfig)}
    own = {field.name for field in dataclasses.fields(CONFIG_MAPPING[kind])} - general
    assert own - WITHOUT_EFFECT - set(config_fields._CHECKS) == set()


def test_the_activations_are_those_that_transformers_knows():
    from transformers.activations import ACT2FN

    assert {*config_fields.ACTIVATIONS, "prelu", "xielu"} == set(ACT2FN)


def test_the_types_of_positions_are_those_that_transformers_makes_or_calls_so():
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    others = {"proportional"}  # of Gemma 4, which the course does not plan
    assert set(rope.NEEDED) - {"default", "su", "mrope"} == set(ROPE_INIT_FUNCTIONS) - others
