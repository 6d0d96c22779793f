"""Rotary positions as config.json files describe them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labsupport.configs import rope
from labsupport.core.files import LabError

LONG = {"type": "longrope", "short_factor": [1.0] * 8, "long_factor": [2, 3.5]}


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"rope_type": "default", "rope_theta": 10000},
        {"type": "linear", "factor": 8},
        {"type": "dynamic", "factor": 2.0},
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
        {"type": "mrope", "mrope_section": [16, 24, 24]},
        LONG,
        LONG | {"type": "su"},
        {"full_attention": {"rope_type": "linear", "factor": 8.0}, "sliding_attention": {"rope_theta": 1e4}},
    ],
)
@pytest.mark.parametrize("field", rope.FIELDS)
def test_each_type_is_taken_and_traced_as_the_default_one(value, field):
    taken = rope.checked(value, field)
    assert rope.checked(taken, field) == taken
    plain = rope.plain({"model_type": "llama", field: taken})
    assert plain["rope_parameters"]["rope_type"] == "default" and "rope_scaling" not in plain
    assert set(plain["rope_parameters"]) <= {"rope_type", "rope_theta", "partial_rotary_factor"}


def test_bases_by_type_of_layer_stay_so_for_gemma_3_alone():
    value = {"full_attention": {"rope_theta": 1e6}, "sliding_attention": {"rope_theta": 1e4}}
    gemma = rope.plain({"model_type": "gemma3_text", "rope_parameters": value})["rope_parameters"]
    assert {kind: part["rope_theta"] for kind, part in gemma.items()} == {
        "full_attention": 1e6,
        "sliding_attention": 1e4,
    }
    assert (
        rope.plain({"model_type": "qwen3", "rope_parameters": value})["rope_parameters"]["rope_theta"] == 1e6
    )


def test_how_much_of_a_head_is_turned_is_kept():
    assert rope.plain({"model_type": "phi3", "rope_scaling": LONG | {"partial_rotary_factor": 0.75}}) == {
        "model_type": "phi3",
        "partial_rotary_factor": 0.75,
        "rope_parameters": {"rope_type": "default"},
    }


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("linear", "is 'linear': it must be null or an object"),
        ([], "is []: it must be"),
        (3, "is 3"),
        ({"type": "linear"}, "of the type linear and lacks factor"),
        ({"rope_type": "llama3", "factor": 8.0}, "lacks low_freq_factor, high_freq_factor"),
        ({"type": "su"}, "lacks short_factor, long_factor"),
        (
            {"type": "longrope", "short_factor": "1", "long_factor": [1]},
            "short_factor is '1': it must be a list",
        ),
        ({"type": "ntk"}, "is of the type 'ntk'. Known, the nearest first: "),
        ({"type": None, "rope_type": 3}, "is of the type 3"),
        ({"type": ["linear"]}, "is of the type ['linear']"),
        ({"type": "linear", "factor": "2"}, "factor is '2'"),
        ({"type": "dynamic", "factor": 0.5}, "factor is 0.5"),
        ({"type": "linear", "factor": float("inf")}, "factor is inf"),
        ({"rope_theta": -1}, "rope_theta is -1"),
        ({"original_max_position_embeddings": "8192"}, "original_max_position_embeddings is '8192'"),
        ({"full_attention": {"type": "linear"}}, "full_attention is of the type linear and lacks factor"),
    ],
)
def test_what_makes_no_positions_is_one_line(value, words):
    with pytest.raises(LabError) as caught:
        rope.checked(value, "rope_scaling")
    text = str(caught.value)
    assert text.startswith("rope_scaling") and words in text and "\n" not in text


@given(
    st.dictionaries(
        st.sampled_from([*rope.NUMBERS, *rope.LISTS, *rope.LAYER_TYPES, "type", "rope_type"]),
        st.one_of(
            st.sampled_from(list(rope.NEEDED)),
            st.none(),
            st.floats(),
            st.lists(st.floats(), max_size=2),
            st.dictionaries(
                st.sampled_from(["type", "factor"]), st.sampled_from(["linear", 2.0]), max_size=2
            ),
        ),
        max_size=5,
    )
)
def test_any_description_is_one_line_or_plain_positions(value):
    try:
        taken = rope.checked(value, "rope_scaling")
    except LabError as error:
        assert "\n" not in str(error)
    else:
        for kind in ("llama", "gemma3_text"):
            assert rope.plain({"model_type": kind, "rope_parameters": taken})["rope_parameters"]
