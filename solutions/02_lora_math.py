# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 02 · The mathematics of LoRA
#
# After this notebook you will be able to
#
# - write LoRA's layer yourself: initialisation, scale, dropout, forward, gradients, merge, and show that it
#   is PEFT's;
# - say what alpha, the learning rate and the rank do to each other under SGD and under Adam;
# - judge the sentence "updates have a low rank" by what a real update looks like.
#
# **Needs** notebook 01's vocabulary (tokens, labels, loss) and linear algebra up to the singular value
# decomposition. Everything runs on the processor, with the small model on every machine. **Minutes**: see
# the table in the README.

# %% tags=["core", "setup"]
# Does nothing after `lab.py start`. In a bare kernel, such as Colab's, it installs the course's packages.
import importlib.util, pathlib, runpy, sys

if importlib.util.find_spec("labsupport") is None:
    here = pathlib.Path.cwd()
    folders = [here, *here.parents, *here.glob("*/")]
    found = [f for p in folders if (f := p / "labsupport" / "bare_kernel.py").exists()]
    if not found:
        sys.exit(f"No folder labsupport/ in, above or below {here}: clone the course's repository there.")
    runpy.run_path(str(found[0]), run_name="__main__")

# %% tags=["core"]
from labsupport.core import upstream

upstream.quiet_known_noise()  # messages about this stack that you can do nothing about
upstream.keep_freed_memory()  # a faster allocator setting for training on a CPU

# %% tags=["core"]
import math
import statistics

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from labsupport.evaluation import experiments, intervals, spectra, toy_training
from labsupport.models import base_model, chat, lora
from labsupport.sizes import counting
from labsupport.teaching import quiz
from labsupport.core import plots, profiles
from labsupport.tasks import tickets
from labsupport.teaching import predictions
from labsupport.teaching.claims import expect
from labsupport.notebooks.nb02_lora_math import spectrum_experiment
from labsupport.notebooks.nb02_lora_math import exercises
from labsupport.notebooks.nb02_lora_math import low_rank_explorer
from labsupport.core.files import LabError

# %% tags=["core", "nbval-ignore-output"]
torch.set_num_threads(profiles.current().threads)
print("threads:", torch.get_num_threads())

# %% [markdown]
# ## Two thin matrices
#
# A linear layer computes $Wx$, with $W$ of shape out × in. Fine-tuning adds an update $\Delta W$ of the same
# shape. LoRA writes it as a product:
#
# $$\Delta W = \frac{\alpha}{r} B A, \qquad A: r \times \mathrm{in}, \quad B: \mathrm{out} \times r$$
#
# The *rank* $r$ is the width of the passage between the two, $\alpha$ a constant. Only $A$ and $B$ are
# trained. An input meets $A$ first. So which of the two is the down-projection? Guide 002 says $B$; look at
# PEFT's own shapes, for a layer of this model's size with 1,536 inputs and 576 outputs.

# %% tags=["core"]
torch.manual_seed(0)
lone = nn.Sequential(nn.Linear(1536, 576, bias=False))
wrapped = get_peft_model(lone, LoraConfig(r=16, lora_alpha=32, target_modules=["0"]))
theirs = wrapped.base_model.model[0]
A, B = theirs.lora_A["default"].weight, theirs.lora_B["default"].weight
x = torch.randn(3, 1536)
print("A", tuple(A.shape), "| B", tuple(B.shape))
print("x", x.shape[-1], "-> after A", (x @ A.T).shape[-1], "-> after B", (x @ A.T @ B.T).shape[-1])

# %% [markdown]
# $A$ is the down-projection and $B$ the up-projection. Guide 002 has them the wrong way round, and guide 004
# uses two conventions two lines apart.
#
# ### Exercise 1: the update
#
# Return $\Delta W$, of shape (out, in), from `A` (r, in), `B` (out, r) and `alpha`.


# %% tags=["core"]
def delta(A: torch.Tensor, B: torch.Tensor, alpha: float) -> torch.Tensor:
    ### BEGIN SOLUTION
    return alpha / A.shape[0] * B @ A
    ### END SOLUTION


exercises.delta.check(delta)

# %% tags=["core"]
# exercises.delta.hint()
delta_of = exercises.delta.or_reference(delta)

# %% tags=["core"]
nn.init.normal_(B, std=0.02)  # as if trained: with B = 0 there is nothing to compare
gap = (delta_of(A, B, 32) - theirs.get_delta_weight("default")).abs().max().item()
print("PEFT's factor for r = 16, alpha = 32:", theirs.scaling["default"])
print("your update is PEFT's:", gap < 1e-6)
assert gap < 1e-6

# %% [markdown]
# ## How A and B start
#
# $B$ starts at zero and $A$ at random. "From a Gaussian", says guide 001; "Kaiming uniform (Gaussian
# distribution)", says 002. The paper has a Gaussian. The libraries, loralib first and then PEFT, call
# `kaiming_uniform_(A, a=sqrt(5))`, Kaiming He's rule for layers with a leaky ReLU of slope $a$: standard
# deviation $\mathrm{gain} / \sqrt{\mathrm{in}}$ with $\mathrm{gain} = \sqrt{2 / (1 + a^2)}$.
#
# ### Exercise 2: the bound
#
# A uniform distribution on $(-b, b)$ has the variance $b^2 / 3$. Which $b$ gives it Kaiming's deviation?


# %% tags=["core"]
def uniform_bound(fan_in: int, a: float) -> float:
    ### BEGIN SOLUTION
    return math.sqrt(3) * math.sqrt(2 / (1 + a**2)) / math.sqrt(fan_in)
    ### END SOLUTION


exercises.uniform_bound.check(uniform_bound)

# %% tags=["core"]
# exercises.uniform_bound.hint()
bound_of = exercises.uniform_bound.or_reference(uniform_bound)

# %% [markdown]
# For $a = \sqrt 5$ this is $1 / \sqrt{\mathrm{in}}$. Now count: is PEFT's $A$ uniform? The *kurtosis*, the
# mean fourth power over the squared variance, is 1.8 for a uniform distribution and 3 for a Gaussian.


# %% tags=["core"]
def kurtosis(values: torch.Tensor) -> float:
    centred = values.detach().double() - values.detach().double().mean()
    return ((centred**4).mean() / (centred**2).mean() ** 2).item()


torch.manual_seed(0)
gaussian_config = LoraConfig(r=16, target_modules=["0"], init_lora_weights="gaussian")
other = get_peft_model(nn.Sequential(nn.Linear(1536, 576, bias=False)), gaussian_config)
gaussian = other.base_model.model[0].lora_A["default"].weight
for name, values in (("default", A), ("asked for Gaussian", gaussian)):
    print(f"{name:18s} largest {values.abs().max().item():.3g}  kurtosis {kurtosis(values):.2f}")
print(f"your bound: {bound_of(1536, math.sqrt(5)):.3g}")

# %% tags=["core"]
fig, axes = plots.figure(2, sharey=True)
for panel, values, name in ((axes[0], A, "default"), (axes[1], gaussian, 'init_lora_weights="gaussian"')):
    panel.hist(values.detach().flatten().numpy(), bins=60, color=plots.BLUE)
    panel.set(xlabel="entry of A", title=name)
axes[0].set_ylabel("entries")
fig.suptitle("PEFT's default A is uniform", x=0.02, ha="left")
plots.show(
    fig,
    "Two histograms of the entries of A: flat between two sharp edges by default, bell-shaped and wider "
    "when a Gaussian is asked for.",
)

# %% [markdown]
# ## The layer
#
# ### Exercise 3: forward
#
# Return the layer's output for rows `x` (…, in). *Dropout* sets random entries of an input to zero during
# training and enlarges the others; `dropped` is `x` after it. The frozen path gets all of `x`, the adapter
# gets `dropped`.


# %% tags=["core"]
def forward(
    x: torch.Tensor,
    dropped: torch.Tensor,
    weight: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    alpha: float,
) -> torch.Tensor:
    ### BEGIN SOLUTION
    return x @ weight.T + (alpha / A.shape[0]) * dropped @ A.T @ B.T
    ### END SOLUTION


exercises.forward.check(forward)

# %% tags=["core"]
# exercises.forward.hint()
forward_of = exercises.forward.or_reference(forward)

# %% [markdown]
# Your three functions make the layer. *Merging* adds the update to the weight, so that the adapter costs
# nothing when the model is used; unmerging subtracts it again.


# %% tags=["core"]
class LoRALinear(nn.Module):
    def __init__(self, base: nn.Linear, rank: int, alpha: float, dropout: float = 0.0):
        super().__init__()
        counting.check_rank(rank, base.in_features, base.out_features)
        self.base, self.alpha, self.merged = base.requires_grad_(False), alpha, False
        b = bound_of(base.in_features, math.sqrt(5))
        self.A = nn.Parameter(torch.empty(rank, base.in_features).uniform_(-b, b))
        self.B = nn.Parameter(torch.zeros(base.out_features, rank))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        if self.merged:
            return self.base(x)
        return forward_of(x, self.dropout(x), self.base.weight, self.A, self.B, self.alpha)

    @torch.no_grad()
    def merge(self):
        if not self.merged:  # twice would add the update twice
            self.base.weight += delta_of(self.A, self.B, self.alpha)
        self.merged = True

    @torch.no_grad()
    def unmerge(self):
        if self.merged:
            self.base.weight -= delta_of(self.A, self.B, self.alpha)
        self.merged = False


# %% [markdown]
# A rank must be a whole number from 1 to the smaller side of the weight. PEFT lets a larger one pass, and you
# pay for parameters that no update can use.

# %% tags=["core"]
for rank in (0, 64, 2.5):
    try:
        LoRALinear(nn.Linear(64, 48, bias=False), rank, alpha=8)
    except LabError as error:
        print(error)
wide = get_peft_model(nn.Sequential(nn.Linear(64, 48)), LoraConfig(r=64, target_modules=["0"]))
print("PEFT, rank 64 on 48 x 64:", tuple(wide.base_model.model[0].lora_A["default"].weight.shape))

# %% [markdown]
# ## Is it PEFT's?
#
# The same weights in both layers, the same random numbers for dropout; then compare output, gradients and
# merged weight. `error` is the largest difference relative to the largest value.


# %% tags=["core"]
def error(mine: torch.Tensor, other: torch.Tensor) -> float:
    return ((mine - other).abs().max() / other.abs().max()).item()


base = nn.Linear(1536, 576, bias=False)
mine = LoRALinear(nn.Linear(1536, 576, bias=False), 16, 32, dropout=0.1)
mine.base.load_state_dict(base.state_dict())
nn.init.normal_(mine.B, std=0.02)
config = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.1, target_modules=["0"])
theirs = get_peft_model(nn.Sequential(base), config).base_model.model[0]
theirs.lora_A["default"].weight.data = mine.A.detach().clone()
theirs.lora_B["default"].weight.data = mine.B.detach().clone()

# %% tags=["core"]
outputs = []
for layer in (mine, theirs):
    torch.manual_seed(1)  # the same entries are dropped
    outputs.append(layer(x))
    outputs[-1].square().mean().backward()
errors = {
    "output": error(*outputs),
    "gradient of A": error(mine.A.grad, theirs.lora_A["default"].weight.grad),
    "gradient of B": error(mine.B.grad, theirs.lora_B["default"].weight.grad),
}
before = mine.base.weight.clone()
mine.merge()
theirs.merge()
errors["merged weight"] = error(mine.base.weight, theirs.base_layer.weight)
assert max(errors.values()) < 1e-6
print("equal to 1e-6:", ", ".join(errors))

# %% [markdown]
# Does unmerging bring the old weight back?

# %% tags=["core", "nbval-ignore-output"]
mine.unmerge()
print("bit for bit:", torch.equal(mine.base.weight, before))
print(f"largest difference: {(mine.base.weight - before).abs().max().item():.1g}")
assert error(mine.base.weight, before) < 1e-6

# %% [markdown]
# Almost: float32 rounds when adding and again when subtracting. Keep the original weight if you need it
# exactly.
#
# `lora.attach` puts such a layer in place of each target of a whole model. A small random Llama, with PEFT
# on one copy and yours on the other:

# %% tags=["core"]
sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
torch.manual_seed(0)
plain = LlamaForCausalLM(LlamaConfig(vocab_size=101, num_key_value_heads=2, **sizes)).eval()
copy = LlamaForCausalLM(plain.config).eval()
copy.load_state_dict(plain.state_dict())
names = lora.attach(copy, "all-linear", rank=4, alpha=8)
config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
peft_model = get_peft_model(plain, config).eval()
for name in names:
    layer = copy.get_submodule(name)
    theirs = peft_model.base_model.model.get_submodule(name)
    nn.init.normal_(layer.B, std=0.1)
    theirs.lora_A["default"].weight.data = layer.A.detach().clone()
    theirs.lora_B["default"].weight.data = layer.B.detach().clone()

# %% tags=["core"]
ids = torch.randint(101, (2, 12), generator=torch.Generator().manual_seed(0))
for model in (copy, peft_model):
    model(input_ids=ids, labels=ids).loss.backward()
gradient_errors = []
for name in names:
    theirs = peft_model.base_model.model.get_submodule(name)
    for factor, other in (("A", theirs.lora_A), ("B", theirs.lora_B)):
        own = getattr(copy.get_submodule(name), factor)
        gradient_errors.append(error(own.grad, other["default"].weight.grad))
logit_error = error(copy(input_ids=ids).logits, peft_model(input_ids=ids).logits)
print(len(names), "layers:", ", ".join(lora.linear_names(plain.__class__(plain.config))))
print("logits and all gradients equal to 1e-6:", max([logit_error, *gradient_errors]) < 1e-6)
assert max([logit_error, *gradient_errors]) < 1e-6

# %% [markdown]
# Those are seven kinds of layers, three of them outside attention: LoRA is for any linear layer, not for
# attention only. A misspelt target is an error here. PEFT raises only if *none* of the names fits; one that
# does not is passed over, and that layer stays untrained.

# %% tags=["core"]
try:
    lora.attach(LlamaForCausalLM(plain.config), ["q_proj", "v_porj"], rank=4, alpha=8)
except LabError as problem:
    print(problem)
misspelt = LoraConfig(r=4, target_modules=["q_proj", "v_porj"], task_type="CAUSAL_LM")
found = get_peft_model(LlamaForCausalLM(plain.config), misspelt).targeted_module_names
print("PEFT adapts:", sorted({name.rpartition(".")[2] for name in found}))

# %% [markdown]
# ## The first step
#
# Training needs gradients of $A$ and $B$. Let $G$, of shape (out, in), be the gradient that the full weight
# would get. The chain rule on $W + s B A$, with $s = \alpha / r$, makes the adapter's gradients out of $G$
# and nothing else.
#
# ### Exercise 4: the gradients of the factors
#
# Return the gradients of `A` and of `B`, in this order.


# %% tags=["core"]
def factor_gradients(
    weight_gradient: torch.Tensor, A: torch.Tensor, B: torch.Tensor, alpha: float
) -> tuple[torch.Tensor, torch.Tensor]:
    ### BEGIN SOLUTION
    s = alpha / A.shape[0]
    return s * B.T @ weight_gradient, s * weight_gradient @ A.T
    ### END SOLUTION


exercises.factor_gradients.check(factor_gradients)

# %% tags=["core"]
# exercises.factor_gradients.hint()
gradients_of = exercises.factor_gradients.or_reference(factor_gradients)

# %% [markdown]
# What does your formula say for $B = 0$? Now the real model, with LoRA of rank 16 on every linear layer, and
# two ticket messages. For two of its matrices we also ask for $G$.

# %% tags=["core"]
model, tokenizer = base_model.load("smollm2-135m-instruct", dtype="float32", device="cpu")
batch = [chat.encode_example(tokenizer, row) for row in tickets.load("train")[:2]]
ids, mask = chat.pad_left(tokenizer, [e.ids for e in batch])
wanted = chat.pad_labels_left([chat.labels(e.ids, e.prompt_length) for e in batch])
with torch.no_grad():
    before = model(input_ids=ids, attention_mask=mask).logits
torch.manual_seed(0)
names = lora.attach(model, "all-linear", rank=16, alpha=32)
block = model.model.layers[15]
looked_at = {"q_proj": block.self_attn.q_proj, "down_proj": block.mlp.down_proj}
for layer in looked_at.values():
    layer.base.weight.requires_grad_(True)  # only to see G; nothing updates it
logits = model(input_ids=ids, attention_mask=mask).logits
print(len(names), "adapters; logits unchanged, bit for bit:", torch.equal(before, logits))
assert torch.equal(before, logits)

# %% tags=["core"]
chat.answer_loss(logits, wanted).backward()
adapters = [model.get_submodule(name) for name in names]
print("A with a gradient other than zero:", sum(bool(layer.A.grad.any()) for layer in adapters))
print("B with a gradient other than zero:", sum(bool(layer.B.grad.any()) for layer in adapters))

# %% tags=["core"]
assert not any(layer.A.grad.any() for layer in adapters)
for name, layer in looked_at.items():
    by_formula = gradients_of(layer.base.weight.grad, layer.A, layer.B, 32)[1]
    close = error(by_formula, layer.B.grad) < 1e-4  # sums over 250 tokens in another order
    print(name, "B's gradient by your formula:", "equal" if close else "different")
    assert close

# %% [markdown]
# $A$'s gradient holds $B$ as a factor, so in the first step $A$ stands still and only $B$ moves. This small
# fact decides what alpha does.
#
# ## Alpha against the learning rate
#
# Guide 001: r = 16 with alpha = 32 "behaves equivalently" to alpha = 16 with the learning rate doubled.
# We try it on a problem small enough to be exact: one LoRA layer in float64, 48 × 64 and of rank 8, learns
# a target matrix in 200 steps. `toy_training.updates(optimizer, alpha, lr_a, lr_b)` returns $\Delta W$ after
# each step; `toy_training.distance` is the distance of two runs, relative to the first.
#
# How far apart will the two be under Adam after 200 steps?

# %% tags=["core"]
guess = None  # your guess, in percent of the update

# %% tags=["core"]
lr = 2e-4
doubled = toy_training.updates("adam", 32, lr, lr)
claimed = toy_training.updates("adam", 16, 2 * lr, 2 * lr)
for step in (1, 2, 10, 50, 200):
    print(f"step {step:3d}: {100 * toy_training.distance(doubled, claimed, step):.2g} % apart")
predictions.compare(guess, 100 * toy_training.distance(doubled, claimed, 200), unit="%")

# %% [markdown]
# Equal in the first step, because $A$ stands still; then $A$ moves twice as far in one of them. What *is* the
# same? Adam (with a negligible epsilon) ignores the scale of a gradient: each factor moves by its learning
# rate. Put $2B$ for $B$, or $\sqrt2 B$ and $\sqrt2 A$, and follow who moves how far:
#
# - double the learning rate of $B$ alone, or
# - learning rate times $\sqrt2$ for both, and $A$'s start times $\sqrt2$ too.

# %% tags=["core"]
root = math.sqrt(2)
same = {
    "lr of B doubled": toy_training.updates("adam", 16, lr, 2 * lr),
    "lr and A times sqrt(2)": toy_training.updates("adam", 16, root * lr, root * lr, a_factor=root),
}
for name, run in same.items():
    worst = max(toy_training.distance(doubled, run, step) for step in range(1, 201))
    print(f"Adam, {name}: equal to 1e-9 at every step: {worst < 1e-9}")
    assert worst < 1e-9

# %% [markdown]
# SGD does not ignore the scale. In its first step $B = -\eta\, s\, G A^\top$ with learning rate $\eta$, so
# $\Delta W = s B A = -\eta\, s^2\, G A^\top A$: alpha enters **squared**. Doubling alpha is then like four
# times the learning rate, in that step. Exact at all steps: four times the learning rate of $B$ alone, or
# twice for both with $A$'s start times $\sqrt2$.

# %% tags=["core"]
lr_sgd = 1e-2
doubled_sgd = toy_training.updates("sgd", 32, lr_sgd, lr_sgd)
fourfold = toy_training.updates("sgd", 16, 4 * lr_sgd, 4 * lr_sgd)
single = toy_training.updates("sgd", 16, lr_sgd, lr_sgd)
print(f"first update, alpha 32 over alpha 16: {(doubled_sgd[1].norm() / single[1].norm()).item():.3g}")
for step in (1, 2, 10, 50):
    print(f"4 x lr, step {step:3d}: {100 * toy_training.distance(doubled_sgd, fourfold, step):.2g} % apart")
same = {
    "lr of B times 4": toy_training.updates("sgd", 16, lr_sgd, 4 * lr_sgd),
    "2 x lr, A times sqrt(2)": toy_training.updates("sgd", 16, 2 * lr_sgd, 2 * lr_sgd, a_factor=root),
}
for name, run in same.items():
    worst = max(toy_training.distance(doubled_sgd, run, step) for step in range(1, 201))
    print(f"SGD, {name}: equal to 1e-9 at every step: {worst < 1e-9}")
    assert worst < 1e-9

# %% [markdown]
# Weight decay breaks these identities, since it shrinks $A$ and $B$ by the learning rate. By how much, at
# 0.1?

# %% tags=["core"]
decayed = toy_training.updates("adam", 32, lr, lr, weight_decay=0.1)
other = toy_training.updates("adam", 16, root * lr, root * lr, a_factor=root, weight_decay=0.1)
apart = 100 * toy_training.distance(decayed, other, 200)
print(f"with weight decay 0.1, after 200 steps: {apart:.1g} % apart")

# %% tags=["core"]
fig, axes = plots.figure()
steps = range(1, 201)
adam_apart = [100 * toy_training.distance(doubled, claimed, s) for s in steps]
axes.plot(steps, adam_apart, color=plots.ORANGE, label="Adam, 2 lr")
sgd_apart = [100 * toy_training.distance(doubled_sgd, fourfold, s) for s in steps]
axes.plot(steps, sgd_apart, color=plots.BLUE, linestyle="--", label="SGD, 4 lr")
axes.axhline(0, color=plots.GREY, linestyle=":", label="the exact rules")
axes.set(xlabel="step", ylabel="distance of the updates (%)")
axes.set_title("Alpha times 2 is no multiple of the learning rate")
axes.legend()
plots.show(
    fig,
    "Distance between training with alpha 32 and with alpha 16 and a higher learning rate, over 200 steps: "
    "both curves start at 0; Adam's rises and levels off, SGD's rises further and falls again; the exact "
    "rules stay at 0.",
)

# %% [markdown]
# ## Alpha against the rank
#
# Three rules are in use: alpha fixed (the paper), alpha = 2r (the guides), and rsLoRA's factor
# $\alpha / \sqrt r$. Guide 002: alpha = 2r "allows changing the rank without having to readjust the learning
# rate". A learning rate can only carry over if a step changes the output about equally at every rank. We
# measure the very first step, on a 512 × 512 layer.

# %% tags=["core"]
ranks = (4, 16, 64, 256)
rules = {
    "alpha fixed": lambda rank: (32, False),
    "alpha = 2r": lambda rank: (2 * rank, False),
    "rsLoRA": lambda rank: (32, True),
}
growth = {}
for optimizer in ("adam", "sgd"):
    for rule, settings in rules.items():
        sizes = [toy_training.first_step_change(optimizer, rank, *settings(rank)) for rank in ranks]
        growth[optimizer, rule] = [size / sizes[0] for size in sizes]
        text = "  ".join(f"{value:7.3g}" for value in growth[optimizer, rule])
        print(f"{optimizer:5s} {rule:12s} r = 4, 16, 64, 256: {text}")

# %% tags=["core"]
fig, axes = plots.figure(2, sharey=True)
colours = (plots.BLUE, plots.ORANGE, plots.GREEN)
for panel, optimizer in zip(axes, ("adam", "sgd"), strict=True):
    for (rule, colour), marker in zip(zip(rules, colours, strict=True), "os^", strict=True):
        panel.plot(ranks, growth[optimizer, rule], color=colour, marker=marker, label=rule)
    panel.set(xlabel="rank", title={"adam": "Adam", "sgd": "SGD"}[optimizer], xscale="log", yscale="log")
    panel.set_xticks(ranks, ranks)
    panel.minorticks_off()
axes[0].set_ylabel("first change of the output\n(rank 4 = 1)")
axes[1].legend()
fig.suptitle("Which rule makes the rank harmless depends on the optimizer", x=0.02, ha="left")
plots.show(
    fig,
    "Size of the first step over the rank, for three rules. Adam: alpha fixed is nearly flat, rsLoRA rises, "
    "alpha = 2r rises steeply. SGD: rsLoRA is nearly flat, alpha fixed falls, alpha = 2r rises.",
)

# %% tags=["core"]
flat = {key: max(values) / min(values) for key, values in growth.items()}
for optimizer in ("adam", "sgd"):
    best = min(rules, key=lambda rule, o=optimizer: flat[o, rule])
    print(f"{optimizer}: flattest is {best}, within a factor of {flat[optimizer, best]:.2g}")
assert flat["adam", "alpha fixed"] < 2 and flat["sgd", "rsLoRA"] < 2 < flat["adam", "alpha = 2r"]

# %% [markdown]
# Why: under SGD the step is $s^2 G A^\top A$, and $A^\top A$ grows like $r$, so $s \propto 1/\sqrt r$ keeps
# it level: rsLoRA. Adam moves every entry of $B$ by the learning rate, and $r$ of them add up in one
# output, so $s \propto 1/r$ does: the paper's fixed alpha. With alpha = 2r and Adam, a higher rank *is* a
# higher learning rate, at first. This says nothing about late training; notebook 09 measures where the best
# learning rate lies.
#
# ## Is a real update of low rank?
#
# "The weight updates have a low intrinsic rank" (guides 001, 002, 004). The paper offers it as a
# hypothesis. Biderman et al. (2024) measured full fine-tuning on code and found ranks 10 to 100 times those
# of LoRA. The ruler: the *singular values* $\sigma_i$ of $\Delta W$. Keeping the $k$ largest gives the best
# approximation of rank $k$, and the *energy* that it keeps is $\sum_{i \le k} \sigma_i^2 / \sum_i
# \sigma_i^2$.
#
# ### Exercise 5: rank for a share of the energy
#
# Return the smallest rank that keeps at least `share` of the energy. The values come largest first.


# %% tags=["core"]
def rank_for_energy(singular_values: list[float], share: float) -> int:
    ### BEGIN SOLUTION
    energy = torch.cumsum(torch.tensor(singular_values, dtype=torch.float64) ** 2, 0)
    return int((energy < share * energy[-1] * (1 - 1e-12)).sum()) + 1
    ### END SOLUTION


exercises.rank_for_energy.check(rank_for_energy)

# %% tags=["core"]
# exercises.rank_for_energy.hint()
rank_of = exercises.rank_for_energy.or_reference(rank_for_energy)

# %% [markdown]
# First a trap, live. You still have $G$ for two matrices. One step of SGD moves the weight along $G$; the
# first step of Adam moves each entry by the learning rate, that is along the *signs* of $G$.

# %% tags=["core", "nbval-ignore-output"]
ranks_found = {}
for name, layer in looked_at.items():
    G = layer.base.weight.grad
    noise = torch.randn(G.shape, generator=torch.Generator().manual_seed(0)).sign()
    for what, matrix in (("G (SGD)", G), ("signs of G (Adam)", G.sign()), ("random signs", noise)):
        ranks_found[name, what] = rank_of(torch.linalg.svdvals(matrix).tolist(), 0.9)
        print(f"{name:9s} {what:17s} rank for 90 %: {ranks_found[name, what]:3d} of {min(G.shape)}")
for name in looked_at:
    expect(
        f"{name}: the signs of G have a much higher rank than G",
        ranks_found[name, "signs of G (Adam)"] > 4 * ranks_found[name, "G (SGD)"],
    )

# %% [markdown]
# Same gradient, same task, other rank. A short update by Adam shows Adam's signs as much as the task. So the
# measurement needs controls.
#
# ### Recorded: a short full fine-tune
#
# `lab.py experiment spectrum` trained all linear layers of the blocks in full, in float32, on ticket rows:
# with AdamW; with SGD; and with AdamW on *shuffled* answers, where only the form can be learned. Which
# rank holds 90 % of the energy under AdamW, at the median over all matrices (the largest possible is 576; for
# k and v 192)?

# %% tags=["core"]
guess = None  # your guess, a rank

# %% tags=["core"]
record = experiments.published("spectrum")["cells"]
stamp = record[0]["stamp"]
print("recorded", stamp["date"], "on", stamp["processor"], "with", stamp["threads"], "threads")
arms = {}
for cell in record:
    name = cell["cell"]["optimizer"] + (" shuffled" if cell["cell"]["answers"] == "shuffled" else "")
    arms[name] = cell["metrics"]
    losses = arms[name]["losses"]
    moved = statistics.median(m["relative_size"] for m in arms[name]["matrices"])
    late = statistics.mean(losses[-8:])
    print(f"{name:15s} {len(losses)} steps, loss {losses[0]:.2f} -> {late:.2f}, ‖ΔW‖/‖W‖ {moved:.2g}")


# %% tags=["core"]
def median_rank(arm: str, module: str | None = None) -> float:
    chosen = [m["rank_90"] for m in arms[arm]["matrices"] if module in (None, m["module"])]
    return statistics.median(chosen)


print("median rank for 90 % of the energy")
print(f"{'':10s}", *(f"{arm:>15s}" for arm in arms), f"{'random signs':>15s}")
for module in spectrum_experiment.MODULES:
    shape = next(m["shape"] for m in arms["adamw"]["matrices"] if m["module"] == module)
    signs = rank_of(spectra.of_random_signs(*shape).tolist(), 0.9)
    print(f"{module:10s}", *(f"{median_rank(arm, module):15.0f}" for arm in arms), f"{signs:15d}")
predictions.compare(guess, median_rank("adamw"))

# %% [markdown]
# The last column is computed: what a matrix of random signs of that shape would have (the law of Marchenko
# and Pastur).

# %% tags=["core"]
fig, axes = plots.figure(3, height=3.6, sharey=True)
styles = {"adamw": (plots.BLUE, "-"), "sgd": (plots.GREEN, "-."), "adamw shuffled": (plots.ORANGE, "--")}
for panel, module in zip(axes, ("q_proj", "v_proj", "down_proj"), strict=True):
    for arm, (colour, line) in styles.items():
        matrices = [m for m in arms[arm]["matrices"] if m["module"] == module]
        shares = zip(*(m["energy"] for m in matrices), strict=True)
        curve = [100 * statistics.median(values) for values in shares]
        panel.plot(spectrum_experiment.RANKS, curve, color=colour, linestyle=line, label=arm)
    noise = 100 * spectra.energy_curve(spectra.of_random_signs(*matrices[0]["shape"]))
    panel.plot(range(1, len(noise) + 1), noise, color=plots.GREY, linestyle=":", label="random signs")
    panel.set(xlabel="rank", title=module, xscale="log")
axes[0].set_ylabel("energy kept (%)")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
fig.suptitle("What a rank keeps of an update depends on the optimizer", x=0.02, ha="left")
plots.show(
    fig,
    "Energy kept over rank, median over layers, for q, v and down projections: one curve each for AdamW, "
    "SGD, AdamW on shuffled answers, and a dotted one for random signs.",
)

# %% tags=["core"]
adam, sgd, shuffled = median_rank("adamw"), median_rank("sgd"), median_rank("adamw shuffled")
expect("AdamW's updates are not of low rank: 90 % takes over 32", adam > 32, f"median {adam:.0f}")
expect("Biderman's 10 to 100 times a LoRA's rank is not seen in so short a run", adam < 10 * 16)
expect("SGD's, at a like length of step, have less than half that", sgd < adam / 2, f"median {sgd:.0f}")
expect(
    "answers that cannot be learned give AdamW about the same rank (within a third)",
    2 / 3 < shuffled / adam < 3 / 2,
    f"median {shuffled:.0f}",
)

# %% [markdown]
# Energy is not usefulness. The *functional rank* asks the task: cut every update of the AdamW run to rank
# $k$, and score validation rows, one a family, again. What share of the whole gain in NLL does rank 16
# keep?

# %% tags=["core"]
guess = None  # your guess, in percent

# %% tags=["core"]
cuts, families = arms["adamw"]["cut"], arms["adamw"]["families"]
nll = {int(k): statistics.mean(values) for k, values in cuts.items()}
gain = {k: 100 * (nll[0] - value) / (nll[0] - nll[576]) for k, value in nll.items()}
print(f"{len(families)} validation rows; NLL in nats an answer")
for k, value in nll.items():
    lost = [a - b for a, b in zip(cuts[str(k)], cuts["576"], strict=True)]
    _, low, high = intervals.interval(lost, families)
    print(f"rank {k:3d}: NLL {value:6.2f}, above full by [{low:.2f}, {high:.2f}], gain kept {gain[k]:4.0f} %")
predictions.compare(guess, gain[16], unit="%")

# %% tags=["core"]
fig, axes = plots.figure()
shares = zip(*(m["energy"] for m in arms["adamw"]["matrices"]), strict=True)
energy = [100 * statistics.median(values) for values in shares]
kept = {k: share for k, share in gain.items() if k}
axes.plot(list(kept), list(kept.values()), color=plots.BLUE, marker="o", label="gain in validation NLL")
axes.plot(
    spectrum_experiment.RANKS, energy, color=plots.ORANGE, linestyle="--", label="energy (median matrix)"
)
axes.set(xlabel="rank that every update is cut to", ylabel="kept (%)", xscale="log", ylim=(0, None))
axes.set_xticks(list(kept), list(kept))
axes.minorticks_off()
axes.set_title(f"Rank 16 keeps {gain[16]:.0f} % of the gain and {energy[4]:.0f} % of the energy")
axes.legend()
plots.show(
    fig,
    f"Share kept over rank: at rank 16 the gain in NLL is {gain[16]:.0f} % and the median energy "
    f"{energy[4]:.0f} %.",
)

# %% tags=["core"]
expect("rank 16 keeps at least half of the gain", gain[16] >= 50, f"{gain[16]:.0f} %")
expect(
    "and a larger share of the gain than of the energy",
    gain[16] > energy[spectrum_experiment.RANKS.index(16)],
)

# %% [markdown]
# So two questions hide in one sentence. Whether the update that full fine-tuning *happens* to make has a
# low rank depends on the optimizer, and a short run by AdamW is no witness. Whether an update of low rank
# *suffices* is what LoRA needs, and the cut updates bear on that. This was one seed, a few dozen steps and
# a model of width 576, where rank 16 is a far larger share of the width than at 4096; Biderman's runs were
# longer by orders of magnitude.
#
# ## Explorer
#
# Turn the rank and look at other matrices and arms. Where do the real update and the random signs part?

# %% tags=["core"]
low_rank_explorer.explore()

# %% [markdown]
# ## Measured claims
#
# What this notebook settles of the guides' claims; the others are in `python3 lab.py claims`.

# %% tags=["core", "claim-A2"]
print("B is the down-projection and A the up-projection (guide 002): wrong.")
print(f"   A takes {A.shape[1]:,} numbers down to {A.shape[0]}, B takes these up to {B.shape[0]}.")

# %% tags=["core", "claim-A6"]
print('"Kaiming uniform initialization (Gaussian distribution)" (guide 002): wrong.')
print(f"   PEFT's A has the kurtosis {kurtosis(A):.2f}: uniform (1.8), not Gaussian (3).")

# %% tags=["core", "claim-C1"]
print("Alpha doubled is the learning rate doubled (guide 001): wrong.")
print(f"   Adam: {100 * toy_training.distance(doubled, claimed, 200):.2g} % apart after 200 steps;", end=" ")
print("exact is the learning rate of B doubled. SGD: 4 times, in the first step.")

# %% tags=["core", "claim-C4"]
print("With alpha = 2r the rank can change without the learning rate (guide 002): imprecise.")
print(
    f"   Adam's first step at rank 256 is {growth['adam', 'alpha = 2r'][-1]:.2g} times that at rank 4;",
    end=" ",
)
print(f"with alpha fixed, {growth['adam', 'alpha fixed'][-1]:.2g} times.")

# %% tags=["core", "claim-A9"]
print("Weight updates have a low rank (guides 001, 002, 004): imprecise.")
print(
    f"   Median rank for 90 % of the energy: AdamW {adam:.0f}, SGD {sgd:.0f}, shuffled {shuffled:.0f};",
    end=" ",
)
print(f"cut to rank 16, {gain[16]:.0f} % of the gain is kept.")

# %% [markdown]
# ## Checkpoint

# %% tags=["core"]
quiz.ask("02_lora_math")

# %% [markdown]
# ## On a rented GPU
#
# Nothing here gains from one: the algebra and the identities hold at every size. What may differ at 7B is the
# spectrum and the functional rank, and that takes a full fine-tune, which a 24 GB card cannot hold.
# Leave it, and spend the hour on notebooks 08 and 09.
