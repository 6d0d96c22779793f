# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 03 · Counting parameters
#
# **In one sentence**: you count what LoRA trains on any model from its shapes alone, and read from a printed
# count what somebody really ran.
#
# **Minutes**: 100 to read and do, 1 to run all cells.
#
# ![The seven weight matrices of one transformer block, drawn to scale as grey rectangles: q and o square,
# k and v only a quarter as high, gate and up tall, down wide. Above each lies a thin blue strip A as long
# as the matrix is wide, on its left stands a thin orange strip B as tall as the matrix is high. W costs
# its area, A and B its edges: r times (in + out).](attachment:schematic.png)
#
# One block of Mistral-7B, to scale (the strips are drawn too thick: at rank 16 they would be hairlines).
#
# After this notebook you will be able to
#
# - say from a model's `config.json` how many parameters it has, and how many LoRA or DoRA will train,
#   exactly;
# - tell from a printed count whether a guide, a colleague or you made a mistake;
# - predict the size of an adapter's file to the byte, and say why 4-bit weights fool a count.
#
# **Needs** [notebook 02](02_lora_math.ipynb): what A, B and the [rank](../glossary.md#rank) are. Nothing is
# trained and no large model is loaded; everything runs on the processor.

# %% [markdown]
# ## One line
#
# Every script that uses PEFT prints a line like this before it trains:
#
#     trainable params: 27,262,976 || all params: 7,268,633,600 || trainable%: 0.375%
#
# Most people glance at it and go on. Yet it is the cheapest check there is. It comes before the first
# paid hour, and for plain LoRA it depends on three things only: the model, the rank and the [target
# modules](../glossary.md#target_modules). If you know beforehand what it must say, a forgotten target, a
# wrong rank or a wrong base model will hardly slip past you.
#
# The line above stands in [guide 002](../guides.md#guide-002), below a configuration with rank 16 on all
# seven matrices of Mistral-7B-v0.3. Could that configuration have printed it? You will find out, and you
# will also find out what could have.
#
# The next cells set up; loading torch and its relatives takes about 10 seconds.

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
upstream.guard_4bit_on_cpu()  # before a 4-bit model is built, see notebook 04

# %% tags=["core", "setup"]
import itertools
import tempfile
from pathlib import Path

import torch
from bitsandbytes.nn import Linear4bit
from peft import LoraConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig
from transformers.integrations.bitsandbytes import replace_with_bnb_linear

from labsupport.configs import model_configs
from labsupport.core.tables import Table
from labsupport.explorers import parameter_calculator_explorer
from labsupport.models import base_model
from labsupport.sizes import counting
from labsupport.teaching import claims, predictions, quiz
from labsupport.notebooks.nb03_counting_parameters import exercises, figures

# %% [markdown]
# ## One matrix
#
# LoRA leaves a weight matrix $W$ (a row for each output, a column for each input) as it is and trains two
# thin ones beside it: $A$, of shape $r \times d_\mathrm{in}$, and $B$, of shape $d_\mathrm{out} \times
# r$.
#
# By hand, for `k_proj` of the small model of this course, which has 576 inputs and 192 outputs, at rank 16:
# $A$ has 16 x 576 = 9,216 entries and $B$ has 192 x 16 = 3,072. Together 12,288, beside the 110,592 of $W$.
#
# Now look at the drawing again. $A$ is as long as $W$ is wide, $B$ is as tall as $W$ is high, and both
# are $r$ thick. So you pay for two edges of the rectangle instead of its area:
#
# $$r\,(d_\mathrm{in} + d_\mathrm{out}) \quad\text{instead of}\quad d_\mathrm{in}\, d_\mathrm{out}$$
#
# An edge grows more slowly than an area. For a square matrix of width $n$ the share is $2r/n$: the wider the
# model, the smaller LoRA looks beside it. And there is a rank from which on nothing is saved.

# %% tags=["core"]
matrices = {
    "SmolLM2-135M's k_proj": (576, 192),
    "SmolLM2-135M's down_proj": (1536, 576),
    "Mistral-7B's k_proj": (4096, 1024),
    "Mistral-7B's down_proj": (14336, 4096),
}
rows = []
for name, (d_in, d_out) in matrices.items():
    edges, area = 16 * (d_in + d_out), d_in * d_out
    rows.append([name, area, edges, f"{100 * edges / area:.2f} %", int(area / (d_in + d_out))])
Table(["matrix", "W", "A and B", "share", "nothing saved above rank"], rows, "LoRA of rank 16 on one matrix")

# %% [markdown]
# The same rank 16 is a ninth of the small `k_proj` and less than a hundredth of the large `down_proj`. A rank
# is no measure of how much you train.
#
# ## A model, part by part
#
# All models of the Llama family (Llama, Mistral, Qwen2, SmolLM2) are built alike. Each layer has an
# attention with four matrices and an MLP with three:
#
# | module | inputs | outputs |
# |---|---|---|
# | `q_proj` | hidden | heads x head_dim |
# | `k_proj`, `v_proj` | hidden | key-value heads x head_dim |
# | `o_proj` | heads x head_dim | hidden |
# | `gate_proj`, `up_proj` | hidden | intermediate |
# | `down_proj` | intermediate | hidden |
#
# The two narrow ones in the drawing come from *grouped-query attention*, [GQA](../glossary.md#gqa): several
# query heads share one head of keys and values. That makes the cache of keys and values small when the model
# writes, and `k_proj` and `v_proj` narrow. Mistral-7B has 32 query heads and 8 key-value heads, so those two
# matrices are a quarter as high as `q_proj`. Who counts them as square counts too much.
#
# Besides the seven there are two norms a layer and a last one (hidden weights each), the
# [embedding](../glossary.md#embedding) (vocabulary x hidden), and the head, which is the same size again
# unless it is [tied](../glossary.md#tied) to the embedding, that is, the same matrix. Qwen2 has biases on
# q, k and v.
#
# All of it follows from a few lines of `config.json`. The small model's:

# %% tags=["core"]
small = model_configs.read(base_model.bundled_folder())
keys = ["model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"]
keys += ["num_key_value_heads", "head_dim", "vocab_size", "tie_word_embeddings"]
Table(["key", "value"], [[key, str(small[key])] for key in keys], "SmolLM2-135M, config.json")

# %% [markdown]
# ### Exercise 1: a whole model
#
# > **20 minutes · ●●○**
# >
# > Return the number of all parameters of a model, an int. `config` is a dict with the nine keys above;
# > `model_type` is "llama", "mistral" or "qwen2". A head that is tied counts once. Use `head_dim` as
# > given: it need not be hidden_size / heads.


# %% tags=["core"]
def model_parameters(config: dict) -> int:
    ### BEGIN SOLUTION
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    queries = config["num_attention_heads"] * config["head_dim"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    layer = 2 * hidden * queries + 2 * hidden * keys + 3 * hidden * inner + 2 * hidden
    if config["model_type"] == "qwen2":
        layer += queries + 2 * keys
    matrices = 1 if config["tie_word_embeddings"] else 2
    return config["num_hidden_layers"] * layer + hidden + matrices * config["vocab_size"] * hidden
    ### END SOLUTION


exercises.model_parameters.check(model_parameters)

# %% tags=["core"]
# exercises.model_parameters.hint()
whole_model = exercises.model_parameters.or_reference(model_parameters)

# %% [markdown]
# Is that what the libraries build? PyTorch's [meta device](../glossary.md#meta-device) makes tensors that
# have a shape and no contents, so even a 70B model takes no memory, and you can count it on a laptop. The
# configurations are published ones (`data/model_configs/README.md` names the sources).


# %% tags=["core"]
def on_meta(config: dict):
    """The model of a configuration with shapes and without contents."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), dtype=torch.bfloat16)


# %% tags=["core"]
names = ["smollm2-135m", "llama-2-7b", "mistral-7b-v0.3", "qwen2.5-7b"]
models, rows = {}, []
for name in names:
    models[name] = on_meta(model_configs.find(name))
    built = sum(p.numel() for p in models[name].parameters())
    rows.append([name, whole_model(model_configs.find(name)), built])
    assert rows[-1][1] == built
Table(["model", "by the formula", "built by transformers"], rows, "All parameters")

# %% [markdown]
# Equal to the last digit (`tests/sizes/test_counting.py` does this for sixteen models). Where do the
# parameters sit?

# %% tags=["core"]
figures.where_parameters_sit(
    ["smollm2-135m", "llama-3.2-1b", "qwen2.5-7b", "llama-3.1-8b", "llama-2-7b", "llama-3-70b"]
)

# %% [markdown]
# Two things to keep in mind. The MLP is where most weights are, although the first recipes for LoRA
# touched the attention alone. And a fifth of the small model is its vocabulary, which will matter when we
# pack weights into 4 bits.
#
# ## LoRA on a model
#
# The formula for one matrix, summed over the targets, times the layers. By hand for the small model, rank 16
# on q and v: `q_proj` is 576 x 576 and costs 16 x (576 + 576) = 18,432; `v_proj` has 192 outputs and costs
# 16 x (576 + 192) = 12,288. Together 30,720 a layer, times 30 layers: 921,600.
#
# > **Guide 002 says**, of Llama-2-7B at rank 16 on all seven modules: 7 x 131,072 "(average)" a layer, 29.4
# > million in all, 0.44 %.

# %% [markdown]
# > **Predict.** Llama-2-7B has no GQA, a hidden size of 4,096 and an intermediate size of 11,008. How many
# > million parameters do you expect?

# %% tags=["core"]
guess = None  # your guess, in millions of parameters

# %% [markdown]
# ### Exercise 2: LoRA on any targets
#
# > **10 minutes · ●●○**
# >
# > Return how many parameters LoRA of this rank trains, an int. `targets` is a list of names of modules that
# > occur once a layer. `counting.shapes(config)` is a dict from each name to (inputs, outputs); for
# > SmolLM2-135M `["v_proj"]` at rank 16 gives 30 x 12,288 = 368,640.


# %% tags=["core"]
def lora_count(config: dict, rank: int, targets: list[str]) -> int:
    ### BEGIN SOLUTION
    shapes = counting.shapes(config)
    layer = 0
    for name in targets:
        d_in, d_out = shapes[name]
        layer += rank * (d_in + d_out)
    return config["num_hidden_layers"] * layer
    ### END SOLUTION


exercises.lora_count.check(lora_count)

# %% tags=["core"]
# exercises.lora_count.hint()
lora_of = exercises.lora_count.or_reference(lora_count)

# %% tags=["core"]
llama2 = model_configs.find("llama-2-7b")
counted = lora_of(llama2, 16, counting.ALL_LINEAR)
predictions.compare(guess, counted / 1e6, unit="million", word="counted")

# %% tags=["core", "claim-B2"]
rows = []
for name, (d_in, d_out) in counting.block_shapes(llama2).items():
    rows.append([name, f"16 x ({d_in:,} + {d_out:,})", 16 * (d_in + d_out)])
layer = sum(row[-1] for row in rows)
assert counted == 32 * layer
rows += [["a layer", "sum", layer], ["32 layers", f"32 x {layer:,}", counted]]
Table(["module", "rank x (in + out)", "parameters"], rows, "Llama-2-7B, rank 16 on all seven modules")

# %% [markdown]
# 131,072 is no average: it is what each of the four attention matrices costs. The three matrices of the MLP
# have a longer edge and cost nearly twice as much each. So the guide's 29.4 million is *wrong* for its own
# model and recipe: more than a quarter is missing.
#
# Now the library. `get_peft_model` works on the meta device too, so PEFT counts for us. It changes the model
# that it is given, hence the `unload()`.


# %% tags=["core"]
def by_peft(name: str, config) -> tuple[int, int]:
    """(trained, all) as print_trainable_parameters() counts them."""
    with torch.device("meta"):
        adapted = get_peft_model(models[name], config)
    counts = adapted.get_nb_trainable_parameters()
    if isinstance(config, LoraConfig):
        adapted.unload()
    return counts


# %% tags=["core"]
rows = []
for name, (label, targets) in itertools.product(names, list(counting.SETS.items())):
    lora = LoraConfig(r=16, target_modules=list(targets), task_type="CAUSAL_LM")
    trained, total = by_peft(name, lora)
    mine = lora_of(model_configs.find(name), 16, targets)
    assert (mine, mine + whole_model(model_configs.find(name))) == (trained, total)
    rows.append([name, label, trained, total, f"{100 * trained / total:.4f} %"])
Table(["model", "targets", "trainable params", "all params", "trainable%"], rows, "Rank 16, counted by PEFT")

# %% [markdown]
# Two lines of the guides can now be read. [Guide 004](../guides.md#guide-004) shows "~5M" and 0.07 % for
# rank 16 on q and v of a 7B that it does not name there. It could be Qwen2.5-7B, the only one above that
# fits; the Llama-3.1-8B that the same page trains later has 6.8 million.
#
# And [guide 003](../guides.md#guide-003) shows "all params: 8,030,261,248" for Llama-3.1-8B with an
# adapter. That is the model alone: the total that PEFT prints includes the adapter, here 13.6 million
# more. When somebody's total is exactly the base model, you know that it was looked up and not printed.
#
# ## How much is that of the model?
#
# > **Guides 000 and 003 say**, of 7B models: LoRA trains roughly 0.1 to 1 % of the parameters, depending
# > on rank and targets. Guide 002's table has 0.1 to 0.5 %.
#
# A claim is judged where it was made, so let us count at 7B: four models of 7 to 8 billion parameters,
# with the three target sets and the four ranks that guide 003 names, 48 settings. Beside them the model
# of this course, to see what happens when you carry such a sentence to another size.


# %% tags=["core"]
def share(name: str, rank: int, targets: str) -> float:
    """What LoRA trains of all parameters, the adapter among them, in percent."""
    config = model_configs.find(name)
    trained = lora_of(config, rank, counting.SETS[targets])
    return 100 * trained / (whole_model(config) + trained)


# %% tags=["core"]
at_7b, at_135m = {}, {}
for targets, rank in itertools.product(["q+v", "qkvo", "all-linear"], [8, 16, 32, 64]):
    seven = ["llama-2-7b", "mistral-7b-v0.3", "llama-3.1-8b", "qwen2.5-7b"]
    at_7b[targets, rank] = [share(name, rank, targets) for name in seven]
    at_135m[targets, rank] = share("smollm2-135m", rank, targets)
figures.shares(at_7b, at_135m, 0.1, 1)

# %% tags=["core", "claim-B11"]
rows = []
for targets, rank in at_7b:
    some = at_7b[targets, rank]
    inside = sum(0.1 <= each <= 1 for each in some)
    rows.append([f"{targets}, rank {rank}", f"{min(some):.3f}", f"{max(some):.3f}", f"{inside} of 4"])
    rows[-1].append(f"{at_135m[targets, rank]:.2f}")
headings = ["setting", "least at 7B (%)", "most at 7B (%)", "in 0.1 to 1 %", "SmolLM2-135M (%)"]
Table(headings, rows, "What LoRA trains of all parameters")

# %% [markdown]
# At 7B the sentence *holds* for most settings, 30 of 48, and what falls out does so at the ends: low
# ranks on attention alone lie below (rank 8 on q and v, which guide 000 counts among the standard
# recommendations, trains 0.03 to 0.06 %), ranks of 32 and more on all modules above. Guide 002's narrower
# 0.1 to 0.5 % is *imprecise*: 22 of 48, and its own recipe, all seven modules at rank 16, is just
# outside.
#
# At 135M only 3 of 12 are inside, and rank 64 on everything is an eighth of the model. Nothing about LoRA has
# changed, only the width: edges against areas. So give a share only with its model.
#
# ## Every rank, every target
#
# [Guide 003](../guides.md#guide-003), which is the page of day 78 of its course, sets a *parameter
# calculator* as its first task: compare ranks 8, 16, 32 and 64 for a 7B model. You have written it
# already.

# %% tags=["core"]
llama3 = model_configs.find("llama-3.1-8b")
rows = []
for label, targets in counting.SETS.items():
    rows.append([label] + [lora_of(llama3, rank, targets) for rank in (8, 16, 32, 64)])
Table(["targets", "rank 8", "rank 16", "rank 32", "rank 64"], rows, "What LoRA trains on Llama-3.1-8B")

# %% [markdown]
# Each row doubles from column to column: the count is the rank times a number that the targets alone decide.
# And the targets matter as much. From q and v to all seven modules is a factor of 6, the same as from rank 8
# to rank 49.
#
# ## The number that does not fit
#
# Back to the line at the beginning.
#
# > **Guide 002 says**, of Mistral-7B-v0.3 with rank 16 on all seven modules: "trainable params: 27,262,976 ||
# > all params: 7,268,633,600".

# %% tags=["core"]
mistral = model_configs.find("mistral-7b-v0.3")
print(f"rank 16, all seven: {lora_of(mistral, 16, counting.ALL_LINEAR):,}")

# %% [markdown]
# So that code cannot have printed it. What could have? Any non-empty subset of the seven modules may be the
# targets, and there are 127 of them.
#
# > **Predict.** With ranks 8, 16, 32 and 64: how many of these 4 x 127 configurations train exactly
# > 27,262,976 parameters?

# %% tags=["core"]
guess = None  # your guess: how many configurations

# %% [markdown]
# ### Exercise 3: find the configuration
#
# > **15 minutes · ●●○**
# >
# > Return every `(rank, targets)` that trains exactly `wanted` parameters, as a sorted list of tuples.
# > `ranks` are the ranks to try. The targets are a str, joined in the model's order, which is that of
# > `counting.ALL_LINEAR`: `(8, "q_proj+v_proj")`. An empty list if nothing fits.


# %% tags=["core"]
def configurations(config: dict, wanted: int, ranks: list[int]) -> list[tuple[int, str]]:
    ### BEGIN SOLUTION
    found = []
    for rank, size in itertools.product(ranks, range(1, 8)):
        for targets in itertools.combinations(counting.ALL_LINEAR, size):
            if counting.lora_count(config, rank, targets) == wanted:
                found.append((rank, "+".join(targets)))
    return sorted(found)
    ### END SOLUTION


exercises.configurations.check(configurations)

# %% tags=["core"]
# exercises.configurations.hint()
search = exercises.configurations.or_reference(configurations)

# %% tags=["core"]
ranks = [8, 16, 32, 64]
found = search(mistral, 27_262_976, ranks)
predictions.compare(guess, len(found), unit="configurations", word="counted")
rows = [[rank, targets.replace("_proj", "").replace("+", ", ")] for rank, targets in found]
Table(["rank", "targets"], rows, "What trains 27,262,976 parameters on Mistral-7B-v0.3")

# %% tags=["core"]
figures.recipes(mistral, 27_262_976, found, ranks)

# %% [markdown]
# Since the count is the rank times a number of the targets, one curve serves all ranks: it shows that number
# for all 127 choices, and a dashed line is what a rank would need. Where the line runs along a step of the
# curve, the recipe fits.
#
# (You may have met the number in the table above: Llama-3.1-8B has the same matrices.) Rank 32 on the four
# attention matrices is the likeliest source. Yet rank 16 is there too: q, o and any two
# matrices of the MLP. So a count can rule a recipe out, and it cannot prove one. And the total?

# %% tags=["core", "claim-B3"]
base = 7_268_633_600 - 27_262_976
print(f"guide 002's total without its adapter {base:,}; Mistral-7B-v0.3 has {whole_model(mistral):,}")
trained = lora_of(mistral, 16, counting.ALL_LINEAR)
total = whole_model(mistral) + trained
print(f"its recipe prints {trained:,} of {total:,}, that is {100 * trained / total:.4f} %")

# %% [markdown]
# The total without its adapter is no Mistral-7B-v0.3 either: 6.7 million are missing. For its own code the
# line is *wrong* in both numbers. It was probably taken over from another run; that happens to all of us, and
# this is how one notices.
#
# ## The adapter's file
#
# What you ship is `adapter_model.safetensors`: A and B of every target, by default in float32, behind a
# header that names each tensor, its shape and its place. So the file is 4 bytes a parameter and a little.
# Save one and see.

# %% tags=["core"]
model = AutoModelForCausalLM.from_pretrained(base_model.bundled_folder(), dtype=torch.float32)
lora = LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM")
adapted = get_peft_model(model, lora)
with tempfile.TemporaryDirectory() as folder:
    adapted.save_pretrained(folder)
    size = Path(folder, "adapter_model.safetensors").stat().st_size
header, tensors = counting.adapter_bytes(small, 16)
print(f"predicted: header {header:,} + tensors {tensors:,} = {header + tensors:,} bytes; saved {size:,}")
assert header + tensors == size

# %% [markdown]
# To the byte. The same closed form for a large model, without loading it:
#
# > **Guide 002 says**, of its Mistral-7B adapter, rank 16 on all seven modules: "only ~50MB".

# %% tags=["core", "claim-F2"]
rows = []
for rank, targets in ((8, "q+v"), (16, "q+v"), (16, "qkvo"), (16, "all-linear"), (64, "all-linear")):
    full = sum(counting.adapter_bytes(mistral, rank, targets, dtype="float32"))
    half = sum(counting.adapter_bytes(mistral, rank, targets, dtype="bfloat16"))
    rows.append([f"rank {rank}, {targets}", f"{full / 1e6:.1f}", f"{half / 1e6:.1f}"])
Table(["adapter", "float32 (MB)", "bfloat16 (MB)"], rows, "Adapter files of Mistral-7B-v0.3, in 10^6 bytes")

# %% [markdown]
# *Wrong* for that recipe: 168 MB as PEFT saves it, 84 MB in 16 bits (which TRL writes for a 4-bit base).
# But look what fits: 27,262,976 parameters of 2 bytes are 54.5 MB. The guide's file agrees with its
# printed line; it is the configuration above them that does not.
#
# ## Packed weights
#
# With [QLoRA](../glossary.md#qlora) the frozen model is stored in 4 bits, and then a count can fool you.
# [Notebook 04](04_nf4_quantization.ipynb) builds the format; here only its size matters. Take the small
# `k_proj` once more, 576 inputs and 192 outputs:

# %% tags=["core"]
layer = Linear4bit(576, 192, bias=False, quant_type="nf4")
print("made:  ", type(layer.weight).__name__, tuple(layer.weight.shape), layer.weight.dtype)
layer = layer.to("cpu")  # moving it to a device packs it
print("packed:", type(layer.weight).__name__, tuple(layer.weight.shape), layer.weight.dtype)
print(f"numel {layer.weight.numel():,} for {576 * 192:,} weights")

# %% [markdown]
# Two weights of 4 bits share a byte, and `numel` counts bytes: 55,296 for 110,592 weights. The elements
# need not be bytes. With several GPUs one often stores them as bfloat16 (`bnb_4bit_quant_storage`), four
# weights in each element, so that they can be sharded together with the rest.
#
# ### Exercise 4: count what is packed
#
# > **10 minutes · ●○○**
# >
# > `parameters` is a list of `(class name, numel, bytes an element)`. Return how many weights they are,
# > an int. The k_proj above is `("Params4bit", 55_296, 1)`: 110,592 weights. Every other class has one
# > weight an element.


# %% tags=["core"]
def unpacked(parameters: list[tuple[str, int, int]]) -> int:
    ### BEGIN SOLUTION
    weights = 0
    for kind, elements, size in parameters:
        weights += 2 * elements * size if kind == "Params4bit" else elements
    return weights
    ### END SOLUTION


exercises.unpacked.check(unpacked)

# %% tags=["core"]
# exercises.unpacked.hint()
weights_of = exercises.unpacked.or_reference(unpacked)

# %% [markdown]
# The whole small model in [NF4](../glossary.md#nf4), really loaded, counted in three ways:

# %% tags=["core"]
nf4 = BitsAndBytesConfig(
    load_in_4bit=True,
    bnb_4bit_quant_type="nf4",
    bnb_4bit_use_double_quant=True,
    bnb_4bit_compute_dtype=torch.bfloat16,
)
packed = AutoModelForCausalLM.from_pretrained(
    base_model.bundled_folder(), dtype=torch.bfloat16, quantization_config=nf4, device_map="cpu"
)

# %% tags=["core"]
naive = sum(p.numel() for p in packed.parameters())
described = [(type(p).__name__, p.numel(), p.element_size()) for p in packed.parameters()]
trained, total = get_peft_model(packed, lora).get_nb_trainable_parameters()
rows = [["sum of numel()", naive], ["your unpacked()", weights_of(described)]]
rows += [["PEFT, less its adapter", total - trained]]
assert naive == counting.naive_4bit(small) and weights_of(described) == total - trained
Table(["counted by", "parameters"], rows, "SmolLM2-135M, loaded in NF4")

# %% [markdown]
# The naive sum sees 60 % of the model and not 50, because the embedding, a fifth of it, stays unpacked. PEFT
# applies the rule that you have just written, so it prints the same total for LoRA and for QLoRA.
#
# ## The config explorer
#
# Day 78's second task: load a 7B model with `BitsAndBytesConfig`, try different target modules, print
# `print_trainable_parameters()` for each, and make a table. It is a good one. It seems to need a download
# of 15 GB and a GPU, and does not: a count needs shapes. `replace_with_bnb_linear` is what
# `from_pretrained` calls to put 4-bit layers in place of a model's linear ones.


# %% tags=["core"]
def with_4bit_layers(config: dict):
    """The skeleton that from_pretrained(quantization_config=nf4) fills with weights, on the meta device."""
    model = on_meta(config)
    with torch.device("meta"):
        replace_with_bnb_linear(model, modules_to_not_convert=["lm_head"], quantization_config=nf4)
    return model


# %% [markdown]
# > **Guide 002 says**, of its Mistral-7B under QLoRA: "all params: 3,778,682,880".

# %% [markdown]
# > **Predict.** What will PEFT print as all parameters of this skeleton, with an adapter of rank 16 on all
# > seven modules?

# %% tags=["core"]
guess = None  # your guess, in billions

# %% tags=["core"]
lora = LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM")
with torch.device("meta"):
    skeleton = get_peft_model(with_4bit_layers(mistral), lora)
skeleton.print_trainable_parameters()
predictions.compare(guess, skeleton.get_nb_trainable_parameters()[1] / 1e9, unit="billion", word="printed")

# %% [markdown]
# Fifty-six billion parameters in a 7B model, and the library prints it without a warning. You can find
# out why: look at the class and the dtype of one of its weights, and apply your rule.

# %% tags=["core"]
weight = skeleton.get_submodule("model.model.layers.0.self_attn.k_proj").base_layer.weight
print(type(weight).__name__, tuple(weight.shape), weight.dtype, "packed:", weight.bnb_quantized)
print(f"the rule says {weights_of([('Params4bit', weight.numel(), weight.element_size())]):,} weights")

# %% [markdown]
# The rule looks at the *class* of a parameter and trusts that it is packed. This one is not yet: it has
# its full 1,024 x 4,096 elements, of 4 bytes each, and the rule multiplies by 2 x 4. On a real load the
# weights are packed on their way to the device; on the meta device nothing is moved, so you must ask for
# it.
#
# > **Careful.** `print_trainable_parameters()` is right about a 4-bit model once its weights are packed.
# > A total of nearly eight times the model says that they are not; little more than half of it says that
# > somebody summed `numel()`.


# %% tags=["core"]
def in_4_bits(config: dict):
    """The shapes of a model as QLoRA loads it: 4-bit layers, packed, on the meta device."""
    model = with_4bit_layers(config)
    for layer in model.modules():
        if isinstance(layer, Linear4bit):
            layer.weight._quantize("meta")  # the library's own step, which loading would take
    return model


# %% tags=["core"]
assert sum(p.numel() for p in in_4_bits(small).parameters()) == naive  # as the small model really loaded
assert sum(p.numel() for p in in_4_bits(mistral).parameters()) == counting.naive_4bit(mistral)

# %% [markdown]
# ### Exercise 5: the config explorer
#
# > **20 minutes · ●●○**
# >
# > For each choice of targets put LoRA of this rank on `in_4_bits(config)` and ask PEFT for its counts.
# > Return a list of tuples `(label, trained, all)` in the order of `choices`: a str and two ints, those
# > that `print_trainable_parameters()` prints (`get_nb_trainable_parameters()` returns them). `choices`
# > is a dict from a label to a list of module names, such as `{"q+v": ["q_proj", "v_proj"], "k":
# > ["k_proj"]}`.
# >
# > The function will be tried on small models, with choices in any order. Each row must be what a fresh run
# > with these targets would print.


# %% tags=["core"]
def compare_targets(config: dict, rank: int, choices: dict[str, list[str]]) -> list[tuple[str, int, int]]:
    ### BEGIN SOLUTION
    model, rows = in_4_bits(config), []
    for label, targets in choices.items():
        with torch.device("meta"):  # the adapters need no contents either
            adapted = get_peft_model(model, LoraConfig(r=rank, target_modules=targets))
        trained, total = adapted.get_nb_trainable_parameters()
        rows.append((label, trained, total))
        model = adapted.unload()  # get_peft_model has changed the model itself
    return rows
    ### END SOLUTION


exercises.compare_targets.check(compare_targets)

# %% tags=["core"]
# exercises.compare_targets.hint()
explore_targets = exercises.compare_targets.or_reference(compare_targets)

# %% tags=["core", "claim-B4"]
choices = {label: list(targets) for label, targets in counting.SETS.items()}
choices |= {"k alone": ["k_proj"], "gate and up": ["gate_proj", "up_proj"]}
rows = []
for label, trained, total in explore_targets(mistral, 16, choices):
    rows.append([label, trained, total, f"{100 * trained / total:.4f} %"])
Table(
    ["targets", "trainable params", "all params", "trainable%"], rows, "Mistral-7B in NF4, rank 16, by PEFT"
)

# %% [markdown]
# The totals are those of 16 bits: 4 bits change what a parameter weighs and not how many there are. Guide
# 002's 3,778,682,880 is *wrong* for its own code, which prints 7,289,966,592. It does resemble the naive
# sum, without being it:

# %% tags=["core"]
naive_sum = counting.naive_4bit(mistral) + lora_of(mistral, 16, counting.ALL_LINEAR)
print(f"naive sum with the adapter: {naive_sum:,}")

# %% [markdown]
# ## Explorer: the parameter calculator
#
# Choose model, rank, targets and method; the picture shows which matrices grow, the heading how large the
# file gets. Try: the smallest rank at which the adapter of SmolLM2's `k_proj` is larger than the matrix
# (you have seen the number). Then: how much of the adapter is MLP on a model with GQA, and on Llama-2-7B,
# which has none? `parameter_calculator_explorer.explore("your-model", rank=8, targets="q+v")` starts
# elsewhere.

# %% tags=["core"]
parameter_calculator_explorer.explore()

# %% [markdown]
# ## Optional: biases, DoRA and other methods
#
# > **Optional · 10 minutes.** Nothing later needs this section.
#
# [Guide 001](../guides.md#guide-001) says that `bias="all"` trains the biases too and "adds minor
# overhead". How minor?

# %% tags=["optional"]
rows = []
for name in ("llama-2-7b", "mistral-7b-v0.3", "qwen2.5-7b"):
    lora_q = LoraConfig(r=16, target_modules=["q_proj"], bias="all", task_type="CAUSAL_LM")
    extra = by_peft(name, lora_q)[0] - lora_of(model_configs.find(name), 16, ["q_proj"])
    assert extra == counting.bias_count(model_configs.find(name), "all")
    rows.append([name, extra])
Table(["model", "biases"], rows, 'What bias="all" trains besides')

# %% [markdown]
# Llama and Mistral have no biases in their linear layers: there the setting does nothing at all.
#
# *DoRA* trains LoRA's matrices and one magnitude for each output of a target. Its paper writes the
# magnitudes as a 1 x k vector of the norms of a d x k matrix's columns, and guide 002 follows it. Stored
# weights are out x in, the other way round, and PEFT takes one magnitude an output:

# %% tags=["optional"]
dora = LoraConfig(r=16, target_modules="all-linear", use_dora=True, task_type="CAUSAL_LM")
trained, _ = by_peft("smollm2-135m", dora)
extra = trained - lora_of(small, 16, counting.ALL_LINEAR)
print(f"{extra:,} magnitudes; outputs of all targets: {sum(counting.dora_by_module(small).values()):,}")
assert trained == counting.dora_count(small, 16)

# %% [markdown]
# [Prompt tuning](../glossary.md#prompt-tuning) learns input vectors; [prefix
# tuning](../glossary.md#prefix-tuning) learns keys and values for extra positions of each layer. Guide
# 002 gives $L \cdot p \cdot 2 \cdot d_\mathrm{model}$ for the latter, with Llama-2-7B's numbers. Keys are
# as wide as `k_proj`:

# %% tags=["optional"]
rows = []
for name in ("llama-2-7b", "mistral-7b-v0.3", "smollm2-135m"):
    config = model_configs.find(name)
    prompt, _ = by_peft(name, PromptTuningConfig(num_virtual_tokens=20, task_type="CAUSAL_LM"))
    prefix, _ = by_peft(name, PrefixTuningConfig(num_virtual_tokens=20, task_type="CAUSAL_LM"))
    assert (prompt, prefix) == (counting.prompt_tuning(config, 20), counting.prefix_tuning(config, 20))
    rows.append([name, prompt, prefix, config["num_hidden_layers"] * 20 * 2 * config["hidden_size"]])
Table(["model", "prompt tuning", "prefix tuning", "guide 002's formula"], rows, "20 tokens, counted by PEFT")

# %% [markdown]
# Right for Llama-2-7B; under GQA four times too many for Mistral and three times for SmolLM2.
#
# ## Measured claims
#
# The five that this notebook has settled, each in its own scope. The cells above show the arithmetic; the
# other counts that the guides print are on the claims page, `python3 lab.py claims`.

# %% tags=["core"]
rows = []
for row in claims.load():
    if row["id"] in ("B2", "B3", "B4", "B11", "F2"):
        rows.append([row["claim"], ", ".join(row["guides"]), row["measured"], row["verdict"]])
Table(["claim", "guides", "counted here", "verdict"], rows, "Claims about counts")

# %% [markdown]
# ## Checkpoint

# %% tags=["core"]
quiz.ask("03_counting_parameters")

# %% [markdown]
# ## On a rented GPU
#
# Nothing here gets better on a GPU: counts are exact anywhere. What to take along: before you rent, compute
# what `print_trainable_parameters()` will say of your run. If it says something else, stop: the targets or
# the rank are not what you think.
