# %%
# Does nothing after `lab.py start`. In a bare kernel, such as Colab's, it installs the course's packages.
import importlib.util, pathlib, runpy, sys

if importlib.util.find_spec("labsupport") is None:
    here = pathlib.Path.cwd()
    folders = [here, *here.parents, *here.glob("*/")]
    found = [f for p in folders if (f := p / "labsupport" / "elsewhere.py").exists()]
    if not found:
        sys.exit(f"No folder labsupport/ in, above or below {here}: clone the course's repository there.")
    runpy.run_path(str(found[0]), run_name="__main__")

# %%
from labsupport import upstream

upstream.quiet_known_noise()  # messages about this stack that you can do nothing about
upstream.guard_4bit_on_cpu()  # before a 4-bit model is built, see notebook 04

# %%
import itertools
import tempfile
from pathlib import Path

import torch
from bitsandbytes.nn import Linear4bit
from peft import LoraConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig

from labsupport import base_model, checkpoints, counting, model_configs, plots, predictions
from labsupport.exercises import counting_parameters as exercises
from labsupport.explorers import parameter_calculator
from labsupport.files import LabError
from labsupport.verifications import counting as verifications

# %%
def lora_parameters(d_in: int, d_out: int, rank: int) -> int:
    raise NotImplementedError  # your code here


exercises.lora_parameters.check(lora_parameters)

# %%
# exercises.lora_parameters.hint()
one_matrix = exercises.lora_parameters.or_reference(lora_parameters)

# %%
trained, full = one_matrix(4096, 4096, 16), 4096 * 4096
print(f"{trained:,} of {full:,}: {100 * trained / full:.2f} %")

# %%
for name, (d_in, d_out) in {"this model's k_proj": (576, 192), "a 7B's q_proj": (4096, 4096)}.items():
    print(f"{name:20s} {d_out} x {d_in}: nothing is saved from rank {d_in * d_out / (d_in + d_out):.0f} on")

# %%
small = model_configs.read(base_model.bundled_folder())
for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim"):
    print(f"{key:22s} {small[key]}")
for key in ("intermediate_size", "vocab_size", "tie_word_embeddings"):
    print(f"{key:22s} {small[key]}")

# %%
def model_parameters(config: dict) -> int:
    raise NotImplementedError  # your code here


exercises.model_parameters.check(model_parameters)

# %%
# exercises.model_parameters.hint()
whole_model = exercises.model_parameters.or_reference(model_parameters)

# %%
def on_meta(name: str):
    config = AutoConfig.for_model(**model_configs.find(name))
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)

# %%
names = ["smollm2-135m", "llama-2-7b", "mistral-7b-v0.3", "qwen2.5-7b"]
models = {name: on_meta(name) for name in names}
for name, model in models.items():
    built = sum(p.numel() for p in model.parameters())
    print(f"{name:16s} {whole_model(model_configs.find(name)):>14,}  built {built:>14,}")
    assert whole_model(model_configs.find(name)) == built

# %%
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

# %%
guess = None  # your guess, in millions of parameters

# %%
llama2 = model_configs.find("llama-2-7b")
print({name: counting.shapes(llama2)[name] for name in ("q_proj", "gate_proj", "down_proj")})

# %%
def lora_count(config: dict, rank: int, targets: list[str]) -> int:
    raise NotImplementedError  # your code here


exercises.lora_count.check(lora_count)

# %%
# exercises.lora_count.hint()
lora_of = exercises.lora_count.or_reference(lora_count)

# %%
measured = lora_of(llama2, 16, counting.ALL_LINEAR)
predictions.compare(guess, measured / 1e6, unit="million")
print(f"{measured:,}; a layer: {verifications.b20()}")

# %%
def by_peft(name: str, config) -> tuple[int, int]:
    """(trained, all) as print_trainable_parameters() counts them."""
    with torch.device("meta"):
        adapted = get_peft_model(models[name], config)
    counts = adapted.get_nb_trainable_parameters()
    if isinstance(config, LoraConfig):
        adapted.unload()
    return counts

# %%
for name, (label, targets) in itertools.product(names, list(counting.SETS.items())):
    lora = LoraConfig(r=16, target_modules=list(targets), task_type="CAUSAL_LM")
    trained, total = by_peft(name, lora)
    mine = lora_of(model_configs.find(name), 16, targets)
    assert (mine, mine + whole_model(model_configs.find(name))) == (trained, total)
    print(f"{name:16s} {label:10s} {trained:>11,} of {total:>13,}  {100 * trained / total:.4f} %")

# %%
llama3 = model_configs.find("llama-3.1-8b")
print("Llama-3.1-8B  " + "".join(f"{'r=' + str(r):>14s}" for r in (8, 16, 32, 64)))
for label, targets in counting.SETS.items():
    counts = [lora_of(llama3, rank, targets) for rank in (8, 16, 32, 64)]
    print(f"{label:14s}" + "".join(f"{count:14,}" for count in counts))

# %%
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

# %%
mistral = model_configs.find("mistral-7b-v0.3")
print(f"rank 16, all seven: {lora_of(mistral, 16, counting.ALL_LINEAR):,}")

# %%
guess = None  # your guess: how many configurations

# %%
def configurations(config: dict, wanted: int, ranks: list[int]) -> list[tuple[int, str]]:
    raise NotImplementedError  # your code here


exercises.configurations.check(configurations)

# %%
# exercises.configurations.hint()
search = exercises.configurations.or_reference(configurations)

# %%
found = search(mistral, 27_262_976, [8, 16, 32, 64])
for rank, targets in found:
    print(rank, targets)
predictions.compare(guess, len(found), unit="configurations")

# %%
print(verifications.b3_base())

# %%
for name in ("llama-2-7b", "mistral-7b-v0.3", "qwen2.5-7b"):
    lora = LoraConfig(r=16, target_modules=["q_proj"], bias="all", task_type="CAUSAL_LM")
    extra = by_peft(name, lora)[0] - counting.lora_count(model_configs.find(name), 16, ["q_proj"])
    assert extra == counting.bias_count(model_configs.find(name), "all")
    print(f"{name:16s} {extra:>8,} biases")

# %%
dora = LoraConfig(r=16, target_modules="all-linear", use_dora=True, task_type="CAUSAL_LM")
trained, _ = by_peft("smollm2-135m", dora)
extra = trained - counting.lora_count(small, 16)
print(f"{extra:,} magnitudes; outputs of all targets: {sum(counting.dora_by_module(small).values()):,}")
assert trained == counting.dora_count(small, 16)

# %%
for name in ("llama-2-7b", "mistral-7b-v0.3", "smollm2-135m"):
    config = model_configs.find(name)
    prompt, _ = by_peft(name, PromptTuningConfig(num_virtual_tokens=20, task_type="CAUSAL_LM"))
    prefix, _ = by_peft(name, PrefixTuningConfig(num_virtual_tokens=20, task_type="CAUSAL_LM"))
    assert (prompt, prefix) == (counting.prompt_tuning(config, 20), counting.prefix_tuning(config, 20))
    formula = config["num_hidden_layers"] * 20 * 2 * config["hidden_size"]
    print(f"{name:16s} prompt {prompt:>7,}  prefix {prefix:>9,}  guide's formula {formula:>9,}")

# %%
print("Llama-2-7B, 4096 to 64 to 4096, two a layer:", verifications.b15())

# %%
guess = None  # your guess, in MB (10^6 bytes)

# %%
model = AutoModelForCausalLM.from_pretrained(base_model.bundled_folder(), dtype=torch.float32)
lora = LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM")
adapted = get_peft_model(model, lora)
with tempfile.TemporaryDirectory() as folder:
    adapted.save_pretrained(folder)
    size = Path(folder, "adapter_model.safetensors").stat().st_size
predictions.compare(guess, size / 1e6, unit="MB")

# %%
header, tensors = counting.adapter_bytes(small, 16)
print(f"predicted: header {header:,} + tensors {tensors:,} = {header + tensors:,} bytes; saved {size:,}")
assert header + tensors == size

# %%
for rank, targets in ((8, "q+v"), (16, "q+v"), (16, "qkvo"), (16, "all-linear"), (64, "all-linear")):
    full, half = (
        sum(counting.adapter_bytes(mistral, rank, targets, dtype=d)) for d in ("float32", "bfloat16")
    )
    print(f"rank {rank:2d}  {targets:10s} {full / 1e6:4.0f} MB in float32, {half / 1e6:4.0f} in bfloat16")

# %%
layer = Linear4bit(576, 576, bias=False, quant_type="nf4").to("cpu")  # moving it quantises it
weight = layer.weight
print(type(weight).__name__, tuple(weight.shape), weight.dtype, f"numel {weight.numel():,} of {576 * 576:,}")

# %%
def unpacked(parameters: list[tuple[str, int, int]]) -> int:
    raise NotImplementedError  # your code here


exercises.unpacked.check(unpacked)

# %%
# exercises.unpacked.hint()
weights_of = exercises.unpacked.or_reference(unpacked)

# %%
guess = None  # your guess, in percent

# %%
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

# %%
described = [(type(p).__name__, p.numel(), p.element_size()) for p in packed.parameters()]
trained, total = get_peft_model(packed, lora).get_nb_trainable_parameters()
print(f"naive {naive:,} | unpacked {weights_of(described):,} | PEFT {trained:,} of {total:,}")
assert weights_of(described) + lora_of(small, 16, counting.ALL_LINEAR) == total

# %%
print(verifications.b4())

# %%
for rank, targets in ((0, "qkvo"), (16.0, "qkvo"), (256, "qkvo"), (16, ["q_proj", "query"])):
    try:
        counting.lora_count(small, rank, targets)
    except LabError as error:
        print("-", error)

# %%
parameter_calculator.explore()

# %%
print("Mistral-7B-v0.3, rank 16, all seven: 27,262,976 of 7,268,633,600 (guide 002): wrong.")
print("  ", verifications.b3())

# %%
print("Llama-2-7B, rank 16, all seven: about 29.4M, 0.44 % (guide 002): wrong.")
print("  ", verifications.b2())

# %%
print("Rank 16 on q and v of a 7B: about 5M, 0.07 % (guide 004): imprecise.")
print("  ", verifications.b7())

# %%
print("QLoRA prints all params: 3,778,682,880 (guide 002): wrong.")
print("  ", verifications.b4())

# %%
print("The adapter of rank 16 on all seven modules of Mistral is about 50 MB (guide 002): wrong.")
print("  ", verifications.f2())

# %%
checkpoints.ask("03_counting_parameters")
