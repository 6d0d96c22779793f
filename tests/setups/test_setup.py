"""What is asked of a run: taken in our words, or refused in one line that names what is wrong."""

import dataclasses
import math
import time

import pytest
from family_configs import small
from hypothesis import given
from hypothesis import strategies as st

from labsupport.configs import model_configs, quantized
from labsupport.core.files import LabError
from labsupport.setups import setup as runs
from labsupport.setups.setup import Setup, checked, config_named, split_targets
from labsupport.sizes import counting

CONFIG = model_configs.find("smollm2-135m")
QUANTISED = CONFIG | {"quantization_config": dict(quantized.AS_PUBLISHED)}


def problem(**fields) -> str:
    with pytest.raises(LabError) as caught:
        checked(Setup(**{"config": CONFIG} | fields))
    text = str(caught.value)
    assert "\n" not in text and len(text) < 600
    return text


# ---------------------------------------------------------------- names as people write them


@pytest.mark.parametrize(
    ("field", "written", "ours"),
    [
        ("method", "QLoRA", "qlora"),
        ("method", "LoRA", "lora"),
        ("method", "RS-LoRA", "rslora"),
        ("method", "full-ft", "full"),
        ("method", "full_finetune", "full"),
        ("method", "Full fine-tuning", "full"),
        ("optimizer", "adamw_torch", "adamw"),
        ("optimizer", "adamw_torch_fused", "adamw"),
        ("optimizer", "AdamW", "adamw"),
        ("optimizer", "adamw_bnb_8bit", "adamw_8bit"),
        ("optimizer", "AdamW-8bit", "adamw_8bit"),
        ("optimizer", "paged_adamw_8bit", "paged_adamw_8bit"),
        ("optimizer", "paged_adamw_32bit", "paged_adamw"),
        ("dtype", "bf16", "bfloat16"),
        ("dtype", "torch.bfloat16", "bfloat16"),
        ("dtype", "FP16", "float16"),
        ("dtype", "half", "float16"),
        ("dtype", "float", "float32"),
        ("trainer", "SFTTrainer", "sft"),
        ("trainer", "TRL", "sft"),
        ("attention", "SDPA", "sdpa"),
        ("adapters", "fp32", "float32"),
        ("adapters", "BF16", "bfloat16"),
        ("adapters", "torch.bfloat16", "bfloat16"),
        ("adapters", None, None),
    ],
)
def test_other_names_of_our_choices(field, written, ours):
    assert getattr(checked(Setup(CONFIG, **{field: written})), field) == ours


@pytest.mark.parametrize(
    ("field", "written", "near"),
    [
        ("method", "qlor", "qlora"),
        ("method", "prefix", ""),
        ("optimizer", "adafactor", ""),
        ("optimizer", "lion_8bit", "adamw_8bit"),
        ("dtype", "int8", ""),
        ("dtype", "float8_e4m3fn", "float"),
        ("trainer", "accelerate", ""),
        ("attention", "flash_attention_2", ""),
        ("method", None, ""),
        ("optimizer", 3, ""),
        ("dtype", "x" * 10_000, ""),
    ],
)
def test_unknown_names_list_what_there_is_the_nearest_first(field, written, near):
    text = problem(**{field: written})
    assert "There is no" in text and f"nearest first: {near}" in text


@pytest.mark.parametrize("written", ["float16", "nf4", "", 32, True, ["float32"]])
def test_adapters_are_in_one_of_two_formats(written):
    text = problem(adapters=written)
    assert text.startswith("adapters is ") and "float32 or bfloat16" in text
    assert "full fine-tuning has none" in problem(adapters="float32", method="full")


@pytest.mark.parametrize(
    ("method", "trainer", "adapters", "found"),
    [
        ("qlora", "sft", None, "bfloat16"),
        ("qdora", "sft", None, "bfloat16"),
        ("lora", "sft", None, "float32"),
        ("qlora", "plain", None, "float32"),
        ("qlora", "sft", "float32", "float32"),
        ("lora", "plain", "bf16", "bfloat16"),
    ],
)
def test_adapters_are_as_the_trainer_has_them_unless_they_were_cast(method, trainer, adapters, found):
    assert Setup(CONFIG, method, trainer=trainer, adapters=adapters).adapters_in == found


@pytest.mark.parametrize("word", ["nf4", "fp4", "int4", "4bit"])
def test_4_bits_are_no_dtype(word):
    assert "qlora or qdora" in problem(dtype=word)


# ---------------------------------------------------------------- targets


@pytest.mark.parametrize(
    ("text", "targets"),
    [
        ("all-linear", "all-linear"),
        ("q_proj,v_proj", ("q_proj", "v_proj")),
        (" q_proj , V_PROJ,", ("q_proj", "v_proj")),
        ("q_proj v_proj", ("q_proj", "v_proj")),
        ("q_proj+v_proj", ("q_proj", "v_proj")),
        ("q_proj,q_proj", ("q_proj",)),
        ("['q_proj', 'v_proj']", ("q_proj", "v_proj")),
        ("q+v", ("q_proj", "v_proj")),
        ("qkvo", counting.ATTENTION),
        ("mlp", counting.MLP),
        ("all-linear,q_proj", "all-linear"),  # which holds it already
    ],
)
def test_targets_as_people_write_them(text, targets):
    assert checked(Setup(CONFIG, targets=split_targets(text))).targets == targets


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        ("q_prj", "no target 'q_prj' here. Known, the nearest first: q_proj"),
        ("q_proj,,c_attn", "no target 'c_attn'"),
        ("lm_head", "lm_head is outside the blocks"),
        ("embed_tokens,q_proj", "embed_tokens is outside the blocks"),
        ("", "No targets given"),
        (" , ", "No targets given"),
        (".*_proj", "no target '.*_proj'"),
    ],
)
def test_what_is_no_target_is_named(targets, words):
    assert words in problem(targets=split_targets(targets))


def test_targets_are_those_of_the_models_own_blocks():
    phi = small("phi3", 3)
    assert checked(Setup(phi, targets=("qkv_proj",))).targets == ("qkv_proj",)
    assert "no target 'q_proj' here" in problem(config=phi, targets=("q_proj",))
    assert problem(targets=5).startswith("No targets given") and "no target 5 here" in problem(targets=[5])


# ---------------------------------------------------------------- numbers


@pytest.mark.parametrize("field", ["rank", "batch", "length", "accumulation"])
@pytest.mark.parametrize("value", [0, -1, 10**18, 2.5, "16", True, None, math.nan, math.inf, 1e300])
def test_counts_are_sensible_whole_numbers(field, value):
    text = problem(**{field: value})
    assert text.startswith(field) and ("whole number" in text or "rank is 1" in text)


@pytest.mark.parametrize("field", ["supervised", "dropout"])
@pytest.mark.parametrize("value", [-0.1, 1.5, "0.5", True, None, math.nan, math.inf])
def test_shares_are_shares(field, value):
    assert problem(**{field: value}).startswith(field)


@pytest.mark.parametrize("field", ["checkpointing", "kbit_preparation", "padded", "double_quantization"])
def test_switches_are_true_or_false(field):
    assert f"{field} is 'yes': it must be True or False" in problem(**{field: "yes"})


def test_the_ends_of_shares():
    assert problem(supervised=0).startswith("supervised") and problem(dropout=1).startswith("dropout is 1.0")
    assert checked(Setup(CONFIG, supervised=1, dropout=0)).supervised == 1


def test_rows_and_tokens_together_have_a_limit():
    most = runs.MOST_TOKENS
    config = CONFIG | {"max_position_embeddings": most}
    assert checked(Setup(config, batch=1, length=most)).length == most
    text = problem(config=config, batch=2, length=most)
    assert "batch is 2 rows of 1,048,576 tokens, 2,097,152 in one pass" in text and "accumulation" in text


def test_a_row_is_no_longer_than_the_model_has_positions():
    assert "length is 8193 tokens a row but the model has 8192 positions" in problem(length=8193)


def test_a_rank_may_be_as_high_as_the_largest_targeted_matrix_has():
    assert checked(Setup(CONFIG, rank=576)).rank == 576  # k and v have 192 outputs only
    assert "rank is 577: no targeted matrix of this model has a higher rank than 576" in problem(rank=577)
    assert "higher rank than 192" in problem(rank=193, targets=("k_proj", "v_proj"))
    assert "rank is 999999999" in problem(rank=999_999_999)
    assert checked(Setup(CONFIG, method="full", rank=10**6)).method == "full"  # nothing has a rank there


def test_experts_have_the_rank_of_one_of_them():
    config = small("qwen3 moe", 3)
    assert checked(Setup(config, rank=64)).rank == 64
    assert "higher rank than 64" in problem(config=config, rank=65)


def test_numbers_that_are_whole_are_kept_as_such():
    setup = checked(Setup(CONFIG, rank=16.0, batch=2.0, length=64.0))
    assert [type(value) for value in (setup.rank, setup.batch, setup.length)] == [int] * 3


# ---------------------------------------------------------------- the shape of heads and experts


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"head_dim": 15}, "heads have 15 numbers"),
        ({"hidden_size": 60, "head_dim": None}, "heads have 15 numbers"),
        ({"hidden_size": 66, "head_dim": 16}, "hidden_size 66 and 4 heads"),
    ],
)
def test_heads_that_no_position_can_turn(changes, words):
    assert words in problem(config=small("llama", 3) | changes)


def test_heads_without_rotation_may_be_odd():
    assert checked(Setup(small("gpt2", 3) | {"hidden_size": 60})).config["head_dim"] == 15


def test_experts_fill_pieces_of_16_bytes():
    config = small("mixtral", 3) | {"intermediate_size": 20}
    assert "takes 20 numbers: grouped products need a multiple of 8 in bfloat16" in problem(config=config)
    assert checked(Setup(config, dtype="float32")).dtype == "float32"


def test_no_token_has_more_experts_than_there_are():
    config = small("qwen3 moe", 3) | {"num_experts_per_tok": 9}
    assert "A token has 9 experts (num_experts_per_tok), and there are 8" in problem(config=config)


# ---------------------------------------------------------------- weights in 4 bits


@pytest.mark.parametrize(("method", "planned"), [("lora", "qlora"), ("dora", "qdora"), ("qlora", "qlora")])
def test_a_config_in_4_bits_is_planned_so(method, planned):
    setup = checked(Setup(QUANTISED, method=method))
    assert (setup.method, setup.double_quantization) == (planned, True)
    assert "quantization_config" not in setup.config
    notes = setup.config.get("notes", ())
    assert len(notes) == (method != planned) and all(f"{method} is planned as {planned}" in n for n in notes)
    assert checked(setup) == setup


@pytest.mark.parametrize("notes", [3, "mine", {}, [1], None])
def test_what_a_file_calls_notes_is_no_matter(notes):
    setup = checked(Setup(QUANTISED | {"notes": notes}))
    assert len(setup.config["notes"]) == 1 and checked(setup) == setup


def test_a_name_in_4_bits_is_planned_so():
    setup = checked(Setup(config_named("unsloth/llama-3.2-1b-instruct-bnb-4bit")))
    assert setup.method == "qlora" and len(setup.config["notes"]) == 2


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"method": "full"}, "choose the method qlora or qdora instead of full"),
        ({"method": "rslora"}, "instead of rslora"),
        ({"double_quantization": False}, "bnb_4bit_use_double_quant true"),
    ],
)
def test_what_contradicts_4_bits_is_refused(fields, words):
    text = problem(config=QUANTISED, **fields)
    assert "quantization_config says that its weights are in 4 bits" in text and words in text


def test_float16_computed_in_float32_is_refused():
    config = CONFIG | {"quantization_config": {"load_in_4bit": True}}
    assert "choose the dtype bf16" in problem(config=config, dtype="fp16")
    assert checked(Setup(config)).double_quantization is False


@pytest.mark.parametrize("kind", ["gptq", "awq", "fp8", "hqq", "mxfp4"])
def test_other_quantisation_is_refused_by_name(kind):
    assert repr(kind) in problem(config=CONFIG | {"quantization_config": {"quant_method": kind, "bits": 4}})


# ---------------------------------------------------------------- anything


FIELDS = [field.name for field in dataclasses.fields(Setup) if field.name != "config"]
ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.text(), max_size=3)
)


@given(st.dictionaries(st.sampled_from(FIELDS), ANYTHING, max_size=3))
def test_anything_in_any_field_is_one_line_or_a_run(fields):
    began = time.process_time()
    try:
        setup = checked(Setup(CONFIG, **fields))
    except LabError as error:
        assert "\n" not in str(error)
    else:
        assert checked(setup) == setup
    assert time.process_time() - began < 2
