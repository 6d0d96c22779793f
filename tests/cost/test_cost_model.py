"""The cost model: its operations against torch's own counter, its money against arithmetic by hand."""

import json

import pytest

from labsupport.core.files import LabError
from labsupport.cost import cost_model, data_file
from labsupport.memory.setup import Setup
from labsupport.sizes import gpus, model_configs


def setup(**options) -> Setup:
    return Setup(**({"config": model_configs.find("llama-3.1-8b"), "checkpointing": False} | options))


@pytest.mark.parametrize("method", ["lora", "full"])
def test_operations_are_those_that_torch_counts(method):
    from torch.utils.flop_counter import FlopCounterMode

    from labsupport.memory import stand_ins, workload

    config = dict(model_configs.find("smollm2-135m"), num_hidden_layers=8)
    asked = setup(config=config, method=method, batch=1, length=64, padded=False, attention="eager")
    with stand_ins.in_use():
        model = workload.build_model(asked, 8)
        batch = workload.batch_for(asked)
        with FlopCounterMode(display=False) as counter:
            model(**batch, use_cache=False).loss.backward()
    # Eager attention also computes the half of the scores that it masks, which the estimate leaves out.
    masked = 8 * 3 * 2 * 64 * 576
    # Full: all of it. LoRA: the first block's inputs need no gradient, a few percent of eight blocks.
    tolerance = 1e-9 if method == "full" else 0.04
    counted = counter.get_total_flops() / 64
    assert cost_model.flops_per_token(asked) + masked == pytest.approx(counted, rel=tolerance)


def test_money_is_hours_times_cards_times_rate():
    run = setup(length=1000)
    found = cost_model.estimate(run, rows=5000, epochs=2, card=gpus.find("l4"), rate=0.8, cards=2)
    assert found.tokens == 10_000_000
    assert found.flops == pytest.approx(1e7 * cost_model.flops_per_token(run))
    for hours, money, used, kept in zip(
        found.hours, found.money, cost_model.UTILISATION[::-1], cost_model.PARALLEL[::-1], strict=True
    ):
        assert hours == pytest.approx(found.flops / (121e12 * used * kept * 2) / 3600)
        assert money == pytest.approx(hours * 2 * 0.8, abs=1e-4)


def test_4_bits_take_longer_by_what_is_assumed_for_unpacking():
    card = gpus.find("l4")
    plain, four = (cost_model.hours(1e18, card, four_bit=choice) for choice in (False, True))
    assert [b / a for a, b in zip(plain, four, strict=True)] == pytest.approx(cost_model.DEQUANTISATION)


def test_lora_is_about_two_thirds_of_full_fine_tuning():
    share = cost_model.flops_per_token(setup()) / cost_model.flops_per_token(setup(method="full"))
    assert 0.65 < share < 0.7


def test_checkpointing_costs_one_more_forward_pass():
    more = cost_model.flops_per_token(setup(checkpointing=True)) / cost_model.flops_per_token(setup())
    assert 1.4 < more < 1.5
    full = cost_model.flops_per_token(setup(method="full", checkpointing=True))
    assert 1.25 < full / cost_model.flops_per_token(setup(method="full")) < 4 / 3


def test_a_row_of_a_data_file_has_a_token_for_four_characters(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [{"prompt": "x" * 300, "completion": "y" * 100}, {"turns": [{"text": "abcde"}]}, {"empty": ""}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert data_file.row_lengths(path) == [100, 2, 1]


def test_a_data_file_that_is_none_is_named(tmp_path):
    broken, empty = tmp_path / "broken.jsonl", tmp_path / "empty.jsonl"
    broken.write_text("{not json}\n")
    empty.write_text("\n")
    for path, words in (
        (broken, "broken.jsonl, line 1, is not JSON"),
        (empty, "holds no rows"),
        (tmp_path / "no", "Cannot read"),
    ):
        with pytest.raises(LabError, match=words):
            data_file.row_lengths(path)
