# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 05 · Memory and cost
#
# **In one sentence**: you predict, before renting anything, whether a fine-tune fits a card and what it will
# cost, and check the prediction on real steps.
#
# **Minutes**: 135 to read and do, 2 to run all cells.
#
# After this notebook you will be able to
#
# - draw the memory of a training step over time, with TRL's trainer and in a plain loop, and say which part
#   of it to attack when it does not fit;
# - predict its peak on paper, to a few percent of a traced step;
# - decide between LoRA and QLoRA from a card's memory;
# - tell which recipe, and which trainer, a guide's memory figure belongs to;
# - say what the time of a step is spent on, and from that what would make a run cheaper.
#
# **Needs** notebooks [03](03_counting_parameters.ipynb) (counts) and [04](04_nf4_quantization.ipynb) (NF4).
# Everything runs on the processor. Real steps of a small model are measured; every figure for a GPU is a
# **prediction**, and further down you see how far such predictions were from what others measured.

# %% [markdown]
# Out of memory. It is the first error that most people meet when they fine-tune, and the message names the
# piece that did not fit any more, not the ones that filled the card before it. To know those, look at one
# training step as it goes by:
#
# ![A drawing of memory over one training step. Weights, and above them adapters with Adam's moments, lie flat
# through all four phases. The inputs that blocks keep rise through the forward pass. At the loss stands a
# small tile of the logits and, dashed, a tower of full logits that only a plain loop has. In the backward
# pass five teeth stand side by side, one for each block that is computed again, while the kept inputs sink
# and gradients grow. In the optimizer's step there are the gradients and, dashed, scratch
# memory.](attachment:schematic.png)
#
# - What *stands* is there from the first step to the last: the weights, the adapters, and the two running
#   means that [Adam](../glossary.md#adam) keeps for each trained number.
# - In the forward pass every block leaves something behind for the way back, here only its input.
# - At the loss the model's *head* turns each token into [logits](../glossary.md#logits), one number for every
#   word that could come next. A loop that you write yourself makes all of them at once: the dashed tower.
#   TRL's `SFTTrainer`, which you used in notebook 01, makes them [tile](../glossary.md#tile) by tile.
# - The backward pass goes through the blocks from the last to the first. Each is computed once more and for a
#   moment needs a lot: a tooth. What it had kept goes, and [gradients](../glossary.md#gradient) grow.
# - The optimizer applies the gradients, some optimizers with scratch memory of their own.
#
# You could redraw this from memory, and you should, because two things follow from it at once. The card has
# to hold the *highest point* of this outline, not the sum of its parts. And a change helps only if it lowers
# the outline *there*. Where "there" is depends on who trains: with the tower it is the loss, without it one
# of the teeth. The rest of the notebook puts numbers on it.
#
# (The cell of imports below takes about ten seconds: it loads PyTorch, transformers, PEFT and bitsandbytes.)

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
import os

os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # the profiler says on the screen when it starts and stops
import math
from dataclasses import replace

import torch

from labsupport.core import upstream

upstream.quiet_known_noise()  # messages about this stack that you can do nothing about
upstream.guard_4bit_on_cpu()  # before a 4-bit model is built, see notebook 04
from labsupport.allocations import moments, streams
from labsupport.configs import model_configs
from labsupport.core import plots, profiles
from labsupport.core.tables import Table
from labsupport.cost import cost_model, evidence as published_times, figures as cost_figures
from labsupport.cost import operations as counted, step_time
from labsupport.explorers import cost_estimator_explorer, vram_planner_explorer
from labsupport.memory import watching
from labsupport.notebooks.nb05_memory_and_cost import exercises
from labsupport.planning import closed_form, evidence, figures, napkin, planner, prose
from labsupport.planning.footprint import stream_of
from labsupport.setups.setup import Setup
from labsupport.sizes import counting, gpus
from labsupport.teaching import predictions, quiz

torch.set_num_threads(profiles.current().threads)
GB, GIB = 1e9, 2**30  # guides count in GB; torch and this course's planner in GiB, which are 7 % larger
llama2, llama3 = model_configs.find("llama-2-7b"), model_configs.find("llama-3.1-8b")

# %% [markdown]
# ## What one trained number costs
#
# Take a single weight that is trained, and ask what must be in memory for its sake. The weight itself: 2
# bytes in [bfloat16](../glossary.md#bf16). Its gradient: 2 bytes more. Adam's *moments*, a running mean of
# the gradient and one of its square: two numbers, usually in float32, so 4 + 4. That makes 12 bytes for a
# weight of 2.
#
# Other recipes are as common. *Mixed precision* also keeps a float32 *master copy* of each weight, because
# small updates get lost in 16 bits: 4 bytes more. *8-bit Adam* keeps each moment in one byte. And one may
# keep all four numbers in bfloat16.
#
# What do these come to for a model of 7 billion parameters, before any activation?

# %% tags=["core"]
recipes = {  # bytes of weight, gradient, first and second moment, master copy
    "bfloat16, 8-bit Adam": (2, 2, 1, 1, 0),
    "all in bfloat16": (2, 2, 2, 2, 0),
    "bfloat16, float32 Adam": (2, 2, 4, 4, 0),
    "the same and a master copy": (2, 2, 4, 4, 4),
}
count = counting.model_parameters(llama2)
rows = [[name, sum(parts), sum(parts) * count / GB] for name, parts in recipes.items()]
Table(["recipe", "bytes a parameter", "GB"], rows, "Full fine-tuning of Llama-2-7B, before activations")

# %% [markdown]
# One model, one word ("full fine-tuning"), and answers from 40 to 108 GB. So a memory figure without its
# recipe says little. But you can often find the recipe: divide the figure by the parameters.
#
# > **[Guide 003](../guides.md#guide-003) says**, under "Full FT (FP16)": 56 GB for 7-8B, 560 GB for 70B.
#
# [Guide 001](../guides.md#guide-001) says about 60 GB for Mistral 7B; [guide 002](../guides.md#guide-002)
# adds up 14 + 14 + 56 GB for Llama-2-7B, before activations.

# %% tags=["core", "claim-E2"]
figures_in_gb = [("003", "7B", 56, 7), ("003", "70B", 560, 70), ("001", "7B", 60, 7.25), ("002", "7B", 84, 7)]
rows = []
for guide, size, gb, billions in figures_in_gb:
    rows.append([f"guide {guide}, {size}", gb, billions, f"{gb / billions:.1f}"])
print("56 GB for a 7B (guide 003): imprecise.")
Table(["figure", "GB", "billion parameters", "bytes a parameter"], rows, "Each figure's recipe")

# %% [markdown]
# Guide 003 counts 8 bytes: weight, gradient and both moments in 16 bits, which is what its heading "FP16"
# says. That is right for what it counts, and no run gets by with it, because activations are left out; hence
# "imprecise". Guide 002 counts 12. They do not contradict each other; they answer different questions.
#
# ## LoRA: what is trained is small
#
# With [LoRA](../glossary.md#lora) the base is frozen: its weights need no gradient and no moments, so they
# cost their 2 bytes and nothing else. Only the adapters carry the full load. PEFT keeps them in float32, so
# each of their numbers costs 4 + 4 + 4 + 4 = 16 bytes; on a 4-bit base TRL's trainer makes them bfloat16, and
# it is 8. Either way there are few of them.
#
# > **Guide 001 says**, of the optimizer's states of a 7B model with r = 16 and Adam in bfloat16: "typically
# > 2–4 GB".

# %% tags=["core"]
guess = None  # your guess: both moments in bfloat16, Llama-2-7B, rank 16 on all linear layers, in MB (10^6)

# %% tags=["core", "claim-E15"]
count, count_64 = counting.lora_count(llama2, 16), counting.lora_count(llama2, 64)
predictions.compare(guess, 4 * count / 1e6, unit="MB", word="computed")
rows = [
    ["rank 16, bfloat16: TRL on 4 bits, and as the guide says", f"{count:,}", 2 + 2, 4 * count / 1e6],
    ["rank 16, float32: PEFT", f"{count:,}", 4 + 4, 8 * count / 1e6],
    ["rank 64, float32", f"{count_64:,}", 4 + 4, 8 * count_64 / 1e6],
]
print("optimizer states of 2 to 4 GB (guide 001): wrong.")
Table(["moments of", "trained parameters", "bytes each", "MB"], rows, "Adam's states, Llama-2-7B, all linear")

# %% [markdown]
# A sixth of a GB at the guide's own setting, and even four times its rank in float32 stays below 2 GB. Keep
# that in mind, beside 13,500 MB of weights: it is all that an 8-bit optimizer could shrink, and all that a
# *paged* one, which moves states to the computer's memory when the card is full, could move.
#
# ## Activations: why a frozen layer keeps nothing, and its adapter does
#
# So weights and trained numbers are easily counted. What comes and goes is made of
# [activations](../glossary.md#activation). Why must anything be kept? Do it by hand, with the smallest layer
# there is: $y = Wx$ with
#
# $$W = \begin{pmatrix} 1 & 2 & 0 \\ 0 & 1 & 1 \end{pmatrix}, \qquad x = (5, 6, 7), \qquad y = (17, 13).$$
#
# Suppose the backward pass arrives from above with the gradient of the loss at $y$, $g = (1, 2)$. There are
# two different things to compute from it.
#
# 1. *What the layer below needs*: how does the loss change with $x$? Each $x_j$ reaches the loss through
#    column $j$ of $W$, so the answer is $W^\top g = (1, 4, 2)$. Look at what went in: $W$ and $g$. The value
#    of $x$ was never asked for.
# 2. *What the layer itself needs, if it is trained*: how does the loss change with $W_{ij}$? That weight
#    multiplied $x_j$, so the answer is $g_i x_j$: the rows $(5, 6, 7)$ and $(10, 12, 14)$. This one cannot be
#    had without $x$, so somebody must have kept $x$ since the forward pass.
#
# A frozen layer only has to do the first. Its weight lies in memory anyway, so it keeps *nothing* of the
# tokens that went through. Now add an adapter, $y = Wx + BAx$. A and B are trained: the gradient of A is of
# the second kind and needs $x$; that of B needs its own input, $Ax$. So the layer that kept nothing now keeps
# $x$, all of it, for the sake of a matrix of a few rows. In general, for a layer with $n$ inputs and an
# adapter of rank $r$, per token:
#
# | layer | kept for the backward pass | numbers |
# |---|---|---|
# | frozen | nothing | 0 |
# | trained | its input $x$ | $n$ |
# | frozen, with an adapter | $x$ for A, and $Ax$ for B | $n + r$ |
#
# That is the algebra. PyTorch lets us watch what autograd saves; here it is with the $W$ above.

# %% tags=["core"]
x = torch.tensor([[5.0, 6.0, 7.0]], requires_grad=True)  # one token
W = torch.tensor([[1.0, 2.0, 0.0], [0.0, 1.0, 1.0]])
trained = W.clone().requires_grad_()
A, B = torch.ones(1, 3, requires_grad=True), torch.zeros(2, 1, requires_grad=True)
layers = {
    "frozen": lambda: x @ W.T,
    "trained": lambda: x @ trained.T,
    "frozen, with an adapter": lambda: x @ W.T + x @ A.T @ B.T,
}
own = {tensor.untyped_storage()._cdata for tensor in (W, trained, A, B)}  # weights: there anyway
rows = []
for name, layer in layers.items():
    others = [t for t in watching.kept(layer) if t.untyped_storage()._cdata not in own]
    rows.append([name, ", ".join(str(t.detach().flatten().tolist()) for t in others) or "nothing"])
Table(["layer", "kept, beside its weights"], rows, "x is (5, 6, 7); Ax is 18")

# %% [markdown]
# A real block has more than linear layers. The norms, the attention and the MLP's product of gate and up are
# not linear: their backward pass needs what went in, frozen or not. And *how* an adapter gets at its $x$
# makes a difference:
#
# - In a plain loop the model computes in bfloat16 and PEFT's adapters are float32. So each adapter casts its
#   input to float32 first, and what is kept is that copy: 4 bytes a number.
# - TRL's trainer switches [*autocast*](../glossary.md#autocast) on, which hands every matrix product its
#   factors in bfloat16. The adapters are float32 still, and each keeps a copy of its own, now of 2 bytes a
#   number.
# - On a 4-bit base TRL makes the adapters bfloat16 themselves. Then nothing is cast: the adapter keeps the
#   very tensor that the block computed, and three adapters that read the same tensor keep it once.
#
# To see how much that is, watch one block of Llama-3.1-8B with LoRA on all linear layers. It takes no memory
# here, because it runs on the [meta device](../glossary.md#meta-device): shapes without contents. `Setup`
# holds the choices of a run. Rows of unequal length are filled up with padding, which a mask hides;
# [packed](../glossary.md#packing) rows (`padded=False`) are filled with further examples and need none.

# %% tags=["core"]
base = Setup(llama3, "lora", batch=1, length=2048, padded=False, trainer="plain")  # rank 16, all linear
trl = replace(base, trainer="sft")
ways = {"plain loop": base, "TRL": trl, "TRL, 4 bits": replace(trl, method="qlora")}
sizes = {"float32": 4, "bfloat16": 2}
kept = {name: watching.kept_by_block(setup) for name, setup in ways.items()}
watched = {name: sum(n * w * sizes[d] for (d, w), n in block.items()) for name, block in kept.items()}
rows = []
for dtype, width in sorted(set().union(*kept.values()), key=lambda one: (one[0], -one[1])):
    rows.append([f"{width:,}", dtype, *(block[dtype, width] for block in kept.values())])
rows.append(["bytes a token", "", *(f"{size:,}" for size in watched.values())])
Table(["width", "dtype", *kept], rows, "Tensors that one block of Llama-3.1-8B keeps of each token")

# %% [markdown]
# Who keeps what? Sorted by owner, with the bytes of a number:
#
# | what | width | plain loop: `"float32"` | TRL: `"autocast"` | TRL, 4 bits: `"bfloat16"` |
# |---|---|---|---|---|
# | inputs of the adapters | inputs of its module | 7 copies × 4 | 7 copies × 2 | 3 shared × 2 |
# | what each adapter's A gives | rank | 7 × 4 | 7 × 2 | 7 × 2 |
# | inputs of the two norms | hidden | 2 × 4 | 2 × 4 | 2 × 4 |
# | queries, and the attention's output | outputs of `q_proj` | 2 × 2 | 2 × 2 | 2 × 2 |
# | keys, and values | outputs of `k_proj` | 2 × 2 | 2 × 2 | 2 × 2 |
# | log-sums of the attention's [softmax](../glossary.md#softmax) | heads | 1 × 4 | 1 × 4 | 1 × 4 |
# | MLP: gate, activated gate, up | intermediate | 3 × 2 | 3 × 2 | 3 × 2 |
#
# The three shared inputs are: what the first norm gives (hidden wide; q, k and v read it), what the second
# norm gives (hidden; gate and up), and the MLP's product (intermediate; down). `o_proj` reads the attention's
# output, which stands in the table already.
#
# ### Exercise 1: bytes a token and block
#
# > **20 minutes · ●●●**
# >
# > Add the table up for any model: return the bytes (a whole number) that one block keeps for one token, with
# > an adapter of this rank on each of its seven linear layers. `adapters` is `"float32"`, `"autocast"` or
# > `"bfloat16"`, as in the headings. `config` is a model's config as a dict, with `hidden_size`,
# > `intermediate_size` and `num_attention_heads`; `counting.block_shapes(config)` gives
# > `{"q_proj": (inputs, outputs), …}` for the seven modules. Leave out the single number that each norm
# > keeps besides.
# >
# > For Llama-3.1-8B the norms alone are 2 × 4,096 × 4 = 32,768 bytes.


# %% tags=["core"]
def block_keeps(config: dict, rank: int, adapters: str) -> int:
    ### BEGIN SOLUTION
    shapes = counting.block_shapes(config)
    hidden, inner, heads = (
        config[name] for name in ("hidden_size", "intermediate_size", "num_attention_heads")
    )
    size = 4 if adapters == "float32" else 2
    copies = sum(inputs for inputs, _ in shapes.values())
    inputs = 2 * hidden + inner if adapters == "bfloat16" else copies
    attention = 2 * 2 * (shapes["q_proj"][1] + shapes["k_proj"][1]) + 4 * heads
    return size * (inputs + 7 * rank) + 2 * 4 * hidden + attention + 3 * 2 * inner
    ### END SOLUTION


exercises.block_keeps.check(block_keeps)

# %% tags=["core"]
# exercises.block_keeps.hint()
block_bytes = exercises.block_keeps.or_reference(block_keeps)
rows = []
for (name, seen), adapters in zip(watched.items(), ("float32", "autocast", "bfloat16"), strict=True):
    by_hand = block_bytes(llama3, 16, adapters)
    frozen = by_hand - closed_form.adapter_input_bytes(ways[name])  # without the table's first two rows
    rows.append([name, f"{by_hand:,}", f"{seen:,}", f"{100 * (1 - frozen / by_hand):.0f} %"])
    assert seen - by_hand == 8  # one float32 a norm
assert watched["TRL"] < 0.75 * watched["plain loop"] and watched["TRL, 4 bits"] < 0.65 * watched["plain loop"]
Table(["", "by hand", "watched", "due to the adapters"], rows, "Bytes a token in one block of Llama-3.1-8B")

# %% [markdown]
# Here is the surprise: in a plain loop more than half of what a frozen model keeps is there *because of its
# adapters*. They train half a percent of the parameters, and they make seven layers keep inputs that nobody
# else asked for. With TRL's trainer it is a quarter less in all, and on 4 bits more than a third.
#
# And 4 bits? Guide 002's table halves the activations under QLoRA, from 12 to 6 GB for the same 7B model. But
# what is kept is the *data* that flows through, and that stays in 16 and 32 bits whatever the weights are.
# The right column is smaller because TRL changes the *adapters* there; in a plain loop QLoRA keeps exactly
# what LoRA keeps.
#
# ### Checkpointing
#
# What does shrink activations is [checkpointing](../glossary.md#checkpointing), which TRL's trainer switches
# on by itself: throw away what a block would keep, except its input, and when the backward pass arrives
# there, run the block forwards once more to get it back. Per token and block that leaves the input alone,
# hidden size × 2 bytes.

# %% tags=["core"]
fig = figures.over_a_step(
    {
        "checkpointing off": stream_of(replace(trl, method="qlora", checkpointing=False)),
        "checkpointing on": stream_of(replace(trl, method="qlora")),
    },
    "Checkpointing turns a hill into teeth: QLoRA with TRL, Llama-3.1-8B, one row of 2,048 tokens",
)
per_token = block_bytes(llama3, 16, "bfloat16")
print(f"a token and block: {per_token / 1024:.0f} KiB, with checkpointing {2 * 4096 / 1024:.0f} KiB")
whole = 32 * 2048  # blocks x tokens
print(f"together {whole * per_token / GIB:.1f} GiB, with checkpointing {whole * 2 * 4096 / GIB:.1f}")
plots.show(
    fig,
    "Stacked areas of memory over one step, in four phases. Weights are flat at 5 GiB in both. Without "
    "checkpointing activations rise through the forward pass to 17 GiB and fall through the backward pass. "
    "With it they are a low ramp with small teeth, and the peak is 6.6 GiB.",
)

# %% [markdown]
# This is the drawing from the head, as it comes out of a *trace*: model, PEFT, bitsandbytes, TRL's own step
# and the optimizer run on the meta device, and each tensor is noted when it comes and when it goes. (A few
# blocks are traced; the others repeat an inner one.) A hill of more than 11 GiB has become a ramp of half a
# GiB, with one block's worth of memory on top at a time. The price is time, and further down you will count
# it.
#
# ## One step, two trainers
#
# Here is a plain loop, as you might write it:
#
# ```python
# for batch in loader:
#     optimizer.zero_grad()
#     outputs = model(**batch)          # batch has labels: the model computes its loss from all logits
#     outputs.loss.backward()
#     torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
#     optimizer.step()
# ```
#
# And the `train()` of TRL's `SFTTrainer` does the same arithmetic in another way:
#
# | | plain loop | TRL's `SFTTrainer` (1.16) |
# |---|---|---|
# | logits | of every token, at once | in tiles of at most 4,096 tokens × 32,768 words |
# | adapters | float32 | float32 with autocast; bfloat16 on a 4-bit base |
# | optimizer | AdamW, *foreach*: scratch as large as the gradients | AdamW, *fused*: no scratch |
# | checkpointing | off, unless you ask | on, unless you refuse |
#
# We switch checkpointing on in both and take the setting of guide 001: QLoRA, rank 16 on all linear layers of
# Llama 3 8B, 4 rows of 2,048 tokens.
#
# > **Predict.** The weights are 5.3 GiB in both. How many GiB is the peak with TRL's trainer, and how many in
# > the plain loop?

# %% tags=["core"]
guess = None  # your guess for TRL's trainer, in GiB
guess_plain = None  # and for the plain loop

# %% tags=["core"]
with_trl = replace(trl, method="qlora", batch=4)
in_loop = replace(with_trl, trainer="plain")
peaks = {name: streams.peak(stream_of(run)) for name, run in (("TRL", with_trl), ("plain", in_loop))}
for one, name in ((guess, "TRL"), (guess_plain, "plain")):
    print(f"{name}, in the phase {peaks[name].phase}:", end=" ")
    predictions.compare(one, peaks[name].bytes / GIB, unit="GiB", word="predicted")
assert peaks["plain"].phase == "loss" and peaks["TRL"].phase == "backward"
assert peaks["plain"].bytes > 2 * peaks["TRL"].bytes

# %% tags=["core"]
fig = figures.two_trainers(
    {"plain": stream_of(in_loop), "sft": stream_of(with_trl)},
    "The same step by two trainers: QLoRA of Llama-3.1-8B, 4 x 2,048 tokens",
    {
        "plain": (0.12, 19.5, "full logits, and what\nthe loss makes of them"),
        "sft": (3.05, 12.3, "one block at a time,\ncomputed again"),
    },
)
plots.show(
    fig,
    "Two curves of memory over one step, in four phases, above a grey band of 5.5 GiB that stands. Both rise "
    "a little through the forward pass in small teeth, the plain loop 2 GiB above TRL. At the loss the plain "
    "loop has a tower up to 21.6 GiB; TRL stays at 8. In the backward pass both have teeth that fall, TRL's "
    "from 9.5 GiB, its peak. In the optimizer's step both are low.",
)

# %% [markdown]
# Same model, same rows, same arithmetic, and more than twice the memory. Walk along the curves once:
#
# - **Forward.** Both climb in the same way, input by input; the little teeth are a block's scratch. The plain
#   loop starts 2 GiB higher. What is that? The *old* logits: the variable `outputs` keeps those of the last
#   step alive until the new ones replace them.
# - **Loss.** The plain loop builds its tower. TRL hardly moves.
# - **Backward.** Teeth, one a block, on a floor that sinks as kept inputs are freed. The first tooth, of the
#   *last* block, is the highest: there everything is still kept. For TRL that is the peak.
# - **Optimizer.** Nearly nothing, since an adapter's gradients are small. Full fine-tuning will differ.
#
# (All phases have the same width here, though the loss is some hundred allocations and releases and the
# backward pass more than ten thousand.)
#
# ### What the tower is made of
#
# 128,256 words can come next after each of the 8,192 tokens.

# %% tags=["core"]
logits = moments.tensors_at_largest(stream_of(in_loop), "logits")
each = [size / (4 * 2048) / llama3["vocab_size"] for size in logits]
tile = moments.tensors_at_largest(stream_of(with_trl), "logits")
print("plain loop, bytes a token and word:", " + ".join(f"{size:g}" for size in each), f"= {sum(each):g}")
print(f"plain loop: {sum(logits) / GIB:.1f} GiB; TRL: {sum(tile) / GIB:.2f} GiB")
assert sum(each) == 14 and sum(tile) == 2 * 4096 * 32_768

# %% [markdown]
# 14 bytes times the vocabulary for each token: the logits in bfloat16, then their log-softmax and two
# gradients in float32. Checkpointing cannot help, because the head lies behind the blocks.
#
# How does TRL get by with one tile? By hand, with six words for one token and tiles of three. The logits are
# 2, 1, 0 and 3, 1, 0, and the right word is the second. The loss is $\log \sum_j e^{z_j} - z_\text{right}$,
# and a sum can be taken piece by piece. To keep the numbers small one carries the largest logit so far, $m$,
# and the sum $s$ of all $e^{z - m}$:
#
# 1. First tile: $m = 2$, $s = e^0 + e^{-1} + e^{-2} = 1.503$. Throw the tile away.
# 2. Second tile: the new largest is 3, so what we have shrinks by $e^{2 - 3}$: $s = 1.503 \cdot 0.368 + e^0 +
#    e^{-2} + e^{-3} = 1.738$. Throw it away, too.
# 3. Loss: $m + \log s - 1 = 3 + 0.553 - 1 = 2.553$.
#
# On the way back the gradient of logit $z_j$ is $e^{z_j - m} / s$, less 1 for the right word. So each tile is
# *computed again*, turned into its gradient in place, multiplied with the head's weights, and thrown away
# once more. Nothing as wide as the vocabulary ever exists. It is checkpointing's trade, for the head.


# %% tags=["core"]
def loss_in_tiles(tiles: list[torch.Tensor], right: float) -> float:
    m, s = -math.inf, 0.0
    for tile in tiles:
        new = max(m, tile.max().item())
        s = s * math.exp(m - new) + (tile - new).exp().sum().item()
        m = new
    return m + math.log(s) - right


one, two = torch.tensor([2.0, 1.0, 0.0]), torch.tensor([3.0, 1.0, 0.0])
at_once = torch.nn.functional.cross_entropy(torch.cat([one, two]), torch.tensor(1)).item()
print(f"in tiles {loss_in_tiles([one, two], 1.0):.3f}, all at once {at_once:.3f}")
assert abs(loss_in_tiles([one, two], 1.0) - at_once) < 1e-6
head = counted.weights_in_products(llama3)[1]
print(f"the tiles' second time: {100 * 2 * head / counted.flops_per_token(with_trl):.1f} % more operations")

# %% [markdown]
# ### Is a small vocabulary a cure?
#
# The tower grows with the vocabulary, so would a model with fewer words do? Llama-2 has 32,000 entries. Take
# the same blocks and change nothing but the vocabulary:

# %% tags=["core"]
words = (8_192, 32_000, 64_000, 128_256, 256_000)
beside = {trainer: {} for trainer in ("plain", "sft")}
for trainer, found in beside.items():
    for count in words:
        run = replace(with_trl, trainer=trainer, config=dict(llama3, vocab_size=count))
        peak = streams.peak(stream_of(run))
        found[count] = (peak.bytes - peak.split["weights"]) / GIB
print(f"at 32,000 entries: plain {beside['plain'][32_000]:.1f} GiB, TRL {beside['sft'][32_000]:.1f}")
assert 1.4 < beside["plain"][32_000] / beside["sft"][32_000] < 1.5
assert max(beside["sft"].values()) - min(beside["sft"].values()) < 0.01
plots.show(
    figures.by_vocabulary(beside, "The fused head does not care how many words there are"),
    f"Two lines of peak memory beside the weights, from 8,192 to 256,000 entries. In a plain loop it rises "
    f"from {beside['plain'][8_192]:.1f} to {beside['plain'][256_000]:.1f} GiB; with TRL it is "
    f"{beside['sft'][128_256]:.1f} GiB throughout.",
)

# %% [markdown]
# Read the left end first. At 8,192 entries the tower is lower than the first tooth, and both trainers peak in
# the backward pass. But no model that you would fine-tune has so few words, and the vocabulary is not yours
# to choose. At 32,000 the plain loop still needs nearly half as much again as TRL, and the tower grows with
# the *tokens* as well: four times as many tokens with Llama-2's words make the same tower as Llama-3's. A
# small vocabulary lowers its slope. The fused head takes it away, for any vocabulary and number of tokens.
#
# ## The peak is one moment
#
# A table of a run's parts is often added up as if all of them were there at once. Compare what each part has
# at its own largest moment with what it has at the peak:

# %% tags=["core"]
peak, largest = peaks["TRL"], moments.largest(stream_of(with_trl))
rows = [[name, largest[name] / GIB, peak.split.get(name, 0) / GIB] for name in streams.CATEGORIES]
rows.append(["together", sum(largest.values()) / GIB, peak.bytes / GIB])
Table(["part", "at its own largest, GiB", "at the peak, GiB"], rows, "QLoRA with TRL, 4 x 2,048 tokens")

# %% [markdown]
# So do it as the drawing does: write down what is there at each moment that *could* be the highest, and take
# the largest. There are four of them. The teeth of the backward pass stand on a floor that falls (kept inputs
# go) and rises (gradients come), about as much with every block. So the highest tooth is the first or the
# last one.
#
# ### Exercise 2: the peak
#
# > **15 minutes · ●●○**
# >
# > Return the bytes at the peak. `standing` (weights, adapters, Adam's moments) is there at all four moments.
# > Beside it,
# >
# > - at the *loss*: `kept`, what all blocks keep, and `head`, what the head needs;
# > - when the *first* block goes back: `kept`, and `block`, what one block needs while it is computed again;
# > - when the *last* block goes back: `block`, and the `gradients` of all that is trained; what the other
# >   blocks kept is gone;
# > - in the *optimizer's step*: `gradients`, and the optimizer's `scratch`.
# >
# > A batch may be run in several [micro-batches](../glossary.md#micro-batch) whose gradients are added up
# > before the optimizer steps once ([accumulation](../glossary.md#accumulation)). If `accumulates` is true,
# > the gradients of the micro-batches before are there already at the first two moments.
# >
# > With 10 standing, 6 kept, 2 for the head, 3 for a block, 4 of gradients and no scratch it is 10 + 9 = 19;
# > if it accumulates, 10 + 13 = 23.


# %% tags=["core"]
def peak_of_step(
    standing: float,
    kept: float,
    head: float,
    block: float,
    gradients: float,
    scratch: float,
    accumulates: bool,
) -> float:
    ### BEGIN SOLUTION
    earlier = gradients if accumulates else 0
    loss = kept + head + earlier
    first_back = kept + block + earlier
    last_back = block + gradients
    step = gradients + scratch
    return standing + max(loss, first_back, last_back, step)
    ### END SOLUTION


exercises.peak_of_step.check(peak_of_step)

# %% [markdown]
# Now everything together: 16 bits for each weight, or notebook 04's count of 4-bit ones (`weight_bytes`);
# adapter, gradient and two moments for each trained number; what the blocks keep; logits or a tile of them.
# One block on its way back needs what exercise 1 counts, and about three tensors as wide as its MLP for the
# gradients that pass through. That is a planner that fits on a napkin.

# %% tags=["core"]
# exercises.peak_of_step.hint()
peak_of = exercises.peak_of_step.or_reference(peak_of_step)


def on_paper(run: Setup) -> float:
    """Peak bytes of LoRA or QLoRA on all linear layers: bfloat16, packed rows."""
    config, tokens, plain = run.config, run.batch * run.length, run.trainer == "plain"
    adapters = "float32" if plain else "bfloat16" if run.four_bit else "autocast"
    trained = counting.lora_count(config, run.rank) * (2 if adapters == "bfloat16" else 4)
    again = block_bytes(config, run.rank, adapters)
    tile = 2 * min(tokens, 4096) * min(config["vocab_size"], 32_768)
    return peak_of(
        standing=closed_form.weight_bytes(run) + 3 * trained,  # adapters and two moments
        kept=tokens
        * config["num_hidden_layers"]
        * (2 * config["hidden_size"] if run.checkpointing else again),
        head=14 * tokens * config["vocab_size"] if plain else tile,
        block=tokens * (3 * 2 * config["intermediate_size"] + (again if run.checkpointing else 0)),
        gradients=trained,
        scratch=trained if plain else 0,
        accumulates=run.accumulation > 1,
    )


# %% tags=["core"]
rows = []
for trainer, method, rows_a_step, on in (
    ("sft", "qlora", 4, True),
    ("sft", "lora", 4, True),
    ("sft", "qlora", 1, False),
    ("plain", "qlora", 4, True),
    ("plain", "lora", 1, False),
):
    run = replace(trl, trainer=trainer, method=method, batch=rows_a_step, checkpointing=on)
    paper, trace = on_paper(run), streams.peak(stream_of(run))
    name = f"{figures.TRAINERS[trainer][0]}, {method}, {rows_a_step} x 2,048{'' if on else ', all kept'}"
    rows.append(
        [name, paper / GIB, trace.bytes / GIB, f"{100 * (paper / trace.bytes - 1):+.1f} %", trace.phase]
    )
    assert abs(paper - napkin.on_paper(run)) < 1 and abs(paper / trace.bytes - 1) < 0.02
Table(["Llama-3.1-8B", "paper, GiB", "trace, GiB", "off by", "peak in"], rows, "Napkin and trace")

# %% [markdown]
# Your napkin is within 2 % of the trace. But is the trace right? Ask twice: real steps here, and what other
# people measured.
#
# ### Against real steps on this processor
#
# `torch.profiler` notes each allocation and release of a step that is really taken. The model has SmolLM2's
# shape with two blocks and 4,096 words, one row of 32 tokens, and plain ("eager") attention.

# %% tags=["core", "nbval-ignore-output"]
tiny = dict(model_configs.find("smollm2-135m"), num_hidden_layers=2, vocab_size=4096)
small = Setup(
    tiny, batch=1, length=32, dtype="float32", attention="eager", checkpointing=False, trainer="plain"
)
rows = []
for options in (
    {},
    {"method": "full"},
    {"trainer": "sft", "checkpointing": True},
    {"trainer": "sft", "method": "qlora", "checkpointing": True},
):
    setup = replace(small, **options)
    real, trace = watching.measured_peak(setup), watching.traced_peak(setup)
    name = f"{figures.TRAINERS[setup.trainer][0]}, {setup.method}"
    rows.append([name, f"{real / 1e6:.1f}", f"{trace / 1e6:.1f}"])
    assert abs(trace / real - 1) < 1e-3
Table(["two real steps", "profiler, MB", "trace, MB"], rows, "Peak of real steps on this processor")

# %% [markdown]
# Within 0.1 %, both trainers, 4-bit weights included. (On a processor TRL's head has no GPU kernels and
# unpacks its tiles in float32, so on so small a model it is not the smaller one; the trace here does the
# same.)
#
# ### Against what others measured on GPUs
#
# Nothing in this course was measured on a GPU. But others publish what theirs showed, and
# `data/published_runs/memory.json` cites those runs whose whole setting is known. Each dot is one such run:
# predicted over published.

# %% tags=["core"]
compared = [evidence.compared(row) for row in evidence.rows()]
off = sorted(100 * abs(one.ratio - 1) for one in compared)
median = off[len(off) // 2]
print(f"{len(off)} published runs: half of them within {median:.1f} %, the furthest {off[-1]:.1f} % off")
plots.show(
    figures.against_published(compared, "Predicted over published memory, run by run"),
    f"A dot for each of {len(off)} published runs, sorted by ratio: predicted over published memory, around "
    f"a line at 1. Half of them are within {median:.1f} %, the furthest is {off[-1]:.1f} % off.",
)

# %% [markdown]
# Read it with two reservations. The length of PEFT's rows, 640 tokens, is not published: it was set so that
# one of those runs comes out right. And these runs are of older versions, with full logits: the plain loop.
# For today's `SFTTrainer` nothing is published yet whose setting we know in full. There the ground is
# thinner: what is traced is TRL's own code, and it agrees with the profiler on a processor.
#
# ## What moves the peak, and what does not
#
# Out of memory: what would you change first? One piece of advice is to change the accumulation of gradients.
#
# > **Guide 001 says**, of QLoRA on Llama 3 8B with batch 4, accumulation 4 and rows of 2,048, if memory runs
# > out: "reduce gradient accumulation steps".
#
# Look at the outline before you measure. The micro-batches come one *after* the other: each has its own
# outline, and they stand side by side. What is different with more than one? Only that at the second one the
# gradients of the first are there already. So it should cost the gradients, once, and only if the peak is at
# the loss or at the first block's way back. Real steps first:

# %% tags=["core", "claim-E17", "nbval-ignore-output"]
peaks_here = {steps: watching.measured_peak(replace(small, accumulation=steps)) for steps in (1, 2, 4)}
gradients = 4 * counting.lora_count(tiny, 16)
rows = [[n, f"{size / 1e6:.1f}", f"{(size - peaks_here[1]) / 1e6:.1f}"] for n, size in peaks_here.items()]
print(f"LoRA on this processor; the adapters' gradients are {gradients / 1e6:.1f} MB")
assert abs(peaks_here[4] - peaks_here[1] - gradients) < 0.1 * gradients
assert abs(peaks_here[4] - peaks_here[2]) < 0.1 * gradients
print("fewer accumulation steps when memory runs out (guide 001): wrong.")
Table(["micro-batches a step", "peak, MB", "more than with one, MB"], rows, "Real steps on this processor")

# %% [markdown]
# From four to two nothing is gained. For the guide's model the gradients are 84 MB in TRL's bfloat16, of a
# peak of 10 GB. What does help is *fewer rows a micro-batch*, and more accumulation to make up for it.
#
# With *full* fine-tuning the same gradients are as large as the model. Then accumulating is no detail, but
# whether you pay depends on where the peak is:

# %% tags=["core"]
rows = []
for trainer, (name, _) in figures.TRAINERS.items():
    for method in ("qlora", "full"):
        run = replace(trl, method=method, trainer=trainer, batch=4)
        once, often = (streams.peak(stream_of(replace(run, accumulation=n))) for n in (1, 4))
        more = (often.bytes - once.bytes) / GIB
        rows.append([f"{name}, {method}", once.bytes / GIB, once.phase, often.bytes / GIB, often.phase, more])
assert 3 < more < 10 and counting.model_parameters(llama3) * 2 / GIB > 14.9
headings = ["Llama-3.1-8B, 4 x 2,048", "one, GiB", "peak in", "four, GiB", "peak in", "more, GiB"]
Table(headings, rows, "One micro-batch a step, and four")

# %% [markdown]
# In the plain loop full fine-tuning peaks in the optimizer's step, where the foreach AdamW takes scratch as
# large as the model: there the gradients are complete anyway, and accumulating adds nothing. TRL's fused
# AdamW takes no scratch. So the peak is the last tooth, with the gradients nearly complete; accumulate, and
# all of them stand under the *first* tooth and the loss as well. That costs some GiB, not the whole 15: only
# what the first moments reach above the last ones.
#
# ### Whose 14 to 15 GB?
#
# > **Guide 001 says**, of the same run: "we saw peak VRAM usage spike to 14–15 GB on specific batches with
# > long sequences", well above its estimate of 10 to 12 GB.
#
# Which trainer was that? Its code passes `max_seq_length` to `SFTConfig`. TRL dropped that name in release
# 0.20, and the head in tiles came later; so the guide's trainer made full logits, as the plain loop does. (So
# did those of guides 002 and 004, by the same name, and the `Trainer` behind guide 003.)

# %% tags=["core", "claim-E25"]
guide = replace(with_trl, accumulation=4, dropout=0.05)
rows = []
for trainer, (name, _) in figures.TRAINERS.items():
    run = replace(guide, trainer=trainer)
    plan = planner.plan(run)
    by_length = {n: on_paper(replace(run, length=n)) / GB for n in range(50, 5000, 50)}
    lengths = [max(n for n, size in by_length.items() if size <= gb) for gb in (14, 15)]
    gigabytes = [size * GIB / GB for size in (plan.peak_allocated_gib, plan.peak_reserved_gib)]
    rows.append([name, *(f"{size:.1f}" for size in gigabytes), f"{lengths[0]:,} to {lengths[1]:,}"])
assert float(rows[0][1]) > 22 and float(rows[1][2]) < 12
print("14 to 15 GB at 4 x 2,048 (guide 001): imprecise.")
headings = ["trainer", "allocated, GB", "reserved, GB", "14 to 15 GB belong to 4 rows of"]
Table(headings, rows, "Guide 001's run at 4 x 2,048 tokens, predicted")

# %% [markdown]
# The figure belongs to the older trainer, and to batches whose longest row is half as long as the limit: full
# rows of 2,048 would have needed more than 22 GB. With today's trainer the very same run stays within the
# guide's *estimate*. Nothing in the guide is made up, then; but a memory figure that does not say which
# trainer and how many tokens cannot be carried over. Hence "imprecise".
#
# ### One change at a time
#
# Which of these moves the peak of the guide's run, with TRL's trainer? Put them in order before you look.

# %% tags=["core"]
changes = {
    "as it is": {},
    "8-bit AdamW": {"optimizer": "adamw_8bit"},
    "rank 64": {"rank": 64},
    "two rows": {"batch": 2},
    "no checkpointing": {"checkpointing": False},
    "LoRA, in 16 bits": {"method": "lora"},
    "prepared for k-bit training": {"kbit_preparation": True},
    "in a plain loop": {"trainer": "plain"},
}
found = {name: streams.peak(stream_of(replace(with_trl, **options))) for name, options in changes.items()}
start = found["as it is"].bytes
assert found["prepared for k-bit training"].bytes > 1.5 * start
rows = [
    [name, peak.bytes / GIB, f"{(peak.bytes - start) / GIB:+.2f}", peak.phase] for name, peak in found.items()
]
Table(["change", "GiB", "more, GiB", "peak in"], rows, "QLoRA with TRL, Llama-3.1-8B, 4 x 2,048 tokens")

# %% [markdown]
# Checkpointing, rows, 4 bits and the head move the peak. The optimizer does not. And look at
# `prepare_model_for_kbit_training`, which guide 002 calls and TRL's trainer does not: it makes every
# parameter that is not in 4 bits float32, and with the norms all that flows through the blocks. It costs more
# than half of the run's memory again.
#
# ## LoRA or QLoRA on this card?
#
# A card of 24 GB, an L4, has 22 GiB. What lies in it is more than the tensors: PyTorch asks the card for
# large pieces and keeps them, so some memory is *reserved* but not in use, and CUDA itself takes about half a
# GiB. The bars have all three, because the dashed line is all of the card's memory.

# %% tags=["core"]
card = gpus.find("l4")
runs = {}
for trainer, (trainer_name, _) in figures.TRAINERS.items():
    for method, name in (("lora", "LoRA"), ("qlora", "QLoRA")):
        run = replace(trl, method=method, trainer=trainer)
        runs[f"{name}\n{trainer_name}"] = [replace(run, batch=batch) for batch in (1, 2, 4)]
tops = {name: [sum(figures.bar(run, card)) for run in several] for name, several in runs.items()}
ends = {name: (several[0] < card.memory_gib, several[-1] < card.memory_gib) for name, several in tops.items()}
assert list(ends.values()) == [(True, False), (True, False), (True, True), (True, True)]
plots.show(
    figures.against_a_card(runs, card, "What Llama-3.1-8B needs of a card, checkpointing on (dashed: an L4)"),
    "Stacked bars for 2,048, 4,096 and 8,192 tokens a step, in GiB. "
    + "; ".join(
        f"{' in '.join(name.splitlines())}: {', '.join(f'{top:.0f}' for top in several)}"
        for name, several in tops.items()
    )
    + f". The card has {card.memory_gib:.0f}.",
)

# %% [markdown]
# So with TRL's trainer plain LoRA of an 8B model fits this card, at four rows only just. In the plain loop
# there is room for one, and at four rows not even QLoRA fits. (A bar that is a little above the line may
# still run, because PyTorch gives unused pieces back before it fails; one whose coloured part is above it
# cannot.)
#
# ### Exercise 3: the method for a card
#
# > **20 minutes · ●●○**
# >
# > This is checkpoint 2 of [guide 004](../guides.md#guide-004), as a function that you keep. Return
# > `(method, rows)`: `"lora"` if at least one row of `length` tokens fits with it, else `"qlora"` if one fits
# > with that, else `("neither", 0)`. Plain LoRA comes first, because it loses neither time nor precision to 4
# > bits. `rows` is the largest number of rows a step that still fits with that method.
# >
# > A run fits if its peak is at most `usable` bytes. The peak is `on_paper`'s of
# > `Setup(config, method, rank, batch=rows, length=length, padded=False, trainer=trainer)`. `trainer` is
# > `"sft"` or `"plain"`, `rows` a whole number.
# >
# > For Llama-3.1-8B with `"sft"`, rank 16, rows of 2,048 and 16.5 × 10^9 usable bytes one row needs 17.7 ×
# > 10^9 with LoRA, which is too much; with QLoRA 9 rows fit, so the answer is `("qlora", 9)`.


# %% tags=["core"]
def method_for_card(config: dict, trainer: str, rank: int, length: int, usable: float) -> tuple[str, int]:
    ### BEGIN SOLUTION
    for method in ("lora", "qlora"):
        run = Setup(config, method, rank, length=length, padded=False, trainer=trainer)
        rows = 0
        while on_paper(replace(run, batch=rows + 1)) <= usable:
            rows += 1
        if rows > 0:
            return method, rows
    return "neither", 0
    ### END SOLUTION


exercises.method_for_card.check(method_for_card)

# %% tags=["core"]
# exercises.method_for_card.hint()
choose = exercises.method_for_card.or_reference(method_for_card)
assert list(choose(llama3, "sft", 16, 2048, 16.5e9)) == ["qlora", 9]
rows = []
for model in ("llama-2-7b", "llama-3.1-8b", "llama-2-13b", "llama-3-70b"):
    for trainer, (name, _) in figures.TRAINERS.items():
        usable = [0.85 * gpus.find(name).memory_gib * GIB for name in ("t4", "l4", "a100-80")]
        answers = [choose(model_configs.find(model), trainer, 16, 1024, size) for size in usable]
        rows.append([model, name, *(f"{method}, {most}" if most else method for method, most in answers)])
headings = ["model", "trainer", "T4, 16 GB", "L4, 24 GB", "A100, 80 GB"]
Table(headings, rows, "Method and most rows of 1,024 tokens, at 85 % of the card")

# %% [markdown]
# The 15 % are left for what is reserved and for CUDA. (A T4 computes in float16, not in bfloat16; the bytes
# are the same.)
#
# The course's planner, which is behind `python3 lab.py plan`, traces instead of adding up. It predicts what
# is reserved as well, replays the step with the card's size as a limit to see whether it runs, and says what
# to change if it does not:

# %% tags=["core"]
print(prose.report(planner.plan(replace(in_loop, method="lora"), card)))

# %% [markdown]
# ## What it costs
#
# A run that fits is not yet one that you want to pay for. Count its work. A multiplication with a weight and
# the addition after it are 2 *operations* (FLOPs), so a token costs 2 a weight on its way forwards. Backwards
# you know the two kinds of gradients from above: 2 operations a weight to pass the gradient on to the layer
# below, and 2 more for the gradient of the weight itself, *if it is trained*.
#
# > **Predict.** LoRA trains half a percent of Llama-3.1-8B. What share of full fine-tuning's operations does
# > it need?

# %% tags=["core"]
guess = None  # your guess, in percent

# %% tags=["core"]
run = replace(trl, checkpointing=False)
share = counted.flops_per_token(run) / counted.flops_per_token(replace(run, method="full"))
predictions.compare(guess, 100 * share, unit="%", word="computed")

# %% [markdown]
# Two thirds: 4 of 6 operations a weight. The gradient has to pass through every frozen weight to reach the
# lowest adapter, so freezing saves only its own third.
#
# ### Exercise 4: operations a token, LoRA
#
# > **15 minutes · ●●●**
# >
# > Return the operations of one training step for one token.
# >
# > - `blocks` and `head` are frozen weights, `adapters` trained ones; the token is multiplied with each once.
# > - `scores` are the operations of the attention's scores forwards. They multiply two computed things, so
# >   backwards they cost twice as much.
# > - With `checkpointing` the blocks (weights, adapters, scores) are computed forwards once more.
# >
# > All are whole numbers. With 10 weights in the blocks and nothing else it is 2 × 10 forwards and 2 × 10
# > backwards, 40 in all, and 60 with checkpointing.


# %% tags=["core"]
def operations(blocks: int, head: int, adapters: int, scores: int, checkpointing: bool) -> int:
    ### BEGIN SOLUTION
    forward = 2 * (blocks + adapters) + scores
    backward = 2 * forward - 2 * blocks  # frozen weights need no gradient of their own
    return forward * (2 if checkpointing else 1) + backward + 4 * head
    ### END SOLUTION


exercises.operations.check(operations)

# %% tags=["core"]
# exercises.operations.hint()
operations_of = exercises.operations.or_reference(operations)
blocks, head = counted.weights_in_products(llama3)
scores = 32 * 2 * 2048 * 4096  # blocks x 2 x row x query width: each token sees half of the row on average
adapters = counting.lora_count(llama3, 16)
off, on = (operations_of(blocks, head, adapters, scores, again) for again in (False, True))
assert off == counted.flops_per_token(run)
assert on == counted.flops_per_token(trl)
print(f"billion operations a token: {off / 1e9:.1f}, with checkpointing {on / 1e9:.1f}: {on / off:.2f} times")

# %% [markdown]
# There is the price of checkpointing: nearly half as much again, for LoRA. (The "third more" that one reads
# is full fine-tuning's.)
#
# ### Three things that take time
#
# From operations to seconds. A card is sold by a speed; it reaches that only while it is busy multiplying,
# and a step has more to do. Take an L4 and LoRA on Llama-3.1-8B, and imagine a step of a *single* token:
#
# - *Computing*: some 46 billion operations, at 59 × 10^12 a second: less than a thousandth of a second.
# - *Reading*: every product has to fetch its weights from the card's memory. That is 15 GB, and with
#   checkpointing nearly three times, forwards, again, and backwards; at 300 GB a second, 0.15 seconds.
# - *Launching*: every operation is a [*kernel*](../glossary.md#kernel) that Python and PyTorch have to
#   start, at best in 8 millionths of a second. A step has more than ten thousand of them.
#
# So for one token the card does almost nothing but wait. With more tokens in the step computing grows, and
# the other two stay as they are, because the same weights and the same kernels serve all of them. Where
# computing overtakes the others, the curve bends: this is called a [*roofline*](../glossary.md#roofline). By
# the course's parameters at their fast end:

# %% tags=["core"]
speed, bandwidth = card.sustained_tflops * 1e12, card.bandwidth_gb_s * 1e9  # measured; promised
read = 2 * (3 * blocks + 2 * head)  # bytes of 16-bit weights in a step with checkpointing
kernels, launch = step_time.kernels(trl), step_time.LAUNCH[0]
assert round(speed / 1e12) == 59 and bandwidth == 300e9 and launch == 8e-6 and kernels > 10_000
rows = []
for tokens in (1, 128, 512, 2048, 8192):
    parts = (tokens * on / speed, read / bandwidth, kernels * launch)
    rows.append([f"{tokens:,}", *(f"{seconds:.3f}" for seconds in parts)])
print(f"{speed / 1e12:g} x 10^12 operations and {bandwidth / 1e9:g} GB a second, {kernels:,} kernels")
Table(["tokens a step", "computing, s", "reading, s", "launching, s"], rows, "LoRA of Llama-3.1-8B on an L4")

# %% [markdown]
# Weights are read while the card computes, so of these two only the longer one counts. The course's model
# adds the time of the launches to it.
#
# ### Exercise 5: your cost estimate
#
# > **20 minutes · ●●○**
# >
# > The exercise of the day-078 page ([guide 003](../guides.md#guide-003)): what does a run cost? Return
# > `(hours, money, binds)` of `steps` steps on one card.
# >
# > A step has `tokens` tokens of `a_token` operations, reads `weights` bytes and launches `kernels` kernels.
# > `card` is a dict with `"speed"` (operations a second), `"bandwidth"` (bytes a second) and `"launch"`
# > (seconds a kernel). A step takes the longer of computing and reading, plus launching. `binds` is the one
# > of `"computing"`, `"reading"` and `"launching"` that takes longest by itself. `rate` is money an hour.
# >
# > 3,600 steps of 2 s computing, 1 s reading and 0.5 s launching at a rate of 4 are `(2.5, 10.0,
# > "computing")`.


# %% tags=["core"]
def priced(
    steps: int, tokens: int, a_token: float, weights: float, kernels: int, card: dict, rate: float
) -> tuple[float, float, str]:
    ### BEGIN SOLUTION
    parts = {
        "computing": tokens * a_token / card["speed"],
        "reading": weights / card["bandwidth"],
        "launching": kernels * card["launch"],
    }
    seconds = max(parts["computing"], parts["reading"]) + parts["launching"]
    hours = steps * seconds / 3600
    return hours, hours * rate, max(parts, key=parts.get)
    ### END SOLUTION


exercises.priced.check(priced)

# %% [markdown]
# 5,000 rows of 256 tokens, 3 epochs: one row at a time, or eight of them packed into one of 2,048. On an L4
# at 0.80 an hour, and on an A100 at 2.50 (examples: put in yours).

# %% tags=["core"]
# exercises.priced.hint()
price_of = exercises.priced.or_reference(priced)
rows, spent = [], {}
for one, rate in ((card, 0.80), (gpus.find("a100-80"), 2.50)):
    limits = {"speed": one.sustained_tflops * 1e12, "bandwidth": one.bandwidth_gb_s * 1e9, "launch": launch}
    for name, length in (("one row a step", 256), ("packed to 2,048", 2048)):
        steps, a_token = 5000 * 3 * 256 // length, counted.flops_per_token(replace(trl, length=length))
        hours, money, binds = price_of(steps, length, a_token, read, kernels, limits, rate)
        rows.append([one.sold_as, name, f"{steps:,}", f"{hours:.2f}", f"{money:.2f}", binds])
        spent[one.name, length] = hours
assert gpus.find("a100-80").sustained_tflops > 4 * card.sustained_tflops
assert spent["a100-80", 256] > 2 * spent["a100-80", 2048] and spent["l4", 256] < 1.5 * spent["l4", 2048]
headings = ["card", "rows", "steps", "hours", "money", "binds"]
Table(headings, rows, "LoRA of Llama-3.1-8B, 3 epochs of 5,000 rows of 256 tokens, at the fast end")

# %% [markdown]
# The same tokens every time. What changes is how many of them share one reading and one round of launches,
# and that is all that packing and larger batches do for you: once computing binds, they do little more. And
# look at the two cards. The fast one is more than four times as fast at computing, and no faster at
# launching, because that is the host's work. Unless you fill it, you pay for waiting.
#
# ### How wide the range is
#
# That was the fast end, of the three largest terms. The course's model has four more: the attention's scores,
# the traffic of activations between the products, unpacking 4-bit weights for every product anew, and what
# several cards send each other. And it has a slow end: what a plain stack on a middling host reaches. Over
# the tokens of a step it looks like this:

# %% tags=["core"]
lengths = [2**power for power in range(5, 14)]
bands = {
    name: [step_time.step_time(replace(trl, method=method, length=length), card) for length in lengths]
    for name, method in (("LoRA", "lora"), ("QLoRA", "qlora"))
}
most = bands["LoRA"][-1].tokens_a_second
assert [bands["QLoRA"][i].binds for i in (0, -1)] == ["unpacking", "products"]
assert sum(bands["QLoRA"][-1].seconds) < 1.1 * sum(bands["LoRA"][-1].seconds)
plots.show(
    cost_figures.over_tokens(bands, "Tokens a second on an L4, from the slow to the fast end"),
    "Two bands of tokens a second over the tokens of a step, from 32 to 8,192, both axes logarithmic. Both "
    f"rise at first and flatten towards the right, at {most[0]:,.0f} to {most[1]:,.0f}. QLoRA lies below "
    "LoRA on the left, where unpacking takes most of its time, and meets it on the right, where products do.",
)

# %% [markdown]
# At the left QLoRA is much slower than LoRA: to unpack all the weights takes the same time however few tokens
# are waiting for them. At the right it costs next to nothing. "4-bit training is slower" is a sentence about
# short steps.
#
# ### How good is it?
#
# `data/published_runs/times.json` cites the times of runs that others published. Some of them set the model's
# parameters ("fitted"). The others were kept out, to try the model on:

# %% tags=["core"]
held = published_times.held()
kept_out = published_times.share_inside("held out")
print(f"kept out: {kept_out[0]} of {kept_out[1]} inside; fitted: {published_times.share_inside('fitted')[0]}")
widths = sorted(found.seconds[1] / found.seconds[0] for _, found in held)
print(f"the slow end is {widths[0]:.1f} to {widths[-1]:.1f} times the fast end")
assert kept_out[0] >= 0.8 * kept_out[1]
plots.show(
    cost_figures.against_published(held, "Published seconds a step, beside the model's range"),
    f"A bar from fast to slow for each of {len(held)} published runs over the tokens of a step, as a share "
    f"of the middle of the range, and a dot for what was published. Of the runs kept out {kept_out[0]} of "
    f"{kept_out[1]} dots lie on their bars.",
)

# %% [markdown]
# So what is such a range good for? Not for a bill: its ends are nearly three times apart. But both ends move
# together when *you* change something, so it tells what would be cheaper. Here is the exercise of the day-078
# page in full: QLoRA on one card beside LoRA on four.

# %% tags=["core"]
plans = cost_model.compare(replace(trl, batch=4, length=512), 5000, 3, card, 0.80, 4)
rows = []
for plan in plans:
    spans = [f"{low:.1f} to {high:.1f}" for low, high in (plan.hours, plan.money)]
    rows.append([f"{plan.method} on {plan.gpus} x L4", *spans, plan.binds])
assert 0.8 < sum(plans[1].money) / sum(plans[0].money) < 1
print(plans[0].method, "on one card would be cheaper with:")
for change in plans[0].cheaper:
    print(" -", change.said)
Table(["plan", "hours", "money", "binds"], rows, "5,000 rows of 512 tokens, 3 epochs, 4 rows a micro-batch")

# %% [markdown]
# Four cards cost about the same money as one, and less than a quarter of the time. Does that follow from the
# model, or did we put it in? It follows: the number of cards cancels, as long as what they send each other
# is small, and an adapter's gradients are. What is left is the unpacking of 4 bits on the one side. With
# full fine-tuning the gradients are the size of the model, and over PCIe the sentence would be another.
#
# > **Careful.** Take such an estimate as a range, and time a minute of your own run before you pay for all of
# > it.
#
# Four cards help with time. With *data parallel*, as here, each holds the *whole* model, so they do not make
# a run fit. (Splitting the model over the cards does, and then they send weights.)
#
# ## Two explorers
#
# Find the longest row that fits an L4 with LoRA, then with QLoRA; then switch the trainer. And below: what
# would your own dataset cost, and what at four times the tokens a step?

# %% tags=["core"]
vram_planner_explorer.explore()

# %% tags=["core"]
cost_estimator_explorer.explore()

# %% [markdown]
# ## Measured claims
#
# Four figures of the guides stand above: 56 GB for a 7B (imprecise, since it leaves activations out), 2 to 4
# GB of optimizer states (wrong), fewer accumulation steps against running out of memory (wrong), 14 to 15 GB
# at 4 × 2,048 (imprecise: of another trainer, and of shorter rows). The guides say some twenty more things
# about memory and cost; `python3 lab.py claims --notebook 05` prints each with its scope, its verdict and
# what was computed for it.
#
# ## Checkpoint
#
# The first question is checkpoint 2 of guide 004.

# %% tags=["core"]
quiz.ask("05_memory_and_cost")

# %% [markdown]
# ## To take away
#
# - The card must hold the highest point of the step. In a plain loop that is the loss: 14 bytes × vocabulary
#   a token. With TRL's trainer it is the first block's way back; with full fine-tuning the optimizer or the
#   last block. Reserved is more than allocated, and CUDA itself takes about half a GiB: ask `lab.py plan`.
# - A frozen layer keeps nothing of its tokens. Its adapter keeps its whole input.
# - First checkpointing and a head that makes no full logits, then fewer rows, then 4 bits. Fewer accumulation
#   steps, 8-bit and paged Adam do next to nothing for an adapter of rank 16.
# - Ask of each memory figure: which trainer? bytes a parameter? tokens a step? checkpointing?
# - A step computes, reads and launches. Fill it until computing binds; after that only less work or another
#   card helps.
#
# ## On a rented GPU
#
# Written for L4/A10, not yet run there. Worth a few paid minutes: `torch.cuda.max_memory_allocated()` and
# `max_memory_reserved()` after two steps of your own run, beside what `lab.py plan` said, and its seconds a
# step beside `lab.py cost`.
