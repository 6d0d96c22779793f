"""A method's run and what is measured of it, in steps of milliseconds."""

import copy

import pytest
import torch
from tiny_training import tiny_model

from labsupport.configs import model_configs
from labsupport.evaluation import general_text
from labsupport.method_runs import bases, dora_cost, measuring, methods, movement, training
from labsupport.sizes import counting

IDS = torch.arange(40).reshape(2, 20)


@pytest.fixture
def base():
    torch.set_num_threads(1)
    return tiny_model(vocab_size=512).eval()


def disturbed(model):
    """The model with what is trained moved at random."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.05 * torch.randn_like(parameter)
    return model.eval()


@torch.no_grad()
def logits(model):
    return model(input_ids=IDS).logits


# ---------------------------------------------------------------- training


def test_a_run_logs_every_step_and_counts_operations_without_a_trace():
    trainer = training.on_facts("lora", 1e-3, 0, steps=2)
    before = {name: p.clone() for name, p in trainer.model.named_parameters()}
    counted = training.flops_of_step(trainer)
    weights = sum(layer.weight.numel() for layer in bases.lora.linear_layers(bases.tiny()[0]).values())
    tokens = sum(map(len, trainer.train_dataset["input_ids"][: trainer.args.train_batch_size]))
    assert 4 * weights * tokens < counted < 12 * weights * tokens
    assert all(p.grad is None and torch.equal(p, before[n]) for n, p in trainer.model.named_parameters())
    assert trainer.model.get_base_model().config._attn_implementation == "sdpa"
    result = training.train(trainer)
    assert len(result["losses"]) == result["steps"] == 2
    assert result["seconds_a_step"] > 0
    moved = {n for n, p in trainer.model.named_parameters() if not torch.equal(p, before[n])}
    assert moved and all("lora_" in name for name in moved)


def test_equal_operations_mean_fewer_steps_for_a_dearer_method():
    assert training.steps_at_equal_flops("rslora", 100) == 100
    assert training.steps_at_equal_flops("full", 100) < 90
    assert training.steps_at_equal_flops("ia3", 100) > 105


def test_prompt_tuning_is_scored_on_the_rows_own_tokens():
    trainer = training.on_facts("prompt", 1e-2, 0, steps=1)
    result = training.train(trainer)
    losses = measuring.stored(trainer)
    assert len(losses) == training.FACTS and result["losses"][0] > 1
    base, tokenizer = bases.tiny()
    rows = measuring.passages(40)
    before = general_text.logits(base, tokenizer, rows)
    found = measuring.forgotten(trainer.model, tokenizer, rows, before)
    assert found["tokens"] == sum(len(part) for part in before)
    assert 0 < found["kl"] < 3
    assert measuring.forgotten(base, tokenizer, rows, before)["kl"] == pytest.approx(0, abs=1e-4)


def test_a_run_out_of_range_is_none():
    trainer = training.on_facts("lora", 1e-3, 0, steps=1)
    with torch.no_grad():
        next(p for p in trainer.model.parameters() if p.requires_grad).fill_(torch.nan)
    assert measuring.stored(trainer) is None


# ---------------------------------------------------------------- costs


@pytest.mark.parametrize("name", [name for name, kind in methods.METHODS.items() if kind.merges])
def test_folded_in_it_computes_the_same_and_is_a_model_of_its_own(base, name):
    model = disturbed(methods.put(name, base, 0))
    plain, before = measuring.merged(model), logits(model)
    assert not any("lora_" in n or "vera_" in n or "ia3_" in n for n, _ in plain.named_parameters())
    assert (logits(plain) - before).abs().max() < 1e-4
    with torch.no_grad():
        plain.model.layers[0].mlp.down_proj.weight.zero_()
    assert torch.equal(logits(model), before)


def test_merging_does_not_bring_the_trainers_forward_along():
    model = training.on_facts("lora", 1e-3, 0, steps=1).model
    plain = measuring.merged(model)
    with torch.no_grad():
        plain.model.embed_tokens.weight.zero_()
        assert plain(input_ids=IDS).logits.abs().max() == 0


def test_the_file_holds_what_was_trained(base):
    config = base.config.to_dict()
    everything = 4 * counting.model_parameters(config)
    assert measuring.file_bytes(methods.put("lora", copy.deepcopy(base), 0)) == sum(
        counting.adapter_bytes(config, 16)
    )
    adapters = measuring.file_bytes(methods.put("bottleneck", copy.deepcopy(base), 0))
    assert 0 < adapters - 4 * methods.METHODS["bottleneck"].count(config) < 5000
    assert 0 < measuring.file_bytes(methods.put("full", copy.deepcopy(base), 0)) - everything < 5000


def test_costs_name_the_three_ways_to_run_it(base):
    model = methods.put("lora", copy.deepcopy(base), 0)
    found = measuring.costs(model, base, merges=True)
    assert found["parameters"] == counting.lora_count(base.config.to_dict(), 16)
    assert set(found["forward"]) == {"base", "unmerged", "merged"}
    assert set(measuring.costs(model, base, merges=False)["forward"]) == {"base", "unmerged"}


# ---------------------------------------------------------------- DoRA


CONFIG = model_configs.OWN_HEAD_DIM | {"head_dim": 16, "num_hidden_layers": 2}


def test_what_dora_adds_without_dropout_does_not_grow_with_the_tokens():
    def added(tokens):
        ours, loras = (dora_cost.blocks_step(CONFIG, tokens, 2, dora, 0.0) for dora in (True, False))
        return ours - loras

    assert added(32) == added(64) > 0


def test_with_dropout_dora_multiplies_the_weights_again():
    tokens, weights = 64, 2 * sum(a * b for a, b in counting.block_shapes(CONFIG).values())
    loras = [dora_cost.blocks_step(CONFIG, tokens, 2, False, dropout) for dropout in (0.0, 0.05)]
    ours = [dora_cost.blocks_step(CONFIG, tokens, 2, True, dropout) for dropout in (0.0, 0.05)]
    assert loras[0] == loras[1]
    # Forwards all of them; backwards all but those of the first layer, whose inputs need no gradient.
    assert 2 * tokens * weights < ours[1] - ours[0] <= 4 * tokens * weights


def test_layers_are_added_up_from_one_and_two():
    three = CONFIG | {"num_hidden_layers": 3}
    counted = [dora_cost.blocks_step(three, 32, 3, dora, 0.05) for dora in (True, False)]
    assert dora_cost.extra(three, 32, 0.05) == pytest.approx(counted[0] / counted[1] - 1)


# ---------------------------------------------------------------- magnitudes and directions


def test_magnitudes_and_directions_move_apart():
    old = torch.tensor([[3.0, 4.0], [1.0, 0.0], [1e-9, 0.0]])
    longer = torch.tensor([[6.0, 8.0], [2.0, 0.0], [7.0, 0.0]])
    turned = torch.tensor([[4.0, -3.0], [0.0, 1.0], [0.0, 7.0]])
    # The third row was nothing: neither its length nor its direction counts.
    assert movement.changes({"w": old}, {"w": longer})["w"] == pytest.approx((3, 0))
    assert movement.changes({"w": old}, {"w": turned})["w"] == pytest.approx((0, 1))
    with pytest.raises(movement.LabError, match="no matrix in common"):
        movement.changes({"w": old}, {"v": old})


def test_correlation_has_a_sign_and_needs_three_points():
    assert movement.correlation([(1, 3), (2, 5), (3, 7)]) == pytest.approx(1)
    assert movement.correlation([(1, 3), (2, 2), (3, 1)]) == pytest.approx(-1)
    with pytest.raises(movement.LabError, match="at least 3"):
        movement.correlation([(1, 2), (2, 1)])


def test_weights_are_those_that_work(base):
    before = movement.weights(base)
    model = disturbed(methods.put("lora", base, 0))
    after = movement.weights(model)
    layer = model.get_base_model().model.layers[0].mlp.up_proj
    name = "model.layers.0.mlp.up_proj.weight"
    assert list(before) == list(after) and len(after) == 14
    assert torch.allclose(after[name] - before[name], layer.get_delta_weight("default"), atol=1e-6)
    assert torch.equal(layer.base_layer.weight, before[name])


def test_the_watch_looks_at_every_so_many_steps():
    base, _ = bases.tiny()
    trainer, found = training.on_facts("dora", 1e-2, 0, steps=4), {}
    training.train(trainer, movement.watched(movement.weights(base), 2, found))
    assert list(found) == ["2", "4"] and len(found["4"]) == 28
    assert all(magnitude > 0 and direction > 0 for magnitude, direction in found["4"].values())
