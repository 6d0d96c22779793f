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
# **Minutes**: 120 to read and do, 1 to run all cells.
#
# After this notebook you will be able to
#
# - draw the memory of a training step over time, and say which part of it to attack when it does not fit;
# - predict its peak on paper, for a plain training loop and packed rows to a few percent of a traced step;
# - decide between LoRA and QLoRA from a card's memory;
# - tell which recipe a guide's memory figure belongs to, or that it belongs to none;
# - estimate hours and money of a run, and say what the estimate rests on.
#
# **Needs** notebooks [03](03_counting_parameters.ipynb) (counts) and [04](04_nf4_quantization.ipynb) (NF4).
# Everything runs on the processor. Real steps of a small model are measured; every figure for a GPU is a
# **prediction**.

# %% [markdown]
# Out of memory. It is the first error that most people meet when they fine-tune, and the message names the
# piece that did not fit any more, not the ones that filled the card before it. To know those, look at one
# training step as it goes by:
#
# ![A drawing of memory over one training step. Weights, and above them adapters with Adam's moments, lie flat
# through all four phases. Activations rise through the forward pass, logits stand on top of them at the loss,
# activations fall through the backward pass while gradients grow, and the optimizer's step adds some scratch
# memory.](attachment:schematic.png)
#
# - What *stands* is there from the first step to the last: the weights, the adapters, and the two running
#   means that [Adam](../glossary.md#adam) keeps for each trained number.
# - [Activations](../glossary.md#activation) pile up in the forward pass, block by block, because the backward
#   pass will need them. It goes through the blocks from the last to the first and frees what it has used.
# - [Logits](../glossary.md#logits) come and go between the two.
# - [Gradients](../glossary.md#gradient) grow during the backward pass, and the optimizer needs a little
#   scratch memory to apply them.
#
# You could redraw this from memory, and you should, because two things follow from it at once. The card has
# to hold the *highest point* of this outline, not the sum of its parts. And a change helps only if it lowers
# the outline *there*. The rest of the notebook puts numbers on it.
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
from dataclasses import replace

import torch

from labsupport.allocations import moments, streams
from labsupport.core import plots, profiles, upstream
from labsupport.core.tables import Table
from labsupport.cost import cost_model
from labsupport.explorers import cost_estimator_explorer, vram_planner_explorer
from labsupport.memory import tracing, watching
from labsupport.planning import closed_form, planner, prose
from labsupport.memory.setup import Setup
from labsupport.notebooks.nb05_memory_and_cost import exercises, figures, step
from labsupport.sizes import counting, gpus, model_configs
from labsupport.teaching import predictions, quiz

upstream.quiet_known_noise()  # messages about this stack that you can do nothing about
upstream.guard_4bit_on_cpu()  # before a 4-bit model is built, see notebook 04
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
# > **Predict.** How many GB (10^9 bytes) do the 12 bytes come to for Llama-2-7B, before any activation?

# %% tags=["core"]
guess = None  # your guess, in GB

# %% tags=["core"]
recipes = {  # bytes of weight, gradient, first and second moment, master copy
    "bfloat16, 8-bit Adam": (2, 2, 1, 1, 0),
    "all in bfloat16": (2, 2, 2, 2, 0),
    "bfloat16, float32 Adam": (2, 2, 4, 4, 0),
    "the same and a master copy": (2, 2, 4, 4, 4),
}
count = counting.model_parameters(llama2)
predictions.compare(guess, 12 * count / GB, unit="GB", word="computed")
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
# cost their 2 bytes and nothing else. Only the adapters carry the full load. PEFT keeps them in float32 by
# default, so each of their numbers costs 4 + 4 + 4 + 4 = 16 bytes. But there are few of them.
#
# > **Guide 001 says**, of the optimizer's states of a 7B model with r = 16 and Adam in bfloat16: "typically
# > 2–4 GB".

# %% tags=["core"]
guess = (
    None  # your guess: both moments, float32, Llama-2-7B, rank 16 on all linear layers, in MB (10^6 bytes)
)

# %% tags=["core", "claim-E15"]
count, count_64 = counting.lora_count(llama2, 16), counting.lora_count(llama2, 64)
predictions.compare(guess, 8 * count / 1e6, unit="MB", word="computed")
rows = [
    ["rank 16, bfloat16, as the guide says", f"{count:,}", 2 + 2, 4 * count / 1e6],
    ["rank 16, float32", f"{count:,}", 4 + 4, 8 * count / 1e6],
    ["rank 64, float32", f"{count_64:,}", 4 + 4, 8 * count_64 / 1e6],
]
print("optimizer states of 2 to 4 GB (guide 001): wrong.")
Table(["moments of", "trained parameters", "bytes each", "MB"], rows, "Adam's states, Llama-2-7B, all linear")

# %% [markdown]
# A sixth of a GB at the guide's own setting, and even four times its rank in float32 stays below 2 GB. Keep
# the 320 MB in mind, beside 13,500 MB of weights. They are all that an 8-bit optimizer could shrink, and all
# that a *paged* one, which moves states to the computer's memory when the card is full, could move.
#
# ## Activations: why a frozen layer keeps nothing, and its adapter does
#
# So weights and trained numbers are easily counted. The rest of the outline, the hill in the middle, is made
# of activations. Why must anything be kept? Do it by hand, with the smallest layer there is: $y = Wx$ with
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
# not linear: their backward pass needs what went in, frozen or not. To see how much that is, watch one block
# of Llama-3.1-8B with LoRA on all linear layers. It takes no memory here, because it runs on the
# [meta device](../glossary.md#meta-device): shapes without contents.
#
# `Setup` holds the choices of a run. Rows of unequal length are filled up with padding, which a mask hides;
# [packed](../glossary.md#packing) rows (`padded=False`) are filled with further examples and need none.

# %% tags=["core"]
base = Setup(config=llama3, batch=1, length=1024, padded=False, checkpointing=False)
block = watching.kept_by_block(base)
sizes = {"float32": 4, "bfloat16": 2}
rows, watched = [], 0
for (dtype, width), many in sorted(block.items(), key=lambda item: -item[0][1]):
    rows.append([f"{width:,}", dtype, many, many * width * sizes[dtype]])
    watched += many * width * sizes[dtype]
print(f"{watched:,} bytes for one token in one block of Llama-3.1-8B with LoRA")
Table(["width", "dtype", "tensors", "bytes a token"], rows, "What one block keeps for each token")

# %% [markdown]
# Who keeps what? Sorted by owner:
#
# | what | tensors | width | bytes a number |
# |---|---|---|---|
# | inputs of the two norms | 2 | hidden | 4 |
# | input of each adapter, cast to its float32 | 7 | inputs of its module | 4 |
# | what each adapter's A gives | 7 | rank | 4 |
# | queries, and the attention's output | 2 | outputs of `q_proj` | 2 |
# | keys, and values | 2 | outputs of `k_proj` | 2 |
# | log-sums of the attention's [softmax](../glossary.md#softmax) | 1 | heads | 4 |
# | MLP: gate, activated gate, up | 3 | intermediate | 2 |
#
# ### Exercise 1: bytes a token and block
#
# > **20 minutes · ●●●**
# >
# > Add the table up for any model: return the bytes (a whole number) that one block keeps for one token, with
# > an adapter of this rank on each of its seven linear layers. `config` is a model's config as a dict, with
# > `hidden_size`, `intermediate_size` and `num_attention_heads`; `counting.block_shapes(config)` gives
# > `{"q_proj": (inputs, outputs), …}` for the seven modules. Leave out the single number that each norm
# > keeps besides.
# >
# > For Llama-3.1-8B the norms alone are 2 × 4,096 × 4 = 32,768 bytes.


# %% tags=["core"]
def kept_by_a_block(config: dict, rank: int) -> int:
    ### BEGIN SOLUTION
    shapes = counting.block_shapes(config)
    norms = 2 * 4 * config["hidden_size"]
    adapters = sum(4 * (inputs + rank) for inputs, _ in shapes.values())
    attention = 2 * 2 * (shapes["q_proj"][1] + shapes["k_proj"][1]) + 4 * config["num_attention_heads"]
    return norms + adapters + attention + 3 * 2 * config["intermediate_size"]
    ### END SOLUTION


exercises.kept_by_a_block.check(kept_by_a_block)

# %% tags=["core"]
# exercises.kept_by_a_block.hint()
block_bytes = exercises.kept_by_a_block.or_reference(kept_by_a_block)

# %% tags=["core"]
by_hand = block_bytes(llama3, 16)
print(f"{by_hand:,} by hand, {watched:,} watched: {watched - by_hand} bytes apart, one float32 a norm")
inputs = sum(4 * width for width, _ in counting.block_shapes(llama3).values())
print(f"inputs of the adapters: {100 * inputs / by_hand:.0f} % of it")
four_bit = watching.kept_by_block(replace(base, method="qlora"))
print("the same tensors with 4-bit weights:", four_bit == block)
assert watched - by_hand == 8 and four_bit == block

# %% [markdown]
# Here is the surprise of this notebook: more than half of what a frozen model keeps is there *because of its
# adapters*. They train half a percent of the parameters, and they make seven layers keep inputs that nobody
# else asked for, in float32. (The inputs of q, k and v are even the same numbers, and so are gate's and up's;
# each is cast anew. TRL's trainer makes the adapters bfloat16 on a 4-bit base, which halves that part. Here
# and below they are float32, as in plain PEFT.)
#
# And the last line: 4-bit weights change nothing of it. Guide 002's table halves the activations under QLoRA,
# from 12 to 6 GB for the same 7B model. But what is kept is the *data* that flows through, and that stays in
# 16 and 32 bits.
#
# ### Checkpointing
#
# What does shrink activations is [checkpointing](../glossary.md#checkpointing): throw away what a block would
# keep, except its input, and when the backward pass arrives there, run the block forwards once more to get it
# back. Per token and block that leaves the input alone, hidden size × 2 bytes.

# %% tags=["core"]
kept = 2 * llama3["hidden_size"]
print(f"a token and block: {by_hand / 1024:.0f} KiB, with checkpointing {kept / 1024:.0f} KiB")
print(f"all {llama3['num_hidden_layers']} blocks, one row of 2,048 tokens, in GiB:", end=" ")
whole = llama3["num_hidden_layers"] * 2048
print(f"{whole * by_hand / GIB:.1f}, with checkpointing {whole * kept / GIB:.1f}")

# %% [markdown]
# A hill of 18 GiB becomes a ripple. The price is time, and further down you will count it.
#
# ## Logits, in a plain loop
#
# After the last block the [head](../glossary.md#lm_head) turns each token into one number for each entry of
# the [vocabulary](../glossary.md#vocabulary): 128,256 of them in Llama-3.1. A *plain loop* calls the model,
# gets all these logits, and computes the loss from them. This section and all traces below are of such a
# loop. TRL's `SFTTrainer` computes the loss in pieces and never makes full logits, so with it this part of
# the peak falls away.
#
# > **Predict.** How many GiB do logits and loss take at their worst moment, for one row of 2,048 tokens?

# %% tags=["core"]
guess = None  # your guess, in GiB

# %% [markdown]
# To see it we *trace* a whole step: model, PEFT and optimizer run on the meta device, and each tensor is
# noted when it comes and when it goes. Three blocks are traced, the others repeat the inner one.

# %% tags=["core"]
start = Setup(llama3, "lora", batch=1, length=2048, padded=False)  # rank 16, all linear, checkpointing on
logits = moments.tensors_at_largest(step.traced(start), "logits")
predictions.compare(guess, sum(logits) / GIB, unit="GiB", word="predicted")
each = [size / 2048 / llama3["vocab_size"] for size in logits]
print("bytes a token and entry:", " + ".join(f"{size:g}" for size in each), f"= {sum(each):g}")
assert sum(each) == 14

# %% [markdown]
# 14 bytes times the vocabulary for each token: the logits in bfloat16, then their log-softmax and two
# gradients in float32. Checkpointing cannot help, because the head lies behind the blocks.

# %% [markdown]
# ## The peak is one moment
#
# Now the outline of the drawing, as it comes out of the trace: one step of LoRA on Llama-3.1-8B, one row of
# 2,048 tokens. The four phases have the same width here, though the loss is only some fifty allocations and
# releases and the backward pass twelve thousand.

# %% tags=["core"]
fig = figures.over_a_step(
    {
        "checkpointing off": step.traced(replace(start, checkpointing=False)),
        "checkpointing on": step.traced(start),
    },
    "In a plain loop the highest point is the loss, with checkpointing and without",
)
plots.show(
    fig,
    "Stacked areas of memory over one LoRA step of Llama-3.1-8B, in four phases. Weights are flat at 15 GiB. "
    "Without checkpointing activations rise through the forward pass to 34 GiB and fall through the backward "
    "pass; logits make the peak of 36.9 GiB at the loss. With checkpointing the activations are a thin band "
    "and the logits a hill on the weights, with a peak of 19.4 GiB.",
)

# %% [markdown]
# Without checkpointing you see the hill; with it the hill is gone, and what is left on top of the weights is
# the loss. Two details that the drawing does not have: the thin orange band through the whole step is the old
# logits, which the loop's variable `outputs` keeps alive until the next ones replace them; and the saw teeth
# in the right panel are the blocks that are computed again, one after the other.
#
# A table of parts is often added up as if all of them were there at once. Compare what each part has at its
# own largest moment with what it has at the peak:

# %% tags=["core"]
peak, largest = streams.peak(step.traced(start)), moments.largest(step.traced(start))
rows = [[name, largest[name] / GIB, peak.split.get(name, 0) / GIB] for name in streams.CATEGORIES]
rows.append(["together", sum(largest.values()) / GIB, peak.bytes / GIB])
Table(["part", "at its own largest, GiB", "at the peak, GiB"], rows, "LoRA, checkpointing, 1 x 2,048 tokens")

# %% [markdown]
# At the loss the gradients are not there yet, and the blocks' scratch is gone.
#
# ### Exercise 2: the peak
#
# > **10 minutes · ●●○**
# >
# > Two moments of the step compete. At the *loss* all activations and logits are there. In the *optimizer's
# > step* there are the gradients and a temporary as large as they are. `standing` (weights, adapters, Adam's
# > moments) is there in both. Return the peak. All arguments and the result are numbers of bytes.
# >
# > With 10 standing, 3 of activations, 2 of logits and 4 of gradients it is 10 + 8 = 18.
#
# (The temporary belongs to the *foreach* AdamW, which `torch.optim.AdamW` takes by itself on a GPU; it is
# what all traces here count. The *fused* one, the default of transformers' and TRL's trainers, makes none.)


# %% tags=["core"]
def peak_bytes(standing: float, activations: float, logits: float, gradients: float) -> float:
    ### BEGIN SOLUTION
    loss = activations + logits
    step = 2 * gradients
    return standing + max(loss, step)
    ### END SOLUTION


exercises.peak_bytes.check(peak_bytes)

# %% tags=["core"]
# exercises.peak_bytes.hint()
peak_of = exercises.peak_bytes.or_reference(peak_bytes)


# %% [markdown]
# Now everything together: 16 bits for each weight, or notebook 04's count of 4-bit ones (`weight_bytes`); 12
# bytes for what is trained; what the blocks keep; logits; gradients. That is a planner that fits on a napkin.


# %% tags=["core"]
def on_paper(config: dict, method: str, rank: int, tokens: int, checkpointing: bool = True) -> float:
    """Peak bytes of LoRA or QLoRA on all linear layers: plain loop, bfloat16, packed rows."""
    count = counting.lora_count(config, rank)
    kept = 2 * config["hidden_size"] if checkpointing else block_bytes(config, rank)
    standing = closed_form.weight_bytes(Setup(config, method)) + 12 * count  # adapters 4, moments 8
    activations = tokens * config["num_hidden_layers"] * kept
    return peak_of(standing, activations, 14 * config["vocab_size"] * tokens, 4 * count)


# %% tags=["core"]
rows = []
for method in ("lora", "qlora"):
    for on in (False, True):
        setup = replace(start, method=method, checkpointing=on)
        paper, trace = on_paper(llama3, method, 16, 2048, on), streams.peak(step.traced(setup)).bytes
        rows.append([f"{method}, checkpointing {'on' if on else 'off'}", paper / GIB, trace / GIB])
        assert abs(paper - closed_form.peak_bytes(setup)) < 1  # the course's own closed form
        assert abs(paper / trace - 1) < 0.02
Table(["Llama-3.1-8B, 1 x 2,048 tokens", "paper, GiB", "trace, GiB"], rows, "NF4 not checked on a GPU")

# %% [markdown]
# Your napkin and the trace agree within 2 %. But is the trace right? On a GPU we cannot check it here; on
# real steps of a real model on this processor we can: `torch.profiler` notes each allocation and release. The
# model has SmolLM2's shape with four blocks and 8,192 entries, float32, two rows of 64 tokens, and plain
# ("eager") attention.

# %% tags=["core", "nbval-ignore-output"]
tiny = dict(model_configs.find("smollm2-135m"), num_hidden_layers=4, vocab_size=8192)
small = Setup(tiny, batch=2, length=64, dtype="float32", attention="eager", checkpointing=False)
rows = []
for options in ({}, {"checkpointing": True}, {"method": "qlora"}, {"method": "full"}):
    setup = replace(small, **options)
    real, (stream, _) = watching.real_peak(setup), tracing.record_steps(setup, depth=4)
    trace = streams.peak(stream, unit=1).bytes
    name = f"{setup.method}{', checkpointing' if setup.checkpointing else ''}"
    rows.append([name, f"{real / 1e6:.1f}", f"{trace / 1e6:.1f}"])
    assert abs(trace / real - 1) < 1e-3
Table(["two real steps", "profiler, MB", "trace, MB"], rows, "Peak of real steps on this processor")

# %% [markdown]
# Within 0.1 %, 4-bit weights included (on a *processor*).
#
# ## What moves the peak, and what does not
#
# Out of memory: what would you change first? One piece of advice is to change the
# [accumulation](../glossary.md#accumulation) of gradients, which runs several
# [micro-batches](../glossary.md#micro-batch), adds up their gradients and then lets the optimizer step once.
#
# > **Guide 001 says**, of QLoRA on Llama 3 8B with batch 4, accumulation 4 and rows of 2,048, if memory runs
# > out: "reduce gradient accumulation steps".
#
# Look at the outline before you measure. The micro-batches come one *after* the other: each has its own hill,
# and the hills stand side by side. What is different with more than one? Only that at the second hill, the
# gradients of the first are already there. So it should cost the adapters' gradients, once. Measured on real
# steps, with one, two and four micro-batches:

# %% tags=["core", "claim-E17", "nbval-ignore-output"]
peaks = {steps: watching.real_peak(small, steps) for steps in (1, 2, 4)}
gradients = 4 * counting.lora_count(tiny, 16)
rows = [[steps, f"{size / 1e6:.1f}", f"{(size - peaks[1]) / 1e6:.1f}"] for steps, size in peaks.items()]
print(f"the adapters' gradients are {gradients / 1e6:.1f} MB")
assert abs(peaks[4] - peaks[1] - gradients) < 0.1 * gradients
assert abs(peaks[4] - peaks[2]) < 0.1 * gradients
print("fewer accumulation steps when memory runs out (guide 001): wrong.")
Table(["micro-batches a step", "peak, MB", "more than with one, MB"], rows, "Real steps on this processor")

# %% [markdown]
# From four to two nothing is gained. In the guide's own setting the gradients come to 4 × 41.9 million bytes,
# 0.17 GB, once, of a peak that the guide puts at 14 to 15 GB. What does help is *fewer rows a micro-batch*,
# and more accumulation to make up for it.
#
# > **Predict.** By how many percent does 8-bit Adam lower the peak of LoRA on Llama-3.1-8B, rank 16, one row
# > of 2,048, with checkpointing?

# %% tags=["core"]
guess = None  # your guess, in percent

# %% tags=["core"]
plain = planner.plan(start)
light = planner.plan(replace(start, optimizer="adamw_8bit"))
change = 100 * (1 - light.peak_allocated_gib / plain.peak_allocated_gib)
predictions.compare(guess, change, unit="%", word="predicted")

# %% tags=["core"]
changes = {
    "as it is": {},
    "rank 64": {"rank": 64},
    "rank 64 and 8-bit AdamW": {"rank": 64, "optimizer": "adamw_8bit"},
    "rank 64 and a row of 512": {"rank": 64, "length": 512},
    "two rows": {"batch": 2},
    "no checkpointing": {"checkpointing": False},
    "QLoRA": {"method": "qlora"},
    "QLoRA, prepared for k-bit training": {"method": "qlora", "kbit_preparation": True},
}
rows = []
for name, options in changes.items():
    found = planner.plan(replace(start, **options))
    more = found.peak_allocated_gib - plain.peak_allocated_gib
    rows.append([name, f"{found.peak_allocated_gib:.1f}", f"{more:+.2f}", found.phase])
Table(["change", "GiB", "more, GiB", "peak in"], rows, "Predicted, Llama-3.1-8B; NF4 not checked on a GPU")

# %% [markdown]
# Rows, checkpointing and 4 bits move the peak. The optimizer does not at rank 16; at rank 64 it starts to,
# and with short rows the peak then lies in its step. `prepare_model_for_kbit_training`, which guide 002
# calls, makes every parameter that is not in 4 bits float32 and costs memory here.
#
# ### Checkpointing against 4 bits
#
# 4 bits save a fixed amount, on the weights. Checkpointing saves more the more tokens a step has. From how
# many tokens on does it save more? Per token it saves what the blocks keep less what they keep with it:

# %% tags=["core"]
weights = {method: closed_form.weight_bytes(Setup(llama3, method)) for method in ("lora", "qlora")}
a_token = llama3["num_hidden_layers"] * (block_bytes(llama3, 16) - 2 * llama3["hidden_size"])
saved = weights["lora"] - weights["qlora"]
print(f"4 bits save {saved / GIB:.1f} GiB, checkpointing {a_token / 2**20:.1f} MiB a token:")
print(f"as much at {saved / a_token:,.0f} tokens a step")

# %% [markdown]
# Against a card of 22 GiB, an L4. What lies in a card is more than the tensors: PyTorch asks the card for
# large pieces and keeps them, so some memory is *reserved* but not in use, and CUDA itself takes about half a
# GiB. The bars have all three, because the dashed line is all of the card's memory.

# %% tags=["core"]
card, lengths = gpus.find("l4"), (512, 2048, 4096)
runs = {}
for method, name in (("lora", "LoRA"), ("qlora", "QLoRA (unverified)")):
    for on in (False, True):
        setup = replace(start, method=method, checkpointing=on)
        title = f"{name}\n{'checkpointing' if on else 'no checkpointing'}"
        runs[title] = [replace(setup, length=length) for length in lengths]
title = "Without checkpointing activations decide, with it weights and logits (dashed: an L4)"
plots.show(
    figures.against_a_card(runs, card, title),
    "Stacked bars of what Llama-3.1-8B needs of a card for 512, 2,048 and 4,096 tokens a step. Without "
    "checkpointing activations grow to 36 GiB at 4,096 tokens with LoRA and QLoRA alike, far above the L4's "
    "22 GiB. With it LoRA needs 18, 22 and 27 GiB, QLoRA 8, 12 and 18.",
)

# %% [markdown]
# So: checkpointing first, then ask about 4 bits. (A bar that is a little above the line may still run,
# because PyTorch gives unused pieces back before it fails; one whose coloured part is above it cannot.)
#
# ### Exercise 3: LoRA or QLoRA on this card?
#
# > **20 minutes · ●●○**
# >
# > This is checkpoint 2 of [guide 004](../guides.md#guide-004), as a function that you keep. Return
# > `(method, rows)`: `"lora"` if at least one row of `length` tokens fits with it, else `"qlora"` if one fits
# > with that, else `("neither", 0)`. Plain LoRA comes first, because it loses neither time nor precision to 4
# > bits. `rows` is the largest number of rows a step that still fits with that method.
# >
# > A run fits if its peak is at most `usable` bytes. The peak is `on_paper`'s: all linear layers,
# > checkpointing on. `config` and `rank` are as in exercise 1; `rows` is a whole number.
# >
# > For Llama-3.1-8B, rank 16, rows of 1,024 and 18 × 10^9 usable bytes one row needs 18.7 × 10^9 with LoRA,
# > which is too much; with QLoRA five rows fit, so the answer is `("qlora", 5)`.


# %% tags=["core"]
def recipe_for(config: dict, rank: int, length: int, usable: float) -> tuple[str, int]:
    ### BEGIN SOLUTION
    for method in ("lora", "qlora"):
        rows = 0
        while on_paper(config, method, rank, (rows + 1) * length) <= usable:
            rows += 1
        if rows > 0:
            return method, rows
    return "neither", 0
    ### END SOLUTION


exercises.recipe_for.check(recipe_for)

# %% tags=["core"]
# exercises.recipe_for.hint()
recipe = exercises.recipe_for.or_reference(recipe_for)
models = ("llama-2-7b", "llama-3.1-8b", "llama-2-13b", "llama-3-70b")
rows = []
for model in models:
    config = model_configs.find(model)
    answers = [recipe(config, 16, 1024, 0.8 * gpus.find(name).memory_gib * GIB) for name in ("l4", "a100-80")]
    rows.append([model, *(f"{method}, {most}" if most else method for method, most in answers)])
Table(
    ["model", "L4, 24 GB", "A100, 80 GB"], rows, "Method and most rows of 1,024 tokens, at 80 % of the card"
)

# %% [markdown]
# The 20 % are left for what is reserved and for CUDA. Predictions, of a plain loop: with TRL's trainer, which
# makes no full logits, more rows fit.
#
# ## The course's planner
#
# `planner.plan`, which is behind `python3 lab.py plan`, traces instead of adding up, and predicts what is
# reserved as well. `tests/memory/test_planning.py` holds it to the GPU measurements that PEFT publishes of
# its own benchmark.

# %% tags=["core"]
print(prose.report(planner.plan(Setup(llama3, "qlora", batch=2, length=1024), card)))

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
run = Setup(llama3, "lora", length=2048, checkpointing=False)
share = cost_model.flops_per_token(run) / cost_model.flops_per_token(replace(run, method="full"))
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
blocks, head = cost_model.weights_in_products(llama3)
scores = 32 * 2 * 2048 * 4096  # blocks x 2 x row x query width: each token sees half of the row on average
adapters = counting.lora_count(llama3, 16)
off, on = (operations_of(blocks, head, adapters, scores, again) for again in (False, True))
assert off == cost_model.flops_per_token(run)
assert on == cost_model.flops_per_token(replace(run, checkpointing=True))
print(f"billion operations a token: {off / 1e9:.1f}, with checkpointing {on / 1e9:.1f}: {on / off:.2f} times")

# %% [markdown]
# There is the price of checkpointing. From operations to hours: a card sustains a *share* of the speed that
# its maker promises. The course's cost model assumes 20 to 40 %.
#
# ### Exercise 5: your cost estimate
#
# > **15 minutes · ●●○**
# >
# > The exercise of the day-078 page ([guide 003](../guides.md#guide-003)): from model, rows, epochs and price
# > to `(hours, money)`. LoRA of rank 16 on all linear layers, checkpointing on.
# >
# > `rows` rows of `length` tokens are seen `epochs` times. `speed` is what *one* card sustains, in operations
# > a second; `cards` cards share the work without loss; `rate` is money an hour and card. `hours` are those
# > that the clock shows.
# >
# > Put it together from `operations_of`, `cost_model.weights_in_products(config)`, which gives `(blocks,
# > head)`, and `counting.lora_count(config, 16)`. The scores take, for each block, 2 × row length × outputs
# > of `q_proj` (in `counting.block_shapes(config)`), as in the cell above.


# %% tags=["core"]
def estimate(
    config: dict, rows: int, length: int, epochs: float, speed: float, cards: int, rate: float
) -> tuple[float, float]:
    ### BEGIN SOLUTION
    blocks, head = cost_model.weights_in_products(config)
    queries = counting.block_shapes(config)["q_proj"][1]
    scores = config["num_hidden_layers"] * 2 * length * queries
    a_token = operations_of(blocks, head, counting.lora_count(config, 16), scores, True)
    hours = rows * length * epochs * a_token / (cards * speed) / 3600
    return hours, hours * cards * rate
    ### END SOLUTION


exercises.estimate.check(estimate)

# %% tags=["core"]
# exercises.estimate.hint()
cost_of = exercises.estimate.or_reference(estimate)

# %% [markdown]
# The page asks for QLoRA on one card beside LoRA on several. 5,000 rows of 512 tokens, 3 epochs, L4s at 0.80
# an hour (an example: put in yours). Two more assumptions are needed: 4-bit steps take 1.1 to 1.5 times as
# long, and four cards keep 70 to 90 % of their speed.

# %% tags=["core"]
low, high = cost_model.UTILISATION  # 0.2 and 0.4 of the promised speed
plans = {  # cards, then the share of the speed that is left, at the worst and at the best
    "LoRA on 1 x L4, if it fits": (1, 1, 1),
    "QLoRA on 1 x L4": (1, 1 / 1.5, 1 / 1.1),
    "LoRA on 4 x L4": (4, 0.7, 0.9),
}
rows, promised = [], card.peak_tflops * 1e12
for name, (cards, worst, best) in plans.items():
    fast = cost_of(llama3, 5000, 512, 3, high * best * promised, cards, 0.80)
    slow = cost_of(llama3, 5000, 512, 3, low * worst * promised, cards, 0.80)
    rows.append([name, *(f"{a:.1f} to {b:.1f}" for a, b in zip(fast, slow, strict=True))])
course = cost_model.compare(Setup(llama3, length=512), 5000, 3, card, 0.80, 4)
assert abs(slow[0] / course[1].hours[1] - 1) < 1e-9  # as `lab.py cost --compare` has it
Table(["plan", "hours", "money"], rows, "Estimated from assumed ranges; nothing measured on a GPU")

# %% [markdown]
# One or four cards at nearly the same money? Look at where that comes from. The number of cards cancels:
# twice the cards, half the hours. What is left is 1.1 to 1.5 for 4 bits against 1/0.9 to 1/0.7, that is 1.1
# to 1.4, for sharing: two *assumed* ranges that happen to overlap. With other assumptions the sentence would
# be another, so it is not a finding.
#
# And how good are 20 to 40 %? Two published runs to hold against them, a long packed step and a short one:

# %% tags=["core"]
published = [  # run, model, tokens of a row, checkpointing, card, tokens a second
    ("torchtune, LoRA, 2 packed rows of 2,048", "llama-3.1-8b", 2048, True, "4090", 3083),
    ("LitGPT, LoRA, 1 row of about 110", "llama-2-7b", 110, False, "a100-40", 1000 * 110 / (2.36 * 60)),
]
rows = []
for name, model, length, on, card_name, tokens_a_second in published:
    setup = Setup(model_configs.find(model), "lora", rank=8, length=length, checkpointing=on)
    reached = tokens_a_second * cost_model.flops_per_token(setup) / (gpus.find(card_name).peak_tflops * 1e12)
    rows.append([name, model, card_name, tokens_a_second, f"{100 * reached:.0f} %"])
Table(["run", "model", "card", "tokens a second", "of the promise"], rows, "From the two projects' tables")

# %% [markdown]
# Both lie outside, one on each side: 20 to 40 % is no bound. The two runs differ in card and software too,
# but much of it is the tokens of a step: with few of them a card launches work and reads weights more than it
# multiplies. (Sources: pytorch/torchtune, README, "Memory and training speed", with `torch.compile`;
# Lightning-AI/litgpt, `tutorials/resource-tables.md`, 2.36 minutes for 1,000 iterations on Alpaca, whose rows
# we take as 110 tokens.)
#
# > **Careful.** Take such an estimate as an order of magnitude, and time a minute of your own run before you
# > pay for all of it.
#
# Four cards help with time. With *data parallel*, as assumed here, each holds the *whole* model, so they do
# not make a run fit. (Splitting the model over the cards does.)
#
# ## Two explorers
#
# Find the longest row that fits an L4 with LoRA, then with QLoRA. And below: what would your own dataset
# cost, and what at twice the epochs?

# %% tags=["core"]
vram_planner_explorer.explore()

# %% tags=["core"]
cost_estimator_explorer.explore()

# %% [markdown]
# ## Measured claims
#
# Three figures of the guides stand above: 56 GB for a 7B (imprecise, since it leaves activations out), 2 to 4
# GB of optimizer states (wrong), fewer accumulation steps against running out of memory (wrong). The guides
# say some twenty more things about memory and cost; `python3 lab.py claims --notebook 05` prints each with
# its scope, its verdict and what was computed for it.
#
# ## Checkpoint
#
# The first question is checkpoint 2 of guide 004.

# %% tags=["core"]
quiz.ask("05_memory_and_cost")

# %% [markdown]
# ## To take away
#
# - The card must hold the highest point of the step. What stands: weights, and 12 bytes a trained parameter
#   (16 if you accumulate gradients). On top, for each token of a step and with checkpointing: 2 x hidden x
#   blocks, and in a plain loop 14 x vocabulary. Reserved is more than allocated, and CUDA itself takes about
#   half a GiB: ask `lab.py plan`.
# - A frozen layer keeps nothing of its tokens. Its adapter keeps its whole input.
# - First checkpointing, then fewer rows, then 4 bits. Fewer accumulation steps, 8-bit and paged Adam do next
#   to nothing for an adapter of rank 16.
# - Ask of each memory figure: bytes a parameter? tokens a step? checkpointing? And of each price: which share
#   of the card's speed?
#
# ## On a rented GPU
#
# Written for L4/A10, not yet run there. Worth a few paid minutes: `torch.cuda.max_memory_allocated()` and
# `max_memory_reserved()` after two steps of your own run, beside what `lab.py plan` said.
