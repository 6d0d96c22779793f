"""The claims of sections A and C of the ledger (and one besides) that arithmetic and PEFT settle."""

from __future__ import annotations

import functools
import math
import statistics

import scipy.stats
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from labsupport.configs import model_configs
from labsupport.evaluation import experiments
from labsupport.models import lora
from labsupport.sizes import counting
from labsupport.teaching.claims import shows
from labsupport.updates import toy_training


def peft_layer(inputs: int = 1536, outputs: int = 576, **options):
    """PEFT's LoRA layer without bias, its A and its B; down_proj of the base model unless said otherwise."""
    torch.manual_seed(0)
    config = LoraConfig(target_modules=["0"], **{"r": 16, "lora_alpha": 32} | options)
    model = get_peft_model(nn.Sequential(nn.Linear(inputs, outputs, bias=False)), config)
    layer = model.base_model.model[0]
    return layer, layer.lora_A["default"].weight, layer.lora_B["default"].weight


def sizes(tensor) -> str:
    return " x ".join(f"{n:,}" for n in tensor.shape)


def below(value: float, limit: float) -> str:
    """So that the text does not depend on rounding."""
    return f"below {limit:g}" if value < limit else f"{value:.2g}"


# ---------------------------------------------------------------- A: algebra and initialisation


@shows("A1")
def peft_adds_alpha_over_r_times_ba() -> str:
    layer, A, B = peft_layer()
    nn.init.normal_(B, std=0.02)
    x = torch.randn(4, 1536)
    error = (layer(x) - x @ layer.base_layer.weight.T - 2 * (x @ A.T @ B.T)).abs().max().item()
    return f"A {sizes(A)}, B {sizes(B)}; PEFT's output less Wx + (alpha/r) BAx: {below(error, 1e-5)}"


@shows("A2")
def a_goes_down_and_b_up() -> str:
    _, A, B = peft_layer()
    inside = torch.randn(1536) @ A.T
    return f"A takes {A.shape[1]:,} numbers down to {len(inside)}, B takes these up to {len(inside @ B.T)}"


@shows("A3")
def only_ba_has_the_weights_shape() -> str:
    _, A, B = peft_layer()
    verdict = "possible" if A.shape[1] == B.shape[0] else "impossible"
    return f"B A is {sizes(B @ A)}, like the weight; A B with PEFT's shapes is {verdict}"


@shows("A4")
def the_update_has_a_factor() -> str:
    layer, A, B = peft_layer()
    nn.init.normal_(B)
    ratio = (layer.get_delta_weight("default").norm() / (B @ A).norm()).item()
    return f"r = 16, alpha = 32: the update is {ratio:.3g} times BA"


@shows("A5")
def a_is_uniform_unless_asked() -> str:
    drawn = [peft_layer(init_lora_weights=kind)[1].detach().double() for kind in (True, "gaussian")]
    default, gaussian = (scipy.stats.kurtosis(A.flatten(), fisher=False) for A in drawn)
    both = f"{default:.2f} by default, {gaussian:.2f} with init_lora_weights='gaussian'"
    return f"kurtosis of A: {both} (uniform 1.8, Gaussian 3)"


@shows("A6")
def kaiming_uniform_is_bounded() -> str:
    _, A, _ = peft_layer()
    bound, deviation = 1 / math.sqrt(1536), 1 / math.sqrt(3 * 1536)
    return (
        f"largest |A| {A.abs().max().item():.4f}, 1/sqrt(in) {bound:.4f}; standard deviation "
        f"{A.std().item():.4f}, 1/sqrt(3 in) {deviation:.4f}"
    )


@shows("A7")
def training_starts_at_the_base_model() -> str:
    layer, A, B = peft_layer()
    x = torch.randn(8, 1536)
    same = torch.equal(layer(x), layer.base_layer(x))
    layer(x).square().mean().backward()
    return f"output identical: {same}; gradient zero at step 0: A {not A.grad.any()}, B {not B.grad.any()}"


@shows("A8")
def share_of_a_square_layer() -> str:
    with torch.device("meta"):
        layer, A, B = peft_layer(4096, 4096)
    trained, frozen = A.numel() + B.numel(), layer.base_layer.weight.numel()
    return f"{trained:,} of {frozen:,} = {100 * trained / frozen:.3g} %"


@shows("A9")
def rank_of_the_recorded_updates() -> str:
    """Medians over all matrices of the published record; the gain is that in the NLL of the values."""
    cells = experiments.published("spectrum")["cells"]
    parts, whole = [], None
    for cell in cells:
        settings = cell["cell"]
        median = statistics.median(matrix["rank_90"] for matrix in cell["metrics"]["matrices"])
        words = [settings["optimizer"], settings["answers"], settings["tokens"]]
        parts.append(f"{' '.join(words)} {median:.0f}")
        if words == ["adamw", "right", "all"]:
            whole = cell["metrics"]["cut_by_field"]
    nll = {rank: sum(map(statistics.mean, fields.values())) for rank, fields in whole.items()}
    share = (nll["0"] - nll["16"]) / (nll["0"] - nll["576"])
    kept = f"cut to rank 16, adamw right all keeps {100 * share:.0f} % of the gain on the values"
    return f"median rank for 90 % of the energy, of at most 576 or 192: {'; '.join(parts)}; {kept}"


@shows("A10")
def all_linear_reaches_outside_attention() -> str:
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(num_hidden_layers=1))
        get_peft_model(model, LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM"))
    chosen = {name.split(".")[-2] for name, _ in model.named_modules() if name.endswith(".lora_A")}
    outside = chosen & {"gate_proj", "up_proj", "down_proj"}
    return f"all-linear adapts {len(chosen)} kinds of layers, {len(outside)} of them outside attention"


@shows("A11")
def shapes_of_llama_2_and_3() -> str:
    parts = []
    for title in ("Llama-2-7B", "Llama-3.1-8B"):
        shapes = counting.shapes(model_configs.find(title.lower()))
        k, gate = (" x ".join(f"{n:,}" for n in shapes[name][::-1]) for name in ("k_proj", "gate_proj"))
        parts.append(f"{title} k {k}, gate {gate}")
    return "; ".join(parts)


# ---------------------------------------------------------------- C: alpha, scaling, learning rate

ROOT2 = math.sqrt(2)
updates = functools.cache(toy_training.updates)


def distances(optimizer: str, factor_a: float, factor_b: float, a_factor: float = 1.0, **options):
    """How far apart, step by step, training with alpha 32 and with alpha 16 and changed rates are."""
    lr = {"adam": 2e-4, "sgd": 1e-2}[optimizer]
    doubled = updates(optimizer, 32, lr, lr, **options)
    other = updates(optimizer, 16, factor_a * lr, factor_b * lr, a_factor, **options)
    return [toy_training.distance(doubled, other, step) for step in range(1, 201)]


@shows("C1")
def twice_alpha_is_not_twice_the_rate() -> str:
    equal = distances("adam", 1, 2) + distances("adam", ROOT2, ROOT2, ROOT2)
    equal += distances("sgd", 1, 4) + distances("sgd", 2, 2, ROOT2)
    adam, sgd = (
        ", ".join(f"{100 * found[step - 1]:.3g}" for step in (1, 10, 200)) + " %"
        for found in (distances("adam", 2, 2), distances("sgd", 4, 4))
    )
    return (
        f"updates apart at steps 1, 10, 200: Adam, 2 lr: {adam}; SGD, 4 lr: {sgd}; "
        f"2 lr for B (SGD: 4) or A and rates scaled: {below(max(equal), 1e-9)}"
    )


@shows("C2")
def alpha_is_a_rate_if_a_is_scaled_too() -> str:
    plain, scaled = distances("adam", 2, 2)[-1], max(distances("adam", ROOT2, ROOT2, ROOT2))
    decayed = distances("adam", ROOT2, ROOT2, ROOT2, weight_decay=0.1)[-1]
    return (
        f"Adam, step 200: 2 lr {100 * plain:.3g} % apart; lr and A times sqrt(2) {below(scaled, 1e-9)}, "
        f"with weight decay 0.1 {100 * decayed:.2g} %"
    )


def exponents(optimizer: str, rule: str) -> list[float]:
    """The p of change ~ r^p in the first step on fresh inputs, of each recorded setting of toy layers with
    the usual learning rate; means over the seeds."""
    cells = [cell for cell in experiments.published("rank_and_alpha")["cells"] if "lr" not in cell["cell"]]
    found = [cell["metrics"]["exponent"] for cell in cells if cell["cell"].get("optimizer") == optimizer]
    return [statistics.mean(by_rule[rule]["fresh 1"]) for by_rule in found]


@shows("C4")
def steps_grow_with_rank_at_alpha_2r() -> str:
    """By how much, over all recorded batches, widths and common directions of the inputs."""
    parts = []
    for rule in ("alpha = 2r", "alpha fixed", "rsLoRA"):
        powers = exponents("adam", rule)
        parts.append(f"{rule} {min(powers):+.2f} to {max(powers):+.2f}")
    return f"p in change ~ r^p of Adam's first step on fresh inputs: {', '.join(parts)}"


@shows("C5")
def pefts_defaults_have_alpha_equal_r() -> str:
    config = LoraConfig()
    factor = lora.scale(config.lora_alpha, config.r)
    return f"PEFT's own defaults are r = {config.r}, alpha = {config.lora_alpha}: a factor of {factor:g}"


@shows("C6")
def a_high_alpha_needs_a_low_rate() -> str:
    """Whether 200 steps of SGD stay bounded; the target has a norm below 20."""
    parts = []
    for alpha, lr in ((32, 0.2), (256, 0.2), (256, 0.02)):
        stable = updates("sgd", alpha, lr, lr)[-1].norm() < 100
        parts.append(f"alpha {alpha}, lr {lr:g} {'stable' if stable else 'diverges'}")
    return "SGD: " + "; ".join(parts)


@shows("C7")
def alpha_2r_leaves_its_own_range() -> str:
    return f"alpha = 2r for r = 256 is {2 * 256}; alpha up to 128 allows r up to {128 // 2}"


@shows("C8")
def rslora_is_level_where_inputs_are_unlike_the_gradient() -> str:
    """On inputs without a common direction and on those with a strong one (the widest spread recorded)."""
    cells = experiments.published("rank_and_alpha")["cells"]
    parts = []
    for optimizer in ("adam", "sgd"):
        for cosine in (0.0, 0.7):
            setting = {"optimizer": optimizer, "batch": 8, "width": 256, "row_cosine": cosine}
            by_rule = next(c["metrics"]["exponent"] for c in cells if c["cell"] == setting)
            powers = [statistics.mean(by_rule[rule]["fresh 1"]) for rule in ("rsLoRA", "alpha fixed")]
            parts.append(f"{optimizer}, cosine {cosine:g}: {powers[0]:+.2f} and {powers[1]:+.2f}")
    return f"p in change ~ r^p on fresh inputs, rsLoRA and alpha fixed: {'; '.join(parts)}"


# ---------------------------------------------------------------- N: other statements


@shows("N3")
def restarts_add_their_ranks() -> str:
    torch.manual_seed(0)
    restarts = [torch.randn(64, 4) @ torch.randn(4, 64) for _ in range(4)]
    each, total = (int(torch.linalg.matrix_rank(update)) for update in (restarts[0], sum(restarts)))
    return f"rank of each update {each}, of the sum of 4 restarts {total}"
