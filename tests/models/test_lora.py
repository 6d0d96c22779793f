"""labsupport/models/lora.py against PEFT."""

import copy
import math

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_training import tiny_model
from torch import nn

from labsupport.core.files import LabError
from labsupport.models import lora


def pair(in_features, out_features, rank, alpha, dropout=0.0, rslora=False, bias=True):
    """Our layer and PEFT's with the same weights; B is not zero."""
    torch.manual_seed(0)
    base = nn.Linear(in_features, out_features, bias=bias)
    mine = lora.LoRALinear(copy.deepcopy(base), rank, alpha, dropout, rslora)
    nn.init.normal_(mine.B, std=0.1)
    config = LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=dropout, use_rslora=rslora, target_modules=["0"]
    )
    theirs = get_peft_model(nn.Sequential(base), config).base_model.model[0]
    theirs.lora_A["default"].weight.data = mine.A.detach().clone()
    theirs.lora_B["default"].weight.data = mine.B.detach().clone()
    return mine, theirs


def close(a, b, limit=1e-6):
    return (a - b).abs().max() <= limit * b.abs().max()


# ---------------------------------------------------------------- the layer


@pytest.mark.parametrize("shape", [(64, 48), (576, 192), (1536, 576)])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("rslora", [False, True])
def test_layer_equals_pefts(shape, dropout, rslora):
    mine, theirs = pair(*shape, 8, 20, dropout, rslora)
    x = torch.randn(3, 5, shape[0])
    outputs = []
    for layer in (mine, theirs):
        torch.manual_seed(1)
        outputs.append(layer(x))
        outputs[-1].square().sum().backward()
    assert close(*outputs)
    assert close(mine.A.grad, theirs.lora_A["default"].weight.grad)
    assert close(mine.B.grad, theirs.lora_B["default"].weight.grad)
    assert mine.base.weight.grad is None
    mine.merge()
    mine.merge()  # not twice
    theirs.merge()
    assert close(mine.base.weight, theirs.base_layer.weight)
    assert close(mine(x), theirs(x))


def test_merge_changes_the_weight_and_unmerge_restores_it():
    mine, _ = pair(64, 48, 4, 8)
    x, before, weight = torch.randn(5, 64), None, mine.base.weight.clone()
    before = mine(x)
    mine.unmerge()  # nothing to undo
    assert torch.equal(mine.base.weight, weight)
    mine.merge()
    assert not close(mine.base.weight, weight, 1e-2)
    assert close(mine(x), before, 1e-5)
    mine.unmerge()
    assert close(mine.base.weight, weight) and close(mine(x), before, 1e-5)


def test_start_is_the_base_and_a_is_uniform():
    torch.manual_seed(0)
    base = nn.Linear(1536, 576)
    layer = lora.LoRALinear(base, 64, 128)
    x = torch.randn(4, 1536)
    assert torch.equal(layer(x), base(x))
    layer(x).square().sum().backward()
    assert not layer.A.grad.any() and layer.B.grad.any()
    bound = 1 / math.sqrt(1536)
    assert 0.999 * bound < layer.A.abs().max() <= bound
    assert layer.A.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.01)
    assert lora.uniform_bound(1536) == pytest.approx(bound)
    torch.manual_seed(5)
    theirs = nn.init.kaiming_uniform_(torch.empty(64, 1536), a=math.sqrt(5))
    assert theirs.abs().max() <= lora.uniform_bound(1536)


def test_forward_and_gradients_are_the_layers():
    mine, _ = pair(64, 48, 4, 12, bias=False)
    x, dropped = torch.randn(2, 6, 64)
    full = mine.base.weight.requires_grad_(True)
    mine(x).square().sum().backward()
    by_hand = lora.factor_gradients(full.grad, mine.A, mine.B, 12)
    assert close(by_hand[0], mine.A.grad, 1e-5) and close(by_hand[1], mine.B.grad, 1e-5)
    assert close(lora.forward(x, x, full, mine.A, mine.B, 12), mine(x))
    apart = lora.forward(x, dropped, full, mine.A, mine.B, 12) - x @ full.T
    assert close(apart, dropped @ lora.delta(mine.A, mine.B, 12).T, 1e-4)


@pytest.mark.parametrize(
    ("rank", "words"),
    [
        (0, "nothing to train"),
        (-3, "at least 1"),
        (49, "larger than 48"),
        (8.0, "whole number"),
        ("8", "whole number"),
        (True, "whole number"),
        (None, "whole number"),
    ],
)
def test_bad_ranks(rank, words):
    with pytest.raises(LabError, match=words) as caught:
        lora.LoRALinear(nn.Linear(64, 48), rank, 8)
    assert str(rank) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("rank", [1, 48])
def test_extreme_ranks(rank):
    assert lora.LoRALinear(nn.Linear(64, 48), rank, 8).A.shape == (rank, 64)


def test_scale_is_pefts():
    for rslora in (False, True):
        _, theirs = pair(64, 48, 16, 32, rslora=rslora)
        assert lora.scale(32, 16, rslora) == pytest.approx(theirs.scaling["default"])


# ---------------------------------------------------------------- whole models


def test_attach_equals_peft_on_a_model():
    plain = tiny_model(vocab_size=101).eval()
    mine = copy.deepcopy(plain)
    names = lora.attach(mine, "all-linear", 4, 8)
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    theirs = get_peft_model(plain, config).eval()
    assert sorted(names) == sorted(
        n.partition("base_model.model.")[2] or n for n in theirs.targeted_module_names
    )
    trainable = sum(p.numel() for p in mine.parameters() if p.requires_grad)
    assert trainable == theirs.get_nb_trainable_parameters()[0]
    for name in names:
        layer, other = mine.get_submodule(name), theirs.base_model.model.get_submodule(name)
        nn.init.normal_(layer.B, std=0.1)
        other.lora_A["default"].weight.data = layer.A.detach().clone()
        other.lora_B["default"].weight.data = layer.B.detach().clone()
    ids = torch.arange(24).view(2, 12)
    for model in (mine, theirs):
        model(input_ids=ids, labels=ids).loss.backward()
    assert close(mine(input_ids=ids).logits, theirs(input_ids=ids).logits)
    for name in names:
        other = theirs.base_model.model.get_submodule(name)
        assert close(mine.get_submodule(name).A.grad, other.lora_A["default"].weight.grad)


@pytest.mark.parametrize("targets", [["q_proj", "v_porj"], "lm_head", [], "q"])
def test_unknown_targets_list_the_valid_ones(targets):
    model = tiny_model(vocab_size=101)
    with pytest.raises(LabError, match="down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"):
        lora.attach(model, targets, 4, 8)
    assert all(p.requires_grad for p in model.parameters())


def test_a_bad_rank_leaves_the_model_alone():
    model = tiny_model(vocab_size=101)
    with pytest.raises(LabError, match="larger than 16"):  # k and v are 16 x 32
        lora.attach(model, "all-linear", 17, 8)
    assert not any(isinstance(m, lora.LoRALinear) for m in model.modules())
    assert len(lora.attach(model, ["q_proj"], 17, 8)) == 2
