# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 10 · DoRA and its relatives: an honest comparison
#
# **In one sentence**: you build DoRA and its relatives by hand and hold eleven methods against LoRA, each at
# its best rate, to see what the choice of a method is worth.
#
# **Minutes**: 150 to read and do, 2 to run all cells.
#
# ![Left, a frozen transformer block from the embeddings up through attention and MLP, and where each method
# puts what it trains: prompt tuning before the embeddings, prefix tuning among the keys and values of
# attention, bottleneck adapters after attention and after the MLP, LoRA, DoRA, VeRA and PiSSA beside the
# weights, IA3 as a factor for keys, values and the input of down. Right, one row of a weight as an arrow:
# DoRA adds s times B A to it, and then gives the sum the length m.](attachment:schematic.png)
#
# A new method appears every month, and its paper always has a table in which it wins. You cannot try them
# all on a rented card. This notebook is about how to read such tables, by making one: what has to be equal
# before two methods are compared, and how often the winner is only the one whose settings were looked after.
#
# After this notebook you will be able to
#
# - write DoRA's layer, equal to PEFT's in output, gradients and merged weight, and say what its magnitude
#   vector can reach that a low rank cannot;
# - say what DoRA costs in operations, memory and time, in training, beside the weights and merged, and why
#   dropout nearly doubles it;
# - put a number on the difference between two methods, with an interval, and say what would have been seen;
# - tell the share of a method from the share of its learning rate and its alpha;
# - run several adapters on one base, in one batch, weighted and merged, and know what that keeps.
#
# **Needs** notebooks [02](02_lora_math.ipynb) (LoRA's layer, alpha), [03](03_counting_parameters.ipynb)
# (counts) and [07](07_evaluation.ipynb) (intervals).

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

# %% [markdown]
# The next cells set up; loading torch and its relatives takes about 10 seconds.

# %% tags=["core", "setup"]
from labsupport.core import upstream

upstream.quiet_known_noise()  # messages about this stack that you can do nothing about
upstream.keep_freed_memory()  # a faster allocator setting for training on a CPU
upstream.score_only_labels()  # TRL on a CPU would compute logits that the loss then ignores

# %% tags=["core", "setup"]
import copy
import math

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from torch.nn import functional as F
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

# %% tags=["core", "setup"]
from labsupport.configs import model_configs
from labsupport.core import files, plots
from labsupport.core.tables import Table
from labsupport.evaluation import experiments
from labsupport.explorers import dora_decomposition_explorer
from labsupport.method_runs import (
    bases,
    composing,
    composing_figures,
    decision,
    dora_cost,
    figures,
    measuring,
    memory_held,
    methods,
    paper_tables,
    published,
    published_figures,
    ranks,
    reading,
    scales,
    ticket_reading,
    training,
    tuned,
    widths,
)

# %% tags=["core", "setup"]
from labsupport.models import tiny_base
from labsupport.notebooks.nb10_dora_and_friends import exercises
from labsupport.planning import planner
from labsupport.setups.setup import Setup
from labsupport.sizes import counting
from labsupport.tasks import facts
from labsupport.teaching import predictions, quiz
from labsupport.teaching.claims import expect

# %% tags=["core", "setup"]
torch.set_num_threads(1)  # what is trained here is small: a second thread would only wait
llama3 = model_configs.find("llama-3.1-8b")
smollm2 = model_configs.find("smollm2-135m")

# %% [markdown]
# ## DoRA: a length and a direction
#
# Take one row of a weight: the numbers that make one output of a layer. It is a vector, and a vector has a
# length and a direction. LoRA changes both at once, since it just adds something. DoRA (Liu et al. 2024)
# writes the row as length times direction, trains the length as one number of its own, and leaves the
# direction to a LoRA:
#
# $$W' = m \cdot \frac{W + \frac{\alpha}{r} B A}{\lVert W + \frac{\alpha}{r} B A \rVert}$$
#
# By hand: the row (3, 4) has length 5. To make it twice as long and leave its direction, DoRA sets $m$ to 10.
# LoRA has to add (3, 4). For one row that is as easy. But do it for *every* row of a matrix, each with a
# factor of its own: DoRA changes one number a row, and what LoRA would have to add has full rank. That is the
# whole case for DoRA; whether fine-tuning wants such a thing is a question for measurements.
#
# Three details decide whether your layer is PEFT's: along which side the norm goes, where α/r stands, and
# that the norm counts as a constant when gradients are computed.

# %% [markdown]
# ### Exercise 1: DoRA's layer
#
# > **25 minutes · ●●●**
# >
# > Write the class. `base` is a linear layer, with `base.weight` of shape (out, in) and perhaps a bias.
# > DoRA takes its weight apart: each row, what leads to one output, has a length and a direction. The
# > lengths are trained as they are, the directions by a LoRA beside them:
# >
# > $$W' = m \cdot \frac{W + \frac{\alpha}{r} B A}{\lVert W + \frac{\alpha}{r} B A \rVert}$$
# >
# > with a norm and an entry of $m$ for each row.
# >
# > - `__init__`: freeze `base`; `self.A` of shape (rank, in), drawn from $U(-b, b)$ with $b =
# >   1/\sqrt{\mathrm{in}}$; `self.B` of shape (out, rank), zeros; `self.m` of shape (out,), such that the
# >   layer computes at first what `base` does. All three are `nn.Parameter`.
# > - `forward(x)`, rows `x` of shape (…, in): what $W'$ and the base's bias give. The norm is a constant
# >   for the gradient, though it is computed anew each time.
# > - `merge()`: write $W'$ into `base.weight`. After it, `forward` uses the base alone.
# >
# > By hand: a row of $W$ is (3, 4), so its length and its entry of $m$ are 5. Training makes
# > $\frac{\alpha}{r} B A$ (1, -1) there and $m$ 10. The sum is (4, 3), its length is 5 again, and the row
# > of $W'$ is 10 · (4, 3) / 5 = (8, 6).


# %% tags=["core"]
class DoRALinear(nn.Module):
    def __init__(self, base: nn.Linear, rank: int, alpha: float):
        super().__init__()
        ### BEGIN SOLUTION
        self.base, self.factor, self.merged = base.requires_grad_(False), alpha / rank, False
        b = 1 / math.sqrt(base.in_features)
        self.A = nn.Parameter(torch.empty(rank, base.in_features).uniform_(-b, b))
        self.B = nn.Parameter(torch.zeros(base.out_features, rank))
        self.m = nn.Parameter(base.weight.norm(dim=1))
        ### END SOLUTION

    def weight(self) -> torch.Tensor:
        """W', of shape (out, in)."""
        ### BEGIN SOLUTION
        changed = self.base.weight + self.factor * self.B @ self.A
        norm = changed.norm(dim=1).detach()
        return (self.m / norm)[:, None] * changed
        ### END SOLUTION

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        ### BEGIN SOLUTION
        return self.base(x) if self.merged else F.linear(x, self.weight(), self.base.bias)
        ### END SOLUTION

    @torch.no_grad()
    def merge(self) -> None:
        ### BEGIN SOLUTION
        if not self.merged:
            self.base.weight.copy_(self.weight())
        self.merged = True
        ### END SOLUTION


exercises.layer.check(DoRALinear)

# %% tags=["core"]
# exercises.layer.hint()
Layer = exercises.layer.or_reference(DoRALinear)

# %% [markdown]
# ### Yours beside PEFT's
#
# The same layer with the same A, B and m, both put away from their start. Forward, gradients, merge:

# %% tags=["core"]
generator = torch.Generator().manual_seed(0)
layer = nn.Linear(24, 16)
config = LoraConfig(r=4, lora_alpha=8, target_modules=["0"], use_dora=True)
theirs = get_peft_model(nn.Sequential(copy.deepcopy(layer)), config)
inside = theirs.base_model.model[0]
pairs = {"A": inside.lora_A.default.weight, "B": inside.lora_B.default.weight}
pairs["m"] = inside.lora_magnitude_vector.default.weight
mine = Layer(copy.deepcopy(layer), rank=4, alpha=8)
with torch.no_grad():
    for name, tensor in pairs.items():
        tensor.add_(0.3 * torch.randn(tensor.shape, generator=generator))
        getattr(mine, name).copy_(tensor)

# %% tags=["core"]
x = torch.randn(5, 24, generator=generator)
outputs = [model(x) for model in (mine, theirs)]
for output in outputs:
    output.square().sum().backward()
apart = {"output": (outputs[0] - outputs[1]).abs().max().item()}
for name, tensor in pairs.items():
    apart[f"gradient of {name}"] = (getattr(mine, name).grad - tensor.grad).abs().max().item()
mine.merge()
merged = theirs.merge_and_unload()[0].weight
apart["merged weight"] = (mine.base.weight - merged).abs().max().item()
print("PEFT's m has", tuple(pairs["m"].shape), "numbers: one for each output")
assert max(apart.values()) < 1e-4 and apart["output"] < 1e-5 and apart["merged weight"] < 1e-6

# %% [markdown]
# > **Guide 002 writes** $m$ as a row of $k$ numbers, the "column norms" of $W_0$. So does the paper's
# > equation 5. Which side is a column?

# %% tags=["core", "claim-G1"]
config = LoraConfig(r=2, target_modules=["down_proj"], use_dora=True)
tiny, _ = tiny_base.load()
down = get_peft_model(tiny, config).base_model.model.model.layers[0].mlp.down_proj
m, weight = down.lora_magnitude_vector.default.weight, down.base_layer.weight
print("down_proj (out, in):", tuple(weight.shape), "| m:", tuple(m.shape))
by_row = torch.allclose(m, weight.norm(dim=1))
print("m is the norm along in, one an output:", by_row, "| norms along out would be", weight.shape[1])
assert by_row and m.shape[0] != weight.shape[1]

# %% [markdown]
# *Imprecise*: in PEFT and in the authors' own code there is one norm for each output, along the row of a
# weight that torch keeps as (out, in). For a square matrix nobody would notice; for `down_proj` it is 192
# numbers or 512. The formula in the guide also leaves out α/r and the constant norm.
#
# A norm can be zero. Then DoRA divides by it:

# %% tags=["core"]
tiny, _ = tiny_base.load()
empty = {name: int((p == 0).all(1).sum()) for name, p in tiny.named_parameters() if p.ndim == 2}
print("rows of zeros:", {name: count for name, count in empty.items() if count})
config = LoraConfig(r=2, target_modules="all-linear", use_dora=True)
ids = torch.arange(64)[None]
loss = get_peft_model(tiny, config)(input_ids=ids, labels=ids).loss
print("loss under PEFT's DoRA:", loss.item())
assert math.isnan(loss.item())

# %% [markdown]
# NaN, without a word. (The course's tiny base has such rows by the way it was made; pruned models have them
# too.) Below, these rows are filled with noise of the size 10⁻⁶ for every method alike, which changes no
# output that you could see.

# %% [markdown]
# ### Explorer: what can be reached at all
#
# With $c$ for the factor $m / \lVert W + BA \rVert$ of each row, DoRA's $W'$ is $c \cdot W + c \cdot BA$, and
# $c \cdot BA$ has the rank of $BA$. So DoRA is LoRA after one free factor for each row. What is that worth?
#
# Make a change: half of the rows get longer by a factor, the others as much shorter, and all turn by an
# angle. Left, three rows of two numbers, the (3, 4) of exercise 1 among them, at rank 1: LoRA moves all tips
# along one common line, $m$ moves each along its own, DoRA does both, which in the plane is enough for
# anything. Right, 64 rows of 192: the value projection of the small base's third block. "Left of the change"
# is the distance from the nearest weight that can be reached to the wanted one, in per cent of the old
# weight's distance. It is exact for LoRA, for lengths alone, and where it is 0; DoRA's is otherwise the best
# that a fit found.
#
# 1. Set the turn to 0: only lengths change. Before you touch the rank, guess at which one LoRA has half of
#    this change, and how many numbers it trains for that. DoRA trains 64.
# 2. Now turns alone: the factor at 1, 16°, the turn's rank and the other rank at 4, "turning keeps lengths"
#    off. What do 64 more numbers buy? Switch it on: the rows turn as before, but keep their lengths. Why does
#    LoRA now miss something, and why so much more at 60°? Last, on and at 16°, a turn of rank 64 and a rank
#    of 16: would you rather have the lengths, or one more rank of LoRA?

# %% tags=["core"]
dora_decomposition_explorer.explore()

# %% [markdown]
# <details><summary>Answers</summary>
#
# 1. At rank 31 of 64, with 7,936 numbers. At rank 4 LoRA leaves 92.3 %, and all of the change takes rank 64:
#    each row's change is a multiple of the row, so together they have as many directions as $W$ has.
# 2. Off, nothing: the change is an update of rank 4, and LoRA has it at rank 4 with 1,024 numbers, DoRA with
#    1,088. (At rank 2 they leave 64.3 % and 64.1 %.) On, LoRA leaves 8.7 %, and 43.2 % at 60°, DoRA nothing.
#    A step to the side makes a row longer, by up to 4 % at 16° and up to double at 60°. To take that back in
#    every row is a change of lengths, as in task 1. The smaller the turn, the less there is to take back: at
#    2° LoRA leaves 5.8 %. With the turn of rank 64 it is nearly a tie: LoRA leaves 56.7 % at rank 16, and
#    54.6 % with 256 numbers more; 64 lengths more leave 55.8 %.
#
# So $m$ is worth many ranks where rows change their lengths each in its own way (as the explorer opens, DoRA
# at rank 2 comes as near as LoRA at rank 35), and no more than so many other numbers where they do not. The
# changes here are made to DoRA's formula; which kind a task wants, the formula does not say. And what can be
# reached is not yet what training finds.
# </details>

# %% [markdown]
# ## Do lengths and directions go together?
#
# The paper's motive is an observation. It looks at how far training has moved each matrix, in length and in
# direction, over layers and moments of a training. In LoRA the two rise together (correlation +0.83); in full
# fine-tuning more of the one goes with less of the other (−0.62). DoRA (−0.31) is said to learn more like
# full fine-tuning. To check that, you need the two numbers.

# %% [markdown]
# ### Exercise 2: lengths or directions?
#
# > **12 minutes · ●●○**
# >
# > Return two floats that say how a weight of shape (out, in) was changed, as section 3.2 of DoRA's paper
# > has them, with one vector for each output, that is for each row:
# >
# > - the mean over the rows of |length after - length before|,
# > - the mean over the rows of 1 - cosine, of the angle between the row before and the row after.
# >
# > Compute in float64. A fine-tune's changes are small, and in float32 1 - cosine is then mostly rounding.
# >
# > By hand: the row (3, 4) becomes (6, 8), and (2, 0) becomes (0, 1). The first one's length goes from 5
# > to 10, and it does not turn. The second one's goes from 2 to 1, and it turns by 90°, whose cosine is 0.
# > So the means are (5 + 1) / 2 = 3.0 and (0 + 1) / 2 = 0.5.


# %% tags=["core"]
def magnitude_and_direction(before: torch.Tensor, after: torch.Tensor) -> tuple[float, float]:
    ### BEGIN SOLUTION
    old, new = before.double(), after.double()
    lengths = new.norm(dim=1) - old.norm(dim=1)
    cosines = torch.cosine_similarity(old, new, dim=1)
    return lengths.abs().mean().item(), (1 - cosines).mean().item()
    ### END SOLUTION


exercises.magnitude_and_direction.check(magnitude_and_direction)

# %% tags=["core"]
# exercises.magnitude_and_direction.hint()
change_of = exercises.magnitude_and_direction.or_reference(magnitude_and_direction)

# %% [markdown]
# The experiment `method_comparison`, which the rest of this notebook reads, looked at the weights every 26
# steps of each of its runs, with this very measure. The model is the course's tiny base, which learns a
# hundred facts by heart: 4 layers, five moments. `method_tickets` did so once, at the end of a fine-tune of
# the 135M model on tickets: 30 layers. Methods that you do not know yet come further down; "scale" is α/r, 2
# unless another is named.
#
# > **Guide 002 says** (and so does DoRA's section 3.2): full fine-tuning changes magnitude and direction
# > independently, LoRA in proportion.

# %% tags=["core", "claim-G2"]
record, larger = (experiments.published(f"method_{name}") for name in ("comparison", "tickets"))
reading.correlation_table(record)

# %% tags=["core"]
title = "In tiny_base's query matrices lengths and directions rise together"
alt = (
    "Five panels of dots, the mean change of a row's length over the mean change of its direction in q_proj: "
    "LoRA, rsLoRA, DoRA, DoRA at scale 8, full fine-tuning. In all of them the dots rise; in LoRA they lie "
    "on a line, in DoRA they are a wide cloud."
)
plots.show(figures.movement_clouds(record, "q_proj", title), alt)

# %% tags=["core"]
reading.correlation_table(larger, "SmolLM2-135M")

# %% [markdown]
# *Imprecise*: it depends on the matrix and on the model. In tiny_base's query matrices all of them rise
# together, full fine-tuning (+0.88) as much as LoRA (+0.99). In its value matrices LoRA does (+0.78) and full
# fine-tuning hardly (+0.14), as the guide says. On the 135M model the query matrices do as the paper says,
# LoRA up (+0.54) and full fine-tuning slightly down, and its value matrices the opposite (−0.01 and +0.25).
# And DoRA, said to be like full fine-tuning, goes with LoRA in one and against both in the other.
#
# Mind what else makes such a picture. Both changes start at zero and grow, so that pooling moments makes
# everything rise: on tiny_base part of the correlation is the clock. Within one moment only four layers are
# left to compare. The 135M record has a single moment, so that the two tables differ in that as well as in
# the model. The paper looked at VL-BART on four image-text tasks at four checkpoints; its three correlations
# are those of the query matrices (+0.83, −0.62, and −0.31 for DoRA). "Full fine-tuning moves like this, so a
# good adapter should" needs it to be so wherever you train.
#
# ## What DoRA costs
#
# ### Operations
#
# PEFT's DoRA layer has to know the length of each row of $W + sBA$ at every step. So it multiplies B and A
# out, to a matrix as large as the weight: work that does not depend on how many tokens there are.
#
# > **Guide 000 says** that DoRA's training takes "about 10 % more FLOPs" than LoRA's.
#
# > **Predict.** Llama-3.1-8B, rank 16 on all linear layers, 512 tokens a step. How many per cent more
# > operations than LoRA without dropout, and with `lora_dropout=0.05`?

# %% tags=["core"]
guess_without = None  # in percent
guess_with = None  # in percent

# %% tags=["core", "claim-G5"]
predictions.compare(guess_without, round(100 * dora_cost.extra(llama3, 512), 1), "%", "counted")
predictions.compare(guess_with, round(100 * dora_cost.extra(llama3, 512, 0.05), 1), "%", "counted")
lines = []
for tokens in (128, 512, 2048, 4096):
    found = [100 * dora_cost.extra(llama3, tokens, dropout) for dropout in (0.0, 0.05)]
    lines.append([f"{tokens:,}", *(f"{share:+.1f} %" for share in found)])
headings = ["tokens a step", "dropout 0", "dropout 0.05"]
Table(headings, lines, "DoRA's operations beyond LoRA's, Llama-3.1-8B, counted by torch")

# %% [markdown]
# *Imprecise*: it depends on two things. 14 % at 128 tokens a step, under 1 % from 2,048 on, and nearly twice
# as many operations with dropout; 10 % is right at about 175 tokens. Why does a dropout of 0.05 double it?
# Without dropout the frozen product $Wx$ is there already, and DoRA only scales it. With dropout the adapter
# sees another $x$, some of it dropped, so PEFT multiplies the large frozen weight once more, and its gradient
# once more. If you use DoRA: `lora_dropout=0`.
#
# ### Memory
#
# The planner of notebook 05 traces a whole step:

# %% tags=["core"]
lines = []
for method in ("lora", "dora", "qlora", "qdora"):
    for checkpointing in (True, False):
        setup = Setup(llama3, method, batch=4, length=512, checkpointing=checkpointing)
        peak = planner.plan(setup, suggest=False).peak_allocated_gib
        lines.append([method, "yes" if checkpointing else "no", f"{peak:.1f}"])
Table(["method", "checkpointing", "peak, GiB"], lines, "Predicted: Llama-3.1-8B, 4 rows of 512 tokens")

# %% [markdown]
# With checkpointing DoRA takes one or two GiB more, without it twelve, and in 4 bits 23: PEFT's layer keeps
# two results of output size in every layer, the frozen product and the adapter's, since each is multiplied by
# a factor that is trained. (B A and its norms are freed at once.) So the guides are right that DoRA's
# *parameters* are few (claim B12), and a card that just held LoRA will not hold it.
#
# ### Time, and inference
#
# > **Guide 000 says** that DoRA has "no additional inference cost". That is true of a merged adapter, as of a
# > merged LoRA. Beside the weights it is not:

# %% tags=["core", "nbval-ignore-output"]
base, _ = bases.tiny()
lines = []
for method in ("lora", "dora", "vera", "bottleneck"):
    copied, _ = bases.tiny()
    model = methods.put(method, copied, seed=0)
    ways = {"base": base, "unmerged": model}
    if methods.METHODS[method].merges:
        ways["merged"] = measuring.merged(model)
    seconds = measuring.forward_seconds(ways, rounds=20)
    ratios = [f"{seconds[way] / seconds['base']:.2f}" if way in seconds else "—" for way in ways]
    lines.append([methods.METHODS[method].title, ratios[1], ratios[2] if len(ratios) == 3 else "—"])
Table(["method", "beside the weights", "folded in"], lines, "A forward pass, times the bare base's, live")

# %% [markdown]
# "No additional cost" holds once it is merged, for LoRA, DoRA and VeRA alike. Beside the weights DoRA's
# forward pass adds three times what LoRA's does: PEFT multiplies B and A out and takes norms at every call.
# *Imprecise* (claim G6; PEFT's documentation has +139 % for an 8B model, and a cache that trades memory for
# it). A bottleneck adapter has one price, and keeps it.
#
# ## The relatives
#
# ### A bottleneck adapter
#
# Before LoRA there was Houlsby's adapter (2019): a small network after each half of a block, with a GELU in
# its middle. PEFT does not have it. Because of that GELU it cannot be folded into a weight, so its cost at
# inference stays for good.

# %% [markdown]
# ### Exercise 3: a bottleneck
#
# > **10 minutes · ●○○**
# >
# > Houlsby's adapter, which PEFT does not have, comes after a frozen layer. Write it as a class: `self.down`,
# > an `nn.Linear` from `hidden` to `width`, then a GELU, then `self.up`, an `nn.Linear` back to `hidden`;
# > both with a bias. What comes out is added to `x`. At the start the adapter must return `x` exactly, and
# > a first step of training must still get into it: to `up`'s weight, and so to `down` in the second.
# >
# > By hand: for SmolLM2-135M `hidden` is 576. With `width` 8, `down` has 8 × 576 + 8 numbers and `up` has
# > 576 × 8 + 576, together 9,800. There is one after the attention and one after the MLP of each of the
# > 30 blocks, 588,000 in all.


# %% tags=["core"]
class Bottleneck(nn.Module):
    def __init__(self, hidden: int, width: int):
        super().__init__()
        ### BEGIN SOLUTION
        self.down, self.up = nn.Linear(hidden, width), nn.Linear(width, hidden)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)
        ### END SOLUTION

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        ### BEGIN SOLUTION
        return x + self.up(F.gelu(self.down(x)))
        ### END SOLUTION


exercises.bottleneck.check(Bottleneck)

# %% tags=["core"]
# exercises.bottleneck.hint()
Adapter = exercises.bottleneck.or_reference(Bottleneck)

# %% [markdown]
# How large is it, and what does it cost when it answers? Guide 002 has "~5-10 %" more latency. The LoRA paper
# (its Table 1) measured that on GPT-2 medium: 2 and 3 % with 32 rows of 512 tokens in a batch, but 21 and
# 30 % with *one* row of 128, for two kinds of adapter. Few tokens: that is what answering one user is.
# Here, on the course's base, with as many parameters as LoRA of rank 16, one token at a time and 512:

# %% tags=["core", "nbval-ignore-output"]
wide = widths.bottleneck_width(tiny.config.to_dict())
adapted = methods.put("bottleneck", bases.tiny()[0], seed=0)
lines = []
for rows, length in ((1, 1), (1, 64), (8, 64)):
    seconds = measuring.forward_seconds({"base": base, "adapted": adapted}, rows, length, rounds=20)
    lines.append([rows, length, f"{seconds['adapted'] / seconds['base']:.2f}"])
print(f"bottleneck {wide} wide; Llama-3.1-8B, 64 wide: {counting.bottleneck_adapters(llama3, 64):,} numbers")
Table(["rows", "tokens a row", "times the bare base's"], lines, "A forward pass with bottlenecks, live")

# %% [markdown]
# ### Learned words, learned keys
#
# The next two leave every weight alone. They give the model something to read: vectors that no word has.
# Prompt tuning puts them before the first layer; prefix tuning gives every layer keys and values.

# %% [markdown]
# ### Exercise 4: a prompt that is learned
#
# > **10 minutes · ●●○**
# >
# > Prompt tuning puts learned vectors before the embeddings of a text and changes nothing of the model.
# > Return what the model takes instead of the text, a dict with `inputs_embeds`, `attention_mask` and
# > `labels`.
# >
# > `prompt` is (tokens, hidden); `embeddings` is (batch, length, hidden); `mask` (1 is a token, 0 padding)
# > and `labels` are (batch, length). Every text gets the same prompt. It is attended to and not predicted,
# > and the gradient reaches it.
# >
# > By hand: a prompt of 3 vectors before a text of 5 places makes 8. Of a text with the mask 1 1 1 0 0, the
# > new one is 1 1 1 1 1 1 0 0, and its labels are three times -100 and then what they were. For
# > SmolLM2-135M, 20 vectors are 20 × 576 = 11,520 numbers.


# %% tags=["core"]
def with_prompt(
    prompt: torch.Tensor, embeddings: torch.Tensor, mask: torch.Tensor, labels: torch.Tensor
) -> dict[str, torch.Tensor]:
    ### BEGIN SOLUTION
    batch, tokens = len(embeddings), len(prompt)
    return {
        "inputs_embeds": torch.cat([prompt.expand(batch, -1, -1), embeddings], dim=1),
        "attention_mask": torch.cat([mask.new_ones(batch, tokens), mask], dim=1),
        "labels": torch.cat([labels.new_full((batch, tokens), -100), labels], dim=1),
    }
    ### END SOLUTION


exercises.with_prompt.check(with_prompt)

# %% tags=["core"]
# exercises.with_prompt.hint()
prompted = exercises.with_prompt.or_reference(with_prompt)

# %% [markdown]
# ### Exercise 5: a prefix in every layer
#
# > **12 minutes · ●●○**
# >
# > Prefix tuning gives each layer learned keys and values, as if some tokens had come before the text. A
# > cache of keys and values is what a model keeps while it generates, so that is how you hand them over.
# > Return a dict with `past_key_values`, a `DynamicCache`, and the longer `attention_mask`.
# >
# > `prefix` is (layers, 2, heads, tokens, head_dim): `prefix[i, 0]` are the keys of layer i, `prefix[i, 1]`
# > its values. `mask` is (batch, length). A `DynamicCache` is made of a list with a pair for each layer,
# > keys and values of (batch, heads, tokens, head_dim). Every text gets the same prefix. Its ids and labels
# > stay as they are, for the prefix has no place among them.
# >
# > By hand: SmolLM2-135M has 30 layers with 3 heads of keys and values, 64 wide. A prefix of 20 tokens is
# > 30 × 2 × 3 × 20 × 64 = 230,400 numbers, twenty times a prompt of that length.


# %% tags=["core"]
def with_prefix(prefix: torch.Tensor, mask: torch.Tensor) -> dict:
    ### BEGIN SOLUTION
    batch, tokens = len(mask), prefix.shape[3]
    pairs = [(keys.expand(batch, -1, -1, -1), values.expand(batch, -1, -1, -1)) for keys, values in prefix]
    longer = torch.cat([mask.new_ones(batch, tokens), mask], dim=1)
    return {"past_key_values": DynamicCache(pairs), "attention_mask": longer}
    ### END SOLUTION


exercises.with_prefix.check(with_prefix)

# %% tags=["core"]
# exercises.with_prefix.hint()
prefixed = exercises.with_prefix.or_reference(with_prefix)

# %% [markdown]
# > **Guide 002 counts** layers × tokens × 2 × width for a prefix. In a model whose query heads share keys and
# > values (notebook 03) it is fewer: SmolLM2's keys and values are 3 heads wide and not 9.
#
# ### And five that look like LoRA
#
# - **rsLoRA** (Kalajdzievski 2023) scales by α/√r instead of α/r. Nothing else.
# - **LoRA+** (Hayou et al. 2024) gives B a larger learning rate than A, here 16 times.
# - **PiSSA** (Meng et al. 2024) takes the r largest singular vectors out of W, starts A and B there, and
#   freezes what is left.
# - **VeRA** (Kopiczko et al. 2024) shares one random, frozen A and B among all layers and trains a factor for
#   each entry between and behind them.
# - **IA3** (Liu et al. 2022) has no matrix at all: a factor for each key, each value, each input of `down`.
#
# One of these is easy to see through. At rank 16 and alpha 32, rsLoRA scales by 32/√16 = 8, and LoRA by
# 32/16 = 2. So rsLoRA at rank 16 *is* LoRA, with alpha 128:

# %% tags=["core"]
twins = []
for settings in ({"lora_alpha": 32, "use_rslora": True}, {"lora_alpha": 128}):
    torch.manual_seed(0)
    model = get_peft_model(bases.tiny()[0], LoraConfig(r=16, target_modules="all-linear", **settings))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.02)
    twins.append(model.eval()(input_ids=torch.arange(16)[None]).logits)
print("the same logits, bit for bit:", torch.equal(*twins))
assert torch.equal(*twins)

# %% [markdown]
# They part only when you change the rank and leave alpha alone. Keep that in mind when you see rsLoRA in a
# table beside LoRA: whatever it wins there, alpha would have won as well.
#
# What do they train? For the 135M model, as PEFT counts and by formula:

# %% tags=["core"]
lines = []
for name, kind in methods.METHODS.items():
    with torch.device("meta"):  # shapes without numbers
        bare = LlamaForCausalLM(LlamaConfig(**smollm2))
    if name != "pissa":  # its start needs the weights themselves
        assert measuring.parameters(methods.put(name, bare, seed=0)) == kind.count(smollm2)
    size = "LoRA's" if kind.equal else "its own"
    folds = "—" if name == "full" else "yes" if kind.merges else "no"
    lines.append([kind.title, f"{kind.count(smollm2):,}", size, folds])
Table(["method", "trained", "size", "folds into the weights"], lines, "SmolLM2-135M")

# %% [markdown]
# ## The comparison
#
# What has to be equal before two methods are compared? Papers make the number of trained parameters equal, or
# nothing. There are more things that decide who wins:
#
# - **The learning rate.** What is right for LoRA is fifty times too small for prefix tuning. A paper
#   whose own method was tuned and whose baselines were not has measured the tuning. Here each method has its
#   own grid of four rates, and more where the best was at the edge, on four seeds that are not used again.
# - **Size.** LoRA, rsLoRA, LoRA+ and PiSSA have rank 16 on all linear layers; PiSSA has alpha = rank, as in
#   its paper, which is scale 1. DoRA, bottleneck and prefix get the largest width that trains no more than
#   these (DoRA's rank is 15). VeRA, IA3 and prompt tuning cannot come near that number, and are drawn over it
#   instead.
# - **Steps or operations.** A step of DoRA costs more. So every method whose step costs another amount runs
#   twice: in as many steps, and in as many operations.
# - **Seeds.** Six, paired: the same rows in the same order.
# - **What is measured.** How many bits of 100 random facts are stored (4,000 can be), and what becomes of
#   general text: the divergence (KL) from the base, in nats a token, which tells forgetting.
#
# GaLore and ReLoRA are missing: neither has an implementation that is kept.

# %% tags=["core"]
tuned.tuning_table(experiments.published("method_rates"))

# %% [markdown]
# The best rates reach from 0.001 to 0.3. Compared at one rate, most of these methods would have been measured
# at a wrong one.
#
# > **Predict.** LoRA stores 1,618 bits in these 130 steps. How many does DoRA store, with its rate
# > tuned, in as many parameters? And which of the eleven stores most?

# %% tags=["core"]
guess = None  # bits stored by DoRA

# %% tags=["core"]
stored = reading.values(record, "bits", method="dora", budget="steps")
predictions.compare(guess, round(sum(stored.values()) / len(stored), -1), "bits")
reading.comparison_table(record, "bits")

# %% tags=["core"]
title = "As many parameters, 500 to 2,900 bits: the number does not decide"
alt = (
    "Bits stored over trained parameters, each seed a dot and the mean a larger one. Near 217,000 parameters "
    "stand LoRA+, DoRA at scale 8 and rsLoRA at about 2,800 bits, LoRA and DoRA at 1,600, prefix tuning, "
    "PiSSA and bottleneck adapters at 500 to 900. VeRA has 1,300 with 14,000, full fine-tuning 3,300 with "
    "2 million."
)
plots.show(figures.over_parameters(record, "bits", title), alt)

# %% [markdown]
# DoRA and LoRA: no detectable difference, and one of 430 bits would have been seen in four cases of five. But
# the table has clear winners. rsLoRA, LoRA+ and "DoRA at scale 8" store 1,200 bits more, in as many
# parameters. A paper on any of the three would be written by now.
#
# Look again at what they are. rsLoRA, you have just seen, *is* LoRA at alpha 128: the same run, bit for bit.
# LoRA+ lets B move faster than A. And DoRA is in the table twice, with nothing changed but alpha. So take the
# table apart: DoRA for LoRA at one scale, and one scale for the other in one method.
#
# > **Guide 000 says** that DoRA "matched or slightly outperformed LoRA in all cases" and makes it the
# > default; guide 002 has DoRA for "maximum quality".

# %% tags=["core", "claim-G8"]
scales.table(record)

# %% [markdown]
# DoRA, at either scale: nothing that could be seen. The scale, with DoRA or without: 1,200 bits. Had this
# table set DoRA at scale 8 beside LoRA at scale 2, each with a tuned rate and in six seeds with an interval
# far from zero, it would have "shown" that DoRA is better by 73 %.
#
# Does a tuned learning rate not make up for alpha? Not under Adam. Notebook 02 found that twice alpha is
# exactly twice the learning rate of *B alone*, and so it goes for any factor. (Exact without weight decay and
# clipping; the trainer clips gradients at norm 1, so that the runs here would be near twins.) Up to that,
# rsLoRA here is LoRA+ with a ratio of 4, and LoRA+, whose ratio is 16, is LoRA at alpha 512: three names for
# how fast B moves beside A. Nobody tuned that here; it was merely set three times, at 1, 4 and 16.
#
# On the guides' sentences: *imprecise*. DoRA matched LoRA, as guide 000 says, within what six seeds can see
# (and see the tickets, below). That is a reason for the one that costs less, and no reason for a default.
# (The bottleneck adapter and prefix tuning have no alpha to turn in this table. Whether a factor would lift
# them as it lifts LoRA is an open question.)
#
# PiSSA is a warning of another kind. In tuning, on four seeds, 0.004 stored 1,283 bits on average and 0.002
# stored 1,244. On six other seeds the chosen rate gave 902: near the rate at which runs fall apart, the best
# of a few runs is often a lucky one.
#
# ### Was it only the speed?
#
# After 130 steps most methods are still learning. So the table may say who learns fast, and not who can learn
# much. Three times as many steps, at the same rates, three seeds:

# %% tags=["core"]
longer = experiments.published("method_longer")
reading.comparison_table(longer, "bits")

# %% [markdown]
# The table has collapsed. Everything that is like LoRA, at either scale, and full fine-tuning now store all
# 4,000 bits; so do PiSSA and nearly the bottleneck adapter, which were last among the large ones. ("+1 [+1,
# +2], more than LoRA" is what an interval says at a ceiling: sure, and worth nothing.) So the 1,155 bits of
# scale were *speed*, on this task and as far as a ceiling of 4,000 bits can tell: how much is learned after
# 130 steps, each at its own best rate. "rsLoRA learns more", "PiSSA learns less" would both have been wrong
# sentences about a right table. Where steps cost money, speed counts; but it is another claim, and a table
# with one budget cannot tell the two apart.
#
# (What can they hold at most? This does not say: a hundred facts are too few to fill them. What is smaller is
# behind still: VeRA, with 14,080 numbers, stores 3,339 bits, IA3 2,171, prompt tuning 401; and prefix tuning,
# as large as LoRA, 3,141. The rates are those tuned for 130 steps.)
#
# ### Forgetting

# %% tags=["core"]
reading.comparison_table(record, "kl")

# %% [markdown]
# What learns a hundred facts at these rates loses most of the rest: 4 to 10 nats a token away from what it
# was, on a base that has 6 nats a token to begin with. That is what tuning for one number alone does, in a
# real project as well. Two things stand out. More bits do not mean more damage: at scale 8 LoRA stores 70 %
# more and forgets *less* (at half the rate; which of the two spares the base, this does not say). And prompt
# tuning forgets next to nothing, because it learned next to nothing. DoRA forgets less than LoRA at scale 2,
# by a fifth; the interval just clears zero, one of many that you have read on this page. (Claims about
# forgetting: notebook 07.)
#
# ### In as many operations

# %% tags=["core"]
reading.comparison_table(record, "bits", "flops")

# %% [markdown]
# In operations the order changes where a step costs another amount. VeRA's trained vectors are few, but every
# product goes through rank 256: for the operations of 130 steps of LoRA it gets 52, and 129 bits are left of
# 1,295. Prefix tuning pays for 424 more positions in every attention. Full fine-tuning's lead over LoRA is no
# longer clear of zero, because LoRA needs no gradient of the frozen weights. IA3 gets more steps and stores
# more.
#
# ### What each costs

# %% tags=["core"]
reading.costs_table(record)

# %% [markdown]
# Operations and time are two things. DoRA has 4 % more operations than LoRA and takes 1.4 times as long: what
# it adds are many small products and norms, which a processor does slowly for their size (and a card, too:
# 1.2 times in the published runs below). VeRA's file is the largest of all adapters, since PEFT writes its
# frozen random matrices as well unless told not to (`save_projection=False`). On this small base a step of
# LoRA is as fast as one of full fine-tuning; on the 135M model, in the record below, it is 1.23 times as
# fast, as guide 002 says ("1.2×"), and in PEFT's published runs three times. Its 1.1 for DoRA was found in
# neither: 0.73 and 0.90, slower than full fine-tuning (claim G7, *imprecise*).
#
# And memory in training, beside the weights. Counted live, what autograd keeps for the backward pass
# included:

# %% tags=["core"]
memory_held.table()

# %% [markdown]
# The number of trained parameters says little about it. DoRA keeps nearly twice as much for the backward pass
# as LoRA, and is with that about where full fine-tuning of this small model is in all; VeRA, with a fifteenth
# of the parameters, keeps its products through rank 256. (A larger model at the same batch shifts this
# towards weights and moments. Plan it.)
#
# ### Who learns in fewer steps?
#
# > **Guide 000 says** that DoRA's "convergence is faster in terms of steps".

# %% tags=["core"]
scales.steps_table(record)

# %% [markdown]
# *Not reproduced here.* The mean difference of the losses is within about a tenth of a nat at either scale,
# both ways. DoRA got to where LoRA ends before LoRA did in two seeds of six at scale 2, and in four of six at
# scale 8.
#
# ### Does DoRA help at a low rank?
#
# The paper's own ablation (its Table 15, LLaMA-7B) is the strongest case for DoRA: at rank 4 LoRA has 39.5
# points and DoRA 61.9, at rank 32 they have 74.7 and 78.4. But LoRA has one learning rate for all. At rank
# 64 it falls again, to 65.8, which is not what a lack of capacity looks like. So: both methods, four ranks,
# four rates, three seeds.

# %% tags=["core"]
by_rank = experiments.published("method_ranks")
ranks.table(by_rank)

# %% tags=["core"]
title = "At 0.008 DoRA is a little ahead at every rank; at twice that it is not"
alt = (
    "Four panels, ranks 2, 4, 8 and 16: bits stored over learning rates of 0.002 to 0.016, three seeds as "
    "dots and their means as lines, LoRA and DoRA. The lines lie close together and rise and fall together; "
    "at 0.008 DoRA's is a little higher in each panel."
)
plots.show(ranks.figure(by_rank, title), alt)

# %% [markdown]
# At each one's best rate DoRA leads by 148 bits at rank 2, with an interval across zero, by 112 at rank 4,
# clear of it, and by 20 at ranks 8 and 16. Part of that is size: DoRA has 6,912 magnitudes more, a quarter of
# LoRA's 27,136 parameters at rank 2, and 3 % at rank 16. And the best rates were chosen on these same three
# seeds. *Underpowered here*: a lead in the direction of the claim.
#
# Now read along a rate, as the paper's table does. At 0.002 the two are nearly alike, DoRA 13 to 17 bits
# ahead. At 0.008 it is ahead at every rank, by 110 to 150 bits on average (of the four intervals only rank
# 4's is clear of zero). At 0.016 the lead is +108, −33, +23 and +26, so that "DoRA bears a high rate better"
# is not shown either. A lead of 20 to 40 points, as in Table 15, it is not.
#
# ### A slice of it, live
#
# One of the recorded runs, trained again here, to see that the record is what this code does:

# %% tags=["core", "nbval-ignore-output"]
trainer = training.on_facts("dora", tuned.rate("dora"), seed=0)
losses = training.train(trainer)["losses"]
(cell,) = (c for c in record["cells"] if c["cell"] == {"method": "dora", "budget": "steps", "seed": 0})
apart = max(abs(a - b) for a, b in zip(losses, cell["metrics"]["losses"], strict=True))
print(f"{len(losses)} steps; the loss is never more than {apart:.3f} nats from the recorded run's")
nats = measuring.stored(trainer)
bits = facts.bits_learned(sum(nats), len(nats))
print(f"stored {bits:,.0f} bits, recorded {reading.bits(cell['metrics']):,.0f}")
expect("it begins as the recorded run did", abs(losses[0] - cell["metrics"]["losses"][0]) < 0.01)

# %% [markdown]
# ## The same on the 135M model
#
# Does the order carry over to a real chat model and a real task? Seven of the methods on 256 tickets, two
# seeds. Rates are not tuned there; each method has the course's rate for LoRA times what its best rate was to
# LoRA's above. So where a method falls behind, its rate may have; read it as a check, and no more.

# %% tags=["core"]
ticket_reading.table(larger)

# %% [markdown]
# The story is the same, on another model and a task that is no learning by heart. (Nats an answer: less is
# better.) DoRA is a little ahead of LoRA, by 0.06 nats, which could be chance, and by 0.15 on production
# messages, whose interval just clears zero: one of twelve intervals, two seeds, and exact answers there are
# 10 against LoRA's 13. rsLoRA, which is LoRA with another alpha, is ahead by 0.29 and 0.49. The others are
# behind or not to be told apart at these rates, which nobody tuned for this model. DoRA's steps took 1.36
# times as long.
#
# Look at exact answers and at forgetting, too (the record has it): the order changes with the measure. The
# bottleneck adapter's nats cannot be told apart from LoRA's, and fewer than half as many of its answers are
# right; full fine-tuning moved the general text by 1.25 nats a token, LoRA by 0.12.
#
# So the guide's sentence, that DoRA "matched or slightly outperformed LoRA", describes what we see. "In all
# cases" nobody can say, and the recommendation does not follow: as far as nats go, the same sentence is truer
# of alpha. That costs no time a step, but its rate has to be tuned anew: at LoRA's own 0.004, scale 8 stored
# 917 bits of facts and scale 2 stored 1,507.

# %% [markdown]
# ## What others measured
#
# ### PEFT's own comparison
#
# The PEFT library publishes a comparison of its methods: Llama-3.2-3B trained on 20,000 rows of MetaMathQA
# and tested on the 1,319 questions of GSM8K, on one L40S. Its 63 runs are here as cited data; none was
# measured by this course.
#
# > **Predict.** LoRA and DoRA of rank 32 differ there by less than a point. How large is the standard error
# > of *one* accuracy near 48 % on 1,319 questions, in points?

# %% tags=["core"]
guess = None  # points

# %% tags=["core"]
runs = published.load()
predictions.compare(guess, round(100 * math.sqrt(0.48 * 0.52 / 1319), 2), "points", "computed")
published.comparison_table(runs)

# %% [markdown]
# A question answered right is a coin with p = 0.48. So DoRA's −0.9 is half of what chance does to such a
# difference, and LoRA at rank 64 and full fine-tuning are as near. (Which questions each run got right is not
# published. They are the same questions, so the true error may be smaller; the luck of training, which one
# seed cannot show, is not in it.) What does stand out is the price: DoRA took 2.1 GiB and 21 % of a step's
# time more than LoRA.

# %% tags=["core"]
title = "LoRA, DoRA and full fine-tuning lie within each other's error"
alt = (
    "Per cent of GSM8K questions right over peak memory, 63 runs. LoRA, DoRA, rsLoRA and full fine-tuning "
    "lie between 47 and 51 per cent; full fine-tuning takes 36 GiB, the others 19 to 24."
)
plots.show(published_figures.quality_over_memory(runs, title), alt)

# %% [markdown]
# Look at the colours next. Most runs have the default rate, 0.0001; some methods were given another, and none
# has a grid that is published. Three were run at two rates:

# %% tags=["core"]
published.rates_table(runs)

# %% [markdown]
# Ten times the rate moved one and the same method by 9 to 18 points, many times what separates LoRA from
# DoRA. (Weight decay changed with it, for IA3 and prompt tuning.) So a low dot says "this method at this
# rate". And rsLoRA, the best of those above? Its rank 64 scales by 64/√64 = 8, LoRA's by 128/64 = 2. That is
# the lesson of your own table, from the other side.

# %% tags=["core"]
published.reruns_table(runs)

# %% [markdown]
# The same settings and the same seed, run again as the libraries changed, move by more than a point: as much
# as the difference that one would like to read off.
#
# ### The guide's table, beside the paper's
#
# > **Guide 002 prints** accuracies on four commonsense tasks for LLaMA-7B at rank 32 and says that DoRA
# > closes the gap between LoRA and full fine-tuning "by approximately 60-70%".

# %% tags=["core", "claim-G3"]
paper = paper_tables.load()
paper_tables.side_by_side(paper)

# %% [markdown]
# *Wrong*: of its eight figures for LoRA and DoRA none stands in the paper's rows for LLaMA-7B, three are
# those of another model, and full fine-tuning is not in the paper's table at all. And the share of the gap?

# %% tags=["core"]
paper_tables.gap_table(paper)

# %% [markdown]
# 58 % by the guide's own figures. Where the paper has full fine-tuning, in other experiments, the share is
# 48 % or 113 %, or there is no gap since LoRA is ahead of it. A share of a gap of two points has no stable
# value.
#
# The paper's table over ranks, the one you have just tried on a small model, with the rates that the authors'
# repository names:

# %% tags=["core"]
paper_tables.ranks_table(paper)

# %% [markdown]
# At ranks 4 and 8 LoRA is *below chance* on four and three of the eight tasks: 2.3 % on BoolQ, where a coin
# gets half. A rank that is only too small would leave a model near chance. This looks like runs that went
# wrong, or like answers in a form that the scorer does not find and counts as wrong: the same model has 65 %
# on ARC-e. (We infer it from the scores; the losses are not published.) And the rates differ: LoRA had 0.0003
# at every rank, DoRA 0.0002 or 0.0001. So the table cannot tell a better method from a better rate.

# %% [markdown]
# ## Adapters composed
#
# An adapter is a small file beside a large one. So a base can carry several: one a customer, one a task, one
# a language. What can you do with two of them? Switch, mix them in one batch, add them up. The first two are
# exact. The third is what people hope for, and you will see what it keeps.
#
# Two LoRA adapters on `tiny_base`, trained with the same settings and the same seed, as anybody's defaults
# would have it. One learns facts 0 to 49 by heart, the other facts 50 to 99. Nothing about a code can be
# guessed, so whatever a mixture still knows, it has kept.

# %% tags=["core", "nbval-ignore-output"]
rows = facts.load(100)
halves, folder = (rows[:50], rows[50:]), files.RUNS / "composed"
for name, half in zip(("first", "second"), halves, strict=True):
    composing.train(half, folder / name)
size = sum(file.stat().st_size for file in (folder / "first").glob("*.safetensors"))
print(f"an adapter: {size / 1e6:.2f} MB")

# %% [markdown]
# ### Two on one base
#
# `PeftModel.from_pretrained` puts the first on the base under a name of yours, `load_adapter` adds the
# second, `set_adapter` says which of them answers.

# %% tags=["core", "nbval-ignore-output"]
base, tokenizer = bases.tiny()
model = PeftModel.from_pretrained(base, folder / "first", adapter_name="first")
model.load_adapter(folder / "second", adapter_name="second")


def knows(model) -> tuple[list[int], list[int]]:
    """Symbols right (of 400) and bits stored (of 2,000), of each half."""
    bits, right = zip(*(composing.stored(model, tokenizer, half) for half in halves), strict=True)
    return list(right), [round(number) for number in bits]


found = {}
for name in ("first", "second"):
    model.set_adapter(name)
    found[name] = knows(model)
own, foreign = [found["first"][0][0], found["second"][0][1]], [found["first"][0][1], found["second"][0][0]]
expect("each knows its own half, and of the other no more than chance", min(own) > 380 and max(foreign) < 40)
headings = ["adapter", "symbols, first half", "second half", "bits, first half", "second half"]
lines = [[name, *right, *bits] for name, (right, bits) in found.items()]
Table(headings, lines, "Of 400 symbols and 2,000 bits a half; guessing gives 12.5 symbols and 0 bits")

# %% [markdown]
# Look at the bits of the half that an adapter never saw: far below zero. It does not say "I don't know". It
# has learned to give codes with certainty, and gives wrong ones to keys that are not its own. Keep that in
# mind for what follows.
#
# ### Switched
#
# Does the second adapter disturb the first while it is not active? Compare with a model that has only the
# first:

# %% tags=["core"]
alone = PeftModel.from_pretrained(bases.tiny()[0], folder / "first", adapter_name="first")
model.set_adapter("first")
answers = {name: composing.logits(m, tokenizer, rows)[0] for name, m in (("alone", alone), ("first", model))}
model.set_adapter("second")
answers["second"], _ = composing.logits(model, tokenizer, rows)
with model.disable_adapter():
    answers["__base__"], _ = composing.logits(model, tokenizer, rows)
assert (answers["alone"] == answers["first"]).all()
print("Every logit is the same, to the last bit.")

# %% [markdown]
# ### Mixed in one batch
#
# A server gets requests for both at once. `adapter_names` says for each row of a batch whose it is;
# `"__base__"` is nobody's. The base's large products run once for all rows, each adapter's small ones for its
# own. It is for inference only: in training mode PEFT refuses.

# %% tags=["core"]
names = [("first", "second", "__base__")[i % 3] for i in range(len(rows))]
mixed, _ = composing.logits(model, tokenizer, rows, names)
apart = max((mixed[i] - answers[name][i]).abs().max().item() for i, name in enumerate(names))
largest = mixed.abs().max().item()
assert apart < 1e-4
print(f"Each row's logits are within 0.0001 of its own adapter's alone; the largest is {largest:.0f}.")

# %% [markdown]
# So if you know whose each row is, one batch has everything that both adapters know:

# %% tags=["core", "nbval-ignore-output"]
bits, routed = composing.stored(model, tokenizer, rows, ["first"] * 50 + ["second"] * 50)
expect("a batch with each row's own adapter keeps both halves", routed > 780, f"{routed} of 800 symbols")

# %% [markdown]
# ### Added up
#
# Often you do not know, or want one file. $\Delta W_1 + \Delta W_2$ has rank 32 and is again an adapter:
# put the two $A$ below each other and the two $B$ side by side. PEFT's `add_weighted_adapter` calls that
# `"cat"`.
#
# > **Predict.** Each adapter knows almost all of its 400 symbols. You add both updates, exactly, with weight
# > 1. How many of the 800 symbols does the sum get right?

# %% tags=["core"]
guess = None  # symbols of 800


# %% tags=["core", "nbval-ignore-output"]
def mix(kind: str, weights: tuple[float, float], **more) -> tuple[list[int], list[int]]:
    """What the model knows with both adapters combined in this way."""
    model.add_weighted_adapter(["first", "second"], list(weights), "mix", combination_type=kind, **more)
    model.set_adapter("mix")
    result = knows(model)
    model.set_adapter("first")
    model.delete_adapter("mix")  # PEFT silently keeps an old adapter of that name
    return result


ways = {"cat (1, 1), the sum": mix("cat", (1, 1)), "cat (½, ½), the mean": mix("cat", (0.5, 0.5))}
predictions.compare(guess, sum(ways["cat (1, 1), the sum"][0]), unit="symbols")
print("\n".join(f"{name}: {right} symbols" for name, (right, _) in ways.items()))

# %% [markdown]
# Nothing was lost in the arithmetic: the sum is exact, as you will see below. It is the network that does not
# add up. The first adapter was trained on a model without the second. With both, layers get inputs that
# neither was trained on, and you saw that each has a firm answer to the other's keys, a wrong one. Perhaps
# another weight helps? $w$ for the first, $1 - w$ for the second:

# %% tags=["core", "nbval-ignore-output"]
composing.train(rows, folder / "both")  # the thing to beat, as large as one of the two
model.load_adapter(folder / "both", adapter_name="both")
model.set_adapter("both")
both = knows(model)
weights = [0, 0.2, 0.35, 0.5, 0.65, 0.8, 1]
sweep = [mix("cat", (w, 1 - w))[0] for w in weights]
kept = max(min(right) for right in sweep)
expect("no weight keeps half of both halves", kept < 200, f"at best {kept} of 400 in the poorer half")
expect("trained on both, an adapter of half the size knows both", min(both[0]) > 380)

# %% tags=["core", "nbval-ignore-output"]
title = "What one half gains, the other has lost"
alt = (
    "Symbols right of 400 over the first adapter's weight from 0 to 1. The first half rises from about 10 to "
    "400, the second falls from 400 to about 10; they cross at a weight of one half, at about a quarter. A "
    "dashed line near 400: an adapter trained on both halves."
)
plots.show(composing_figures.seesaw(weights, sweep, min(both[0]), 400, title), alt)

# %% [markdown]
# ### "linear" is not the sum
#
# PEFT has more ways, and the one with the plainest name holds a surprise. `"linear"` keeps the rank at 16: it
# adds up the two $A$ and the two $B$, each times the root of its weight, *before* they are multiplied:
#
# $$(\sqrt{w_1} B_1 + \sqrt{w_2} B_2)(\sqrt{w_1} A_1 + \sqrt{w_2} A_2)$$
# $$= w_1 B_1 A_1 + w_2 B_2 A_2$$
# $$+ \sqrt{w_1 w_2}\,(B_1 A_2 + B_2 A_1)$$
#
# The last two products belong to nobody. How large are they?

# %% tags=["core", "nbval-ignore-output"]
first, second = (composing.changes(model, name) for name in ("first", "second"))
lines, off = [], {}
for kind in ("cat", "svd", "linear"):
    for w in (1, 0.5):
        model.add_weighted_adapter(["first", "second"], [w, w], "mix", combination_type=kind)
        change = composing.changes(model, "mix")
        model.delete_adapter("mix")
        for target, asked in (("asked", w), ("sum", 1)):
            wanted = asked * (first + second)
            off[kind, w, target] = ((change - wanted).norm() / wanted.norm()).item()
        lines.append([f"{kind} ({w}, {w})", *(f"{100 * off[kind, w, t]:.2g} %" for t in ("asked", "sum"))])
expect("cat is the weighted sum", off["cat", 0.5, "asked"] < 1e-5)
expect("linear is more than half of it away", off["linear", 0.5, "asked"] > 0.5)
expect("with weights of one half it is nearer to the full sum", off["linear", 0.5, "sum"] < 0.5)
headings = ["way", "from the weighted sum asked for", "from the full sum"]
Table(headings, lines, "How far the combined update is off, as a share of the one it is compared with")

# %% [markdown]
# Both adapters began with the same $A$, since both had the same seed, and after training each is still partly
# the other. So $B_1 A_2$ has much of $B_1 A_1$ in it: everything is there about twice, and weights of one
# half give something nearer to the full sum (35 % off) than to the mean (98 % off). (With another seed for
# the second adapter the two $A$ are unrelated and the extra products are noise instead; try it,
# `composing.train` takes a `seed`.) PEFT's docstring warns of "linear" as a very rough approximation; the
# extra products are issue 3004 there. `"svd"`, the default, is the best approximation of the weighted sum at
# rank 16. It is close, so rank is not what the sum lacks.
#
# ### TIES, and all ways beside each other
#
# TIES (Yadav et al. 2023, arXiv 2306.01708) holds that merging fails
# because small changes are noise and because signs conflict. It keeps the largest entries of each update
# (`density`: which share), lets the sums elect a sign for each entry, and averages those that agree with it.
# DARE (Yu et al. 2023, arXiv 2311.03099) drops entries at random and
# scales up the rest. In PEFT plain `"ties"` does this to $A$ and $B$ apart, with the consequences that you
# just saw; `"ties_svd"` does it to $\Delta W$, as the paper does, and cuts the result to a rank.

# %% tags=["core", "nbval-ignore-output"]
full = {"svd_rank": 32, "svd_full_matrices": False}
ways |= {
    "linear (1, 1)": mix("linear", (1, 1)),
    "linear (½, ½)": mix("linear", (0.5, 0.5)),
    "svd (½, ½), rank 16": mix("svd", (0.5, 0.5), svd_full_matrices=False),
    **{f"ties, density {d}": mix("ties", (1, 1), density=d) for d in (0.2, 0.5, 0.8)},
    **{f"ties_svd, density {d}": mix("ties_svd", (1, 1), density=d, **full) for d in (0.2, 0.8)},
    "dare_ties, density 0.5": mix("dare_ties", (1, 1), density=0.5),
    "magnitude_prune, 0.5": mix("magnitude_prune", (1, 1), density=0.5),
}
best = max(min(right) for right, _ in ways.values())
ties = max(sum(bits) for name, (_, bits) in ways.items() if name.startswith("ties"))
expect("none keeps half of both halves", best < 200, f"the best keeps {best} of 400 in the poorer half")
expect("TIES stores no more than the plain mean", ties < sum(ways["cat (½, ½), the mean"][1]))
ways["trained on both, rank 16"] = both

# %% tags=["core", "nbval-ignore-output"]
headings = ["way", "symbols, first half", "second half", "bits, first half", "second half"]
lines = [[name, *right, *bits] for name, (right, bits) in ways.items()]
Table(headings, lines, "What two adapters keep when they become one: of 400 symbols and 2,000 bits a half")

# %% [markdown]
# Read the bits: the mean is above zero, while the sum is surer of wrong codes than of right ones. TIES
# averages, too, and ends near the plain mean: about as many symbols, fewer bits. And an adapter of rank 16,
# half the size of the sum, knows both halves if it is trained on both.
#
# How far does that reach? Random facts are about the hardest case: the two halves have nothing in common that
# could be shared, and every key looks like every other. The papers merge tasks that differ in what they ask.
# So this refutes "adapters add up", and says nothing about how well yours do. It says what to do: score the
# merged adapter on *both* tasks, beside the two single ones and beside one adapter that was trained on both.
# If you have the data, train on both; if you know whose each request is, keep two files and switch.
#
# ### AdapterFusion
#
# Can one learn how to combine? AdapterFusion (Pfeiffer et al. 2021,
# arXiv 2005.00247) does it in two stages. First every task trains its own
# bottleneck adapter. Then base and adapters are frozen, and on the target task one trains an attention in
# each layer: the query comes from the layer's hidden state, keys and values from the adapters' outputs, so
# that every token chooses its own weights. Nothing is overwritten, which is what the title's
# "non-destructive" means; the authors report that it beat full fine-tuning and multi-task learning over 16
# tasks of language understanding. The price: data of the target task, all adapters run for every token, three
# square matrices a layer (on a model of Llama-3.1-8B's width and depth $3 · 4096^2 · 32$, 1.6 billion
# parameters), and nothing can be merged into the weights, since the mixture depends on the input. PEFT does
# not have it; AdapterHub's library `adapters` does. PEFT's nearest relative is X-LoRA, which trains a small
# network that weighs frozen LoRA adapters by the input
# (arXiv 2402.07148).

# %% [markdown]
# ## Which method when
#
# Each line with what was measured for it in this notebook, on small models and short runs, or with the word
# opinion. "Bits" are those that the tiny base stores of 4,000; differences are paired, with their intervals.

# %% tags=["core"]
decision.table()

# %% [markdown]
# ## Checkpoint

# %% tags=["core"]
quiz.ask("10_dora_and_friends")

# %% [markdown]
# ## On a rented GPU
#
# Written for L4 and A10, not yet run there. What would be worth it: LoRA and DoRA on your own task, each at
# three rates, at the same scale and with two seeds, twelve short runs; and the time of a step with and
# without dropout. What is counted here (operations, parameters, bytes) needs no card.
