"""`quantization_config` is understood or refused by name, never dropped."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labsupport.configs import quantized
from labsupport.core.files import LabError

NF4 = quantized.AS_PUBLISHED


def found(asked):
    return quantized.four_bit({"quantization_config": asked}, "my/config.json")


def test_none_is_none():
    assert quantized.four_bit({}) is quantized.four_bit({"quantization_config": None}) is None


@pytest.mark.parametrize(
    ("asked", "double", "compute"),
    [
        (NF4, True, "bfloat16"),
        (NF4 | {"bnb_4bit_use_double_quant": False}, False, "bfloat16"),
        (NF4 | {"bnb_4bit_compute_dtype": "torch.float16"}, True, "float16"),
        (NF4 | {"bnb_4bit_quant_type": "fp4", "llm_int8_skip_modules": ["lm_head"]}, True, "bfloat16"),
        ({"load_in_4bit": True}, False, "float32"),  # transformers' defaults
        (
            {"quant_method": "bitsandbytes", "_load_in_4bit": True, "bnb_4bit_quant_storage": "uint8"},
            False,
            "float32",
        ),
    ],
)
def test_4_bits_of_bitsandbytes_are_understood(asked, double, compute):
    assert found(asked) == quantized.FourBit(double, compute)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, "that of 'gptq'"),
        ({"quant_method": "awq", "bits": 4}, "that of 'awq'"),
        ({"quant_method": "fp8", "activation_scheme": "dynamic"}, "that of 'fp8'"),
        ({"quant_method": "compressed-tensors"}, "that of 'compressed-tensors'"),
        ({"quant_method": "mxfp4"}, "that of 'mxfp4'"),
        ({"bits": 4}, "that of None"),
        ({}, "that of None"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "8 bits"),
        (NF4 | {"load_in_4bit": False}, "without load_in_4bit"),
        (NF4 | {"load_in_4bit": "true"}, "without load_in_4bit"),
        (NF4 | {"bnb_4bit_quant_type": "int4"}, "bnb_4bit_quant_type is 'int4'"),
        (NF4 | {"bnb_4bit_use_double_quant": "yes"}, "bnb_4bit_use_double_quant is 'yes'"),
        (NF4 | {"bnb_4bit_compute_dtype": "int8"}, "bnb_4bit_compute_dtype is 'int8'"),
        (NF4 | {"bnb_4bit_compute_dtype": 16}, "bnb_4bit_compute_dtype is 16"),
        (NF4 | {"llm_int8_skip_modules": ["lm_head", "model.layers.1.mlp"]}, "leaves 1 layers in 16 bits"),
        (NF4 | {"llm_int8_skip_modules": "lm_head"}, "llm_int8_skip_modules is 'lm_head'"),
        ("nf4", "is 'nf4': it must be null or an object"),
        ([NF4], "it must be null or an object"),
    ],
)
def test_what_is_not_planned_is_refused_by_name(asked, words):
    with pytest.raises(LabError) as caught:
        found(asked)
    text = str(caught.value)
    assert text.startswith("my/config.json: quantization_config") and words in text and "\n" not in text


KEYS = [*NF4, "_load_in_4bit", "llm_int8_skip_modules", "bits"]
ANYTHING = st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.lists(st.text(), max_size=2))


@given(st.one_of(ANYTHING, st.dictionaries(st.sampled_from(KEYS), ANYTHING)))
def test_anything_is_understood_or_one_line(asked):
    try:
        found(asked)
    except LabError as error:
        assert "\n" not in str(error)


@given(st.dictionaries(st.sampled_from(KEYS), ANYTHING))
def test_anything_beside_a_good_one(changes):
    try:
        found(dict(NF4) | changes)
    except LabError as error:
        assert "\n" not in str(error)
