"""labsupport/models/merging.py against PEFT: its merge_and_unload, and its batches of several adapters."""

import copy
import json

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from tiny_training import tiny_model
from torch import nn

from labsupport.core.files import LabError
from labsupport.models import merging

TARGETS = ["q_proj", "v_proj", "down_proj"]
KINDS = {
    "LoRA": {},
    "rsLoRA": {"use_rslora": True},
    "DoRA": {"use_dora": True},
    "rsDoRA": {"use_dora": True, "use_rslora": True},
}


def saved(folder, dtype=torch.float32, **settings):
    """A tiny base and an adapter for it in a folder, every tensor of which has moved from its start."""
    base = tiny_model(vocab_size=64).to(dtype)
    options = {"r": 4, "lora_alpha": 12, "target_modules": TARGETS} | settings
    model = get_peft_model(copy.deepcopy(base), LoraConfig(**options))
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "magnitude" in name:
            parameter.data *= 1 + 0.3 * torch.rand_like(parameter)
        elif parameter.requires_grad:
            parameter.data = 0.1 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return base


def opened(folder):
    config = json.loads((folder / "adapter_config.json").read_text())
    return load_file(folder / "adapter_model.safetensors"), config


def by_peft(base, folder):
    return PeftModel.from_pretrained(copy.deepcopy(base), str(folder)).merge_and_unload().state_dict()


def close(a, b, limit=1e-6):
    return (a - b).abs().max() <= limit * b.abs().max()


# ---------------------------------------------------------------- merging


@pytest.mark.parametrize("kind", KINDS)
def test_merge_equals_pefts(kind, tmp_path):
    base = saved(tmp_path, **KINDS[kind])
    before = base.state_dict()
    mine, theirs = merging.merge(before, *opened(tmp_path)), by_peft(base, tmp_path)
    assert list(mine) == list(theirs)
    for name, weight in theirs.items():
        assert close(mine[name], weight), name
        if name.split(".")[-2] in TARGETS:
            assert not close(mine[name], before[name], 1e-2), name
        else:
            assert mine[name] is before[name], name


@pytest.mark.parametrize("kind", KINDS)
def test_merge_into_bfloat16_equals_pefts_to_the_bit(kind, tmp_path):
    base = saved(tmp_path, torch.bfloat16, **KINDS[kind])
    mine, theirs = merging.merge(base.state_dict(), *opened(tmp_path)), by_peft(base, tmp_path)
    for name, weight in theirs.items():
        assert mine[name].dtype == weight.dtype == torch.bfloat16
        assert torch.equal(mine[name], weight), name


def test_merge_changes_nothing_that_it_is_given(tmp_path):
    base = saved(tmp_path, use_dora=True)
    given = base.state_dict(), *opened(tmp_path)
    before = copy.deepcopy(given)
    merging.merge(*given)
    for own, old in zip(given[:2], before[:2], strict=True):
        assert all(torch.equal(own[name], old[name]) for name in old)
    assert given[2] == before[2]


def test_merge_says_what_does_not_fit(tmp_path):
    base = saved(tmp_path, use_dora=True)
    weights, (adapter, config) = base.state_dict(), opened(tmp_path)
    q = "model.layers.0.self_attn.q_proj"

    def without(tensors, name):
        return {key: value for key, value in tensors.items() if key != name}

    for given, words in (
        ((weights, without(adapter, f"base_model.model.{q}.lora_B.weight"), config), "lacks .*lora_B"),
        ((weights, without(adapter, f"base_model.model.{q}.lora_magnitude_vector"), config), "lacks .*magni"),
        ((without(weights, f"{q}.weight"), adapter, config), f"no {q}.weight"),
        ((weights, adapter, config | {"use_dora": False}), "says nothing of .*magnitude"),
        ((weights, adapter, config | {"r": 8}), r"_proj.weight is \(32, \d\d\) and r is 8"),
        ((weights, adapter, config | {"rank_pattern": {"q_proj": 8}}), "has rank_pattern"),
        ((weights | {f"{q}.weight": torch.zeros(64, 32)}, adapter, config), "q_proj.weight is"),
    ):
        with pytest.raises(LabError, match=words):
            merging.merge(*given)


# ---------------------------------------------------------------- what is left of an update


def to_bfloat16(weight):
    return weight.to(torch.bfloat16).to(torch.float32)


def test_small_update_of_a_rounded_weight_is_lost_where_it_is_below_half_a_step():
    before, delta = torch.ones(1, 2), torch.tensor([[0.0025, 0.005]])  # above 1 the step is 1 / 128
    kept, cosine = merging.surviving(before, delta, to_bfloat16)
    assert kept == pytest.approx(1.25, rel=1e-4)
    assert cosine == pytest.approx(2 / 5**0.5, rel=1e-4)
    kept, cosine = merging.surviving(before, delta / 2, to_bfloat16)
    assert kept == 0
    assert cosine != cosine  # NaN: nothing changes, and nothing has no direction


def test_small_update_of_any_other_weight_survives_on_average_in_noise():
    torch.manual_seed(0)
    before, delta = torch.randn(500, 400), 1e-3 * torch.randn(500, 400)
    kept, cosine = merging.surviving(before, delta, to_bfloat16)
    assert kept == pytest.approx(1, abs=0.05)
    assert 0.2 < cosine < 0.7
    assert merging.surviving(before, delta, lambda weight: weight)[1] == pytest.approx(1, abs=1e-6)


def test_what_is_left_of_no_update_is_no_number():
    with pytest.raises(LabError, match="zero everywhere"):
        merging.surviving(torch.ones(2, 2), torch.zeros(2, 2), to_bfloat16)


# ---------------------------------------------------------------- a batch of several adapters


@pytest.fixture
def several():
    """PEFT's layer of 9 inputs and 6 outputs with three adapters, as `mixed_forward` takes them, too."""
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(9, 6, bias=False))
    ranks = {"one": 2, "two": 4, "three": 3}
    model = None
    for name, rank in ranks.items():
        config = LoraConfig(r=rank, lora_alpha=7, target_modules=["0"], init_lora_weights=False)
        if model is None:
            model = get_peft_model(base, config, adapter_name=name)
        else:
            model.add_adapter(name, config)
    layer = model.base_model.model[0]
    found = {
        name: (layer.lora_A[name].weight.detach(), layer.lora_B[name].weight.detach(), layer.scaling[name])
        for name in ranks
    }
    return model.eval(), layer.base_layer.weight.detach(), found


@torch.no_grad()
def test_mixed_batch_equals_pefts(several):
    model, weight, adapters = several
    names = ["two", "__base__", "one", "two", "three", "__base__", "one"]
    x = torch.randn(7, 9)
    mine, theirs = merging.mixed_forward(x, weight, adapters, names), model(x, adapter_names=names)
    assert close(mine, theirs)
    assert not close(mine, x @ weight.T, 1e-2)


def test_mixed_batch_passes_the_gradient_to_each_rows_adapter(several):
    _, weight, adapters = several
    adapters = {n: (A.requires_grad_(), B.requires_grad_(), s) for n, (A, B, s) in adapters.items()}
    merging.mixed_forward(torch.randn(3, 9), weight, adapters, ["one", "__base__", "three"]).sum().backward()
    assert {n for n, (A, B, _) in adapters.items() if A.grad is not None} == {"one", "three"}
    assert {n for n, (A, B, _) in adapters.items() if B.grad is not None} == {"one", "three"}


def test_mixed_batch_wants_a_known_name_for_each_row(several):
    _, weight, adapters = several
    with pytest.raises(LabError, match="'four'; there are __base__, one, two, three"):
        merging.mixed_forward(torch.randn(2, 9), weight, adapters, ["one", "four"])
    with pytest.raises(LabError, match="1 names for 2 rows"):
        merging.mixed_forward(torch.randn(2, 9), weight, adapters, ["one"])


# ---------------------------------------------------------------- the same tokens


@pytest.mark.parametrize(
    ("ours", "theirs", "place"),
    [
        ([5, 6, 7, 2], [5, 6, 7, 2], None),
        ([5, 6, 7, 2, 0, 0], [5, 6, 7], None),  # padded, and with its end left out
        ([5, 6, 7, 2, 9], [5, 6, 7, 2, 8], None),  # after the end
        ([5, 6, 7], [5, 9, 7], 1),
        ([5, 6, 2], [5, 6, 7, 2], 2),  # one goes on
        ([5, 6, 7, 8], [5, 6], 2),
        ([2], [], None),
        ([], [5], 0),
        ([4, 4, 2, 4, 2], [4, 4, 4, 2], 2),
    ],
)
def test_first_difference_of_what_is_said(ours, theirs, place):
    assert merging.first_difference(ours, theirs, 2) == place
    assert merging.first_difference(theirs, ours, 2) == place
