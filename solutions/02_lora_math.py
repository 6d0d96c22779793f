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
# **In one sentence**: you write LoRA's layer yourself, and measure what alpha, learning rate and rank do to
# each other and how far "low rank" is true.
#
# **Minutes**: 120 to read and do, 2 to run all cells.
#
# ![An input x goes two ways. Above through a large frozen square W, below through a flat matrix A and
# then a tall thin matrix B, times alpha over r; a plus sign adds both to the output
# y.](attachment:schematic.png)
#
# LoRA in one picture: the large square stays as it is, and only the two thin matrices learn.
#
# After this notebook you will be able to
#
# - write LoRA's layer yourself: start, scale, forward, gradients, merge, and show that it is PEFT's;
# - say what alpha, the learning rate and the [rank](../glossary.md#rank) do to each other under SGD and
#   under Adam, and on what it depends;
# - judge the sentence "updates have a low rank" by what a real update looks like, and by what is left of
#   it when you cut it.
#
# **Needs** notebook 01's vocabulary (tokens, labels, loss) and linear algebra up to the singular value
# decomposition. Everything runs on the processor, with the small model on every machine.

# %% [markdown]
# ## Why two thin matrices
#
# To fine-tune a model in full you change every weight. For each of them the
# optimizer keeps a gradient and two running averages, and when you are done you store a second model as
# large as the first.
#
# But what do you want from it? The model knows its language already. You want it to answer in one line of
# JSON, and that may be a small change. LoRA bets that it is small in one exact sense: that the matrix of
# all changes can be written as a product of two thin ones.
#
# ### One layer by hand
#
# Take a layer with three inputs and two outputs, and the smallest [adapter](../glossary.md#adapter) there
# is, of rank 1. $A$ is one row, $B$ is one column:
#
# $$A = \begin{pmatrix} 1 & 0 & -1 \end{pmatrix}, \qquad B = \begin{pmatrix} 2 \\ 0.5 \end{pmatrix}, \qquad
# BA = \begin{pmatrix} 2 & 0 & -2 \\ 0.5 & 0 & -0.5 \end{pmatrix}$$
#
# Three numbers and two make a whole 2 × 3 matrix. Send the input $x = (3, 1, 1)$ through. $A$ asks one
# question of it, "first entry less the last?", and gets one number: $3 - 1 = 2$. $B$ says what to do with
# the answer: add twice 2 to the first output and half of 2 to the second, $(4, 1)$. That is all that rank
# 1 can do: one question, one direction to move in. Rank 16 has sixteen of each.
#
# Here it is in code; loading torch and its relatives takes about 10 seconds.

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

# %% tags=["core", "setup"]
from labsupport.core import upstream

upstream.quiet_known_noise()  # messages about this stack that you can do nothing about
upstream.keep_freed_memory()  # a faster allocator setting for training on a CPU

# %% tags=["core", "setup"]
import math
import statistics

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from labsupport.core import plots, profiles
from labsupport.core.files import LabError
from labsupport.core.tables import Table
from labsupport.evaluation import experiments, intervals
from labsupport.updates import spectra, toy_training
from labsupport.explorers import low_rank_explorer
from labsupport.models import base_model, chat, lora
from labsupport.notebooks.nb02_lora_math import exercises, figures
from labsupport.tasks import tickets
from labsupport.teaching import predictions, quiz
from labsupport.teaching.claims import expect

# %% tags=["core", "setup", "nbval-ignore-output"]
torch.set_num_threads(profiles.current().threads)
print("threads:", torch.get_num_threads())

# %% tags=["core"]
A = torch.tensor([[1.0, 0.0, -1.0]])
B = torch.tensor([[2.0], [0.5]])
x = torch.tensor([3.0, 1.0, 1.0])
print("after A:", (A @ x).tolist(), "| after B:", (B @ (A @ x)).tolist())
print("the same through BA:", ((B @ A) @ x).tolist())

# %% [markdown]
# In general a linear layer computes $Wx$, with $W$ of shape out × in, and fine-tuning adds an update
# $\Delta W$ of the same shape. LoRA writes it as
#
# $$\Delta W = \frac{\alpha}{r} B A, \qquad A: r \times \mathrm{in}, \quad B: \mathrm{out} \times r$$
#
# The rank $r$ is the width of the passage between the two, [$\alpha$](../glossary.md#alpha) a constant
# that you choose, and only $A$ and $B$ are trained. $A$ stands next to $x$, so an input meets $A$ first
# and is squeezed to $r$ numbers; $B$ spreads these over the outputs. Guide 002 ([the five
# guides](../guides.md)) calls $B$ the down-projection. Ask PEFT, the library that everyone uses, with a
# layer of this course's model: 1,536 inputs and 576 outputs.

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
# $A$ takes 1,536 numbers down to 16, and $B$ takes these up to 576. And what does it cost? The full
# update would be $576 \times 1536$ numbers, $A$ and $B$ together $16 \times (576 + 1536)$:

# %% tags=["core"]
full, thin = 576 * 1536, A.numel() + B.numel()
print(f"{full:,} numbers in full, {thin:,} in A and B: {100 * thin / full:.3g} %")

# %% [markdown]
# ## How A and B start
#
# $B$ starts at zero. Then $BA$ is zero too, so training starts exactly at the model you downloaded,
# whatever $A$ is. Why not both at zero? Because then neither would ever move: in a moment you will see
# that each one's gradient has the other as a factor. And why $B$ and not $A$? Either would do for the
# first output; the libraries chose $B$.
#
# $A$ is random. "From a Gaussian", says guide 001; "Kaiming uniform initialization (Gaussian
# distribution)", says 002. The paper has a Gaussian indeed. The libraries, loralib first and then PEFT,
# call `kaiming_uniform_(A, a=sqrt(5))`. That is Kaiming He's rule for layers with a leaky ReLU of slope
# $a$: the entries get the standard deviation $\mathrm{gain} / \sqrt{\mathrm{in}}$ with $\mathrm{gain} =
# \sqrt{2 / (1 + a^2)}$.
#
# ### Exercise 1: the bound
#
# > **10 minutes · ●●○**
# >
# > A uniform distribution on $(-b, b)$ has the variance $b^2 / 3$. Return the $b$ that gives it Kaiming's
# > standard deviation, for any `fan_in` and any slope `a`.


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
# For $a = \sqrt 5$ all the roots fall away and $1 / \sqrt{\mathrm{in}}$ is left: the strange $\sqrt 5$ is
# there for that. Now count: is PEFT's $A$ uniform? The *kurtosis*, the mean fourth power over the squared
# variance, is 1.8 for a uniform distribution and 3 for a Gaussian.


# %% tags=["core"]
def kurtosis(values: torch.Tensor) -> float:
    centred = values.detach().double() - values.detach().double().mean()
    return ((centred**4).mean() / (centred**2).mean() ** 2).item()


torch.manual_seed(0)
gaussian_config = LoraConfig(r=16, target_modules=["0"], init_lora_weights="gaussian")
other = get_peft_model(nn.Sequential(nn.Linear(1536, 576, bias=False)), gaussian_config)
gaussian = other.base_model.model[0].lora_A["default"].weight
print(f"your bound: {bound_of(1536, math.sqrt(5)):.3g}")
rows = []
for name, values in (("default", A), ('init_lora_weights="gaussian"', gaussian)):
    rows.append([name, f"{values.abs().max().item():.3g}", f"{kurtosis(values):.2f}"])
Table(["PEFT's A", "largest entry", "kurtosis"], rows, "Uniform by default, Gaussian if you ask")

# %% tags=["core"]
fig, axes = plots.figure(height=2.8)
bins = torch.linspace(-0.2, 0.2, 201).tolist()
axes.hist(A.detach().flatten().numpy(), bins=bins, color=plots.BLUE, alpha=0.7, label="default")
shown = gaussian.detach().flatten().numpy()
axes.hist(shown, bins=bins, color=plots.ORANGE, histtype="step", linewidth=1.5, label='"gaussian"')
axes.set(xlabel="entry of A", ylabel="entries", title="PEFT's default A is uniform, with sharp edges")
axes.legend()
plots.show(
    fig,
    "Two histograms on one axis: the default's entries lie evenly between two sharp edges near 0.026 "
    "on both sides, the Gaussian's form a bell that is wider.",
)

# %% [markdown]
# ## The layer
#
# *Merging* adds the update to the weight, $W + \frac{\alpha}{r} B A$. Then the adapter costs nothing when
# the model is used: it is one matrix again. Unmerging subtracts it, to go on training.
#
# ### Exercise 2: LoRA's layer
#
# > **25 minutes · ●●●**
# >
# > Write the class. `base` is a linear layer without bias, with `base.weight` of shape (out, in).
# >
# > - `__init__`: freeze `base`; `self.A` of shape (rank, in), drawn from $U(-b, b)$ with $b =
# >   1/\sqrt{\mathrm{in}}$, and `self.B` of shape (out, rank), zeros; both are `nn.Parameter`.
# > - `forward(x)`, rows `x` of shape (…, in): the frozen path plus $\alpha / r$ times the adapter's; once
# >   merged, the frozen path alone, for the update is in it.
# > - `merge()` and `unmerge()`: change `base.weight` in place, under `torch.no_grad()`. Called twice,
# >   `merge` must not add the update twice.


# %% tags=["core"]
class LoRALinear(nn.Module):
    def __init__(self, base: nn.Linear, rank: int, alpha: float):
        super().__init__()
        ### BEGIN SOLUTION
        self.base, self.factor, self.merged = base.requires_grad_(False), alpha / rank, False
        b = bound_of(base.in_features, math.sqrt(5))
        self.A = nn.Parameter(torch.empty(rank, base.in_features).uniform_(-b, b))
        self.B = nn.Parameter(torch.zeros(base.out_features, rank))
        ### END SOLUTION

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        ### BEGIN SOLUTION
        out = self.base(x)
        return out if self.merged else out + self.factor * (x @ self.A.T @ self.B.T)
        ### END SOLUTION

    @torch.no_grad()
    def merge(self) -> None:
        ### BEGIN SOLUTION
        if not self.merged:
            self.base.weight += self.factor * self.B @ self.A
        self.merged = True
        ### END SOLUTION

    @torch.no_grad()
    def unmerge(self) -> None:
        ### BEGIN SOLUTION
        if self.merged:
            self.base.weight -= self.factor * self.B @ self.A
        self.merged = False
        ### END SOLUTION


exercises.layer.check(LoRALinear)

# %% tags=["core"]
# exercises.layer.hint()
Layer = exercises.layer.or_reference(LoRALinear)

# %% [markdown]
# Notice the order: $x A^\top$ first, which is small, and then $B^\top$. You never build $BA$ in
# `forward`: for one row it would cost as much as the frozen layer.
#
# ### Is it PEFT's?
#
# Put the same weights into both layers and compare output, gradients and merged weight. `error` is the
# largest difference relative to the largest value.


# %% tags=["core"]
def error(mine: torch.Tensor, other: torch.Tensor) -> float:
    return ((mine - other).abs().max() / other.abs().max()).item()


base = nn.Linear(1536, 576, bias=False)
twin = nn.Linear(1536, 576, bias=False)
twin.load_state_dict(base.state_dict())
mine = Layer(twin, 16, 32)
nn.init.normal_(mine.B, std=0.02)  # as if trained: with B = 0 there is nothing to compare
theirs = get_peft_model(
    nn.Sequential(base), LoraConfig(r=16, lora_alpha=32, target_modules=["0"])
).base_model.model[0]
theirs.lora_A["default"].weight.data = mine.A.detach().clone()
theirs.lora_B["default"].weight.data = mine.B.detach().clone()

# %% tags=["core"]
outputs = [mine(x), theirs(x)]
for output in outputs:
    output.square().mean().backward()
errors = {
    "output": error(*outputs),
    "gradient of A": error(mine.A.grad, theirs.lora_A["default"].weight.grad),
    "gradient of B": error(mine.B.grad, theirs.lora_B["default"].weight.grad),
}
before = twin.weight.clone()
mine.merge()
theirs.merge()
errors["merged weight"] = error(twin.weight, theirs.base_layer.weight)
assert max(errors.values()) < 1e-6
print("equal to 1e-6:", ", ".join(errors))

# %% [markdown]
# Does unmerging bring the old weight back?

# %% tags=["core", "nbval-ignore-output"]
mine.unmerge()
print("bit for bit:", torch.equal(twin.weight, before))
print(f"largest difference: {(twin.weight - before).abs().max().item():.1g}")
assert error(twin.weight, before) < 1e-6

# %% [markdown]
# Almost: float32 rounds when adding and again when subtracting. Keep the original weight if you need it
# exactly.
#
# PEFT's layer has one thing more, *[dropout](../glossary.md#lora-dropout)*: during training it sets
# random entries of $A$'s input to zero and enlarges the others. The frozen path always gets the whole
# input.
#
# A rank above the smaller side of the weight is a waste: no update of that shape can use it. The course's
# own layer refuses it; PEFT lets it pass, and you pay for the parameters.

# %% tags=["core"]
for rank in (0, 64, 2.5):
    try:
        lora.LoRALinear(nn.Linear(64, 48, bias=False), rank, alpha=8)
    except LabError as error_told:
        print(error_told)
wide = get_peft_model(nn.Sequential(nn.Linear(64, 48)), LoraConfig(r=64, target_modules=["0"]))
print("PEFT, rank 64 on 48 x 64:", tuple(wide.base_model.model[0].lora_A["default"].weight.shape))

# %% [markdown]
# ### In a whole model
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
# Training needs the gradients of $A$ and $B$. Think of one entry of the weight, $W_{ij} + s \sum_k B_{ik}
# A_{kj}$ with $s = \alpha / r$. Move $A_{kj}$ a little, and every $W_{ij}$ in column $j$ moves by $s
# B_{ik}$ times that. So if you know $G$, the gradient that the full weight would get, of shape (out, in),
# you know both others.
#
# ### Exercise 3: the gradients of the factors
#
# > **15 minutes · ●●○**
# >
# > From $G$, `A` (r, in), `B` (out, r) and `alpha`, return the gradients of `A` and of `B`, in this
# > order, as tensors of their shapes.


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
# What does your formula say for $B = 0$? Now the real model, with LoRA of rank 16 on every linear layer,
# and two ticket messages. For two of its matrices we also ask for $G$.

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
# $A$'s gradient holds $B$ as a factor, and $B$ is zero. So in the first step $A$ stands still and only
# $B$ moves: the layer's 16 questions stay what chance made them, and only the answers are learned. This
# small fact decides what alpha does.
#
# ## Alpha against the learning rate
#
# Guide 001: r = 16 with alpha = 32 "behaves equivalently" to alpha = 16 with the learning rate doubled.
# The LoRA paper is more careful (section 4.1): tuning alpha is roughly the same as tuning the learning
# rate *if the initialisation is scaled appropriately*.
#
# We try both on a problem small enough to be exact: one LoRA layer in float64, 48 × 64 and of rank 8,
# learns a target matrix in 200 steps. `toy_training.updates(optimizer, alpha, lr_a, lr_b)` returns
# $\Delta W$ after each step; `toy_training.distance` is the distance of two runs, relative to the first.
#
# > **Predict.** How far apart are alpha 32 and "alpha 16 with twice the learning rate" under Adam after
# > 200 steps, in percent of the update?

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
# Equal in the first step, because $A$ stands still; then $A$ moves twice as far in one of them, and the
# runs part.
#
# What *is* the same? Adam (with a negligible epsilon) ignores the scale of a gradient: each entry moves
# by about its learning rate. You want the product twice as large. Put $2B$ for $B$, or $\sqrt2 B$ and
# $\sqrt2 A$, and follow who has to move how far:
#
# - double the learning rate of $B$ alone, or
# - learning rate times $\sqrt2$ for both, and $A$'s start times $\sqrt2$ too: the paper's condition.

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
exact = toy_training.updates("adam", 16, lr, 2 * lr)
exact_apart = [100 * toy_training.distance(doubled, exact, s) for s in steps]
axes.plot(steps, exact_apart, color=plots.GREY, linestyle=":", label="Adam, lr of B doubled")
axes.set(xlabel="step", ylabel="distance of the updates (%)")
axes.set_title("Alpha times 2 is no multiple of the one learning rate")
axes.legend()
plots.show(
    fig,
    "Distance between training with alpha 32 and with alpha 16 and a higher learning rate, over 200 "
    "steps: Adam's curve and SGD's start at 0 and rise; with the learning rate of B alone doubled it "
    "stays at 0.",
)

# %% [markdown]
# ## Alpha against the rank
#
# Three rules are in use: alpha fixed (the paper), alpha = 2r (the guides), and
# *[rsLoRA](../glossary.md#rslora)*'s factor $\alpha / \sqrt r$. Guide 002: alpha = 2r "allows changing
# the rank without having to readjust the learning rate". A learning rate can carry over only if a step
# changes the output about equally at every rank. So we measure that change, for the very first step of
# Adam on a 256 × 256 layer, at rank 4 and at rank 256.
#
# One question decides what you will see, and it is easy to overlook: **on which inputs do you look?** On
# the eight rows that made the gradient, or on fresh ones of the same kind?
#
# > **Predict.** Under Adam with alpha *fixed*, rank 256 against rank 4: by what factor does the first
# > step's change of the output grow or shrink on fresh inputs? (1 means that the rank does not matter.)

# %% tags=["core"]
guess = None  # your guess, a factor

# %% tags=["core"]
ranks, changes = [4, 16, 64, 256], {}
for rule in toy_training.RULES:
    for rank in ranks:
        found = toy_training.output_changes("adam", rule, rank, batch=8, width=256, steps=1)
        for kind in ("seen", "fresh"):
            changes.setdefault(kind, {}).setdefault(rule, []).append(found[f"{kind} 1"])
rows = []
for kind, by_rule in changes.items():
    for rule, sizes in by_rule.items():
        rows.append([f"{rule}, {kind} inputs", *(f"{size / sizes[0]:.3g}" for size in sizes)])
predictions.compare(guess, changes["fresh"]["alpha fixed"][-1] / changes["fresh"]["alpha fixed"][0])
Table(
    ["", *(f"r = {rank}" for rank in ranks)], rows, "First change of the output under Adam, live, rank 4 = 1"
)

# %% tags=["core"]
panels = {"the rows of the gradient": changes["seen"], "fresh rows": changes["fresh"]}
fig = figures.growth(ranks, panels)
fig.suptitle("Which rule makes the rank harmless depends on where you look", x=0.02, ha="left")
plots.show(
    fig,
    "Change of the output over the rank in two panels. On the rows of the gradient alpha fixed falls "
    "little, rsLoRA rises and alpha = 2r rises steeply. On fresh rows rsLoRA is flat, alpha fixed "
    "falls to about a sixth, and alpha = 2r rises.",
)

# %% [markdown]
# It turns round. Look where the gradient came from, and alpha fixed seems the rule to take. Look at fresh
# inputs, and rsLoRA keeps the step level, while with alpha fixed the higher rank does almost nothing.
#
# ### Why: sixteen dice or sixteen soldiers
#
# The first step of Adam sets every entry of $B$ to plus or minus the learning rate: the sign of $(G
# A^\top)_{ik}$. So each of the $r$ directions adds one part to an output. Do these parts have the same
# sign? For an input that points along a row of $G$, yes: that is what the signs were made for. They march
# in step and add up to $r$ times one. For an input that has nothing to do with $G$ the signs are chance,
# and $r$ dice add up to about $\sqrt r$ times one. So what keeps the output level is
#
# - $s \propto 1/r$, alpha fixed, where inputs and gradient point the same way, and
# - $s \propto 1/\sqrt r$, rsLoRA, where they do not.
#
# If that is the reason, then the growth must follow one number, the *alignment*: the root mean square of
# the cosines between inputs and rows of the gradient. `lab.py experiment rank_and_alpha` measured it for
# batches of 1 to 512 rows, widths from 64 to 1024, rows that share a common direction and rows that do
# not, under Adam and SGD, with four seeds. It fits the growth as a power of the rank, $r^p$: 0 is a rank
# that does not matter.

# %% tags=["core"]
record = experiments.published("rank_and_alpha")["cells"]
toys = [cell for cell in record if "optimizer" in cell["cell"] and "lr" not in cell["cell"]]
stamp = record[0]["stamp"]
print(
    "recorded",
    stamp["date"],
    "on",
    stamp["processor"],
    "with",
    stamp["threads"],
    "threads;",
    len(toys),
    "settings",
)
fig = figures.exponents(toys, ranks)
plots.show(
    fig,
    "Exponent of the growth with the rank over the alignment, alpha fixed. Adam's points lie on a "
    "curve from -0.5 at alignment 0 to 0 at alignment 1, SGD's on one from -1.5 to -1; dashed lines "
    "of the formula pass through both.",
)

# %% [markdown]
# Batch, width, common direction, seen or fresh: the points of all settings fall on one curve an
# optimizer, the dashed one that the two sums predict. A large batch is no other case either: with 512
# unrelated rows even the rows of the gradient align little, and rsLoRA is the level rule there as well.
#
# And later than the first step?

# %% tags=["core"]
rows = []
for cell in toys:
    setting, found = cell["cell"], cell["metrics"]
    if setting["optimizer"] != "adam" or (setting["width"], setting["batch"]) not in ((256, 8), (256, 512)):
        continue
    name = f"{setting['batch']} rows, common direction {setting['row_cosine']:g}"
    for rule in toy_training.RULES:
        powers = [
            statistics.mean(found["exponent"][rule][place]) for place in ("seen 1", "fresh 1", "fresh 50")
        ]
        rows.append([f"{name}; {rule}", *(f"{power:+.2f}" for power in powers)])
headings = ["setting (mean cosine of two rows); rule", "seen, step 1", "fresh, step 1", "fresh, step 50"]
Table(headings, rows, "Adam: p in change ~ r^p, mean of four seeds, recorded; the rule nearest 0 is level")

# %% tags=["core"]
level = {}
for cell in toys:
    setting, exponents = cell["cell"], cell["metrics"]["exponent"]
    if setting["optimizer"] == "adam":
        powers = {rule: abs(statistics.mean(exponents[rule]["fresh 50"])) for rule in toy_training.RULES}
        level.setdefault(min(powers, key=powers.get), []).append(setting["row_cosine"])
for rule, cosines in level.items():
    print(f"level on fresh inputs after 50 steps: {rule}, common directions {sorted(set(cosines))}")
doubled_rank = [statistics.mean(cell["metrics"]["exponent"]["alpha = 2r"]["fresh 1"]) for cell in toys]
print(f"alpha = 2r: p from {min(doubled_rank):.2f} to {max(doubled_rank):.2f} in all {len(toys)} settings")
assert min(doubled_rank) > 0.4 and "alpha = 2r" not in level

# %% [markdown]
# So neither the paper's rule nor rsLoRA's is *the* right one: what decides is how far the inputs that you
# care about point the way the gradient did. And alpha = 2r is level in none of the settings: with it, a
# higher rank *is* a higher learning rate, by about $\sqrt r$ to $r$.
#
# Where do real layers lie? The last cell of the record has the gradients of eight ticket rows for every
# linear layer of the course's model, and three kinds of inputs: those of these rows, of tickets of other
# families, and of general questions.

# %% tags=["core"]
real = next(cell["metrics"]["layers"] for cell in record if "model" in cell["cell"])
rows, middle = [], {}
for kind in ("seen", "fresh", "other text"):
    middle[kind] = statistics.median(layer["adam"][kind] for layer in real)
    cosine = statistics.median(layer["row_cosine"][kind] for layer in real)
    aligned = statistics.median(layer["alignment"][kind] for layer in real)
    powers = [f"{middle[kind] - less:+.2f}" for less in (1, 0, 0.5)]
    rows.append([kind, f"{cosine:.2f}", f"{aligned:.2f}", *powers])
headings = ["inputs", "cosine of two rows", "alignment", *toy_training.RULES]
Table(headings, rows, f"{len(real)} layers, medians, recorded: p of Adam's first step by rule")

# %% tags=["core"]
assert all(abs(power - 1) < abs(power - 0.5) for power in middle.values())  # alpha fixed is nearest to level

# %% [markdown]
# The rows of a language model's hidden states share a strong common direction (a cosine of about 0.4), so
# inputs and gradients align. In a typical layer of this model alpha fixed comes nearest to level, on
# tickets it has seen, on others, and on other text; only in most `down_proj` rsLoRA does. The toy with
# unrelated rows and the toy with a common direction were both right; you had to know which of them your
# model is.
#
# All this is about small steps. Train until the target is reached, and every rule ends at the same output
# (the record has that setting too). Where the best learning rate lies for a rank in a real training run
# is another question, which a first step does not answer.
#
# ## Is a real update of low rank?
#
# "The weight updates have a low intrinsic rank": guides 001, 002 and 004 say so, and the paper offers it
# as a hypothesis. Let us look at one. The ruler are the *singular values* $\sigma_i$ of $\Delta W$: how
# much the matrix stretches along its first direction, its second, and so on. The *energy* of a matrix is
# the sum of their squares (it is the sum of the squares of all entries, too), and the first $k$ of them
# keep the share $\sum_{i \le k} \sigma_i^2 / \sum_i \sigma_i^2$.
#
# By hand: values 3, 2 and 1 have the energy 9 + 4 + 1 = 14. The first keeps 9/14 = 64 %, the first two 93
# %. So the rank for 90 % is 2.
#
# ### Exercise 4: rank for a share of the energy
#
# > **15 minutes · ●●○**
# >
# > Return the smallest rank that keeps at least `share` of the energy. The singular values come largest
# > first.


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
# ### Exercise 5: cut
#
# > **10 minutes · ●●○**
# >
# > Keeping the $k$ largest singular values gives the best approximation of rank $k$ that there is (Eckart
# > and Young). Return it for a matrix `update` of shape (out, in), as a tensor of the same shape.


# %% tags=["core"]
def cut(update: torch.Tensor, rank: int) -> torch.Tensor:
    ### BEGIN SOLUTION
    U, S, V = torch.linalg.svd(update, full_matrices=False)
    return (U[:, :rank] * S[:rank]) @ V[:rank]
    ### END SOLUTION


exercises.cut.check(cut)

# %% tags=["core"]
# exercises.cut.hint()
cut_to = exercises.cut.or_reference(cut)

# %% [markdown]
# The two belong together: what a cut leaves out is the rest of the energy. You still have $G$ for two
# matrices.

# %% tags=["core"]
G = looked_at["q_proj"].base.weight.grad
left_out = ((G - cut_to(G, 16)).norm() / G.norm()).item()
kept = spectra.energy_curve(torch.linalg.svdvals(G).tolist())[15]
assert abs(left_out**2 - (1 - kept)) < 1e-4
print(f"rank 16 of 576 keeps {100 * kept:.1f} % of the energy of this gradient")

# %% [markdown]
# A gradient of two messages, and rank 16 holds nearly all of it. Is that "low rank", then? Here is a
# trap. One step of SGD moves the weight along $G$. The first step of Adam moves each entry by the
# learning rate, that is along the *signs* of $G$. What rank have the signs?

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
# Same gradient, same task, and ten times the rank or more. A short update by Adam shows Adam's signs as
# much as the task. So whoever looks at the rank of an update must say with what it is compared.
#
# ### Recorded: a short full fine-tune
#
# `lab.py experiment spectrum` trained all linear layers of the blocks in full, in float32, for 48 steps
# on ticket rows. Four arms see the same messages in the same order:
#
# - **AdamW** and **SGD** on whole answers. SGD's learning rate was set so that the median of $\|\Delta
#   W\| / \|W\|$ is AdamW's within 5 %; their losses then differ, which the table shows.
# - **values** trains with AdamW on the tokens of the fields' values alone; **shuffled values** does the
#   same on answers that were shuffled among the messages. Form and length are given, so all there is to
#   learn for the last one is which values occur at all.
#
# > **Predict.** Which rank holds 90 % of the energy of AdamW's update, at the median over all matrices?
# > The largest possible is 576; for k and v it is 192.

# %% tags=["core"]
guess = None  # your guess, a rank

# %% tags=["core"]
record = experiments.published("spectrum")["cells"]
stamp = record[0]["stamp"]
print("recorded", stamp["date"], "on", stamp["processor"], "with", stamp["threads"], "threads")
names = {("adamw", "right", "all"): "AdamW", ("sgd", "right", "all"): "SGD"}
names |= {("adamw", "right", "values"): "values", ("adamw", "shuffled", "values"): "shuffled values"}
arms = {}
for cell in record:
    arms[names[tuple(cell["cell"][key] for key in ("optimizer", "answers", "tokens"))]] = cell["metrics"]
rows = []
for name in names.values():
    losses = arms[name]["losses"]
    moved = statistics.median(m["relative_size"] for m in arms[name]["matrices"])
    rows.append([name, f"{losses[0]:.2f}", f"{statistics.mean(losses[-8:]):.2f}", f"{moved:.2g}"])
headings = ["arm", "first loss", "loss of the last 8 steps", "median ‖ΔW‖/‖W‖"]
Table(headings, rows, "48 steps; losses in nats a trained token")


# %% tags=["core"]
def median_rank(arm: str, module: str | None = None) -> float:
    chosen = [m["rank_90"] for m in arms[arm]["matrices"] if module in (None, m["module"])]
    return statistics.median(chosen)


rows = []
for module in ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"):
    shape = next(m["shape"] for m in arms["AdamW"]["matrices"] if m["module"] == module)
    signs = rank_of(spectra.of_random_signs(*shape).tolist(), 0.9)
    ranks_of_module = [f"{median_rank(arm, module):.0f}" for arm in names.values()]
    rows.append([module, str(min(shape)), *ranks_of_module, str(signs)])
predictions.compare(guess, median_rank("AdamW"))
headings = ["module", "largest possible", *names.values(), "random signs"]
Table(headings, rows, "Median rank for 90 % of the energy, beside the largest that the matrix can have")

# %% [markdown]
# The last column is computed: what a matrix of random signs of that shape would have (the law of
# Marchenko and Pastur). Now the whole curves, over the rank as a share of the largest possible.

# %% tags=["core"]
styles = {"AdamW": (plots.BLUE, "-"), "SGD": (plots.GREEN, "-.")}
styles |= {"values": (plots.PURPLE, "-"), "shuffled values": (plots.ORANGE, "--")}
fig = figures.energy(arms, styles)
fig.suptitle("What a rank keeps of an update depends on the optimizer", x=0.02, ha="left")
plots.show(
    fig,
    "Energy kept over rank, median over layers, for q, v and down projections: SGD's curve lies far "
    "above AdamW's; AdamW on right values and on shuffled ones lie close together; random signs lie "
    "lowest.",
)

# %% tags=["core"]
adam, sgd = median_rank("AdamW"), median_rank("SGD")
right, shuffled = median_rank("values"), median_rank("shuffled values")
expect(
    "AdamW's updates are not of low rank: 90 % takes over 32", adam > 32, f"median {adam:.0f} of 576 or 192"
)
expect("SGD's, which moved as far, have less than half that", sgd < adam / 2, f"median {sgd:.0f}")
close = 2 / 3 < shuffled / right < 3 / 2
expect(
    "shuffled values give about the rank of right ones (within a third)",
    close,
    f"{right:.0f} and {shuffled:.0f}",
)
pairs = zip(arms["values"]["matrices"], arms["shuffled values"]["matrices"], strict=True)
higher = sum(one["rank_90"] > other["rank_90"] for one, other in pairs)
print(f"right values have the higher rank in {higher} of {len(arms['values']['matrices'])} matrices")

# %% [markdown]
# Close, but not equal: right values have the higher rank in most matrices (one seed), and the shuffled
# run has moved a little farther. What fills the hundreds is common to both.
#
# Biderman et al. (2024) measured full fine-tuning of 7B models on code and found ranks 10 to 100 times
# those of LoRA. Nothing here speaks for or against that: 100 times rank 16 does not fit into a matrix
# whose largest rank is 576, and their runs were longer by orders of magnitude.
#
# ### What is left of it when you cut it
#
# Energy is not usefulness. Ask the task instead: cut every update of the AdamW run to rank $k$, put it
# back, and score validation rows again, one a family. How much of the gain is kept, in
# [NLL](../glossary.md#nll) of the right answer?
#
# Careful with *which* gain. The base model finds the right answer unlikely first of all because of its
# form: it would not have written JSON with these keys. So we look at the tokens of the fields' values
# alone, given everything before them.
#
# > **Predict.** What share of the gain on the four fields' values does rank 16 keep?

# %% tags=["core"]
guess = None  # your guess, in percent

# %% tags=["core"]
cuts, by_field, families = arms["AdamW"]["cut"], arms["AdamW"]["cut_by_field"], arms["AdamW"]["families"]
whole = {int(rank): statistics.mean(values) for rank, values in cuts.items()}
values_only = {}
for rank, fields in by_field.items():
    values_only[int(rank)] = sum(statistics.mean(fields[field]) for field in tickets.FIELDS)
lost = {}
for rank in by_field:
    per_row = [sum(parts) for parts in zip(*(by_field[rank][field] for field in tickets.FIELDS), strict=True)]
    at_best = [
        sum(parts) for parts in zip(*(by_field["576"][field] for field in tickets.FIELDS), strict=True)
    ]
    difference = [a - b for a, b in zip(per_row, at_best, strict=True)]
    lost[int(rank)] = intervals.interval(difference, families)[1:]

# %% tags=["core"]
gain = {k: 100 * (values_only[0] - v) / (values_only[0] - values_only[576]) for k, v in values_only.items()}
rows = []
for rank, value in values_only.items():
    low, high = lost[rank]
    rows.append(
        [str(rank), f"{whole[rank]:.2f}", f"{value:.2f}", f"[{low:.2f}, {high:.2f}]", f"{gain[rank]:.0f} %"]
    )
predictions.compare(guess, gain[16], unit="%")
headings = ["rank", "NLL, whole answer", "NLL, values", "values: above full", "gain on values kept"]
Table(headings, rows, f"{len(families)} validation rows, nats an answer; intervals 95 %")

# %% tags=["core"]
form = (whole[0] - values_only[0], whole[576] - values_only[576])
print(f"of the base model's {whole[0]:.1f} nats, {form[0]:.1f} are form; after training {form[1]:.2f} are")
gains = {}
for field in tickets.FIELDS:
    mean = {int(rank): statistics.mean(fields[field]) for rank, fields in by_field.items()}
    gains[field] = {k: 100 * (mean[0] - v) / (mean[0] - mean[576]) for k, v in mean.items()}
fig = figures.kept_by_field(gains)
fig.axes[0].set_title(f"Rank 16 keeps {gain[16]:.0f} % of the gain on the values")
plots.show(
    fig,
    f"Share of the gain kept over the rank of the cut, a line for each of the four fields. At rank 16 "
    f"all values together keep {gain[16]:.0f} %.",
)

# %% tags=["core"]
energy_16 = 100 * statistics.median(m["energy"][4] for m in arms["AdamW"]["matrices"])
expect("rank 16 keeps at least half of the gain on the values", gain[16] >= 50, f"{gain[16]:.0f} %")
expect(
    "and a larger share of the gain than of the energy",
    gain[16] > energy_16,
    f"{energy_16:.0f} % of the energy",
)

# %% [markdown]
# One more check, on the word "values". Someone who never reads the message can still learn which values occur
# and how often. The arm on shuffled values learned just that, and "values" is its twin on right answers: the
# same tokens, the same steps. How much does reading the message add?


# %% tags=["core"]
def on_values(arm: str, rank: str) -> float:
    return sum(statistics.mean(arms[arm]["cut_by_field"][rank][field]) for field in tickets.FIELDS)


control, reading = on_values("shuffled values", "576"), on_values("values", "576")
from_reading = 100 * (control - on_values("values", "16")) / (control - reading)
print(f"gain on the values: {on_values('values', '0') - reading:.1f} nats an answer, of which")
print(f"{on_values('values', '0') - control:.1f} come without reading the message (shuffled values);")
print(f"of the other {control - reading:.1f}, rank 16 keeps {from_reading:.0f} %")
expect("rank 16 keeps at least half of what reading adds", from_reading >= 50, f"{from_reading:.0f} %")

# %% [markdown]
# Most of the gain on the values is no more than knowing what tends to stand there. The part that needs the
# message is smaller, and a cut to rank 16 keeps most of that, too. Even so it is flattered a little: shuffled
# answers also teach a model *not* to copy a product or an order number from the message, which makes the
# control worse than one that merely does not read.
#
# So two questions hide in one sentence. Whether the update that full fine-tuning *happens* to make has a
# low rank depends on the optimizer, and a short run by AdamW is no witness for either side. Whether an
# update of low rank *suffices* is what LoRA needs, and the cut updates bear on that. This was one seed, a
# few dozen steps and a model of width 576, where rank 16 is a far larger share of the width than at 4096.
#
# ## Explorer
#
# Turn the rank and look at other matrices and arms. Where do the real update and the random signs part?

# %% tags=["core"]
low_rank_explorer.explore()

# %% [markdown]
# ## Measured claims
#
# Five claims of the guides that this notebook settles; the others are in `python3 lab.py claims`.

# %% tags=["core", "claim-A2"]
print("Guide 002, of LoRA's definition: B is the down-projection and A the up-projection. Wrong:")
print(f"A is {tuple(A.shape)}: it takes {A.shape[1]:,} numbers down to {A.shape[0]}; B is {tuple(B.shape)}.")

# %% tags=["core", "claim-A6"]
print('Guide 002, of A\'s start: "Kaiming uniform initialization (Gaussian distribution)". Wrong:')
print(f"mean fourth power over squared variance {kurtosis(A):.2f}; uniform has 1.8, a Gaussian 3.")

# %% tags=["core", "claim-C1"]
print(
    "Guide 001: alpha 32 behaves like alpha 16 with twice the learning rate. Wrong under Adam after step 1:"
)
apart = 100 * toy_training.distance(doubled, claimed, 200)
print(f"{apart:.2g} % apart after 200 steps, and below 1e-7 % if only B's learning rate is doubled.")

# %% tags=["core", "claim-C4"]
print("Guide 002: alpha = 2r lets you change the rank and keep the learning rate. Not reproduced here:")
print(
    f"the first change of the output goes like r^{min(doubled_rank):.2f} to r^{max(doubled_rank):.2f};",
    end=" ",
)
print(f"r^{middle['fresh']:.2f} in the model's own layers. Small steps; not the best rate of a training run.")

# %% tags=["core", "claim-A9"]
print("Guides 001, 002, 004: weight updates have a low rank. Imprecise:")
print(f"median rank for 90 % of the energy: AdamW {adam:.0f}, SGD {sgd:.0f} that moved as far;", end=" ")
print(f"cut to rank 16, AdamW's keep {gain[16]:.0f} % of the gain on the values.")

# %% [markdown]
# ## Checkpoint

# %% tags=["core"]
quiz.ask("02_lora_math")

# %% [markdown]
# ## On a rented GPU
#
# Nothing here gains from one: the algebra and the identities hold at every size. What may differ at 7B is
# the spectrum and what a cut keeps, and that takes a full fine-tune, which a 24 GB card cannot hold.
