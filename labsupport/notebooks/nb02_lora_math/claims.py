"""The claims of sections A and C of the ledger (and a few besides) that arithmetic and PEFT settle."""

from __future__ import annotations

import functools
import math
import statistics

import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from labsupport.evaluation import experiments
from labsupport.models import lora

DOWN = (1536, 576)  # in and out of the base model's down_proj


def peft_layer(in_features: int, out_features: int, **options):
    """PEFT's LoRA layer on one linear layer without bias, and its model."""
    torch.manual_seed(0)
    config = LoraConfig(target_modules=["0"], **{"r": 16, "lora_alpha": 32} | options)
    model = get_peft_model(nn.Sequential(nn.Linear(in_features, out_features, bias=False)), config)
    return model.base_model.model[0], model


def factors(layer) -> tuple[torch.Tensor, torch.Tensor]:
    return layer.lora_A["default"].weight, layer.lora_B["default"].weight


def sizes(tensor) -> str:
    return " x ".join(f"{n:,}" for n in tensor.shape)


def below(value: float, limit: float) -> str:
    """So that the text does not depend on rounding."""
    return f"below {limit:g}" if value < limit else f"{value:.2g}"


# ---------------------------------------------------------------- A: algebra and initialisation


def a1() -> str:
    layer, model = peft_layer(*DOWN)
    A, B = factors(layer)
    nn.init.normal_(B, std=0.02)
    x = torch.randn(4, 1536)
    by_hand = x @ layer.base_layer.weight.T + 2 * (x @ A.T @ B.T)
    error = (model(x) - by_hand).abs().max().item()
    return f"A {sizes(A)}, B {sizes(B)}; PEFT's output less Wx + (alpha/r) BAx: {below(error, 1e-5)}"


def a2() -> str:
    A, B = factors(peft_layer(*DOWN)[0])
    inside = torch.randn(1536) @ A.T
    return f"A takes {A.shape[1]:,} numbers down to {len(inside)}, B takes these up to {len(inside @ B.T)}"


def a3() -> str:
    A, B = factors(peft_layer(*DOWN)[0])
    possible = A.shape[1] == B.shape[0]
    verdict = "possible" if possible else "impossible"
    return f"B A is {sizes(B @ A)}, like the weight; A B with PEFT's shapes is {verdict}"


def a4() -> str:
    layer, _ = peft_layer(*DOWN)
    A, B = factors(layer)
    nn.init.normal_(B)
    ratio = (layer.get_delta_weight("default").norm() / (B @ A).norm()).item()
    return f"r = 16, alpha = 32: the update is {ratio:.3g} times BA"


def kurtosis(values: torch.Tensor) -> float:
    """Fourth moment over the squared variance: 1.8 for a uniform distribution, 3 for a Gaussian."""
    centred = values.double() - values.double().mean()
    return (centred**4).mean().item() / (centred**2).mean().item() ** 2


def a5() -> str:
    default, _ = factors(peft_layer(*DOWN)[0])
    gaussian, _ = factors(peft_layer(*DOWN, init_lora_weights="gaussian")[0])
    both = f"{kurtosis(default):.2f} by default, {kurtosis(gaussian):.2f} with init_lora_weights='gaussian'"
    return f"kurtosis of A: {both} (uniform 1.8, Gaussian 3)"


def a6() -> str:
    A, _ = factors(peft_layer(*DOWN)[0])
    bound, deviation = 1 / math.sqrt(1536), 1 / math.sqrt(3 * 1536)
    return (
        f"largest |A| {A.abs().max().item():.4f}, 1/sqrt(in) {bound:.4f}; standard deviation "
        f"{A.std().item():.4f}, 1/sqrt(3 in) {deviation:.4f}"
    )


def a7() -> str:
    layer, model = peft_layer(*DOWN)
    x = torch.randn(8, 1536)
    same = torch.equal(model(x), layer.base_layer(x))
    model(x).square().mean().backward()
    A, B = factors(layer)
    return f"output identical: {same}; gradient zero at step 0: A {not A.grad.any()}, B {not B.grad.any()}"


def a8() -> str:
    with torch.device("meta"):
        model = get_peft_model(
            nn.Sequential(nn.Linear(4096, 4096, bias=False)), LoraConfig(r=16, target_modules=["0"])
        )
    trainable, total = model.get_nb_trainable_parameters()
    return f"{trainable:,} of {total - trainable:,} = {100 * trainable / (total - trainable):.3g} %"


def a9() -> str:
    """Medians over all matrices of the published record; NLL in nats an answer, means over its rows."""
    cells = experiments.published("spectrum")["cells"]
    parts = []
    for cell in cells:
        ranks = [matrix["rank_90"] for matrix in cell["metrics"]["matrices"]]
        name = cell["cell"]["optimizer"] + (", shuffled" if cell["cell"]["answers"] == "shuffled" else "")
        parts.append(f"{name} {statistics.median(ranks):.0f}")
    nll = {rank: statistics.mean(values) for rank, values in cells[0]["metrics"]["cut"].items()}
    share = (nll["0"] - nll["16"]) / (nll["0"] - nll["576"])
    ranks = "; ".join(parts)
    return f"median rank for 90 % of the energy: {ranks}; rank 16 keeps {100 * share:.0f} % of the gain"


def llama(**sizes):
    """One block of a Llama on the meta device: shapes without weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.device("meta"):
        return LlamaForCausalLM(LlamaConfig(num_hidden_layers=1, **sizes))


def a10() -> str:
    names = lora.linear_names(llama())
    beside = [name for name in names if name in ("gate_proj", "up_proj", "down_proj")]
    model = get_peft_model(llama(), LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM"))
    chosen = sorted({n.split(".")[-2] for n, _ in model.named_modules() if n.endswith(".lora_A")})
    assert chosen == names
    return f"all-linear adapts {len(chosen)} kinds of layers, {len(beside)} of them outside attention"


def a11() -> str:
    llama_2 = llama(hidden_size=4096, intermediate_size=11008, num_attention_heads=32, num_key_value_heads=32)
    llama_3 = llama(hidden_size=4096, intermediate_size=14336, num_attention_heads=32, num_key_value_heads=8)
    texts = []
    for name, model in (("Llama-2-7B", llama_2), ("Llama-3.1-8B", llama_3)):
        block = model.model.layers[0]
        k, gate = sizes(block.self_attn.k_proj.weight), sizes(block.mlp.gate_proj.weight)
        texts.append(f"{name} k {k}, gate {gate}")
    return "; ".join(texts)


# ---------------------------------------------------------------- C: alpha, scaling, learning rate

ROOT2 = math.sqrt(2)
RATES = {"adam": 2e-4, "sgd": 1e-2}
updates = functools.cache(lora.toy_updates)


def compared(
    optimizer: str, factor_a: float, factor_b: float, a_factor: float = 1.0, **options
) -> list[float]:
    """Relative distance, at steps 1 to 200, of training with alpha 32 and with alpha 16 and changed rates."""
    lr = RATES[optimizer]
    doubled = updates(optimizer, 32, lr, lr, **options)
    other = updates(optimizer, 16, factor_a * lr, factor_b * lr, a_factor, **options)
    return [lora.apart(doubled, other, step) for step in range(1, 201)]


def c1() -> str:
    adam, both = compared("adam", 2, 2), max(compared("adam", 1, 2) + compared("adam", ROOT2, ROOT2, ROOT2))
    sgd, exact = compared("sgd", 4, 4), max(compared("sgd", 1, 4) + compared("sgd", 2, 2, ROOT2))
    return (
        f"updates apart at steps 1, 10, 200: Adam, 2 lr: {percent(adam)}; SGD, 4 lr: {percent(sgd)}; "
        f"2 lr for B (SGD: 4) or A and rates scaled: {below(max(both, exact), 1e-9)}"
    )


def percent(distances: list[float]) -> str:
    return ", ".join(f"{100 * distances[step - 1]:.3g}" for step in (1, 10, 200)) + " %"


def c2() -> str:
    plain, scaled = compared("adam", 2, 2)[-1], max(compared("adam", ROOT2, ROOT2, ROOT2))
    decayed = compared("adam", ROOT2, ROOT2, ROOT2, weight_decay=0.1)[-1]
    return (
        f"Adam, step 200: 2 lr {100 * plain:.3g} % apart; lr and A times sqrt(2) {below(scaled, 1e-9)}, "
        f"with weight decay 0.1 {100 * decayed:.2g} %"
    )


def c4() -> str:
    growth = {
        "alpha = 2r": lora.first_step("adam", 256, 512) / lora.first_step("adam", 4, 8),
        "alpha fixed": lora.first_step("adam", 256, 32) / lora.first_step("adam", 4, 32),
    }
    return "first Adam step, rank 256 over rank 4: " + ", ".join(f"{k} {v:.3g}" for k, v in growth.items())


def c5() -> str:
    config = LoraConfig()
    factor = lora.scale(config.lora_alpha, config.r)
    return f"PEFT's own defaults are r = {config.r}, alpha = {config.lora_alpha}: a factor of {factor:g}"


def c6() -> str:
    """Whether 200 steps of SGD stay bounded; the target has a norm below 20."""
    ends = [lora.toy_updates("sgd", alpha, lr, lr)[-1].norm().item() for alpha, lr in C6]
    texts = (
        f"alpha {a}, lr {lr:g} {'stable' if end < 100 else 'diverges'}"
        for (a, lr), end in zip(C6, ends, strict=True)
    )
    return "SGD: " + "; ".join(texts)


C6 = ((32, 0.2), (256, 0.2), (256, 0.02))


def c7() -> str:
    return f"alpha = 2r for r = 256 is {2 * 256}; alpha up to 128 allows r up to {128 // 2}"


def c8() -> str:
    kinds = [("sgd", True), ("sgd", False), ("adam", True), ("adam", False)]
    growth = [lora.first_step(o, 256, 32, rs) / lora.first_step(o, 4, 32, rs) for o, rs in kinds]
    names = ("SGD alpha/sqrt(r)", "SGD alpha/r", "Adam alpha/sqrt(r)", "Adam alpha/r")
    texts = (f"{name} {value:.2g}" for name, value in zip(names, growth, strict=True))
    return "first step, rank 256 over rank 4: " + ", ".join(texts)


# ---------------------------------------------------------------- N: other statements


def n3() -> str:
    torch.manual_seed(0)
    updates = [torch.randn(64, 4) @ torch.randn(4, 64) for _restart in range(4)]
    each, total = [int(torch.linalg.matrix_rank(u)) for u in (updates[0], sum(updates))]
    return f"rank of each update {each}, of the sum of 4 restarts {total}"
