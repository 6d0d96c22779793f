# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 11 · Merging and serving: is it still the model you trained?
#
# **In one sentence**: you merge an adapter by six routes, measure how far each is from the model that was
# trained, and serve it so that it writes the same tokens.
#
# **Minutes**: 120 to read and do, 3 to run all cells.
#
# ![Left, two bases, the NF4 one that was trained on and the one before rounding; the update s times B A is
# added to either, and the sum is stored in 16 bits or in NF4, whose steps are larger than the update: four
# models and not one. Right, a batch with rows for adapters a and b and for nobody: W x is computed for all
# rows at once, each row's adapter adds its own, and the replies come out
# row by row](attachment:schematic.png)
#
# Training is over, the evaluation was good, and now somebody is to use it. Between the model that you
# evaluated and the one that answers lie a merge, a number format, a template, a server with defaults of its
# own. Each of them can change what comes out, and none of them says so. This notebook makes each step
# show what it changed.
#
# After this notebook you will be able to
#
# - merge LoRA and DoRA adapters from their files, as `merge_and_unload` does;
# - choose a route from a QLoRA adapter to a merged model, knowing what each keeps;
# - run many adapters on one base in one batch;
# - start an OpenAI-compatible server, call it, and show that it writes the tokens that training ended with;
# - check an adapter before it is served: `lab.py serve-check`.
#
# **Needs** notebooks [02](02_lora_math.ipynb) (LoRA), [04](04_nf4_quantization.ipynb) (NF4),
# [06](06_chat_templates.ipynb) (templates) and [08](08_qlora_training.ipynb) (QLoRA).

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
upstream.guard_4bit_on_cpu()  # notebook 08's fault of bitsandbytes on some processors
upstream.keep_freed_memory()  # a faster allocator setting for training on a CPU
upstream.score_only_labels()  # TRL on a CPU would compute logits that the loss then ignores

# %% tags=["core", "setup"]
import json
import math
import shutil
import time
from collections.abc import Callable

import openai
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.helpers import DoraCaching
from peft.utils.hotswap import hotswap_adapter
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from transformers.utils import logging

# %% tags=["core", "setup"]
from labsupport.core import files, plots
from labsupport.core.tables import Table
from labsupport.evaluation import experiments
from labsupport.explorers import merge_routes_explorer
from labsupport.merge_runs import adapters, figures, reading, rounding, routes, sums_reading
from labsupport.method_runs import bases, composing, training
from labsupport.method_runs import reading as method_reading
from labsupport.models import base_model
from labsupport.notebooks.nb11_merging_and_serving import exercises
from labsupport.serve_checks import adapter_folder, commands, lint, parity
from labsupport.serve_checks import report as serve_report
from labsupport.serving import (
    folders,
    gguf_export,
    llama_cpp,
    load,
    model_card,
    replies,
    saving,
    server,
    speed,
)
from labsupport.tasks import facts
from labsupport.teaching import predictions, quiz
from labsupport.teaching.claims import expect
from labsupport.training import recipe

# %% tags=["core", "setup"]
logging.set_verbosity_error()  # it would say at every dequantize() that the result is float32
torch.set_num_threads(1)  # the model here is small: a second thread would only wait
BASE, FOLDER = "data/tiny_base", files.RUNS / "merging"

# %% [markdown]
# ## An adapter to work with
#
# First something to merge. The course's tiny base in NF4, and adapters beside it that learn fifty facts by
# heart, each a key and a code of eight symbols: a QLoRA run of ten seconds. Nothing about a code can be
# guessed, so whatever a merged model still knows has survived the merge.

# %% tags=["core", "nbval-ignore-output"]
rows = facts.load(100)[:50]
model, tokenizer = base_model.load(BASE, "nf4", "cpu")
torch.manual_seed(0)
model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"))
examples = facts.as_prompt_completion(rows)
trainer = training.of_model(model, tokenizer, examples, 4e-3, seed=0, steps=140, betas=(0.9, 0.999))
recipe.adapters_in_float32(trainer.model)  # notebook 08: TRL makes them bfloat16 on a quantised base
training.train(trainer)
model.save_pretrained(FOLDER / "adapter", save_embedding_layers=False)
bits, right = composing.stored(model, tokenizer, rows)
print(f"{right} of 400 symbols right, {bits:,.0f} of 2,000 bits stored")
expect("the adapter knows its facts", right > 380)

# %% [markdown]
# Two of the files that came out matter. One holds A and B of every layer, the other how to use them:

# %% tags=["core"]
adapter = load_file(FOLDER / "adapter" / "adapter_model.safetensors")
config = json.loads((FOLDER / "adapter" / "adapter_config.json").read_text())
name = "base_model.model.model.layers.0.self_attn.q_proj"
for part in (".lora_A.weight", ".lora_B.weight"):
    print(name + part, tuple(adapter[name + part].shape))
print({key: config[key] for key in ("r", "lora_alpha", "use_rslora", "use_dora")})

# %% [markdown]
# ## Merge it by hand
#
# To merge means: compute $W + \frac{\alpha}{r} B A$ once, and keep that. The adapter is gone then, and with
# it what it cost at every token. Nothing in it needs a library:

# %% [markdown]
# ### Exercise 1: merge by hand
#
# > **25 minutes · ●●○**
# >
# > Do what `merge_and_unload` does, with what is in the files. `weights` are the base's by name, such as
# > `model.layers.0.self_attn.q_proj.weight`, each (out, in). `adapter` is what PEFT saves: for that layer
# > `base_model.model.model.layers.0.self_attn.q_proj` with `.lora_A.weight` (r, in), `.lora_B.weight`
# > (out, r) and, if it is DoRA, `.lora_magnitude_vector` (out,). `config` has `r`, `lora_alpha`,
# > `use_rslora` and `use_dora`. Return a new dict with all the base's weights under their names, merged
# > where there is an adapter:
# >
# > $$W' = W + s B A \qquad\text{or, for DoRA,}\qquad
# > W' = m \cdot \frac{W + s B A}{\lVert W + s B A \rVert}$$
# >
# > where $s$ is $\alpha / r$, and $\alpha / \sqrt{r}$ with `use_rslora`; the norm is that of each row. A
# > weight or a factor may be bfloat16: compute in float32, and put each sum back into the dtype of its
# > weight. Leave `weights` as they are.
# >
# > By hand: a row of $W$ is (1, 2), and $BA$ is (1, 1) there. With r = 4 and alpha = 8, $s$ is 2 and the row
# > becomes (3, 4). With `use_rslora`, $s$ is 8 / 2 = 4 and it becomes (5, 6). With `use_dora` alone, (3, 4)
# > has length 5, so an entry of 10 in $m$ makes it 10 · (3, 4) / 5 = (6, 8).


# %% tags=["core"]
def merge(
    weights: dict[str, torch.Tensor], adapter: dict[str, torch.Tensor], config: dict
) -> dict[str, torch.Tensor]:
    ### BEGIN SOLUTION
    r, alpha = config["r"], config["lora_alpha"]
    s = alpha / math.sqrt(r) if config["use_rslora"] else alpha / r
    merged = dict(weights)
    for key in adapter:
        if key.endswith(".lora_A.weight"):
            layer = key.removesuffix(".lora_A.weight")
            name = layer.removeprefix("base_model.model.") + ".weight"
            A, B = adapter[key].float(), adapter[f"{layer}.lora_B.weight"].float()
            changed = weights[name].float() + s * B @ A
            if config["use_dora"]:
                m = adapter[f"{layer}.lora_magnitude_vector"].float()
                changed = (m / changed.norm(dim=1))[:, None] * changed
            merged[name] = changed.to(weights[name].dtype)
    return merged
    ### END SOLUTION


exercises.merge.check(merge)

# %% tags=["core"]
# exercises.merge.hint()
merged_weights = exercises.merge.or_reference(merge)

# %% [markdown]
# Now on the real adapter, beside PEFT. The base is what it was trained on: NF4 unpacked to plain numbers.

# %% tags=["core"]
plain = base_model.load(BASE, "nf4", "cpu")[0].dequantize()
by_hand = merged_weights(plain.state_dict(), adapter, config)
by_peft = routes.dequantised(BASE, FOLDER / "adapter").state_dict()
apart = max((by_hand[name] - by_peft[name]).abs().max().item() for name in by_peft)
assert set(by_hand) == set(by_peft) and apart < 1e-6
print(len(by_peft), "tensors; farthest from merge_and_unload: below 1e-6")

# %% [markdown]
# And DoRA, whose rows get the length m once the update is added. PEFT starts an adapter with B = 0, of which
# there is nothing to merge, so give B some numbers first:

# %% tags=["core"]
settings = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", use_dora=True)
dora = get_peft_model(bases.tiny()[0], settings)
for name, weight in dora.named_parameters():
    if "lora_B" in name:
        torch.nn.init.normal_(weight, std=0.02)
dora.save_pretrained(FOLDER / "dora", save_embedding_layers=False)
dora_config = json.loads((FOLDER / "dora" / "adapter_config.json").read_text())
dora_adapter = load_file(FOLDER / "dora" / "adapter_model.safetensors")
by_hand = merged_weights(bases.tiny()[0].state_dict(), dora_adapter, dora_config)
by_peft = dora.merge_and_unload().state_dict()
apart = max((by_hand[name] - by_peft[name]).abs().max().item() for name in by_peft)
assert apart < 1e-6
print("DoRA; farthest from merge_and_unload: below 1e-6")

# %% [markdown]
# ## Six routes to a merged model
#
# You merged into the base that the adapter was trained on, unpacked. The guides go other ways:
#
# > **Guides 001 and 004 say** that one cannot merge into a 4-bit base: load it in 16 bits for that (001: or
# > in float32), and, says 004, quantise again for serving if needed. **Guide 003's** summary sets up a 4-bit
# > base and ends with `model.merge_and_unload()`; its main text reloads a plain one.
#
# With yours, kept in float32 or in bfloat16, that makes six. Each is a function of a few lines in
# `labsupport/merge_runs/routes.py`, made of the libraries' own calls:
#
# | route | the update is added to | and the sum is kept in |
# |---|---|---|
# | dequantised | the NF4 base, unpacked | float32 |
# | dequantised, bfloat16 | the NF4 base, unpacked | bfloat16 |
# | float32 base | the base before NF4 | float32 |
# | bfloat16 base | the base in bfloat16 | bfloat16 |
# | re-quantised | the base before NF4 | NF4 |
# | in place | the NF4 base | NF4 |
#
# > **Predict.** The adapter knows 400 symbols or nearly. How many does the model know that is merged into the
# > bfloat16 base? And the one merged in place, in NF4?

# %% tags=["core"]
guess_bfloat16 = None  # symbols of 400
guess_in_place = None

# %% tags=["core", "nbval-ignore-output"]
lines, known = [], {}
for route, merge_by in {"not merged": routes.unmerged, **routes.MERGED}.items():
    merged = merge_by(BASE, FOLDER / "adapter")
    bits, known[route] = composing.stored(merged, tokenizer, rows)
    lines.append([route, known[route], f"{bits:,.0f}"])
predictions.compare(guess_bfloat16, known["bfloat16 base"], "symbols")
predictions.compare(guess_in_place, known["in place"], "symbols")
expect("merged into the dequantised base nothing is lost", known["dequantised"] == known["not merged"])
Table(["route", "symbols right, of 400", "bits"], lines, "One QLoRA adapter, merged six ways")

# %% [markdown]
# So you *can* merge into a 4-bit base; PEFT does it. Here the result even keeps most. Do not take that home
# yet: this adapter is strong. It was trained at a high rate until it knew everything by heart. How large is
# its update beside the weights, and what of it survives each route? For that we need a number.
#
# (A trap on some processors: once a 4-bit model has answered anything, bitsandbytes 0.50 has repacked its
# weights for speed, and PEFT then merges into the packed bytes, which makes noise of the model. Merge first,
# or dequantise first. `upstream.guard_4bit_on_cpu` in the setup cell switches the repacking off.)

# %% [markdown]
# ### Exercise 2: what is left of an update
#
# > **10 minutes · ●●○**
# >
# > A merged weight is stored in few digits, and a fine-tune's update can be smaller than a step between two
# > of its numbers. `before` (out, in) is the weight that the update `delta` is added to. `stored` is a
# > function: it gives the numbers that a weight stands for once it is stored. What the update changes of
# > what is stored is
# >
# > $$D = \mathrm{stored}(\mathrm{before} + \mathrm{delta}) - \mathrm{stored}(\mathrm{before})$$
# >
# > It takes `stored(before)` and not `before`, because the base is rounded without an update, too. Return two
# > floats, with the matrices taken as vectors:
# >
# > - the share that is kept, $\frac{D \cdot \mathrm{delta}}{\mathrm{delta} \cdot \mathrm{delta}}$. It is 1
# >   if all of delta is in D, whatever noise is there besides.
# > - the cosine of D and delta. It is 1 if nothing else is in D.
# >
# > By hand: `before` is (1, 1), already in bfloat16, whose numbers above 1 are 1 / 128 = 0.0078125 apart.
# > `delta` is (0.0025, 0.005). The first is below half a step and is lost; the second is above it and becomes
# > a whole step, so D is (0, 0.0078125). The share is 0.0078125 · 0.005 / (0.0025² + 0.005²) = 1.25 and the
# > cosine 0.894. Half of that `delta` would be lost altogether.


# %% tags=["core"]
def surviving(
    before: torch.Tensor, delta: torch.Tensor, stored: Callable[[torch.Tensor], torch.Tensor]
) -> tuple[float, float]:
    ### BEGIN SOLUTION
    change = (stored(before + delta) - stored(before)).double().flatten()
    asked = delta.double().flatten()
    both = change @ asked
    return (both / (asked @ asked)).item(), (both / (change.norm() * asked.norm())).item()
    ### END SOLUTION


exercises.surviving.check(surviving)

# %% tags=["core"]
# exercises.surviving.hint()
left_of = exercises.surviving.or_reference(surviving)

# %% [markdown]
# Now one layer of the adapter by three routes, at its own strength and at weaker ones. What do adapters of
# the 135M model have? Those for tickets, which the next section merges, 0.4 to 0.9 % of the weights' length;
# those for facts, further down, 1.5 %.

# %% tags=["core", "nbval-ignore-output"]
layer = "model.layers.2.mlp.up_proj"
delta = adapters.deltas(FOLDER / "adapter")[layer]
weight = base_model.load(BASE, "float32", "cpu")[0].get_submodule(layer).weight.detach()
lines = []
for strength in (1, 0.3, 0.1, 0.03, 0.01):
    line = [f"{100 * strength * (delta.norm() / weight.norm()).item():.2g}"]
    for route in ("in place", "re-quantised", "bfloat16 base"):
        start, end = (rounding.FORMATS[name] for name in rounding.ROUTES[route])
        kept, cosine = left_of(start(weight).numbers, strength * delta, lambda w, end=end: end(w).numbers)
        line.append(f"{100 * kept:.0f} %, {cosine:.2f}")
    lines.append(line)
headings = ["|ΔW| / |W| (%)", "in place in NF4", "float32 base, then NF4", "bfloat16 base"]
Table(headings, lines, f"Kept of ΔW, and its cosine: {layer}")

# %% [markdown]
# The column "in place" falls off a cliff. An update of 20 % of the weight is nearly all there; at 6 % two
# thirds of it are left, at 2 % a seventh, and at 0.6 %, where ticket adapters of the 135M model lie, a
# hundredth. Two things come together. Unpacked NF4 weights lie *exactly* on the levels of NF4, and an update
# moves one to another level only if it reaches half-way. Near zero these levels are 0.08 of the block's
# largest weight apart, and the largest of 64 is some 2.5 typical ones: half a step is a tenth of a typical
# weight. An update of 1 % reaches that almost nowhere.
#
# "float32 base, then NF4" is a different story, although it also ends in NF4: 95 to 99 % of this layer's
# update is there on average, but the cosine falls. The float32 base does *not* lie on the levels. Some of
# its weights are just short of a boundary, and for these a tiny push is enough. So of a hundred weights that
# should each rise by a hundredth of a step, about one rises by a whole step, and the mean is about right.
# The price is noise: some weights are rounded another way than before. The distance from $W + \Delta W$ is
# what NF4's rounding always is, 9 % of |W|, but a part of that rounding is another one than the adapter was
# trained beside.
#
# "bfloat16 base" has the same disease as "in place", at far smaller sizes (some seventy times, as the
# explorer shows): a base that is kept in bfloat16 lies on bfloat16's numbers.
#
# ## Explorer: what a merge keeps
#
# The explorer adds an update of rank 16 to a weight in one format and keeps the sum in another. The thick
# lines are the share that is kept, one for each format of the base; the thin ones the cosine. The dot is your
# choice.
#
# 1. NF4 to NF4. Before you move the size: at how many per cent of |W| is half of the update kept? How much is
#    kept at 0.5 %, about where ticket adapters of the 135M model lie?
# 2. Set 0.3 % and change the base to float32. All of the update is kept, and the cosine is near 0.1. How
#    can both be true, and which of the two tells you whether the merged model is still good?
# 3. Keep the sum in bfloat16 and set 0.03 %. Why does a base in float32 or in NF4 keep what one in bfloat16
#    loses?

# %% tags=["core"]
merge_routes_explorer.explore()

# %% [markdown]
# <details><summary>Answers</summary>
#
# 1. At 6.5 %. At 0.5 % it is 1.2 %, with a cosine of 0.03 (Gaussian weight).
# 2. What changed is the update *and* noise nine times as long, in directions of its own: |change| / |update|
#    is 9, and 1 / 9 is the cosine. Neither number alone tells. The kept share says that the update is in;
#    the noise is the part of NF4's rounding that comes out otherwise than before, 2.7 % of |W| here beside
#    the 9 % that NF4's rounding has anyway. How much a model minds that is measured on its answers, below.
# 3. 18 % against 101 and 102 %. The base in bfloat16 lies on bfloat16's numbers, and the update falls short
#    of half a step nearly everywhere. The other two lie between those numbers, so that some of their weights
#    are near enough to a boundary. (NF4's levels times a block's scale are no bfloat16 numbers.)
#
# </details>

# %% [markdown]
# ## What the trained model loses by each route
#
# What a share of an update is worth shows only in answers. So the same six routes on the 135M model: QLoRA
# adapters of rank 16 were trained on 256 tickets beside NF4, for 8, 32 and 64 steps of 8 (in 8 steps it sees
# 64 of them), with two seeds. The 32-step ones were also taken at 0.1, 0.3 and 3 times their strength. Every
# merged model is held against the model that was trained (NF4, adapter beside it, not merged), on tickets
# with their right answers: the *KL divergence* of its next-token distributions from the trained model's, in
# nats a token; nats an answer; and for 24 messages whether both write the same reply, token by token. All
# but the last two rows are in float32 arithmetic, so that what differs is in the weights. It was recorded
# (`lab.py experiment merge_routes`, about two hours of a core), and the cells below read the record.
#
# (The 135M base comes as 4-bit integers, Q4_1: "float32" means these numbers, written out. They are on no
# bfloat16 or NF4 grid, but they are not what a base published in 16 bits looks like either: how much NF4
# loses of *it* need not be what it loses of yours.)
#
# > **Predict.** Of 48 greedy replies (24 messages, two seeds), how many are the trained model's to the last
# > token: merged into the bfloat16 base; into the float32 base and then quantised to NF4 again; in place?

# %% tags=["core"]
guess_bfloat16 = None  # replies of 48
guess_quantised_again = None
guess_in_place = None

# %% tags=["core", "claim-J2"]
record = experiments.published("merge_routes")
guesses = {"bfloat16 base": guess_bfloat16, "re-quantised": guess_quantised_again, "in place": guess_in_place}
for route, guess in guesses.items():
    print(route, end=": ")
    predictions.compare(guess, reading.replies_alike(record, route)[0], "replies")
reading.routes_table(record)

# %% [markdown]
# Begin with the third row. Merged into the base that it was trained on, unpacked, the model *is* the trained
# one: what differs is float32's last digit, and all 48 replies are the same. Saved in bfloat16 it nearly is:
# 45 of 48, and no difference in nats that these rows could show. That is the way home for a QLoRA adapter:
# `model.dequantize()`, the adapter on it, `merge_and_unload()`.
#
# Into the 16-bit base, as most guides have it, makes another model. Two replies of 48 are the same. It is no
# bad model: on lookalike messages it loses some 0.2 nats an answer, fewer than these rows surely show
# (0.32), on production messages 1.0 (`reading.routes_table(record, "test_production")` shows these). (For
# the scale: training gained 70. Notebook 08 found 0.2 and 0.9 with other runs.) Its weights are 9 % of |W|
# from those that the adapter was trained beside. At this size of update it makes no difference that could be
# seen whether that base is in float32 or in bfloat16. At a tenth of it, where bfloat16 keeps half of the
# update, it does in nats (the bfloat16 base loses 1.6 an answer against the trained model, and the float32
# base *gains* 5.5, as `reading.routes_table(record, scale=0.1)` shows), and in divergence again hardly (0.36
# and 0.38).
#
# In place no reply is the same, and of the 75 nats without an adapter 71 are left.
#
# Do not read the table as a ranking of quality. It says how near a model is to the one that was trained, and
# that one is no master: 32 steps, right to the last token in 5 % of the lookalike messages. And "same
# replies" is a strict measure. The last two rows hold the very weights of the first and the third, only each
# product is computed in bfloat16, its factors and its result rounded, and a third of the replies change
# somewhere. So a first difference is no alarm. Divergence and nats say how much it means.

# %% tags=["core", "claim-J7"]
title = "In place ends nearly as far off as no adapter"
alt = (
    "KL from the trained model in nats a token, by route, log axis, both test sets alike: no adapter 2.6 to "
    "2.7, in place 2.5, float32 and bfloat16 base 0.03 to 0.04, quantised to NF4 again 0.009 to 0.014, "
    "bfloat16 products 0.0003, the dequantised base in bfloat16 0.00001, in float32 below a billionth."
)
plots.show(figures.divergences(record, title), alt)

# %% [markdown]
# > **Guide 003 says**: adapters "merge cleanly into the base model", like patches at runtime.
#
# *Imprecise.* They do where the base is a matrix of plain numbers, and the very one that they were trained
# on. Between that and in place lie twelve powers of ten.
#
# One row should surprise you: quantising the merged model to NF4 *again* brings it nearer to the trained one
# than leaving it in 16 bits, a third of the divergence, and 12 of 48 replies instead of 2. (With the tiny
# adapter above, whose update is some twenty times as large, it was the other way round: this route knew the
# fewest symbols.) What is left of the update by each route says how.

# %% tags=["core", "claim-J4"]
reading.survival_table(record)

# %% [markdown]
# Read the last but one row. All of the update is there, buried in noise nearly six times its size (a cosine
# of 0.17). Six times 0.69 %: these weights are 4 % of |W| from the trained model's, and those on the float32
# base 9 %. Only 2 % of the codes differ from those of the NF4 base: most roundings are the ones that the
# adapter was trained beside.
#
# > **Guide 004 says**: merge in 16 bits, "then re-quantize for serving if needed".
#
# *It holds* at this size of update: 99 % of what training gained is left, as it is in 16 bits. Of the two,
# the quantised model is the nearer in divergence and replies; in nats it is better on production messages
# (0.5 lost, not 1.0) and no better on lookalike ones (0.26 and 0.21). Nearest of all is the dequantised
# base.
#
# In place, 1 % of the update is kept, although of the NF4 codes only 4 in 100,000 change: a block's scale is
# set anew, too, and that moves all of its weights a little. The last column is a control: the same numbers
# shuffled in each matrix, which no training has put where they are. They are kept just as well. So what
# survives is a matter of sizes and grids. Nothing in a trained update protects it.

# %% tags=["core", "claim-J1"]
reading.sizes_table(record)

# %% tags=["core"]
title = "Another base matters least at the adapter's own strength"
alt = (
    "KL from the trained model over the size of the update, 0.07 to 2 % of the weights, both axes "
    "logarithmic. In place rises from 0.25 to 2.5 and ends at 0.9. Float32 and bfloat16 base fall together "
    "from 0.4 to 0.03 and end at 0.09. Quantised again stays at 0.01 to 0.02 and ends at 0.07. The "
    "dequantised base in bfloat16 lies below 0.0002, in float32 below a billionth."
)
plots.show(figures.by_size(record, title), alt)

# %% [markdown]
# > **Guides 001 and 004 say**: you cannot merge into a 4-bit base.
#
# *Wrong* as it stands, and good advice. PEFT merges, with a warning, and up to 2 % of |W| it keeps less than
# 7 % of the update. (In PEFT's defence, the tiny adapter above, at 16 % over all its layers, came out
# well.) Take the last line of the table, though. Three times as strong, the merged model keeps a sixteenth
# of the update (and noise half as long as all of it), and nearly nine tenths of what that, worse, model
# gains on the base. And not merged at all, a tenth of the adapter gains 32 nats of 70. (Both gains are in
# the record; the table has only losses.) So do not read the share that is kept as a share of the effect: a
# model does not answer in proportion.
#
# In the figure, lines join one adapter at four strengths, open marks are the trainings of 8 and 64 steps. At
# a tenth of its strength the adapter gains not half of its nats, and there another base changes most; at
# full strength ten times less. Size is not all that differs along these lines: the fit to the tickets does,
# too. At three times its strength, the only point beyond 1 %, every curve but in place's is higher again
# (the lowest is drawn at 1e-9, its values are smaller still); why was not tested. Nor what an adapter of
# another rank or task does, or a base that was published in 16 bits. The routes are a few lines of code
# each, and yours to try.

# %% [markdown]
# ## Merge before you evaluate?
#
# > **Guide 000 says**: merge before evaluation, since it has seen "subtle inconsistencies" between adapter
# > and merged weights, "due to how quantization and batched inference interact".
#
# What the base's quantisation does, you have just seen: it depends on the route. Here is the arithmetic
# alone. Mathematically $Wx + sBAx$ and $(W + sBA)x$ are the same number. In a computer each product is
# rounded, and they are rounded at other places. So take the logits of one batch both ways, with float32 and
# with bfloat16 weights (PEFT would keep A and B in float32 beside a bfloat16 base; here all is bfloat16):


# %% tags=["core", "nbval-ignore-output"]
def logits_of(way: str, dtype: torch.dtype) -> torch.Tensor:
    bare = base_model.load(BASE, "nf4", "cpu")[0].dequantize()
    model = PeftModel.from_pretrained(bare, FOLDER / "adapter")
    model = model.merge_and_unload() if way == "merged" else model
    return composing.logits(model.to(dtype), tokenizer, rows)[0]


merged32, beside32 = (logits_of(way, torch.float32) for way in ("merged", "beside"))
merged16, beside16 = (logits_of(way, torch.bfloat16) for way in ("merged", "beside"))
lines = []
for what, one, other in (
    ("merged less beside, float32", merged32, beside32),
    ("merged less beside, bfloat16", merged16, beside16),
    ("merged, bfloat16 less float32", merged16, merged32),
    ("beside, bfloat16 less float32", beside16, beside32),
):
    apart = (one - other).abs()
    flips = int((one.argmax(-1) != other.argmax(-1)).sum())
    lines.append([what, f"{apart.max():.1g}", f"{apart.mean():.1g}", f"{flips} of 400"])
expect("in float32 merging changes nothing", bool((merged32 - beside32).abs().max() < 1e-3))
Table(["logits", "largest difference", "mean", "other first choice"], lines, "Merged and beside the weights")

# %% [markdown]
# In float32 the two ways are the same to the fifth digit. In bfloat16 they differ, by about as much from
# each other as either does from float32: neither is the better one. And although a logit moves by up to
# about 1, no first choice changed here, probably because codes known by heart are far ahead of everything
# else. So "always merge before you evaluate" is *imprecise* (claim J5). Evaluate *in the form and the number
# format* that you will serve, and if you merge a QLoRA adapter, mind the base: another one moved the 135M
# model a hundred times further (KL 0.03) than bfloat16 products do (0.0003). (Notebook 07 has the same
# comparison on tickets, where bfloat16 does flip some verdicts.)
#
# ## What it costs to answer
#
# > **Predict.** Beside the weights, an adapter of rank 16 adds two thin products to each layer: on the 135M
# > model 3.6 % more operations. How much longer does a token take? And with DoRA?

# %% tags=["core"]
guess_lora = None  # times the time of the base, such as 1.1
guess_dora = None


# %% tags=["core", "nbval-ignore-output"]
def adapted(**more):
    settings = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", **more)
    return get_peft_model(base_model.load(dtype="float32", device="cpu")[0], settings)


bare, with_dora = base_model.load(dtype="float32", device="cpu")[0], adapted(use_dora=True)
ways = {"base": bare, "LoRA beside": adapted(), "DoRA beside": with_dora}
ways["merged"] = adapted().merge_and_unload()
seconds = speed.seconds_a_token(ways, prompt_tokens=16, tokens=8, rounds=4)
times = {way: taken / seconds["base"] for way, taken in seconds.items()}
with DoraCaching():  # PEFT keeps B A and the rows' lengths from one token to the next
    cached = speed.seconds_a_token({"base": bare, "DoRA": with_dora}, prompt_tokens=16, tokens=8, rounds=3)
times["DoRA beside, cached"] = cached["DoRA"] / cached["base"]
predictions.compare(guess_lora, times["LoRA beside"], "times")
predictions.compare(guess_dora, times["DoRA beside"], "times")
del ways, bare, with_dora  # over 2 GB
lines = [[way, f"{ratio:.2g}", f"{1 / (ratio * seconds['base']):.2g}"] for way, ratio in times.items()]
Table(
    ["135M model, one reply", "time of a token, times the base's", "tokens a second"], lines, "Live, float32"
)

# %% [markdown]
# (Processor time, one thread, float32, one reply at a time; a card is another matter. The merged model
# computes just what the base does, so its row shows the noise: in nine runs of the cell 0.85 to 1.03.)
#
# LoRA costs more than the 3.6 % that its operations say: in the same runs 1.2 to 1.4 times the base. Probably
# it is the calls: one token is a matrix times a vector, over in a moment, and beside it each of 210 layers
# makes two more products, a scaling and an addition.
#
# And DoRA? It needs the length of every row of $W + sBA$, and PEFT multiplies $BA$ out for that at every
# forward pass: 16 times as many operations as the layers themselves need for one token. Many tokens in one
# pass share it (512 in the table below, on the tiny model, where rank 16 is a ninth of the weights), one
# token pays alone. `DoraCaching` keeps it from token to token, for the memory of one more model. What is left
# (in the same runs 1.4 to 1.7 times the base) is probably again the small calls, of which DoRA has more than
# LoRA. Merging makes all of it vanish.

# %% tags=["core", "claim-J6"]
compared = experiments.published("method_comparison")
lines = []
for method, name in (("lora", "LoRA"), ("dora", "DoRA")):
    ratios = [method_reading.forward_ratio(compared, method, way) for way in ("unmerged", "merged")]
    lines.append([name, *(f"{ratio:.2f}" for ratio in ratios)])
Table(
    ["tiny_base, 8 rows of 64", "beside", "merged"],
    lines,
    "One forward pass, times the bare base's, recorded",
)

# %% [markdown]
# > **Guides 001 and 002 say**: merged, LoRA has no overhead at inference.
#
# *It holds*: a merged model is the base with other numbers in it. That is said of a 16-bit base. Beside a
# 4-bit base it is otherwise: merged without loss, its linear layers have 16 bits again, nearly four times
# the bytes.

# %% [markdown]
# ## Many adapters on one base
#
# Merging gives up the best thing about an adapter: it is small, and the base is shared. Forty customers with
# an adapter of rank 16 each need one 7B model and forty files of 84 MB (in 16 bits), not forty models. Can
# one *batch* answer all of them?

# %% [markdown]
# ### Exercise 3: several adapters in one batch
#
# > **10 minutes · ●●○**
# >
# > A server with one base and many adapters can answer requests for all of them in one batch, as long as
# > none is merged. Write a layer's product for it. `x` is (rows, in) and `weight` (out, in). `adapters` has
# > by name A (r, in), B (out, r), each with its own r, and the scale, which is alpha / r. `names` says for
# > each row which one it asks for; `"__base__"`, PEFT's word, is none. Return y (rows, out), in the order of
# > `x`.
# >
# > By hand: `weight` is the row (1, 1), and all three rows of `x` are (1, 2), which makes 3. The first row
# > asks for `"__base__"`: 3. The second asks for an adapter with A = (1, 0), B = (1) and the scale 2, which
# > adds 2 · 1 · 1: 5. The third one's has A = (0, 1), B = (1) and the scale 0.5, which adds 0.5 · 1 · 2: 4.


# %% tags=["core"]
def mixed_forward(
    x: torch.Tensor,
    weight: torch.Tensor,
    adapters: dict[str, tuple[torch.Tensor, torch.Tensor, float]],
    names: list[str],
) -> torch.Tensor:
    ### BEGIN SOLUTION
    y = x @ weight.T
    for name, (A, B, scale) in adapters.items():
        rows = [i for i, own in enumerate(names) if own == name]
        y[rows] += scale * x[rows] @ A.T @ B.T
    return y
    ### END SOLUTION


exercises.mixed_forward.check(mixed_forward)

# %% tags=["core"]
# exercises.mixed_forward.hint()
forward_mixed = exercises.mixed_forward.or_reference(mixed_forward)

# %% [markdown]
# PEFT does the same with `adapter_names`, as notebook 10 did it for a whole model, and so does vLLM, with
# kernels of its own. (Ask a whole model of PEFT's for a name that no adapter has, and it raises an error. A
# layer by itself, as below, passes over such a name: the row gets the base's product.) To change customers
# for the whole model there is `set_adapter`. Here is your layer beside PEFT's, three customers in one batch
# and then one:

# %% tags=["core", "nbval-ignore-output"]
adapters.scaled(FOLDER / "adapter", FOLDER / "weak", 0.5)  # another adapter of the same shapes
many = PeftModel.from_pretrained(base_model.load(BASE, "float32", "cpu")[0], FOLDER / "adapter", "strong")
many.load_adapter(FOLDER / "weak", "weak")
module = many.get_submodule(f"base_model.model.{layer}")
sets = {}
for name in ("strong", "weak"):
    sets[name] = (module.lora_A[name].weight, module.lora_B[name].weight, module.scaling[name])
names = ["weak", "__base__", "strong", "weak"]
x = torch.randn(4, module.in_features, generator=torch.Generator().manual_seed(0))
with torch.no_grad():
    ours, theirs = forward_mixed(x, module.weight, sets, names), module(x, adapter_names=names)
torch.testing.assert_close(ours, theirs)
many.set_adapter("weak")
with torch.no_grad():
    torch.testing.assert_close(forward_mixed(x, module.weight, sets, ["weak"] * 4), module(x))
print("one batch for two adapters and the base, and one adapter for all rows: as PEFT's")

# %% [markdown]
# A *hot swap* is the other way to change customers: it writes another adapter's numbers into the tensors of
# the one that is there, so that with the same shapes nothing is built anew and no memory is added. (Before
# compiling a model, call `peft.utils.hotswap.prepare_model_for_compiled_hotswap` with the highest rank; then
# a swap compiles nothing anew.) Does the swapped model answer exactly as one that loaded the new adapter in
# the first place?

# %% tags=["core", "nbval-ignore-output"]
serving = PeftModel.from_pretrained(base_model.load(BASE, "float32", "cpu")[0], FOLDER / "adapter")
fresh = PeftModel.from_pretrained(base_model.load(BASE, "float32", "cpu")[0], FOLDER / "weak")
before = composing.logits(serving, tokenizer, rows)[0]
hotswap_adapter(serving, str(FOLDER / "weak"), adapter_name="default", torch_device="cpu")
swapped = composing.logits(serving, tokenizer, rows)[0]
loaded = composing.logits(fresh, tokenizer, rows)[0]
assert torch.equal(swapped, loaded) and not torch.equal(swapped, before)
print("swapped in: the logits of an adapter that was loaded, bit for bit")

# %% [markdown]
# ## One adapter out of several
#
# Two teams have trained adapters on one base, one reads tickets, the other knows a table of codes. Can one
# model do both, without training again? An update is a matrix, so add the two, each with a weight: *task
# arithmetic* (Ilharco et al. 2022, arXiv 2212.04089). Subtract one, says the same paper, and the model
# forgets that task alone. Notebook 10 added two adapters with one skill on the tiny base; here are two
# skills on the 135M model.
#
# An adapter was trained on 256 tickets, another on 40 facts, three seeds each, and for comparison one of the
# same rank on both in one shuffled order, and one first on tickets, then on facts. And there are controls.
# If adding the facts hurts the tickets, is it because of what they *are*, or would any update of that size
# do it? "Misplaced" is the facts' update with rows and columns in a random order: as large, of the same rank
# and strength, and nobody trained it. And "other facts" is a third adapter, trained just like the second, on
# other facts.
#
# > **Predict.** The facts' own adapter knows all symbols, or nearly. What share of the symbols does the sum
# > of both adapters know?

# %% tags=["core"]
guess = None  # per cent of the symbols

# %% tags=["core"]
added = experiments.published("adapter_sums")
known_after = 100 * sums_reading.level(added, "tickets + facts", "symbols")[0]
predictions.compare(guess, float(f"{known_after:.2g}"), "%")
sums_reading.table(added)

# %% [markdown]
# Add them, with full weights. The sum knows the facts nearly as well as their own adapter does, 98 % of the
# symbols and not 100, and reads tickets 2 nats an answer worse than the other does, where training gained
# 52. On tickets it does better than training one after the other, which forgets 7 nats of them for the facts
# (and knows 100 % of these), and it ends 1.4 behind training on both. What it may cost stands in the last
# column: on text about neither it moves further from the base than any model that was trained. (That is
# distance, not yet harm.)
#
# Do not average. The mean reads tickets no better than the sum and loses half of the symbols. Most of that
# is the halving: the facts at half their strength with nothing added know 59 %, in the mean 53.
#
# What makes the sum lose its 2 nats? Not size alone: misplaced, the same numbers do next to nothing, to
# tickets and to general text. Nor just these facts: another 40 cost 1.1. What matters is where the update
# points. Which part of that, its inputs, its outputs or the common task, these controls do not separate.
#
# (TIES, at density 0.5 and not scaled up, costs 6 nats of the tickets and halves the drift on general text.
# "Of the factors" is what PEFT's `combination_type="ties"` does: it trims A and B apart, whose product is
# another thing than the trimmed update of the paper.)

# %% tags=["core"]
sums_reading.updates_table(added)

# %% [markdown]
# Is the sum good because the two updates are at right angles? Their cosine is 0.001, and 0.1 for the facts
# and the other facts. It is tempting, and the table refutes it: the misplaced update is at right angles as
# well and costs nothing, where the facts cost 2 nats; and the model trained on both reads tickets well with
# a cosine of 0.02 to 0.03 to the tickets' own update. A small cosine says that two updates do not cancel
# each other in the weights. It does not say that two skills never meet in an answer.

# %% tags=["core"]
sums_reading.negations_table(added)

# %% [markdown]
# And subtracting? Taken away from the model that was trained on both, the facts are gone, for one nat of the
# tickets. Just what the paper promises; until you read the control. Take *other* facts away, which this
# model has never seen, and most of the codes are gone as well, and more of the tickets. So most of the loss
# does not need *these* facts. Taking away the right ones is more precise (3 % of the symbols are left, not
# 10, for 0.9 nats and not 1.8), but a scalpel it is not. Whether it takes away the reciting of codes as such
# was not asked.
#
# (The first two rows take facts away from a model that has learned none. That costs tickets, too: 2 nats for
# these facts, and 6 to 12 for the others, which cost 1.1 when they were added. Subtracting is not adding
# backwards.)
#
# These are 40 codes and one ticket task on a small model, LoRA of rank 16, three seeds. That two skills add
# up so well here does not say that yours will. Try it: `add_weighted_adapter` with `combination_type="cat"`
# is the exact sum (notebook 10), and takes negative weights, too.
#
# ## Save, and read it back
#
# A merged model is a whole model. It is saved in pieces (*shards*), so that no file is larger than what a
# download or a file system takes well, with an index that says which tensor is in which piece.
# `saving.save_merged` is `save_pretrained` for model and tokenizer, with one look before it: does the disk
# have room? A merged model that is cut off at 90 % is worth nothing, and the error comes after minutes.

# %% tags=["core", "nbval-ignore-output"]
merged = routes.dequantised(BASE, FOLDER / "adapter")
saving.save_merged(merged, tokenizer, FOLDER / "merged", shard_gb=0.004)  # tiny, to see the pieces
before = composing.logits(merged, tokenizer, rows)[0]
for attention in ("eager", "sdpa"):
    again = AutoModelForCausalLM.from_pretrained(FOLDER / "merged", attn_implementation=attention)
    apart = (composing.logits(again, tokenizer, rows)[0] - before).abs().max().item()
    print(f"read back, attention {attention}: logits up to {apart:.0e} apart")
    assert apart < (1e-5 if attention == "eager" else 1e-3)
written = [
    *sorted((FOLDER / "merged").glob("*.safetensors*")),
    FOLDER / "adapter" / "adapter_model.safetensors",
]
lines = [[file.relative_to(FOLDER).as_posix(), f"{file.stat().st_size:,}"] for file in written]
Table(["file", "bytes"], lines, "The merged model on disk, and its adapter")

# %% [markdown]
# With the same attention the logits come back bit for bit, as they would not with other weights. Which
# implementation of attention computes is *not* in the files: `from_pretrained` chooses SDPA where it can,
# and the course loads its models with the eager one.
#
# The adapter is a ninth of the model here, because the model is tiny: of Mistral-7B, rank 16 on all linear
# layers is 84 MB beside 14.5 GB, both in 16 bits. That is one reason to keep adapters and not merged models.
# Another: a merged model no longer says what it was made of, and the way back is closed by rounding.
#
# ### To the hub, with a card
#
# `model.push_to_hub("you/name")` saves the model anew, with a card that is all but empty and, as the base's
# name, the folder where you had it. So finish a folder yourself, look at it, and send that:
# `HfApi().upload_folder(repo_id="you/name", folder_path=...)`. Nobody else will measure your adapter, so put
# what you measured into the card:

# %% tags=["core", "nbval-ignore-output"]
model_card.name_base(FOLDER / "adapter", "your-name/tiny-base")  # in place of a folder on this machine
model_card.write(
    FOLDER / "adapter",
    base="your-name/tiny-base",
    dataset="facts",
    split="train",  # it was trained on these very rows: knowing them by heart is the task
    results={"symbols right, of 400": known["not merged"], "of them merged in place": known["in place"]},
    limits=["It knows fifty codes by heart and nothing else.", "Trained beside NF4: merge into that base."],
    license="apache-2.0",
)
print((FOLDER / "adapter" / "README.md").read_text())
Table(["file", "bytes"], [[name, f"{size:,}"] for name, size in model_card.to_be_pushed(FOLDER / "adapter")])

# %% [markdown]
# ## Serve it
#
# Now the other side. `transformers serve` is a server that speaks OpenAI's protocol, and runs on a processor,
# too. It takes a model by the name of its folder. Four folders: the base, the base with the adapter beside
# it, the same with the second adapter from above, at half its strength, and the merged model.

# %% tags=["core", "nbval-ignore-output"]
place = FOLDER / "served"
shutil.rmtree(place, ignore_errors=True)
base_folder = FOLDER / "base"  # what the adapter was trained on: NF4, unpacked
saving.save_merged(base_model.load(BASE, "nf4", "cpu")[0].dequantize(), tokenizer, base_folder)
folders.lay_out(place / "base", base_folder)
folders.lay_out(place / "adapter", base_folder, FOLDER / "adapter")
folders.lay_out(place / "weak", base_folder, FOLDER / "weak")
folders.lay_out(place / "merged", FOLDER / "merged")
print(sorted(folder.name for folder in place.iterdir()))

# %% [markdown]
# Start it, and ask as any program would that talks to OpenAI: with the `openai` client and another address.
# The server is a process of its own, listens on 127.0.0.1 alone, and is gone at the end of the `with` block,
# also if you interrupt the cell or kill the kernel.

# %% tags=["core", "nbval-ignore-output"]
question = facts.prompt(rows[0]["key"])
with server.running(place) as api:
    client = api.client()  # openai.OpenAI(base_url=api.url, api_key="none"), past any proxy
    create = client.chat.completions.create
    reply = create(model="merged", messages=question, temperature=0, max_tokens=16)
    print("in one piece:", reply.choices[0].message.content)
    pieces = []
    for chunk in create(model="adapter", messages=question, temperature=0, max_tokens=16, stream=True):
        pieces.append(chunk.choices[0].delta.content or "")
    print("streamed:    ", "|".join(pieces))
    for other in ("weak", "base"):
        said = create(model=other, messages=question, temperature=0, max_tokens=16)
        print(f"{other + ':':13}", said.choices[0].message.content)
expect(
    "the server gives the code that was trained", reply.choices[0].message.content == facts.answer(rows[0])
)

# %% [markdown]
# Each name answers as its folder does: at half the strength the code is another. And each folder is a model
# of its own to this server: two adapters are two copies of the base in memory, and their requests do not
# share a batch. What exercise 3 does, one base and many adapters in one batch, is vLLM's (below).
#
# Always say `temperature=0` and `max_tokens`. Without the first, the folder's `generation_config.json`
# decides whether it samples. (A repetition penalty in that file applies even at temperature 0.) Without the
# second, a client that has gone away can keep the server busy for 1,024 tokens.
#
# ### The same tokens?
#
# "It looks right" is no test. Greedy ids are one: each token is the likeliest, so one that differs shows that
# something computes otherwise.

# %% [markdown]
# ### Exercise 4: the same tokens?
#
# > **8 minutes · ●○○**
# >
# > Whether a server answers as the model does that you trained is seen in the ids that both write. `ours`
# > and `theirs` are two lists of generated ids. A reply is what stands before the first `end`, the id that
# > ends a turn. After it `generate` pads to the longest reply of the batch, while a server that leaves the
# > end out stops just before it. So a list without an `end` is a reply as a whole. Return the place, counted
# > from 0, of the first token in which the replies differ; where one is the beginning of the other, they
# > differ where the shorter one stops. Return None if they are the same.
# >
# > (A reply that was cut off at the token limit looks just like one whose end was left out. So give both
# > sides the same limit, and one that is high enough.)
# >
# > By hand, with `end` 2: for `ours` [5, 9, 3, 2, 0, 0] and `theirs` [5, 9, 3] it is None. With `theirs`
# > [5, 9, 3, 7, 2] it is 3, as theirs goes on; with [5, 8, 3, 2] it is 1.


# %% tags=["core"]
def first_difference(ours: list[int], theirs: list[int], end: int) -> int | None:
    ### BEGIN SOLUTION
    ours, theirs = (ids[: ids.index(end)] if end in ids else ids for ids in (ours, theirs))
    for i in range(max(len(ours), len(theirs))):
        if ours[i : i + 1] != theirs[i : i + 1]:
            return i
    return None
    ### END SOLUTION


exercises.first_difference.check(first_difference)

# %% tags=["core"]
# exercises.first_difference.hint()
differs_at = exercises.first_difference.or_reference(first_difference)

# %% [markdown]
# Compare four places: the adapter that was trained, beside NF4 as in training; the merged model in this
# process; and the server with each of the two.
#
# Where do the server's ids come from? OpenAI's protocol sends text. But streamed, this server sends one
# piece a token, and in this vocabulary no two ordinary tokens have the same characters, so the piece says
# which it was (`replies.served`). vLLM sends ids as well, if the request says `return_token_ids`. Where you
# can have neither, compare the text.

# %% tags=["core", "nbval-ignore-output"]
trained = routes.unmerged(BASE, FOLDER / "adapter")
merged = AutoModelForCausalLM.from_pretrained(FOLDER / "merged")
end, lines = tokenizer.eos_token_id, []
with server.running(place) as api:
    client = api.client()
    for row in rows[:8]:
        messages = facts.prompt(row["key"])
        ours = replies.generated(trained, tokenizer, messages, 16)
        others = [replies.generated(merged, tokenizer, messages, 16)]
        others += [replies.served(client, name, tokenizer, messages, 16) for name in ("adapter", "merged")]
        places = [differs_at(list(ours.ids), list(other.ids), end) for other in others]
        lines.append(
            [row["key"], ours.text, *("same" if place is None else f"from {place}" for place in places)]
        )
expect("all four write the same tokens", all(line[2:] == ["same"] * 3 for line in lines))
headings = ["key", "trained, in this process", "merged, in this process", "served: adapter", "served: merged"]
Table(headings, lines, "Greedy replies, token by token")

# %% [markdown]
# The same, everywhere. How much does that show? Less than it seems: these codes are known so surely that in
# the table above even bfloat16 changed no first choice, so this test would not have seen bfloat16. The
# recorded tickets would: there, bfloat16 products alone changed a third of the replies. Test with prompts of
# your own, and with many.
#
# And where replies differ, ask *where* they part, and how near the two tokens were: two that are nearly as
# likely change places by rounding. (transformers, for one, loads an adapter in its base's bfloat16 where PEFT
# keeps float32.) `lab.py serve-check` does that against any OpenAI-compatible server, your own, vLLM or a
# provider's. It needs none of these notebooks:
#
# ```
# python lab.py serve-check my-adapter --base my-base --url SERVER
# ```
#
# Without `--url` it looks at the files alone, before you rent anything: a rank above what the server allows,
# whole modules beside the pairs, DoRA, a template or a tokenizer that is not the base's, an adapter of
# another base. Here two adapters: the one you trained, and the DoRA one.

# %% tags=["core", "nbval-ignore-output"]
for name in ("adapter", "dora"):
    report = lint.lint(adapter_folder.opened(FOLDER / name, BASE))
    print(serve_report.in_words(report, None).replace(f"{files.ROOT}/", ""), end="\n\n")

# %% [markdown]
# Nothing in its files keeps vLLM from serving the first. (*no-tokenizer* is worth a minute: an adapter that
# brings the tokenizer it was trained with, and the template in it, can be checked against the base's.
# *base-is-a-path* is told of the second alone, because the card step gave the first a name that means
# something elsewhere.) But on which base? Beside the published base in bfloat16 it is nearly the route
# "bfloat16 base": the sum is not rounded there, but the base is the same other one. What was trained on NF4
# is served beside the dequantised base, as here, or beside one that the server quantises as training did.
# The second adapter vLLM refuses: merge it, or serve it with transformers.
#
# Now with a server. It is asked twice: for the adapter, and by mistake for the base.

# %% tags=["core", "nbval-ignore-output"]
mine = adapter_folder.opened(FOLDER / "adapter", str(base_folder))
prompts = [facts.prompt(row["key"]) for row in rows[:4]]
with server.running(place) as api:
    for served in ("adapter", "base"):
        compared, found, name = parity.tested(mine, api.url, served, prompts, 16, None)
        print(serve_report.agreement(compared, name))
        print("found:", *([one.rule.id for one in found] or ["nothing"]), end="\n\n")

# %% [markdown]
# *By their text*, because this server tells ids only by the pieces of a stream; vLLM tells them itself. It
# knows the difference between a near tie and another model, because it has the logits of the adapter in this
# process. It has the replies of the bare base in this process as well, which is how it can say
# *adapter-not-applied*: the server's replies are the base's.
#
# ### Many at once
#
# Without an option this server answers one request after another, for each model. With continuous batching
# all share each forward pass. (It then takes the temperature of the *first* request for all that follow;
# here all have 0.)

# %% tags=["core", "nbval-ignore-output"]
asked = [facts.prompt(row["key"]) for row in rows[:16]]
lines = []
batching = ["--continuous-batching", "--cb-num-blocks", "64", "--cb-max-batch-tokens", "256"]
for way, more in (("one after another", []), ("in one batch", batching)):
    with server.running(place, options=more) as api:
        levels = load.sweep(api.client(), "merged", asked, clients=(1, 4, 8), max_tokens=16)
    for level in levels:
        line = [way, level.clients, f"{level.tokens_per_second:.0f}", f"{level.latency:.2g}"]
        lines.append([*line, f"{level.first_token:.2g}", len(level.failed)])
expect("no reply is lost", all(line[-1] == 0 for line in lines))
right = [answer.text == facts.answer(row) for answer, row in zip(levels[-1].answers, rows[:16], strict=True)]
expect("in one batch every client has its own code", sum(right) >= 15)
headings = ["requests are answered", "clients", "tokens a second, together"]
headings += ["seconds a reply, median", "to the first token", "lost"]
Table(headings, lines, "transformers serve on this machine, 16 requests a line")

# %% [markdown]
# One after another, eight clients together get at most half as much again as one gets, and each waits for the
# others. In one batch they get two to three times as much as that, since one forward pass serves eight rows;
# a client alone gains nothing by it. (The figures of so short a run vary. vLLM batches like this by itself.)
#
# What happens to the others when a client goes away in the middle, and what does a client see when the server
# dies? The base, asked for a code, writes on and on, which is what we need here. First a client that stays to
# the end of its 300 tokens, then one that leaves after the first.

# %% tags=["core", "nbval-ignore-output"]
with server.running(place) as api:
    client = api.client()
    create = client.chat.completions.create
    load.ask(client, "base", question, 1)  # loads the model
    for leaves in (False, True):
        stream = create(model="base", messages=question, temperature=0, max_tokens=300, stream=True)
        next(iter(stream))
        if leaves:
            stream.close()
        start = time.perf_counter()
        after = load.ask(client, "base", question, 4)
        waited = time.perf_counter() - start
        print(f"the first client {'leaves' if leaves else 'stays'}: the next one waits {waited:.2g} s")
        expect("and has a whole reply", not after.error)
    stream = create(model="base", messages=question, temperature=0, max_tokens=300, stream=True)
    pieces = [next(iter(stream)).choices[0].delta.content]
    api.kill()  # what a machine does that runs out of memory
    try:
        pieces += [chunk.choices[0].delta.content for chunk in stream]
        print("the stream ended without a word")
    except openai.APIConnectionError as error:
        print(f"in the middle of a stream: {type(error).__name__}: {error}")
    print("a new request:", load.ask(client, "base", question, 4).error)

# %% [markdown]
# The server notices at the next token that nobody reads the stream, and stops. (Only in a stream: a request
# without `stream=True` runs on to its end, and the next one for the same model waits. So stream, even where
# you only want the whole text, and always give `max_tokens`.)
#
# A program that calls a server has to expect the other two lines. A stream that breaks off has given you
# half an answer, and code that catches the error and keeps the text takes it for a whole one. `load.ask`
# keeps the text so far *and* the error, and counts only answers without one.
#
# ### On a card: vLLM
#
# On a card one takes vLLM, which batches requests of many adapters. Its command can be written from the
# adapter's own settings:

# %% tags=["core"]
command = commands.vllm_serve(FOLDER / "adapter", base=str(base_folder), name="facts")
print(command.replace(str(files.RUNS.resolve()), "runs"))  # yours shows whole paths

# %% [markdown]
# Written for vLLM 0.33.0 by reading its source; not run here. (The merged model needs no option: `vllm serve
# runs/merging/merged`.) The base is the folder of unpacked NF4 numbers, not a published one: see above.
# `--max-lora-rank` is 16 unless you say otherwise and has to be one of a list, so an adapter of rank 24 is
# served with 32. Requests name the adapter `facts`; the base's own name gets the base without it, fluent and
# untrained: a common mistake.
#
# > **Guide 001 says**: served apart from the base, "only the active adapter needs to be loaded".
#
# *Imprecise*, and it undersells the thing: as many as you allow (`--max-loras`, 1 by default) are on the
# card together, so that one batch can serve all of these. How many stay in memory beside them is
# `--max-cpu-loras`, by default no more than that; the rest are read from their files when they are asked
# for. Ten adapters of rank 16 on Mistral-7B are 0.84 GB in 16 bits, beside 14.5 GB for the base.

# %% [markdown]
# ## llama.cpp: one file for a laptop
#
# Not every model is served from a card. llama.cpp runs on anything, and takes one file, a *GGUF*, that holds
# the weights, the tokenizer and the chat template. Three chances to be wrong, and no error for any: it has
# an interpreter of its own for the template, a tokenizer of its own, and turns the rotary embedding's
# numbers in another order, so that rows of q and k change places on the way
# (`labsupport/serving/gguf_export.py` says how). So prove it again, piece by piece: the template's text, its
# ids, and the reply to those ids.

# %% tags=["core", "nbval-ignore-output"]
lines = []
for kind in ("float32", "float16"):
    gguf_file = gguf_export.write(merged, tokenizer, FOLDER / f"facts-{kind}.gguf", kind)
    same = {"template": 0, "ids": 0, "reply": 0}
    with llama_cpp.opened(gguf_file) as llama:
        for row in rows[:8]:
            messages = facts.prompt(row["key"])
            prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            ids = tokenizer(prompt)["input_ids"]
            ours = replies.generated(merged, tokenizer, messages, 16)
            same["template"] += llama.prompt(messages) == prompt
            same["ids"] += llama.ids(prompt) == ids
            same["reply"] += differs_at(list(ours.ids), llama.generate(ids, 16), end) is None
    lines.append([kind, f"{gguf_file.stat().st_size:,}", *(f"{count} of 8" for count in same.values())])
expect("a float32 GGUF writes the same tokens", lines[0][2:] == ["8 of 8"] * 3)
Table(["GGUF", "bytes", *same], lines, "llama.cpp beside transformers in float32")

# %% [markdown]
# Template, ids and greedy replies are those of transformers. That float16 changes none of eight replies says
# as little about float16 as above about bfloat16: codes known by heart are sure. What it does say is that
# names, row order, tokenizer and template arrived as they should: with one of them wrong, eight codes that
# nobody could guess would hardly come out.
#
# (llama.cpp comes here as the package `xllamacpp`, which has wheels for Linux, macOS on Apple
# silicon and Windows. The better known `llama-cpp-python` has to be compiled.)

# %% [markdown]
# ## Checkpoint

# %% tags=["core"]
quiz.ask("11_merging_and_serving")

# %% [markdown]
# ## On a rented GPU
#
# Written for L4 and A10, not yet run there. What would be worth an hour: the QLoRA run of notebook 08 with a
# 7B model, merged by all six routes on the processor of that machine, each scored on your own test rows;
# `vllm serve` with the line that `serve-check` prints, and `serve-check --url` against it, once for the
# adapter and once for the merged model in bfloat16; and the load table with 1 to 32 clients. What is
# measured here in float32 (parity, what a route keeps) does not depend on a card; tokens a second and how
# often bfloat16 flips a near tie do.
