"""Two adapters on one base: trained on facts, scored, mixed in a batch, and added up."""

import math
from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from labsupport.method_runs import bases, composing, composing_figures
from labsupport.qlora_runs import facts_training
from labsupport.tasks import facts

ROWS = facts.load(100)[:7]


@pytest.fixture(scope="module")
def pair():
    """tiny_base with two adapters that say something, "first" and "second", and its tokenizer."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, tokenizer = bases.tiny()
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False)
    model = get_peft_model(model, config, adapter_name="first")
    model.add_adapter("second", config)
    return model, tokenizer


def test_a_trained_adapter_is_saved_and_knows_more_of_its_facts(tmp_path):
    base, tokenizer = bases.tiny()
    before, _ = composing.stored(base, tokenizer, ROWS)
    folder = composing.train(ROWS, tmp_path / "adapter", epochs=4)
    model = PeftModel.from_pretrained(base, folder)
    after, right = composing.stored(model, tokenizer, ROWS)
    assert after > before + 100 and 0 <= right <= 8 * len(ROWS)
    assert model.peft_config["default"].r == 16


def test_bits_in_a_batch_are_those_of_the_rows_one_by_one(pair, monkeypatch):
    model, tokenizer = pair
    monkeypatch.setattr(facts, "load", lambda count: ROWS)
    alone = SimpleNamespace(unwrap_model=lambda model: model)
    trainer = SimpleNamespace(accelerator=alone, model=model, processing_class=tokenizer)
    nats = sum(facts_training.nats(trainer, len(ROWS)))
    bits, _ = composing.stored(model, tokenizer, ROWS)
    assert bits == pytest.approx(40 * len(ROWS) - nats / math.log(2), abs=0.1)


def test_symbols_right_counts_the_best_guesses(pair, monkeypatch):
    _, codes = composing.logits(*pair, ROWS)
    certain = 50.0 * torch.nn.functional.one_hot(codes, 5000).float()
    certain[0, :3] = certain[0, :3].roll(1, dims=-1)
    monkeypatch.setattr(composing, "logits", lambda *_: (certain, codes))
    assert composing.stored(*pair, ROWS)[1] == 8 * len(ROWS) - 3


def test_each_row_of_a_mixed_batch_gets_its_own_adapter(pair):
    model, tokenizer = pair
    alone = {"__base__": composing.logits(bases.tiny()[0], tokenizer, ROWS)[0]}
    for name in ("first", "second"):
        model.set_adapter(name)
        alone[name], _ = composing.logits(model, tokenizer, ROWS)
    names = ["first", "second", "__base__", "second", "first", "first", "second"]
    mixed, _ = composing.logits(model, tokenizer, ROWS, names)
    for i, name in enumerate(names):
        torch.testing.assert_close(mixed[i], alone[name][i], atol=1e-3, rtol=1e-4)
    assert (alone["first"] - alone["second"]).abs().max() > 1


def test_concatenated_adapters_are_the_sum_and_linear_is_not(pair):
    model, _ = pair
    total = 0.5 * composing.changes(model, "first") + 2 * composing.changes(model, "second")
    for kind in ("cat", "linear"):
        model.add_weighted_adapter(["first", "second"], [0.5, 2.0], kind, combination_type=kind)
    torch.testing.assert_close(composing.changes(model, "cat"), total)
    off = (composing.changes(model, "linear") - total).norm() / total.norm()
    assert off > 0.3


def test_the_figure_has_both_halves_over_the_weight():
    fig = composing_figures.seesaw([0, 0.5, 1], [(9, 400), (90, 80), (400, 7)], 396, 400, "Title")
    (axis,) = fig.axes
    level, first, second = axis.lines
    assert list(first.get_ydata()) == [9, 90, 400] and list(second.get_ydata()) == [400, 80, 7]
    assert set(level.get_ydata()) == {396}
    assert [text.get_text() for text in axis.get_legend().get_texts()][1:] == ["first half", "second half"]
