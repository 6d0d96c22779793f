"""`lab.py plan` and `lab.py cost`: options, output and what is said of bad input."""

import argparse
import dataclasses
import json
import sys

import pytest

from labsupport import cli
from labsupport.commands import cost as cost_command
from labsupport.commands import plan as plan_command
from labsupport.core.files import LabError
from labsupport.planning.planner import Plan, plan
from labsupport.setups.setup import Setup, config_named
from labsupport.sizes import gpus


def run(command, arguments: str) -> int:
    parser = argparse.ArgumentParser()
    command.arguments(parser)
    return command.run(parser.parse_args(arguments.split()))


# ---------------------------------------------------------------- plan


def test_every_option_of_plan_reaches_its_field(capsys):
    options = (
        "--model llama-3.2-1b --method qdora --rank 8 --targets q_proj,v_proj --batch 2 --seq 96 --packed "
        "--dtype fp16 --no-checkpointing --optim adamw_8bit --no-double-quant --kbit-prep --attention eager "
        "--trainer plain --supervised 0.5 --accumulation 2 --autocast --dropout 0.1 --adapters bf16"
    )
    assert run(plan_command, f"{options} --gpu l4 --json") == 0
    document = json.loads(capsys.readouterr().out)
    setup = Setup(
        config_named("llama-3.2-1b"),
        method="qdora",
        rank=8,
        targets=("q_proj", "v_proj"),
        batch=2,
        length=96,
        dtype="float16",
        checkpointing=False,
        optimizer="adamw_8bit",
        double_quantization=False,
        kbit_preparation=True,
        padded=False,
        attention="eager",
        trainer="plain",
        supervised=0.5,
        accumulation=2,
        autocast=True,
        dropout=0.1,
        adapters="bfloat16",
    )
    assert document == json.loads(json.dumps(dataclasses.asdict(plan(setup, gpus.find("l4")))))
    assert list(document) == [field.name for field in dataclasses.fields(Plan)]


def test_the_default_is_the_trainer_that_people_use(capsys):
    assert run(plan_command, "--model smollm2-135m --json") == 0
    assert json.loads(capsys.readouterr().out)["trainer"] == "sft"


def test_what_can_be_done_by_hand_is_there_before_the_trace_at_a_terminal(capsys, monkeypatch):
    for terminal in (True, False):
        monkeypatch.setattr(sys.stderr, "isatty", lambda shown=terminal: shown)
        assert run(plan_command, "--model smollm2-135m --gpu 24") == 0
        captured = capsys.readouterr()
        assert captured.err.startswith("By hand ") is terminal and "peak allocated" in captured.out
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert run(plan_command, "--model smollm2-135m --gpu 24 --json") == 0
    assert capsys.readouterr().err == ""


def test_what_no_published_run_covers_says_so_once(capsys):
    for trainer, times in (("sft", 1), ("plain", 0)):
        assert run(plan_command, f"--model smollm2-135m --method qlora --gpu 24 --trainer {trainer}") == 0
        assert capsys.readouterr().out.count("UNVERIFIED") == times


def test_it_says_what_adapters_are_in_and_who_makes_them_so(capsys):
    made, asked = "bfloat16 on 4 bits", "float32, cast from the trainer's bfloat16"
    for options, words, others in (
        ("qlora", made, asked),
        ("qlora --adapters float32", asked, made),
        ("qlora --adapters bfloat16", "adapters in bfloat16;", "cast from"),
        ("lora --adapters float32", "adapters in float32;", "cast from"),
    ):
        assert run(plan_command, f"--model smollm2-135m --method {options}") == 0
        printed = capsys.readouterr().out
        assert words in printed and others not in printed


def test_evidence_shows_the_nearest_published_runs_and_their_ratios(capsys):
    assert run(plan_command, "--model llama-3.2-3b --trainer plain --no-checkpointing --evidence") == 0
    printed = capsys.readouterr().out
    assert printed.count("ratio ") == 3 and "huggingface/peft" in printed


def test_a_card_too_small_for_anything_is_an_answer_too(capsys):
    assert run(plan_command, "--model llama-3.1-8b --method qlora --gpu 2") == 0
    assert "DOES NOT FIT" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--model lama-3.1-8b", "llama-3.1-8b"),
        ("--model smollm2-135m --gpu l4s", "l40s"),
        ("--model smollm2-135m --gpu -3", "above 0"),
        ("--model smollm2-135m --gpu nan", "above 0"),
        ("--model smollm2-135m --targets q_prj,v_proj", "nearest first: q_proj"),
        ("--model smollm2-135m --targets ,", "No targets"),
        ("--model smollm2-135m --seq 100000", "positions"),
        ("--model smollm2-135m --batch 0", "batch is 0"),
        ("--model smollm2-135m --rank -1", "rank is -1"),
        ("--model smollm2-135m --method full --kbit-prep", "4-bit"),
        ("--model smollm2-135m --method full --double-quant", "full fine-tuning"),
        ("--model smollm2-135m --method full --dtype nf4", "full fine-tuning"),
        ("--model smollm2-135m --adapters fp16", "adapters is 'fp16': give float32 or bfloat16"),
        ("--model smollm2-135m --method full --adapters bf16", "full fine-tuning has none"),
    ],
)
def test_bad_input_to_plan_is_one_sentence(arguments, words):
    with pytest.raises(LabError, match=words):
        run(plan_command, arguments)


def test_an_unsupported_architecture_names_the_supported_ones(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mamba"}))
    with pytest.raises(LabError, match="llama, mistral, qwen2"):
        run(plan_command, f"--config {tmp_path / 'config.json'}")


# ---------------------------------------------------------------- cost


def test_the_pages_exercise_prints_qlora_beside_several_cards_and_its_formula(capsys):
    asked = "--model llama-2-7b --rows 5000 --tokens 500 --epochs 3 --gpu a100-80 --gpus 4 --rate 2 --compare"
    assert run(cost_command, asked) == 0
    printed = capsys.readouterr().out
    assert "qlora" in printed and "4 x A100" in printed and "hours = " in printed and "what binds" in printed
    assert run(cost_command, f"{asked} --json") == 0
    one, several = json.loads(capsys.readouterr().out)
    assert (one["method"], one["gpus"], several["method"], several["gpus"]) == ("qlora", 1, "lora", 4)
    assert one["money"][0] < one["money"][1]


def test_cost_keeps_its_keys_and_has_new_ones(capsys):
    assert run(cost_command, "--model llama-3.2-1b --rows 50 --gpu l4 --rate 1 --json") == 0
    document = json.loads(capsys.readouterr().out)
    before = ["method", "gpu", "gpus", "tokens", "flops", "hours", "money", "formula", "assumptions"]
    assert list(document)[: len(before)] == before
    assert {"steps", "terms", "binds", "tokens_a_second", "cheaper", "break_even", "fits"} <= set(document)
    assert all({"said", "share"} == set(change) for change in document["cheaper"])


def test_batch_accumulation_and_packing_reach_the_step(capsys):
    def document(options: str) -> dict:
        assert run(cost_command, f"--model llama-3.2-1b --rows 4096 --gpu l4 --rate 1 --json {options}") == 0
        return json.loads(capsys.readouterr().out)

    alone = document("--tokens 100 --batch 1")
    more = document("--tokens 100 --batch 8 --accumulation 2")
    packed = document("--tokens 100 --batch 1 --packed 2048")
    assert (alone["steps"], more["steps"], packed["steps"]) == (4096, 256, 200)
    assert alone["tokens"] == more["tokens"] == packed["tokens"] == 409_600
    assert packed["hours"][1] < alone["hours"][1] / 3 and more["hours"][1] < alone["hours"][1] / 3


def test_rows_of_a_file_are_filled_up_to_the_longest_or_packed(tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": "x" * size}) + "\n" for size in (400, 4000) * 50))
    found = []
    for options in ("--batch 1", "--batch 4", "--packed 1000"):
        assert (
            run(cost_command, f"--model smollm2-135m --data {path} --gpu l4 --rate 1 --json {options}") == 0
        )
        found.append(json.loads(capsys.readouterr().out)["tokens"])
    # Rows of 100 and 1,000 tokens; of four at random one is long in 15 of 16 draws.
    assert found == [100 * 550, 100 * 944, 55_000]


def test_published_times_are_shown_beside_the_models(capsys):
    assert run(cost_command, "--model smollm2-135m --rows 50 --gpu l4 --rate 1 --evidence") == 0
    printed = capsys.readouterr().out
    assert "LitGPT: Llama 2 7B, bnb.nf4" in printed and "held out, which set no parameter" in printed


def test_a_data_file_gives_rows_and_tokens(tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "".join(json.dumps({"prompt": "x" * 300, "completion": "y" * 100}) + "\n" for _ in range(7))
    )
    assert run(cost_command, f"--model smollm2-135m --data {path} --gpu t4 --rate 1 --json") == 0
    assert json.loads(capsys.readouterr().out)["tokens"] == 700


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--model nothing --rows 5 --gpu l4 --rate 1", "no model 'nothing'"),
        ("--model smollm2-135m --rows 0 --gpu l4 --rate 1", "rows is 0"),
        ("--model smollm2-135m --rows 5 --gpu l4 --rate -1", "rate"),
        ("--model smollm2-135m --rows 5 --gpu l4 --rate nan", "rate"),
        ("--model smollm2-135m --rows 5 --epochs inf --gpu l4 --rate 1", "epochs"),
        ("--model smollm2-135m --rows 5 --gpu l5 --rate 1", "nearest first: l4"),
        ("--model smollm2-135m --rows 5 --gpu 24 --rate 1", "speed"),
        ("--model smollm2-135m --rows 5 --gpu l4 --gpus 0 --rate 1", "gpus is 0"),
        ("--model smollm2-135m --rows 5 --gpu l4 --rate 1e308", "rate is 1e"),
        ("--model smollm2-135m --rows 99999999999999999999 --gpu l4 --rate 1", "rows is 9"),
        ("--model smollm2-135m --rows 5 --epochs 1e300 --gpu l4 --rate 1", "epochs is 1e"),
        ("--model smollm2-135m --rows 5 --batch 0 --gpu l4 --rate 1", "batch is 0"),
        ("--model smollm2-135m --rows 5 --batch 99999999999 --gpu l4 --rate 1", "batch is 9"),
        ("--model smollm2-135m --rows 5 --accumulation -1 --gpu l4 --rate 1", "accumulation is -1"),
        ("--model smollm2-135m --rows 5 --packed 0 --gpu l4 --rate 1", "packed .tokens a row. is 0"),
        ("--model smollm2-135m --rows 5 --packed 100000 --gpu l4 --rate 1", "8192 positions"),
        ("--model smollm2-135m --data missing.jsonl --gpu l4 --rate 1", "Cannot read"),
        ("--model smollm2-135m --rows 5 --tokens 0 --gpu l4 --rate 1", "tokens a row. is 0"),
    ],
)
def test_bad_input_to_cost_is_one_sentence(arguments, words):
    with pytest.raises(LabError, match=words):
        run(cost_command, arguments)


@pytest.mark.parametrize(
    ("words", "option", "value"),
    [
        ("plan --model smollm2-135m --seq ten", "--seq", "ten"),
        ("plan --model smollm2-135m --rank 1.5", "--rank", "1.5"),
        ("cost --model smollm2-135m --rows many --gpu l4 --rate 1", "--rows", "many"),
        ("cost --model smollm2-135m --rows 5 --gpu l4 --rate 1 --gpus two", "--gpus", "two"),
    ],
)
def test_what_is_no_number_is_one_line_that_names_option_and_value(words, option, value, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(words.split())
    said = capsys.readouterr()
    assert end.value.code == 2 and said.out == "" and said.err.count("\n") == 1
    assert option in said.err and repr(value) in said.err
