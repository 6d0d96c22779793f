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
# After this notebook you will be able to
#
# - say from a model's `config.json` how many parameters it has, and how many LoRA or DoRA will train,
#   exactly;
# - tell from a printed count whether a guide, a colleague or you made a mistake;
# - predict the size of an adapter's file to the byte, and say why 4-bit weights fool a naive count.
#
# **Needs** notebook 02 (what A, B and the rank are). Nothing is trained and no large model is loaded:
# everything runs on the processor. **Minutes**: see the table in the README.

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
upstream.guard_4bit_on_cpu()  # before a 4-bit model is built, see notebook 04

# %% tags=["core"]
import itertools
import tempfile
from pathlib import Path

import torch
from bitsandbytes.nn import Linear4bit
from peft import LoraConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig

from labsupport.core import plots
from labsupport.models import base_model
from labsupport.sizes import counting, model_configs
from labsupport.teaching import predictions, quiz
from labsupport.notebooks.nb03_counting_parameters import exercises
from labsupport.notebooks.nb03_counting_parameters import parameter_calculator_explorer
from labsupport.core.files import LabError
from labsupport.ledger import counting as measured

# %% [markdown]
# ## One matrix
#
# LoRA leaves a weight matrix $W$ (as many rows as outputs, as many columns as inputs) as it is and trains
# $A$, of shape $r \times d_\mathrm{in}$, and $B$, of shape $d_\mathrm{out} \times r$.
#
# ### Exercise 1: one matrix
#
# How many parameters are trained for one matrix? This is checkpoint 1 of guide 004, whose matrix is
# 4096 x 4096 at rank 16.


# %% tags=["core"]
def lora_parameters(d_in: int, d_out: int, rank: int) -> int:
    ### BEGIN SOLUTION
    return rank * d_in + d_out * rank
    ### END SOLUTION


exercises.lora_parameters.check(lora_parameters)

# %% tags=["core"]
# exercises.lora_parameters.hint()
one_matrix = exercises.lora_parameters.or_reference(lora_parameters)

# %% tags=["core"]
trained, full = one_matrix(4096, 4096, 16), 4096 * 4096
print(f"{trained:,} of {full:,}: {100 * trained / full:.2f} %")

# %% [markdown]
# Guides 001 and 002 print this, and it is right. The share of a square matrix of width $n$ is $2r/n$: it
# falls as models get wider. So the same rank is a larger change of a small model. Where would LoRA have as
# many parameters as the matrix itself?

# %% tags=["core"]
for name, (d_in, d_out) in {"this model's k_proj": (576, 192), "a 7B's q_proj": (4096, 4096)}.items():
    print(f"{name:20s} {d_out} x {d_in}: nothing is saved from rank {d_in * d_out / (d_in + d_out):.0f} on")

# %% [markdown]
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
# In *grouped-query attention* (GQA) several query heads share one head of keys and values, so `k_proj` and
# `v_proj` are narrower. Besides: two norms a layer and a last one (hidden weights each), the
# embedding (vocabulary x hidden), and the head (the same size again, unless it is *tied* to the embedding,
# that is, the same matrix). Qwen2 has biases on q, k and v.

# %% tags=["core"]
small = model_configs.read(base_model.bundled_folder())
for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim"):
    print(f"{key:22s} {small[key]}")
for key in ("intermediate_size", "vocab_size", "tie_word_embeddings"):
    print(f"{key:22s} {small[key]}")

# %% [markdown]
# ### Exercise 2: a whole model
#
# Count all parameters of a model from its configuration, a dict with the keys above and `model_type`
# ("llama", "mistral" or "qwen2").


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
# Is that what the libraries build? On PyTorch's *meta* device tensors have shapes and no contents, so even
# a 70B model takes no memory. The configurations come from published values (`data/model_configs/README.md`
# names the sources).


# %% tags=["core"]
def on_meta(name: str):
    config = AutoConfig.for_model(**model_configs.find(name))
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


# %% tags=["core"]
names = ["smollm2-135m", "llama-2-7b", "mistral-7b-v0.3", "qwen2.5-7b"]
models = {name: on_meta(name) for name in names}
for name, model in models.items():
    built = sum(p.numel() for p in model.parameters())
    print(f"{name:16s} {whole_model(model_configs.find(name)):>14,}  built {built:>14,}")
    assert whole_model(model_configs.find(name)) == built

# %% [markdown]
# Equal to the last digit (`tests/sizes/test_counting.py` does this for sixteen models). Where do the
# parameters sit?

# %% tags=["core"]
fig, axes = plots.figure()
groups = {
    "embedding and head": (("embed_tokens", "lm_head"), plots.GREY),
    "attention": (counting.ATTENTION, plots.BLUE),
    "MLP": (counting.MLP, plots.ORANGE),
}
shown = ["smollm2-135m", "llama-3.2-1b", "qwen2.5-7b", "llama-3.1-8b", "llama-2-7b", "llama-3-70b"][::-1]
left = [0.0] * len(shown)
for label, (members, colour) in groups.items():
    parts = [counting.model_parts(model_configs.find(name)) for name in shown]
    share = [100 * sum(p[m] for m in members) / sum(p.values()) for p in parts]
    axes.barh(shown, share, left=left, color=colour, label=label)
    left = [a + b for a, b in zip(left, share, strict=True)]
axes.set(xlabel="share of the model's parameters (%)", ylabel="model", xlim=(0, 100))
fig.legend(ncols=3, loc="outside lower center")
axes.set_title("Most of a model is MLP; small ones carry a large vocabulary")
plots.show(
    fig,
    "Stacked bars for six models: the MLP holds more than half of each, the attention between a tenth and a "
    "third, embedding and head from a few percent in the 70B model to about a fifth in the two smallest.",
)

# %% [markdown]
# ## LoRA on a model
#
# Guide 002 counts Llama-2-7B with all seven modules at rank 16. It says: seven modules of 131,072 "on
# average" make 29.4 million. You know the shapes. What do you expect?

# %% tags=["core"]
guess = None  # your guess, in millions of parameters

# %% [markdown]
# ### Exercise 3: LoRA on any targets
#
# `counting.shapes(config)` gives inputs and outputs of every module. `targets` is a list of module names.

# %% tags=["core"]
llama2 = model_configs.find("llama-2-7b")
print({name: counting.shapes(llama2)[name] for name in ("q_proj", "gate_proj", "down_proj")})


# %% tags=["core"]
def lora_count(config: dict, rank: int, targets: list[str]) -> int:
    ### BEGIN SOLUTION
    shapes = counting.shapes(config)
    layer = sum(rank * (shapes[name][0] + shapes[name][1]) for name in targets)
    return config["num_hidden_layers"] * layer
    ### END SOLUTION


exercises.lora_count.check(lora_count)

# %% tags=["core"]
# exercises.lora_count.hint()
lora_of = exercises.lora_count.or_reference(lora_count)

# %% tags=["core"]
counted = lora_of(llama2, 16, counting.ALL_LINEAR)
predictions.compare(guess, counted / 1e6, unit="million")
print(f"{counted:,}; a layer: {measured.all_matrices_of_a_layer()}")

# %% [markdown]
# 131,072 is no average: it is the value of the four attention matrices. The three matrices of the MLP cost
# nearly twice as much each, and the guide is off by more than a quarter.
#
# Now the library. `get_peft_model` works on the meta device too, so PEFT counts for us:


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
for name, (label, targets) in itertools.product(names, list(counting.SETS.items())):
    lora = LoraConfig(r=16, target_modules=list(targets), task_type="CAUSAL_LM")
    trained, total = by_peft(name, lora)
    mine = lora_of(model_configs.find(name), 16, targets)
    assert (mine, mine + whole_model(model_configs.find(name))) == (trained, total)
    print(f"{name:16s} {label:10s} {trained:>11,} of {total:>13,}  {100 * trained / total:.4f} %")

# %% [markdown]
# Two lines of the guides can be read off. Guide 004 prints "~5M, 0.07 %" for rank 16 on q and v of a 7B
# whose name it leaves open: that is Qwen2.5-7B, and not the Llama-3.1-8B that it trains later. And the
# total that PEFT prints includes the adapter; guide 003's line for Llama-3.1-8B, "all params:
# 8,030,261,248", is the model without it, so it was typed and not printed.
#
# ## Every rank, every target
#
# The day-078 page (guide 003) sets two exercises: a parameter calculator for ranks 8 to 64, and a config
# explorer that tries target combinations on a 7B model. With closed forms it takes no GPU:

# %% tags=["core"]
llama3 = model_configs.find("llama-3.1-8b")
print("Llama-3.1-8B  " + "".join(f"{'r=' + str(r):>14s}" for r in (8, 16, 32, 64)))
for label, targets in counting.SETS.items():
    counts = [lora_of(llama3, rank, targets) for rank in (8, 16, 32, 64)]
    print(f"{label:14s}" + "".join(f"{count:14,}" for count in counts))

# %% tags=["core"]
subsets = [s for n in range(1, 8) for s in itertools.combinations(counting.ALL_LINEAR, n)]
fig, axes = plots.figure()
for rank, colour in zip((8, 16, 32, 64), (plots.GREY, plots.GREEN, plots.BLUE, plots.ORANGE), strict=True):
    counts = sorted(lora_of(llama3, rank, targets) / 1e6 for targets in subsets)
    axes.plot(range(1, 128), counts, color=colour, label=f"rank {rank}")
axes.axhline(27.262976, color="black", linewidth=0.8, linestyle="--")
axes.set(xlabel="target combinations, by size of the adapter", ylabel="trained (millions)", yscale="log")
axes.legend()
axes.set_title("The targets move the count as much as the rank does")
plots.show(
    fig,
    "For ranks 8, 16, 32 and 64 the adapter size of all 127 target combinations on a logarithmic axis; each "
    "curve spans more than a factor of ten, and a dashed line at 27.26 million crosses three of the curves.",
)

# %% [markdown]
# The curves overlap: a rank alone says little about an adapter's size.
#
# ## The number that does not fit
#
# For Mistral-7B-v0.3 with rank 16 on all seven modules, guide 002 shows the output
# `trainable params: 27,262,976 || all params: 7,268,633,600 || trainable%: 0.375%`.

# %% tags=["core"]
mistral = model_configs.find("mistral-7b-v0.3")
print(f"rank 16, all seven: {lora_of(mistral, 16, counting.ALL_LINEAR):,}")

# %% [markdown]
# So that code cannot have printed this. What could have? (Mistral-7B-v0.3 and Llama-3.1-8B have the same
# matrices; the dashed line above is this number.) How many combinations of targets and rank (8, 16, 32 or
# 64) train exactly 27,262,976 parameters?

# %% tags=["core"]
guess = None  # your guess: how many configurations

# %% [markdown]
# ### Exercise 4: find the configuration
#
# Return every `(rank, targets)` whose count is `wanted`, as a sorted list, with the targets joined in the
# model's order: `(8, "q_proj+v_proj")`. Any non-empty subset of the seven modules may be the targets.


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
found = search(mistral, 27_262_976, [8, 16, 32, 64])
for rank, targets in found:
    print(rank, targets)
predictions.compare(guess, len(found), unit="configurations")

# %% [markdown]
# Rank 32 on the four attention matrices is the likeliest source, yet rank 16 is there, too: q, o and any
# two of the MLP's matrices. A count does not identify a recipe. And the total?

# %% tags=["core"]
print(measured.guide_002s_base_is_not_mistral())

# %% [markdown]
# The guide's total without its adapter is no Mistral-7B-v0.3: the two numbers do not even come from one
# model.
#
# ## Biases, DoRA and the other methods
#
# Guide 001 says that `bias="all"` "adds minor overhead". How minor?

# %% tags=["core"]
for name in ("llama-2-7b", "mistral-7b-v0.3", "qwen2.5-7b"):
    lora = LoraConfig(r=16, target_modules=["q_proj"], bias="all", task_type="CAUSAL_LM")
    extra = by_peft(name, lora)[0] - counting.lora_count(model_configs.find(name), 16, ["q_proj"])
    assert extra == counting.bias_count(model_configs.find(name), "all")
    print(f"{name:16s} {extra:>8,} biases")

# %% [markdown]
# Llama and Mistral have no biases at all: there the setting does nothing.
#
# *DoRA* trains LoRA's matrices and one magnitude for each output of a target. The guide's formula gives the
# magnitude vector as many entries as $W$ has columns, that is, inputs. PEFT takes one for each output:

# %% tags=["core"]
dora = LoraConfig(r=16, target_modules="all-linear", use_dora=True, task_type="CAUSAL_LM")
trained, _ = by_peft("smollm2-135m", dora)
extra = trained - counting.lora_count(small, 16)
print(f"{extra:,} magnitudes; outputs of all targets: {sum(counting.dora_by_module(small).values()):,}")
assert trained == counting.dora_count(small, 16)

# %% [markdown]
# *Prompt tuning* learns input vectors; *prefix tuning* learns keys and values for extra positions of each
# layer. Guide 002 gives $L \cdot p \cdot 2 \cdot d_\mathrm{model}$ for the latter. Keys are as wide as
# `k_proj`: under GQA that is too much.

# %% tags=["core"]
for name in ("llama-2-7b", "mistral-7b-v0.3", "smollm2-135m"):
    config = model_configs.find(name)
    prompt, _ = by_peft(name, PromptTuningConfig(num_virtual_tokens=20, task_type="CAUSAL_LM"))
    prefix, _ = by_peft(name, PrefixTuningConfig(num_virtual_tokens=20, task_type="CAUSAL_LM"))
    assert (prompt, prefix) == (counting.prompt_tuning(config, 20), counting.prefix_tuning(config, 20))
    formula = config["num_hidden_layers"] * 20 * 2 * config["hidden_size"]
    print(f"{name:16s} prompt {prompt:>7,}  prefix {prefix:>9,}  guide's formula {formula:>9,}")

# %% [markdown]
# Right for Llama-2-7B, four times too many for Mistral, three times for SmolLM2. *Bottleneck adapters*
# (Houlsby), two small networks a layer, are not in PEFT; notebook 10 builds one.

# %% tags=["optional"]
print("Llama-2-7B, 4096 to 64 to 4096, two a layer:", measured.bottleneck_adapters_of_64())

# %% [markdown]
# ## The adapter's file
#
# `adapter_model.safetensors` holds A and B of every target, by default in float32, behind a header that
# names them. Guide 004 speaks of "a few hundred MB", guide 002 of 50 MB. How large is the file for this
# small model, at rank 16 on all seven modules?

# %% tags=["core"]
guess = None  # your guess, in MB (10^6 bytes)

# %% tags=["core"]
model = AutoModelForCausalLM.from_pretrained(base_model.bundled_folder(), dtype=torch.float32)
lora = LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM")
adapted = get_peft_model(model, lora)
with tempfile.TemporaryDirectory() as folder:
    adapted.save_pretrained(folder)
    size = Path(folder, "adapter_model.safetensors").stat().st_size
predictions.compare(guess, size / 1e6, unit="MB")

# %% tags=["core"]
header, tensors = counting.adapter_bytes(small, 16)
print(f"predicted: header {header:,} + tensors {tensors:,} = {header + tensors:,} bytes; saved {size:,}")
assert header + tensors == size

# %% [markdown]
# To the byte. The same closed form for Mistral-7B, in 10^6 bytes:

# %% tags=["core"]
for rank, targets in ((8, "q+v"), (16, "q+v"), (16, "qkvo"), (16, "all-linear"), (64, "all-linear")):
    full, half = (
        sum(counting.adapter_bytes(mistral, rank, targets, dtype=d)) for d in ("float32", "bfloat16")
    )
    print(f"rank {rank:2d}  {targets:10s} {full / 1e6:4.0f} MB in float32, {half / 1e6:4.0f} in bfloat16")

# %% [markdown]
# Hundreds of MB start at high ranks on all modules; 50 MB fits the attention alone at rank 16.
#
# ## Packed weights
#
# Loaded in 4 bit (QLoRA, notebook 04), the model's parameters look like this:

# %% tags=["core"]
layer = Linear4bit(576, 576, bias=False, quant_type="nf4").to("cpu")  # moving it quantises it
weight = layer.weight
print(type(weight).__name__, tuple(weight.shape), weight.dtype, f"numel {weight.numel():,} of {576 * 576:,}")

# %% [markdown]
# Two weights of 4 bits are packed into each byte, and `numel` counts bytes. The element type can be chosen
# (`bnb_4bit_quant_storage`): with several GPUs one often stores them in bfloat16, four weights an element.
#
# ### Exercise 5: count what is packed
#
# `parameters` is a list of `(class name, numel, bytes an element)`. How many weights are they?


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
# Now the whole small model in NF4. What share of its 134,515,008 parameters does `sum(p.numel())` still
# see?

# %% tags=["core"]
guess = None  # your guess, in percent

# %% tags=["core"]
nf4 = BitsAndBytesConfig(
    load_in_4bit=True,
    bnb_4bit_quant_type="nf4",
    bnb_4bit_use_double_quant=True,
    bnb_4bit_compute_dtype=torch.float32,
)
packed = AutoModelForCausalLM.from_pretrained(
    base_model.bundled_folder(), dtype=torch.float32, quantization_config=nf4, device_map="cpu"
)
naive = sum(p.numel() for p in packed.parameters())
predictions.compare(guess, 100 * naive / whole_model(small), unit="%")
assert naive == counting.naive_4bit(small)

# %% tags=["core"]
described = [(type(p).__name__, p.numel(), p.element_size()) for p in packed.parameters()]
trained, total = get_peft_model(packed, lora).get_nb_trainable_parameters()
print(f"naive {naive:,} | unpacked {weights_of(described):,} | PEFT {trained:,} of {total:,}")
assert weights_of(described) + lora_of(small, 16, counting.ALL_LINEAR) == total

# %% [markdown]
# More than half, because the embedding, a fifth of this model, stays unpacked. PEFT undoes the packing: it
# prints the same totals for LoRA and QLoRA. So guide 002's "all params: 3,778,682,880" under QLoRA does not
# come from PEFT; a naive sum would not give it either:

# %% tags=["core"]
print(measured.mistral_in_4_bit())

# %% [markdown]
# ## What bad input is told
#
# PEFT accepts a rank larger than the matrix, which only costs parameters. The course's counter refuses it:

# %% tags=["core"]
for rank, targets in ((0, "qkvo"), (16.0, "qkvo"), (256, "qkvo"), (16, ["q_proj", "query"])):
    try:
        counting.lora_count(small, rank, targets)
    except LabError as error:
        print("-", error)

# %% [markdown]
# ## Explorer: the parameter calculator
#
# Choose model, rank, targets and method; the table and the picture say which matrices grow, the heading how
# large the file gets. Try: the smallest rank at which the adapter of SmolLM2's `k_proj` is larger than the
# matrix. `parameter_calculator_explorer.explore("your-model", rank=8, targets="q+v")` starts elsewhere.

# %% tags=["core"]
parameter_calculator_explorer.explore()

# %% [markdown]
# ## Measured claims
#
# The most surprising counts of the guides; the others are in `python3 lab.py claims`.

# %% tags=["core", "claim-B3"]
print("Mistral-7B-v0.3, rank 16, all seven: 27,262,976 of 7,268,633,600 (guide 002): wrong.")
print("  ", measured.mistral_all_linear())

# %% tags=["core", "claim-B2"]
print("Llama-2-7B, rank 16, all seven: about 29.4M, 0.44 % (guide 002): wrong.")
print("  ", measured.llama_2_all_linear())

# %% tags=["core", "claim-B7"]
print("Rank 16 on q and v of a 7B: about 5M, 0.07 % (guide 004): imprecise.")
print("  ", measured.query_and_value_of_7b_models())

# %% tags=["core", "claim-B4"]
print("QLoRA prints all params: 3,778,682,880 (guide 002): wrong.")
print("  ", measured.mistral_in_4_bit())

# %% tags=["core", "claim-F2"]
print("The adapter of rank 16 on all seven modules of Mistral is about 50 MB (guide 002): wrong.")
print("  ", measured.adapter_file_of_mistral())

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
