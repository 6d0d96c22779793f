"""labsupport/models/dora.py against PEFT: forward, gradients and merge, and what a row of zeros does."""

import copy

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch import nn

from labsupport.core.files import LabError
from labsupport.models import dora, lora


def peft_layer(base, rank, alpha, dropout=0.0):
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, use_dora=True, target_modules=["0"])
    return get_peft_model(nn.Sequential(base), config).base_model.model[0]


def pair(shape, rank, alpha, dropout=0.0, bias=True):
    """Our layer and PEFT's with the same weights; B is not zero, and m not the norms any more."""
    torch.manual_seed(0)
    base = nn.Linear(*shape, bias=bias)
    mine = dora.DoRALinear(copy.deepcopy(base), rank, alpha, dropout)
    theirs = peft_layer(base, rank, alpha, dropout)
    assert torch.equal(mine.m, magnitude(theirs))  # at the start
    nn.init.normal_(mine.B, std=0.1)
    mine.m.data *= 1 + 0.3 * torch.rand(shape[1])
    theirs.lora_A["default"].weight.data = mine.A.detach().clone()
    theirs.lora_B["default"].weight.data = mine.B.detach().clone()
    magnitude(theirs).data = mine.m.detach().clone()
    return mine, theirs


def magnitude(layer):
    return layer.lora_magnitude_vector["default"].weight


def close(a, b, limit=1e-6):
    return (a - b).abs().max() <= limit * b.abs().max()


def both_ways(layer, x):
    """The output, and after a step backward from it the gradient of x."""
    x = x.clone().requires_grad_()
    torch.manual_seed(1)  # dropout's
    output = layer(x)
    output.square().sum().backward()
    return output, x.grad


def assert_equal(mine, theirs, x):
    for ours, other in zip(both_ways(mine, x), both_ways(theirs, x), strict=True):
        assert close(ours, other)
    assert close(mine.A.grad, theirs.lora_A["default"].weight.grad)
    assert close(mine.B.grad, theirs.lora_B["default"].weight.grad)
    assert close(mine.m.grad, magnitude(theirs).grad)
    assert mine.base.weight.grad is None
    mine.merge()
    mine.merge()  # not twice
    theirs.merge()
    assert close(mine.base.weight, theirs.base_layer.weight)
    assert close(mine(x), theirs(x))


@pytest.mark.parametrize("shape", [(64, 48), (96, 32)])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("bias", [False, True])
def test_layer_equals_pefts(shape, dropout, bias):
    mine, theirs = pair(shape, 8, 20, dropout, bias)
    assert_equal(mine, theirs, torch.randn(3, 5, shape[0]))


@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(2, 30), st.integers(2, 30), st.integers(1, 40), st.data())
def test_layer_equals_pefts_whatever_the_shape(inputs, outputs, alpha, data):
    rank = data.draw(st.integers(1, min(inputs, outputs)))
    mine, theirs = pair((inputs, outputs), rank, alpha)
    for tensors in (mine, theirs):
        tensors.double()  # in float32 a sum that nearly cancels is not right to 1e-6 in either
    assert_equal(mine, theirs, torch.randn(4, inputs).double())


def test_evaluating_needs_no_dropout():
    mine, theirs = pair((40, 24), 4, 8, dropout=0.5)
    x = torch.randn(6, 40)
    assert close(mine.eval()(x), theirs.eval()(x))
    assert not close(mine.train()(x), mine.eval()(x), 1e-2)


def test_start_is_the_base_and_every_row_keeps_its_length_in_m():
    torch.manual_seed(0)
    base = nn.Linear(40, 24)
    layer = dora.DoRALinear(base, 4, 8)
    x = torch.randn(5, 40)
    assert layer.m.shape == (24,)
    assert close(layer(x), base(x))
    nn.init.normal_(layer.B)
    assert close(dora.row_norms(dora.merged_weight(base.weight, layer.A, layer.B, layer.m, 8)), layer.m)
    expected = {"A", "B", "m"}
    assert {name for name, p in layer.named_parameters() if p.requires_grad} == expected


def test_the_norm_takes_no_part_in_the_gradient():
    """Else A's gradient would be smaller: a change along the row itself would be worth nothing."""
    mine, _ = pair((40, 24), 4, 8)
    x = torch.randn(5, 40)
    mine(x).square().sum().backward()
    weight, m = mine.base.weight, mine.m.detach()
    A = mine.A.detach().clone().requires_grad_()
    changed = weight + lora.delta(A, mine.B.detach(), 8)
    (x @ (m / changed.norm(dim=1)).diag().mm(changed).T + mine.base.bias).square().sum().backward()
    assert not close(A.grad, mine.A.grad, 1e-2)


# ---------------------------------------------------------------- a row of zeros


def with_zero_rows(count):
    base = nn.Linear(8, 6)
    base.weight.data[:count] = 0
    return base


def test_pefts_dora_gives_nan_at_a_row_of_zeros():
    """Of PEFT 0.21.2. Once this fails, PEFT has mended it, and the course must say so."""
    output = peft_layer(with_zero_rows(1), 2, 4)(torch.randn(3, 8))
    assert output[:, 0].isnan().all() and output[:, 1:].isfinite().all()


@pytest.mark.parametrize(("count", "words"), [(1, "of the 6 here 1 row is"), (2, "of the 6 here 2 rows are")])
def test_a_row_of_zeros_is_refused(count, words):
    with pytest.raises(LabError, match=words):
        dora.DoRALinear(with_zero_rows(count), 2, 4)


def test_a_bad_rank_is_refused():
    with pytest.raises(LabError, match="larger than 6"):
        dora.DoRALinear(nn.Linear(8, 6), 7, 4)
