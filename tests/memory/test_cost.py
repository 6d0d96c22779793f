"""The cost estimator: its operations against torch's own counter, its money against arithmetic by hand."""

import json

import pytest

from labsupport.core.files import LabError
from labsupport.memory import cost, planner
from labsupport.models import gpus, model_configs


def setup(**options) -> planner.Setup:
    return planner.Setup(**({"config": model_configs.find("llama-3.1-8b"), "checkpointing": False} | options))


@pytest.mark.parametrize("method", ["lora", "full"])
def test_operations_are_those_that_torch_counts(method):
    from torch.utils.flop_counter import FlopCounterMode

    from labsupport.memory import tracing, workload

    config = dict(model_configs.find("smollm2-135m"), num_hidden_layers=8)
    asked = setup(config=config, method=method, batch=1, length=64, padded=False, attention="eager")
    with tracing.patched():
        model = workload.build(asked, 8)
        batch = workload.batch_for(asked)
        with FlopCounterMode(display=False) as counter:
            model(**batch, use_cache=False).loss.backward()
    # Eager attention also computes the half of the scores that it masks, which the estimate leaves out.
    masked = 8 * 3 * 2 * 64 * 576
    # Full: all of it. LoRA: the first block's inputs need no gradient, a few percent of eight blocks.
    tolerance = 1e-9 if method == "full" else 0.04
    assert cost.flops_per_token(asked) + masked == pytest.approx(
        counter.get_total_flops() / 64, rel=tolerance
    )


def test_money_is_hours_times_cards_times_rate():
    found = cost.estimate(setup(length=1000), rows=5000, epochs=2, card=gpus.find("l4"), rate=0.8, cards=2)
    assert found.tokens == 10_000_000
    assert found.flops == pytest.approx(1e7 * cost.flops_per_token(setup(length=1000)))
    for hours, money, used, kept in zip(
        found.hours, found.money, cost.UTILISATION[::-1], cost.PARALLEL[::-1], strict=True
    ):
        assert hours == pytest.approx(found.flops / (121e12 * used * kept * 2) / 3600)
        assert money == pytest.approx(hours * 2 * 0.8, abs=1e-4)


def test_lora_is_about_two_thirds_of_full_fine_tuning():
    share = cost.flops_per_token(setup()) / cost.flops_per_token(setup(method="full"))
    assert 0.65 < share < 0.7


def test_checkpointing_costs_one_more_forward_pass():
    more = cost.flops_per_token(setup(checkpointing=True)) / cost.flops_per_token(setup())
    assert 1.4 < more < 1.5
    full = cost.flops_per_token(setup(method="full", checkpointing=True))
    assert 1.25 < full / cost.flops_per_token(setup(method="full")) < 4 / 3


def test_the_pages_exercise_prints_qlora_beside_several_cards_and_its_formula(capsys):
    command = (
        "--model llama-2-7b --rows 5000 --tokens 500 --epochs 3 --gpu a100-80 --gpus 4 --rate 2 --compare"
    )
    assert cost.main(command.split()) == 0
    printed = capsys.readouterr().out
    assert "qlora" in printed and "4 x A100" in printed and "hours = " in printed and "UNVERIFIED" in printed
    assert cost.main([*command.split(), "--json"]) == 0
    one, several = json.loads(capsys.readouterr().out)
    assert (one["method"], one["gpus"], several["method"], several["gpus"]) == ("qlora", 1, "lora", 4)
    assert one["money"][0] < one["money"][1]


def test_a_data_file_gives_rows_and_tokens(tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "".join(json.dumps({"prompt": "x" * 300, "completion": "y" * 100}) + "\n" for _ in range(7))
    )
    assert cost.row_lengths(path) == [100] * 7
    assert (
        cost.main(["--model", "smollm2-135m", "--data", str(path), "--gpu", "t4", "--rate", "1", "--json"])
        == 0
    )
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
        ("--model smollm2-135m --data missing.jsonl --gpu l4 --rate 1", "Cannot read"),
        ("--model smollm2-135m --rows 5 --tokens 0 --gpu l4 --rate 1", "seq is 0"),
    ],
)
def test_bad_input_is_one_sentence(arguments, words):
    with pytest.raises(LabError, match=words):
        cost.main(arguments.split())
