"""The routes to a merged model: what they say of the trained one, and that numbers alone say the same."""

import re
import shutil
import warnings

import pytest
import torch
from bitsandbytes import functional
from bitsandbytes.nn import Linear4bit
from tiny_training import tiny_model

from labsupport.core.files import LabError
from labsupport.merge_runs import adapters, rounding, routes
from labsupport.models import base_model, lora
from labsupport.qlora_runs import base_arms

SIZES = {"hidden_size": 64, "intermediate_size": 128}  # the base's


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.arange(100, 140)[None]).logits[0]


def numbers(model) -> dict[str, torch.Tensor]:
    """What each linear layer multiplies by."""
    return {
        name: functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
        if isinstance(layer, Linear4bit)
        else layer.weight.detach()
        for name, layer in lora.linear_layers(model).items()
    }


@pytest.mark.parametrize("dora", [False, True])
def test_merging_into_the_dequantised_base_is_the_trained_model(base, make_adapter, dora):
    folder = make_adapter(dora)
    trained = logits(routes.unmerged(base, folder))
    merged = routes.dequantised(base, folder)
    assert not any(hasattr(module, "lora_A") or isinstance(module, Linear4bit) for module in merged.modules())
    assert (logits(merged) - trained).abs().max() < 1e-5
    others = [routes.into_float32(base, folder), base_model.load(base, "nf4", "cpu")[0]]
    assert all((logits(other) - trained).abs().max() > 1e-3 for other in others)


@pytest.mark.parametrize("route", rounding.ROUTES)
def test_the_libraries_come_to_the_same_numbers(base, adapter, route):
    weights, deltas = numbers(base_model.load(base, "float32", "cpu")[0]), adapters.deltas(adapter)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what PEFT says of the merge in place does not come through
        found = numbers(routes.MERGED[route](base, adapter))
    assert set(deltas) == set(found) == set(weights)
    for name, delta in deltas.items():
        expected = rounding.merged(weights[name], delta, *rounding.ROUTES[route]).numbers
        assert torch.allclose(found[name], expected, rtol=0, atol=1e-7), name


def test_4_bit_routes_give_4_bit_models(base, adapter):
    for route in routes.MERGED:
        layers = lora.linear_layers(routes.MERGED[route](base, adapter)).values()
        kept = rounding.ROUTES[route][1]
        assert all(isinstance(layer, Linear4bit) == (kept == "NF4") for layer in layers)


def test_a_small_update_is_lost_in_place_and_not_by_quantising_anew(base, adapter, tmp_path):
    small = adapters.scaled(adapter, tmp_path / "small", 0.1)
    weights, deltas = numbers(base_model.load(base, "float32", "cpu")[0]), adapters.deltas(small)
    kept = {}
    for route in ("in place", "re-quantised", "dequantised"):
        total = rounding.NOTHING
        for name, delta in deltas.items():
            total += rounding.sums(weights[name], [delta], *rounding.ROUTES[route])[0]
        kept[route] = rounding.survived(total)
    assert kept["in place"].moved == 0 and abs(kept["in place"].kept) < 0.2
    assert kept["re-quantised"].moved > 0 and kept["re-quantised"].cosine < 0.3
    assert kept["dequantised"].kept == pytest.approx(1, abs=1e-3)


def test_strength_scales_every_update(base, adapter, tmp_path):
    own, triple = adapters.deltas(adapter), adapters.deltas(adapters.scaled(adapter, tmp_path / "3", 3.0))
    assert own and all(torch.allclose(triple[name], 3 * delta) for name, delta in own.items())
    nothing = routes.unmerged(base, adapters.scaled(adapter, tmp_path / "0", 0.0))
    assert torch.equal(logits(nothing), logits(base_model.load(base, "nf4", "cpu")[0]))


def test_a_shuffled_update_has_the_same_numbers_elsewhere(adapter):
    delta = next(iter(adapters.deltas(adapter).values()))
    other = adapters.shuffled(delta)
    assert torch.equal(other.flatten().sort().values, delta.flatten().sort().values)
    assert abs(float(torch.cosine_similarity(other.flatten(), delta.flatten(), dim=0))) < 0.2


def test_what_is_no_plain_adapter_is_refused(make_adapter, tmp_path):
    with pytest.raises(LabError, match="use_dora"):
        adapters.deltas(make_adapter(dora=True))
    with pytest.raises(LabError, match=r"lacks adapter_model\.safetensors"):
        adapters.scaled(tmp_path, tmp_path / "x", 1.0)


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json"])
def test_a_damaged_adapter_is_named_in_one_line(adapter, tmp_path, name):
    shutil.copytree(adapter, tmp_path / "mine")
    with (tmp_path / "mine" / name).open("r+b") as file:
        file.truncate(20)
    with pytest.raises(LabError, match=re.escape(name)) as found:
        adapters.deltas(tmp_path / "mine")
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("sizes", [{"hidden_size": 128}, {"num_hidden_layers": 1}], ids=["width", "depth"])
@pytest.mark.parametrize("route", ["float32 base", "in place"])
def test_an_adapter_of_another_base_is_refused_in_one_line(sizes, route, adapter, tokenizer, tmp_path):
    tiny_model(**SIZES | sizes).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(LabError, match=r"of another base model \(.*\): load it on its own base\.$") as found:
        routes.MERGED[route](str(tmp_path), adapter)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("kind", ["damaged", "missing"])
def test_no_route_takes_a_damaged_or_missing_file(kind, base, adapter, tmp_path):
    shutil.copytree(adapter, tmp_path / "mine")
    weights = tmp_path / "mine" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    if kind == "missing":
        weights.unlink()
    with pytest.raises(LabError, match=r"adapter_model\.safetensors") as found:
        routes.dequantised(base, tmp_path / "mine")
    assert "\n" not in str(found.value)


def test_trained_numbers_are_those_of_bitsandbytes(base):
    """The adapter is trained beside these, held as plain weights."""
    found = numbers(base_model.load(base, "nf4", "cpu")[0])
    plain = base_model.load(base, "float32", "cpu")[0]
    for name, weight in base_arms.weights(plain, "nf4").items():
        assert torch.equal(weight, found[name])
