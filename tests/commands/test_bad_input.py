"""Bad input of `lab.py plan` and `lab.py cost`, as typed: one line on standard error and status 2."""

import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labsupport import cli

PLAN = ("plan", "--model", "smollm2-135m", "--seq", "64", "--batch", "1")
COST = ("cost", "--model", "smollm2-135m", "--rows", "5", "--gpu", "l4", "--rate", "1")
LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "vocab_size": 500,
    "max_position_embeddings": 512,
}


def ended(capsys, *arguments: str) -> tuple[int, str, str]:
    """(status, standard output, standard error) of a command line."""
    try:
        status = cli.main(list(arguments))
    except SystemExit as end:
        status = end.code
    said = capsys.readouterr()
    return status, said.out, said.err


def refused(capsys, *arguments: str) -> str:
    status, out, err = ended(capsys, *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1) and "usage" not in err and len(err) < 1500, err
    return err


def document(capsys, *arguments: str):
    """The JSON that a command line prints; no NaN, no Infinity."""
    status, out, _ = ended(capsys, *arguments, "--json")
    assert status == 0

    def no(constant):
        raise AssertionError(constant)

    return json.loads(out, parse_constant=no)


# ---------------------------------------------------------------- options that argparse refuses


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("plan",), "one of the arguments --model --config is required"),
        (("plan", "--modle", "x"), "there is no option --modle; the nearest: --model,"),
        (("plan", "--sequence=3", "--model", "x"), "--sequence; the nearest: --evidence, --seq,"),
        ((*PLAN, "--tokens", "5"), "there is no option --tokens"),
        ((*PLAN, "--m", "x"), "ambiguous option: --m could match --model, --method"),
        ((*PLAN, "--config", "x"), "--config: not allowed with argument --model"),
        ((*PLAN, "--packed", "--padded"), "--padded: not allowed with argument --packed"),
        ((*PLAN, "--gpu"), "--gpu: expected one argument"),
        ((*PLAN, "--json=1"), "--json: ignored explicit argument '1'"),
        ((*PLAN, "-x"), "unrecognized arguments: -x"),
        ((*PLAN, "q_proj"), "unrecognized arguments: q_proj"),
        ((*PLAN, "--rank", "1e3"), "--rank: '1e3' is no whole number"),
        ((*PLAN, "--rank", ""), "--rank: '' is no whole number"),
        ((*PLAN, "--rank", "9" * 5000), "is no whole number"),
        ((*PLAN, "--supervised", "half"), "--supervised: 'half' is no number"),
        (("plan", "x" * 100_000, "--model", "x"), "xxx ..."),
        (
            ("cost", "--model", "x", "--gpu", "l4", "--rate", "1"),
            "one of the arguments --rows --data is required",
        ),
        ((*COST, "--data", "x"), "--data: not allowed with argument --rows"),
        ((*COST, "--rate"), "--rate: expected one argument"),
    ],
)
def test_a_wrong_option_is_one_line_that_names_it(capsys, arguments, words):
    assert words in refused(capsys, *arguments)


def test_an_option_may_be_shortened_and_a_negative_number_is_a_value(capsys):
    assert "no model 'nothing'" in refused(capsys, "plan", "--mod", "nothing")
    for value in ("-1e5", "-.5", "-inf", "-nan"):
        assert "rate is" in refused(capsys, *COST, "--rate", value)


# ---------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("--batch", value) for value in ("0", "-1", "1000000000000000000")),
        *(("--seq", value) for value in ("0", "-1", "8193", "1000000000000000000")),
        *(("--rank", value) for value in ("0", "-1", "577", "999999999")),
        *(("--accumulation", value) for value in ("0", "-1", "1000000000000000000")),
        *(("--supervised", value) for value in ("0", "-1", "2", "nan", "inf", "1e308")),
        *(("--gpu", value) for value in ("0", "-1", "nan", "inf", "1e308", "4080")),
    ],
)
def test_no_number_of_plan_runs_away(capsys, option, value):
    refused(capsys, *PLAN, option, value)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("--rows", value) for value in ("0", "-1", "10000000000000000000")),
        *(("--tokens", value) for value in ("0", "-1", "8193", "1000000000000000000")),
        *(("--epochs", value) for value in ("0", "-1", "nan", "inf", "1e308", "1e-308")),
        *(("--gpus", value) for value in ("0", "-1", "1000000000000000000")),
        *(("--rate", value) for value in ("-1", "nan", "inf", "1e308")),
        *(("--batch", value) for value in ("0", "-1", "1000000000000000000")),
        *(("--accumulation", value) for value in ("0", "-1", "1000000000000000000")),
        *(("--packed", value) for value in ("0", "-1", "1000000000000000000")),
    ],
)
def test_no_number_of_cost_runs_away(capsys, option, value):
    refused(capsys, *COST, option, value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.sampled_from(
            ["--rows", "--tokens", "--epochs", "--gpus", "--rate", "--batch", "--accumulation", "--packed"]
        ),
        st.one_of(st.integers().map(str), st.floats().map(repr), st.text(max_size=5)),
        max_size=3,
    )
)
def test_any_numbers_are_a_finite_cost_or_one_line(capsys, options):
    words = [f"{name}={value}" for name, value in options.items()]
    status, out, err = ended(capsys, *COST, *words, "--json")
    if status == 0:
        found = json.loads(out)
        assert all(map(math.isfinite, (*found["hours"], *found["money"]))) and err == ""
    else:
        assert (status, out, err.count("\n")) == (2, "", 1)


def test_the_largest_numbers_that_are_taken_give_finite_ones(capsys):
    largest = ("--rows", "1000000000", "--epochs", "1000", "--gpus", "1000", "--rate", "1000000")
    found = document(capsys, *COST, *largest)
    assert all(map(math.isfinite, (*found["hours"], *found["money"])))


# ---------------------------------------------------------------- files and names


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, "an empty JSON object"),
        ([], "no JSON object"),
        ("llama", "no JSON object"),
        ({"peft_type": "LORA", "base_model_name_or_path": "org/base"}, "'org/base'"),
        ({"weight_map": {}}, "index of a checkpoint"),
        ({"tokenizer_class": "x"}, "a tokenizer_config.json"),
        (LLAMA | {"model_type": "mamba"}, "'mamba'"),
        (LLAMA | {"hidden_size": "64"}, "hidden_size is '64'"),
        (LLAMA | {"tie_word_embeddings": "true"}, "tie_word_embeddings is 'true'"),
        (LLAMA | {"num_hidden_layers": 100_000}, "num_hidden_layers is 100000"),
        (LLAMA | {"vocab_size": 10**12}, "vocab_size is 1000000000000"),
        (LLAMA | {"num_key_value_heads": 3}, "4 heads and 3 key-value heads"),
        (LLAMA | {"head_dim": 15}, "must be even"),
        (LLAMA | {"hidden_act": "swiglu"}, "hidden_act is 'swiglu'"),
        (LLAMA | {"rope_scaling": {"type": "linear"}}, "lacks factor"),
        (LLAMA | {"quantization_config": {"quant_method": "gptq", "bits": 4}}, "'gptq'"),
        ({name: value for name, value in LLAMA.items() if name != "vocab_size"}, "lacks vocab_size"),
    ],
)
def test_a_bad_config_is_one_line_that_names_the_file(capsys, tmp_path, content, words):
    path = tmp_path / "my.json"
    path.write_text(json.dumps(content))
    for command in (("plan",), ("cost", "--rows", "5", "--gpu", "l4", "--rate", "1")):
        err = refused(capsys, *command, "--config", str(path))
        assert words in err and ("my.json" in err or "must be even" in err)


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--method", "qlor", "no method 'qlor'"),
        ("--targets", "all-linears", "no target 'all-linears'"),
        ("--targets", "", "No targets given"),
        ("--model", "llama-3.1-8c", "no model 'llama-3.1-8c'"),
        ("--model", "", "no model ''"),
        ("--model", "TheBloke/Llama-2-7B-GPTQ", "quantised by GPTQ"),
        ("--gpu", "l5", "no card 'l5'"),
        ("--gpu", "8xH100", "several"),
    ],
)
def test_a_bad_name_is_one_line_for_both_commands(capsys, option, value, words):
    for command in (PLAN, COST):
        assert words in refused(capsys, *command, option, value)


def test_a_file_name_may_hold_anything(capsys):
    assert "Cannot read a\\nb\\x1b[31m: No such file" in refused(capsys, "plan", "--config", "a\nb\x1b[31m")
    assert "Cannot read config.json" in refused(capsys, "plan", "--config", "")


# ---------------------------------------------------------------- unusual and right


def test_names_as_people_write_them_are_planned(capsys):
    ours = document(capsys, *PLAN, "--method", "qlora", "--dtype", "bf16", "--gpu", "a100-40")
    words = (
        "--method",
        "QLoRA",
        "--dtype",
        "bfloat16",
        "--optim",
        "adamw_torch_fused",
        "--gpu",
        "NVIDIA A100 40GB",
    )
    assert document(capsys, *PLAN, *words) == ours


def test_a_config_in_4_bits_is_planned_as_such_and_that_is_said(capsys, tmp_path):
    path = tmp_path / "config.json"
    four = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
    path.write_text(json.dumps(LLAMA))
    plain = document(capsys, "plan", "--config", str(path), "--method", "qlora")
    path.write_text(json.dumps(LLAMA | {"quantization_config": four}))
    found = document(capsys, "plan", "--config", str(tmp_path))
    assert found["split_gib"] == plain["split_gib"]
    assert "lora is planned as qlora" in " ".join(found["assumptions"])


def test_what_of_a_multimodal_model_is_planned_is_said(capsys, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "llava", "text_config": LLAMA}))
    assert "language model alone" in " ".join(document(capsys, "plan", "--config", str(path))["assumptions"])
