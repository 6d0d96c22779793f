"""The three forms of a base: equal to bitsandbytes where they claim it, and noise of the same size."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_training import tiny_model

from labsupport.core import upstream
from labsupport.qlora_runs import base_arms


@pytest.fixture
def model():
    torch.set_num_threads(1)
    return tiny_model(hidden_size=64, vocab_size=128).eval()


def loss(model):
    ids = torch.arange(40).reshape(2, 20)
    with torch.no_grad():
        return float(model(input_ids=ids, labels=ids).loss)


def test_rounded_weights_give_the_loss_of_bitsandbytes(model, tmp_path):
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    upstream.guard_4bit_on_cpu()
    model.save_pretrained(tmp_path)
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
    theirs = AutoModelForCausalLM.from_pretrained(
        tmp_path, quantization_config=config, device_map="cpu", dtype=torch.float32
    ).eval()
    base_arms.put(model, base_arms.weights(model, "nf4"))
    assert loss(model) == pytest.approx(loss(theirs), abs=1e-6)


def test_noise_is_as_large_as_the_rounding_in_every_block(model):
    full, rounded = base_arms.weights(model, "full"), base_arms.weights(model, "nf4")
    noisy, again = base_arms.weights(model, "noise", 1), base_arms.weights(model, "noise", 2)
    for name, weight in full.items():
        error = (rounded[name] - weight).reshape(-1, base_arms.BLOCK).square().mean(1).sqrt()
        noise = (noisy[name] - weight).reshape(-1, base_arms.BLOCK).square().mean(1).sqrt()
        assert not torch.equal(noisy[name], again[name])
        assert float((noise / error).mean()) == pytest.approx(1, abs=0.05)
        assert 0 < float(error.mean()) < float(weight.std()) / 5


def test_adapters_stay_and_the_head_is_left_alone(model):
    head, before = model.lm_head.weight.clone(), base_arms.weights(model, "full")
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    adapters = {n: p.clone() for n, p in adapted.named_parameters() if "lora_" in n}
    assert set(base_arms.weights(adapted, "full")) == {f"base_model.model.{name}" for name in before}
    new = base_arms.weights(adapted, "nf4")
    base_arms.put(adapted, new)
    assert all(torch.equal(p, adapters[n]) for n, p in adapted.named_parameters() if n in adapters)
    assert torch.equal(model.lm_head.weight, head)
    changed = [not torch.equal(new[f"base_model.model.{name}"], weight) for name, weight in before.items()]
    assert all(changed)


def test_another_form_is_refused(model):
    with pytest.raises(ValueError, match="fp4"):
        base_arms.weights(model, "fp4")
