"""What a family cannot do is refused in one line; what is other than expected is said in one."""

import pytest
from family_configs import small

from labsupport.core.files import LabError
from labsupport.setups import limits
from labsupport.setups.setup import Setup, checked

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


def setup(family: str, **options) -> Setup:
    return checked(Setup(small(family, 2), **options))


@pytest.mark.parametrize(
    ("family", "options", "words"),
    [
        ("falcon", {"method": "qlora"}, "does not load falcon in 4 bits.* Choose lora"),
        ("falcon", {"method": "qdora"}, "Choose dora"),
        ("mixtral", {"method": "dora"}, "no DoRA for experts .gate, w1, w3, w2.*q_proj,k_proj,v_proj,o_proj"),
        ("mixtral", {"dropout": 0.1}, "no dropout for experts"),
        ("mixtral", {"targets": ("w1",)}, "w1 and w3 together"),
        ("qwen3 moe", {"targets": ("q_proj", "up_proj")}, "gate_proj and up_proj together"),
        ("phi3", {"targets": ("q_proj",)}, "no target 'q_proj'.* qkv_proj"),
        ("gpt2", {"targets": ("down_proj",)}, "no target 'down_proj'.*c_proj"),
        ("llama", {"targets": ("w1",)}, "no target 'w1'"),
    ],
)
def test_what_the_libraries_do_not_do(family, options, words):
    with pytest.raises(LabError, match=words) as caught:
        setup(family, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("falcon", {"method": "dora"}),
        ("mixtral", {"method": "qdora", "targets": ATTENTION, "dropout": 0.1}),
        ("mixtral", {"targets": ("w1", "w3")}),
        ("mixtral", {"targets": ("mlp.experts.gate_up_proj",)}),
        ("qwen3 moe", {"method": "full"}),
        ("gpt2", {"method": "qlora", "targets": ("c_proj",)}),
        ("phi3", {"targets": ("qkv_proj",), "dropout": 0.1}),
    ],
)
def test_what_they_do(family, options):
    assert setup(family, **options).config["num_hidden_layers"] == 2


def test_gemma_2_attends_eagerly():
    for asked in ("sdpa", "eager"):
        assert setup("gemma2", attention=asked).attention == "eager"
        assert setup("gemma3", attention=asked).attention == asked


def test_transformers_still_refuses_gemma_2_under_sdpa():
    from transformers import AutoConfig, AutoModelForCausalLM

    for family in ("gemma2", "gemma3"):
        config = AutoConfig.for_model(**small(family, 1))
        if family == "gemma3":
            AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
            continue
        with pytest.raises(ValueError, match="does not support"):
            AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")


@pytest.mark.parametrize(
    ("family", "options", "said"),
    [
        ("llama", {}, []),
        ("gemma2", {}, ["eager"]),
        ("mixtral", {"targets": ATTENTION}, ["grouped"]),
        ("mixtral", {"targets": ATTENTION, "method": "qlora"}, ["grouped", "16 bits"]),
        ("mixtral", {}, ["grouped", "anew"]),
        ("llama", {"optimizer": "paged_adamw_8bit"}, ["unified"]),
    ],
)
def test_what_is_said_of_a_plan(family, options, said):
    notes = limits.notes(setup(family, **options))
    assert len(notes) == len(said) and all(word in note for word, note in zip(said, notes, strict=True))


@pytest.mark.parametrize("dropout", [-0.1, 1.5, True, "0.1", None])
def test_dropout_is_a_share(dropout):
    with pytest.raises(LabError, match="dropout is .*at least 0 and at most 1"):
        setup("llama", dropout=dropout)
