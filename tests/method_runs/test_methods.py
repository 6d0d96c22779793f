"""Each method on a random two-layer Llama: what it trains, where it starts, and that it can learn."""

import copy

import pytest
import torch
from tiny_training import tiny_model

from labsupport.core.files import LabError
from labsupport.method_runs import bases, methods, widths
from labsupport.sizes import counting

IDS = torch.arange(40).reshape(2, 20)


@pytest.fixture
def base():
    torch.set_num_threads(1)
    return tiny_model(vocab_size=512).eval()


def logits(model):
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits


def trained(model):
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("name", methods.METHODS)
def test_it_trains_as_many_parameters_as_computed_and_learns(base, name):
    config, kind = base.config.to_dict(), methods.METHODS[name]
    everything, before = sum(p.numel() for p in base.parameters()), logits(base)
    model = methods.put(name, base, seed=0)
    parameters = trained(model)
    count = sum(p.numel() for p in parameters.values())
    assert count == kind.count(config)
    own = sum(p.numel() for p in model.parameters()) - everything
    assert count == (everything if name == "full" else own)  # nothing of the base, all that was added
    start = logits(model)
    assert start.shape == before.shape
    if name not in ("prompt", "prefix"):  # these two stand in the row from the first step on
        assert (start - before).abs().max() < 1e-5
    model(input_ids=IDS, labels=IDS).loss.backward()
    torch.optim.AdamW(parameters.values(), lr=1e-2).step()
    assert (logits(model) - start).abs().max() > 1e-4


def test_methods_of_equal_size_come_as_near_to_lora_as_they_can(base):
    config = base.config.to_dict()
    limit = counting.lora_count(config, 16)
    for name, kind in methods.METHODS.items():
        assert (0.8 * limit < kind.count(config) <= limit) == kind.equal, name
    assert counting.dora_count(config, widths.dora_rank(config) + 1) > limit
    assert counting.prefix_tuning(config, widths.prefix_tokens(config) + 1) > limit
    assert counting.bottleneck_adapters(config, widths.bottleneck_width(config) + 1, biases=True) > limit
    with pytest.raises(LabError, match="smallest width"):
        widths.widest(lambda width: 10 * width, 9)


def test_one_seed_gives_one_start_and_an_unknown_name_is_refused(base):
    starts = [trained(methods.put("lora", copy.deepcopy(base), seed)) for seed in (0, 0, 1)]
    same = [all(torch.equal(p, starts[0][name]) for name, p in other.items()) for other in starts[1:]]
    assert same == [True, False]
    with pytest.raises(LabError, match="'qlora'.*lora, rslora"):
        methods.put("qlora", base, 0)


def test_loraplus_gives_b_a_rate_of_its_own(base):
    model = methods.put("loraplus", base, 0)
    optimizer = methods.optimizer("loraplus", model, 1e-3, (0.6, 0.95))
    rates = {id(p): (g["lr"], g["betas"]) for g in optimizer.param_groups for p in g["params"]}
    for name, parameter in trained(model).items():
        rate = 1e-3 * (methods.LORA_PLUS_RATIO if "lora_B" in name else 1)
        assert rates[id(parameter)] == (pytest.approx(rate), (0.6, 0.95)), name
    assert methods.optimizer("lora", model, 1e-3, (0.9, 0.999)) is None


# ---------------------------------------------------------------- rows of zero


def test_rows_of_zero_break_dora_and_are_filled_without_changing_the_model(base):
    layer = base.model.layers[1].self_attn.q_proj
    with torch.no_grad():
        layer.weight[3:5] = 0
    before = logits(base)
    assert methods.put("dora", copy.deepcopy(base), 0)(input_ids=IDS).logits.isnan().any()
    others = layer.weight[5:].clone()
    assert bases.fill_zero_rows(base) == {"model.layers.1.self_attn.q_proj": 2}
    assert (logits(base) - before).abs().max() < 1e-5
    assert torch.equal(layer.weight[5:], others)
    assert bases.fill_zero_rows(base) == {}
    assert methods.put("dora", base, 0)(input_ids=IDS).logits.isfinite().all()


def test_tiny_base_has_such_rows_and_is_given_out_without():
    from labsupport.models import tiny_base

    raw, tokenizer = tiny_base.load()
    filled, _ = bases.tiny()
    ids = tokenizer("The shop sends a parcel on Monday.", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        assert (raw(input_ids=ids).logits - filled(input_ids=ids).logits).abs().max() < 1e-4
    assert sorted(bases.fill_zero_rows(raw).values()) == [24, 72]
    assert bases.fill_zero_rows(filled) == {}
