"""labsupport/models/bottleneck.py: the identity at first, what it computes, and how much is trained."""

import copy

import pytest
import torch
from tiny_training import tiny_model
from torch import nn

from labsupport.core.files import LabError
from labsupport.models import bottleneck
from labsupport.sizes import counting

IDS = torch.arange(24).view(2, 12)


def test_adapter_is_the_identity_at_first_and_a_gradient_gets_in():
    torch.manual_seed(0)
    adapter, x = bottleneck.BottleneckAdapter(10, 3), torch.randn(4, 5, 10)
    assert torch.equal(adapter(x), x)
    adapter(x).square().sum().backward()
    assert adapter.up.weight.grad.any() and not adapter.down.weight.grad.any()


def test_adapter_by_hand():
    adapter = bottleneck.BottleneckAdapter(2, 1)
    adapter.down.weight.data, adapter.down.bias.data = torch.tensor([[1.0, -1.0]]), torch.tensor([0.5])
    adapter.up.weight.data, adapter.up.bias.data = torch.tensor([[2.0], [0.0]]), torch.tensor([0.0, 1.0])
    middle = 0.841345 * 1.0  # GELU(1) = 1 · Φ(1), of 1.5 - 1 + 0.5
    assert adapter(torch.tensor([1.5, 1.0])).tolist() == pytest.approx([1.5 + 2 * middle, 2.0], rel=1e-5)


def test_attached_adapters_are_counted_and_trained_alone():
    plain = tiny_model(vocab_size=101).eval()
    tuned = copy.deepcopy(plain)
    names = bottleneck.attach(tuned, 5)
    assert [name.rpartition(".")[2] for name in names] == ["o_proj", "down_proj"] * 2
    trained = sum(p.numel() for p in tuned.parameters() if p.requires_grad)
    assert trained == counting.bottleneck_adapters(plain.config.to_dict(), 5, biases=True)
    assert torch.equal(tuned(input_ids=IDS).logits, plain(input_ids=IDS).logits)
    optimizer = torch.optim.AdamW([p for p in tuned.parameters() if p.requires_grad], lr=5e-2)
    losses = []
    for _ in range(8):
        loss = tuned(input_ids=IDS, labels=IDS).loss
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < losses[0] - 0.05
    for name in names:
        assert tuned.get_submodule(name)[1].down.weight.grad is None
        assert torch.equal(tuned.get_submodule(name)[0].weight, plain.get_submodule(name).weight)


def test_adapters_have_the_models_format():
    model = tiny_model(vocab_size=101).to(torch.bfloat16)
    bottleneck.attach(model, 2)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("width", [0, -1, 2.0, "8", True])
def test_bad_widths_leave_the_model_alone(width):
    model = tiny_model(vocab_size=101)
    with pytest.raises(LabError, match="whole number"):
        bottleneck.attach(model, width)
    assert all(p.requires_grad for p in model.parameters())


def test_a_model_without_such_layers():
    with pytest.raises(LabError, match="o_proj or down_proj"):
        bottleneck.attach(nn.Sequential(nn.Linear(3, 3)), 2)
