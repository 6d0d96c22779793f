"""Which layers are alike, and how many of them have to be traced."""

from unittest import mock

import pytest
from family_configs import small

from labsupport.configs import model_configs
from labsupport.core.files import LabError
from labsupport.memory import layer_kinds
from labsupport.setups.setup import Setup, checked


def to_trace(family: str, layers: int, length: int = 48, **config) -> tuple[int, int]:
    return layer_kinds.to_trace(checked(Setup(small(family, layers) | config, batch=1, length=length)))


@pytest.mark.parametrize(
    ("found", "repeated"),
    [
        ([1, 1, 1, 1], 1),
        ([1, 2, 1, 2, 1], 2),
        ([1, 1, 2, 1, 1, 2, 1], 3),
        ([1, 1, 1, 2], 4),
        ([1, 2, 2, 2], 4),
        ([1], 1),
    ],
)
def test_the_period_is_the_shortest_that_repeats(found, repeated):
    assert layer_kinds.period(found) == repeated


@pytest.mark.parametrize(
    ("family", "layers", "expected"),
    [
        ("llama", 32, (3, 1)),
        ("llama", 2, (2, 1)),
        ("gemma2", 42, (4, 2)),
        ("gemma2", 27, (5, 2)),  # the last layer has a window, too
        ("gemma3", 26, (8, 6)),
        ("gemma3", 34, (10, 6)),
        ("gemma3", 7, (7, 1)),
        ("smollm3", 36, (8, 4)),
        ("phi3", 40, (3, 1)),  # a window in every layer
        ("mixtral", 32, (3, 1)),
    ],
)
def test_as_many_are_traced_as_end_like_the_whole_model(family, layers, expected):
    assert to_trace(family, layers) == expected


def test_a_window_that_holds_the_row_makes_no_kind():
    assert to_trace("gemma3", 26, length=31) == (3, 1)
    assert to_trace("gemma3", 26, length=32) == (8, 6)


def test_layers_may_be_told_one_by_one():
    kinds = ["full_attention", "sliding_attention", "sliding_attention"] * 4
    window = {"use_sliding_window": True, "sliding_window": 16}
    assert to_trace("qwen3", 12, layer_types=kinds, **window) == (6, 3)
    assert to_trace("smollm3", 12, no_rope_layers=[1, 0] * 6) == (4, 2)


def test_without_a_pattern_all_are_traced_up_to_a_number():
    window = {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 5}
    assert to_trace("qwen3", 12, **window) == (12, 1)
    refused = pytest.raises(LabError, match="12 layers of several kinds.* at most 10")
    with refused, mock.patch.object(layer_kinds, "MOST_WHOLE", 10):
        to_trace("qwen3", 12, **window)


def test_every_built_in_model_takes_a_dozen_layers_at_most():
    for name in model_configs.names():
        setup = checked(Setup(model_configs.find(name), batch=1, length=1024))
        assert layer_kinds.to_trace(setup)[0] <= 13, name
