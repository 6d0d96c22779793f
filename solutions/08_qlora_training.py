# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 08 · QLoRA training: a large model on a small card
#
# **In one sentence**: you train adapters on a base in four bits, measure what each part of that recipe saves
# and what it costs, and prepare the one hour on a rented card.
#
# **Minutes**: 120 to read and do, 4 to run all cells.
#
# ![One linear layer in QLoRA training. Below, frozen: the weight in 4 bits, with its scales. For each product
# it is unpacked to 16 bits and thrown away again. Beside it the adapters A and B, in float32, the only part
# that is trained. Forward both paths add up. Backward the gradient passes through the unpacked weight to the
# layer below and stops at A and B, which alone have an optimizer.](attachment:schematic.png)
#
# The picture is the whole idea. What is large is frozen, so it may be stored coarsely; what is trained is
# small, so it may be stored finely. The gradient only passes *through* the coarse weight, and never has to
# change it.
#
# After this notebook you will be able to
#
# - write the QLoRA recipe in today's API, the same cells for a laptop and a rented card, and tell from a
#   loaded model whether it really is QLoRA;
# - say what four bits cost in quality here, before and after training, and against what that was measured;
# - say what `prepare_model_for_kbit_training`, 8-bit and paged optimizers and the adapters' number format
#   save and cost;
# - have a training killed, and go on to the same last bit;
# - plan, rehearse and pay for one hour on a card, and know beforehand what you will learn there.
#
# **Needs** notebooks [04](04_nf4_quantization.ipynb) (NF4), [05](05_memory_and_cost.ipynb) (memory) and
# [07](07_evaluation.ipynb) (intervals). No GPU: bitsandbytes' 4-bit layers run on a processor too.

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
import os

os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # the profiler says on the screen when it starts and stops
from labsupport.core import upstream

upstream.quiet_known_noise()  # messages about this stack that you can do nothing about
upstream.guard_4bit_on_cpu()  # a fault of bitsandbytes on some processors, shown further down
upstream.keep_freed_memory()  # a faster allocator setting for training on a CPU
upstream.score_only_labels()  # TRL on a CPU would compute logits that the loss then ignores

# %% tags=["core", "setup"]
import hashlib
import json
import math
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, PrinterCallback
from trl import SFTConfig, SFTTrainer

# %% tags=["core", "setup"]
from labsupport.configs import model_configs
from labsupport.core import files, plots, profiles
from labsupport.core.tables import Table
from labsupport.evaluation import experiments, intervals, perplexity as texts
from labsupport.explorers import qlora_recipe_explorer
from labsupport.gpu_hour import hour, reading
from labsupport.memory import watching, workload
from labsupport.models import base_model
from labsupport.notebooks.nb08_qlora_training import exercises
from labsupport.planning import planner
from labsupport.qlora_runs import (
    figures,
    killing,
    optimizer_bytes,
    rates,
    reading as arms,
    repacking,
    step_time,
)
from labsupport.setups.setup import Setup
from labsupport.tasks import general, tickets
from labsupport.teaching import predictions, quiz
from labsupport.teaching.claims import expect
from labsupport.training import prefixes, recipe, run_store

# %% tags=["core", "setup"]
profile = profiles.current()
torch.set_num_threads(profile.threads)  # sums in another order round differently
base, compute = base_model.path(), getattr(torch, profile.dtype)
tokenizer = AutoTokenizer.from_pretrained(base)
llama3 = model_configs.find("llama-3.1-8b")
GIB = 2**30

# %% [markdown]
# ## Why four bits
#
# A card for a dollar an hour has 24 GB, of which 22 GiB are yours. Put an 8B model on it. The planner of
# notebook 05, for TRL's trainer with checkpointing, 4 rows of 1,024 tokens:

# %% tags=["core"]
lines = []
for name, method in (("LoRA, base in bfloat16", "lora"), ("QLoRA, base in NF4", "qlora")):
    plan = planner.plan(Setup(llama3, method, batch=4, length=1024))
    weights, peak = plan.split_gib["weights"], plan.peak_reserved_gib
    lines.append([name, f"{weights:.1f}", f"{peak:.1f}", f"{22 - peak:.1f}"])
Table(["Llama-3.1-8B", "weights, GiB", "peak, GiB", "left of 22"], lines, "Predicted, not measured on a card")

# %% [markdown]
# In 16 bits the weights alone take two thirds of the card, and longer rows or a 13B model are out of the
# question. In four bits the weights are a third of that, and you choose what to do with the room.
#
# What does it cost? The guides say: a little quality, a bumpier loss curve, a lower learning rate, up to
# twice the steps. Each of these can be measured, and is, below.
#
# ## The recipe, piece by piece
#
# ### Four bits
#
# `BitsAndBytesConfig` says how the base is stored. Four settings matter:

# %% tags=["core"]
four_bits = BitsAndBytesConfig(
    load_in_4bit=True,
    bnb_4bit_quant_type="nf4",  # 16 levels at the quantiles of a Gaussian, notebook 04
    bnb_4bit_use_double_quant=True,  # the scales are quantised as well: 0.37 bits a weight less
    bnb_4bit_compute_dtype=compute,  # what weights are unpacked to; bfloat16 on a card that has it
)
bare = BitsAndBytesConfig(load_in_4bit=True)
names = ("bnb_4bit_quant_type", "bnb_4bit_use_double_quant", "bnb_4bit_compute_dtype")
lines = [[name, str(getattr(bare, name)), str(getattr(four_bits, name))] for name in names]
assert [line[1] for line in lines] == ["fp4", "False", "torch.float32"]

# %% tags=["core", "nbval-ignore-output"]
Table(["setting", "load_in_4bit=True alone", "here"], lines, "What you get and what QLoRA is")

# %% [markdown]
# So `load_in_4bit=True` alone is not QLoRA: other levels, larger scales, and products in float32, for which a
# card's data sheet promises a fraction of the speed. Nothing warns you. Does it matter for the model? Load it
# three times and let each read the same general text (notebook 07's measure):

# %% tags=["core", "nbval-ignore-output"]
how = {"dtype": compute, "attn_implementation": profile.attention, "device_map": profile.device}
passages = [row["text"] for row in general.load() if "text" in row][:8]
lines, nats = [], {}
for name, config in {"16 bits": None, "QLoRA's NF4": four_bits, "load_in_4bit=True": bare}.items():
    model = AutoModelForCausalLM.from_pretrained(base, quantization_config=config, **how)
    nll, tokens = texts.of_texts(model, tokenizer, passages)
    nats[name] = sum(nll) / sum(tokens)
    lines.append([name, f"{model.get_memory_footprint() / 1e6:.0f}", f"{nats[name]:.2f}"])
expect("each rounding costs, and FP4 more than NF4", list(nats.values()) == sorted(nats.values()))
Table(["base model", "MB", "nats a token of general text"], lines, "The untuned model, three times")

# %% [markdown]
# (The bundled base was published in 4 bits of another kind, Q4_1, and unpacked. "16 bits" is what the course
# begins with; NF4 rounds it a second time.)
#
# ### Is that really QLoRA? Look at the model
#
# What did the config do to the layers?

# %% tags=["core", "nbval-ignore-output"]
model = AutoModelForCausalLM.from_pretrained(base, quantization_config=four_bits, **how)
kinds = Counter(type(module).__name__ for module in model.modules())
print({name: kinds[name] for name in ("Linear4bit", "Linear", "Embedding")})
first = model.model.layers[0].self_attn.q_proj
print(first.weight.quant_type, "| packed", tuple(first.weight.shape), first.weight.dtype)
print("scales of scales:", first.weight.quant_state.nested, "| head:", type(model.lm_head).__name__)
assert first.weight.quant_type == "nf4" and first.weight.quant_state.nested

# %% [markdown]
# Every linear layer inside the blocks is packed, two weights a byte. Embedding, norms and head stay as they
# were: `Linear` is the head. That is why a small model shrinks less than four times, and Llama-3.1-8B, with
# its vocabulary of 128,256, only 2.8 times.
#
# ### `prepare_model_for_kbit_training`
#
# One guide (002) calls this function before it adds adapters, the others do not. What does it do?


# %% tags=["core", "nbval-ignore-output"]
def stored(model) -> dict[str, float]:
    """MB of a model's parameters by number format."""
    found = Counter()
    for parameter in model.parameters():
        found[str(parameter.dtype).removeprefix("torch.")] += parameter.nbytes / 1e6
    return dict(found)


before, trainable = stored(model), sum(p.requires_grad for p in model.parameters())
prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)  # that, the trainer does
after = stored(model)
lines = [[name, f"{before.get(name, 0):.0f}", f"{after.get(name, 0):.0f}"] for name in before | after]
print("trainable tensors before:", trainable, "| after:", sum(p.requires_grad for p in model.parameters()))
Table(["format", "MB before", "MB after"], lines, "The parameters by format; uint8 is packed weights")

# %% [markdown]
# It freezes everything, which PEFT does as well; unless told not to, as here, it switches checkpointing on
# and lets gradients through the embedding, which TRL's trainer does as well; and it makes float32 of whatever
# is not packed. That last part nobody else does, and it is not free:

# %% tags=["core"]
lines = []
for name, prepared in (("as loaded", False), ("prepared", True)):
    plan = planner.plan(Setup(llama3, "qlora", batch=4, length=1024, kbit_preparation=prepared))
    lines.append([name, f"{plan.split_gib['weights']:.2f}", f"{plan.peak_allocated_gib:.2f}"])
more = float(lines[1][2]) - float(lines[0][2])
print(f"{more:.2f} GiB more at the peak")
Table(["Llama-3.1-8B, QLoRA", "weights, GiB", "peak, GiB"], lines, "Predicted: 4 rows of 1,024 tokens")

# %% [markdown]
# Two GiB of that are the embedding and the head in float32, which autocast turns back into bfloat16 at every
# product; the rest is what now flows from block to block in float32. The function was written for float16,
# where norms in 16 bits overflow. With bfloat16 and `SFTTrainer` leave it out, and know what it was for when
# you meet it.
#
# ### Adapters and trainer
#
# The rest is notebook 01's recipe: LoRA on all linear layers, rows of prompt and completion. Only the run is
# shorter here, a dozen steps.

# %% tags=["core"]
model = AutoModelForCausalLM.from_pretrained(base, quantization_config=four_bits, **how)
lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
arguments = SFTConfig(
    output_dir=str(files.RUNS / "trainer"),
    per_device_train_batch_size=2,
    activation_checkpointing=not profile.use_cpu,
    use_cpu=profile.use_cpu,
    bf16=profile.bf16,
    report_to="none",
    disable_tqdm=True,
)
rows = Dataset.from_list(tickets.as_prompt_completion(tickets.load("train")[:8]))
trainer = SFTTrainer(model, arguments, train_dataset=rows, processing_class=tokenizer, peft_config=lora)
trained = [p for p in trainer.model.parameters() if p.requires_grad]
print("trained:", len(trained), "tensors in", {str(p.dtype) for p in trained})

# %% [markdown]
# bfloat16! PEFT makes adapters in float32. TRL 1.16 casts them when the base is quantised, whatever your
# arguments say.
#
# > **Guide 001 says**, of QLoRA: the adapters are "stored and computed in bfloat16". Guide 000 says "full
# > precision", guide 004 fp16 or bf16.

# %% tags=["core", "claim-D11"]
by_peft = get_peft_model(trainer.model.unload(), lora)
formats = {str(p.dtype) for p in by_peft.parameters() if p.requires_grad}
print("PEFT alone:", *formats, "| under SFTTrainer:", *{str(p.dtype) for p in trained})
assert formats == {"torch.float32"} and {p.dtype for p in trained} == {torch.bfloat16}
print("imprecise: it depends on who makes them, and none of the three says who")

# %% [markdown]
# Why would one care? bfloat16 has 8 bits of precision. A weight of 1.0 that is to grow by 0.001 stays 1.0,
# because the next number above it is 1.0078. Small steps at the end of a run are lost. What that costs is
# measured further down; first learn to see it and to mend it.

# %% [markdown]
# ### Exercise 1: what the trainer did to the adapters
#
# > **8 minutes · ●●○**
# >
# > On a quantised base TRL's SFTTrainer makes whatever is trained bfloat16. Mend that: every parameter that
# > is trained becomes float32, in place, and nothing else changes, neither a value nor the format of what is
# > frozen. An optimizer that was made before must go on stepping the same parameters. Return nothing.
# >
# > By hand: of a frozen embedding, a trained A and a trained B, all in bfloat16, the embedding stays
# > bfloat16, and A and B become float32. An entry of A that is 1.0 can then take a step of 0.001. In
# > bfloat16 it cannot: the next number above 1 is 1.0078125, so 1.001 is rounded back to 1.


# %% tags=["core"]
def mend_adapters(model) -> None:
    ### BEGIN SOLUTION
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()  # the same Parameter, so the optimizer still holds it
    ### END SOLUTION


exercises.mend_adapters.check(mend_adapters)

# %% tags=["core"]
# exercises.mend_adapters.hint()
mend = exercises.mend_adapters.or_reference(mend_adapters)

# %% [markdown]
# ### Exercise 2: QLoRA's model
#
# > **20 minutes · ●●●**
# >
# > Return the causal language model that lies in `folder` (a path) with adapters on it, ready to be trained:
# > a PeftModel.
# >
# > - Every linear layer but the head is packed to NF4, its scales are quantised once more, and products are
# >   computed in `compute_dtype` (a torch.dtype, such as `torch.bfloat16`).
# > - What is not packed (embeddings, norms, head) is in `compute_dtype`, too. The whole base is frozen.
# > - Beside each packed layer sits a LoRA adapter of that `rank` (an int), with alpha twice the rank, in
# >   float32. Nothing else is trained.
# >
# > The check makes a random Llama of two blocks, 32 wide, hands you its folder, and looks at what comes back.
# > By hand, for rank 2: each block has seven linear layers, so there are 14 adapters, and 28 matrices are
# > trained. The first `q_proj` had 32 × 32 numbers; now it has 512 bytes, two numbers in each. Its A is
# > 2 × 32 and its B 32 × 2, in float32 512 bytes, too. At the start the model computes what its base does,
# > and the first backward pass reaches all 14 Bs.


# %% tags=["core"]
def qlora_model(folder: str, compute_dtype: torch.dtype, rank: int):
    ### BEGIN SOLUTION
    four_bits = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute_dtype,
    )
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=compute_dtype, quantization_config=four_bits)
    lora = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(model, lora)  # freezes the base, and keeps the adapters in float32
    ### END SOLUTION


exercises.qlora_model.check(qlora_model)

# %% tags=["core"]
# exercises.qlora_model.hint()
make_qlora = exercises.qlora_model.or_reference(qlora_model)

# %% [markdown]
# ## Train, kill, resume
#
# The whole recipe in two functions, so that it can be made more than once. In a script for work you would
# write the same:


# %% tags=["core"]
def quantised_base():
    """The profile's base model in NF4, and its tokenizer."""
    profile, folder = profiles.current(), base_model.path()
    compute = getattr(torch, profile.dtype)
    four_bits = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
    )
    how = {"dtype": compute, "attn_implementation": profile.attention, "device_map": profile.device}
    model = AutoModelForCausalLM.from_pretrained(folder, quantization_config=four_bits, **how)
    return model, AutoTokenizer.from_pretrained(folder)


# %% tags=["core"]
def make_trainer() -> SFTTrainer:
    """QLoRA on the course's tickets for a few steps: a trainer that has not begun."""
    profile, (model, tokenizer) = profiles.current(), quantised_base()
    steps = 12 if profile.use_cpu else 50
    arguments = SFTConfig(
        output_dir=str(files.RUNS / "trainer"),
        learning_rate=profile.learning_rate,
        max_steps=min(steps, profile.max_steps) if profile.max_steps > 0 else steps,
        lr_scheduler_type="cosine",
        warmup_steps=0.1,
        per_device_train_batch_size=8 if profile.use_cpu else 4,
        gradient_accumulation_steps=1 if profile.use_cpu else 2,
        max_length=profile.max_length,
        activation_checkpointing=not profile.use_cpu,
        **{"use_cpu": profile.use_cpu, "bf16": profile.bf16, "fp16": profile.fp16},
        **{"logging_steps": 1, "report_to": "none", "disable_tqdm": True, "seed": 0},
    )
    rows = Dataset.from_list(tickets.as_prompt_completion(tickets.load("train")[:512]))
    lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    torch.manual_seed(0)  # decides the adapters' first weights
    trainer = SFTTrainer(model, arguments, train_dataset=rows, processing_class=tokenizer, peft_config=lora)
    trainer.remove_callback(PrinterCallback)
    recipe.adapters_in_float32(trainer.model)  # exercise 1
    if profile.use_cpu:
        prefixes.share(trainer)  # the prompt that all rows share is run once a batch
    return trainer


# %% tags=["core", "nbval-ignore-output"]
trainer = make_trainer()
run = run_store.recorded(trainer, "qlora")
_, losses = run.losses()
print("loss, nats a token:", " ".join(f"{loss:.2f}" for loss in losses))
expect("the loss falls", losses[-1] < losses[0] or len(losses) < 4)

# %% [markdown]
# A minute on a processor, with real 4-bit layers. Rented machines are cheaper if the provider may take them
# back at any moment; laptops are closed. What is left of a run then? The trainer saves a
# [*checkpoint*](../glossary.md#checkpoint) now and then: adapters, the optimizer's moments, the schedule, the
# random generators, the place in the data. But it writes these one file after the other. A kill in between
# leaves a folder that looks like a checkpoint and either cannot be read or, worse, can: without
# `optimizer.pt` the trainer resumes with moments of zero and says nothing.
#
# So the course's trainer writes one more file when all others are on disk.

# %% [markdown]
# ### Exercise 3: which checkpoint?
#
# > **15 minutes · ●●○**
# >
# > A killed run left `folder` (a pathlib.Path) with checkpoints in it, folders named `checkpoint-8`,
# > `checkpoint-16` and so on after the step they were saved at. Return the path of the newest that is
# > complete, or None if none is. Newest is the one of the most steps: times change when folders are copied.
# > There may be other things beside them.
# >
# > When all files of a checkpoint are on disk, the course's trainer writes one more, `manifest.json`: a
# > dictionary from each file's name to the SHA-256 of its bytes in hexadecimal. A checkpoint is complete if
# > its manifest is there and every file that it names is there with that SHA-256. Without a manifest it is
# > not.
# >
# > By hand: `checkpoint-8` and `checkpoint-16` are complete, and the kill came before `checkpoint-24` had
# > its manifest: return `folder / "checkpoint-16"`. The manifest of a folder with one file `a`, which holds
# > the three letters abc, is `{"a": "ba7816bf…20015ad"}`, all 64 digits.


# %% tags=["core"]
def newest_complete(folder: Path) -> Path | None:
    ### BEGIN SOLUTION
    def is_complete(checkpoint: Path) -> bool:
        manifest = checkpoint / "manifest.json"
        if not manifest.exists():
            return False
        for name, expected in json.loads(manifest.read_text()).items():
            file = checkpoint / name
            if not file.exists() or hashlib.sha256(file.read_bytes()).hexdigest() != expected:
                return False
        return True

    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    return next((path for path in reversed(found) if is_complete(path)), None)
    ### END SOLUTION


exercises.newest_complete.check(newest_complete)

# %% tags=["core"]
# exercises.newest_complete.hint()
resume_from = exercises.newest_complete.or_reference(newest_complete)

# %% [markdown]
# Now do it: the same training in another process, which is killed (`SIGKILL`: no chance to tidy up) as soon
# as its first checkpoint is complete.

# %% tags=["core", "nbval-ignore-output"]
print("the other process:", killing.train_and_kill([quantised_base, make_trainer], "qlora_killed"))
(folder,) = files.RUNS.glob("qlora_killed-*/checkpoints")
newest = resume_from(folder)
print("your function resumes from:", newest and newest.name)

# %% [markdown]
# The trainer's own way to go on is `trainer.train(resume_from_checkpoint=...)`; `run_store.recorded` calls it
# with the newest complete checkpoint. The run above was never interrupted. Is this one the same?

# %% tags=["core", "nbval-ignore-output"]
again = make_trainer()
resumed = run_store.recorded(again, "qlora_killed")
pairs = list(zip(trainer.model.named_parameters(), again.model.named_parameters(), strict=True))
same = [torch.equal(one, other) for (_, one), (_, other) in pairs if one.requires_grad]
print(f"{sum(same)} of {len(same)} trained tensors are equal, bit for bit")
expect("a resumed run is the run", all(same))

# %% [markdown]
# To the last bit. That is worth insisting on: if it holds, nothing was lost, and if it does not, you do not
# know what else is different. (It takes the same number of threads and the same versions. On a card, some
# kernels add in an order that changes from run to run; then expect the last digits to differ.) And it needs
# exercise 1: a resumed trainer reads its adapters as float32, so a run begun in bfloat16 would go on as
# another one.
#
# ## A fault that makes no noise
#
# On a processor that has bfloat16 instructions (AVX512-BF16), bitsandbytes repacks a 4-bit layer's weights in
# place at the first forward pass in evaluation mode, for speed. Its backward pass does not know the new
# order. One evaluation in the middle of a training is enough. In a process of its own, on a model of two
# blocks, without the guard that this course sets and with it:

# %% tags=["core", "nbval-ignore-output"]
tried = repacking.shown()
lines = []
for name, found in (("as bitsandbytes is", tried["plain"]), ("with the guard", tried["guarded"])):
    loss = " → ".join(f"{value:.3f}" for value in found["loss"])
    gradient = " → ".join(f"{value:.2f}" for value in found["gradient"])
    lines.append([name, loss, gradient, f"{found['cosine']:.2f}", f"{100 * found['moved']:.0f} %"])
print("this processor has the fault:", "yes" if tried["affected"] else "no, both rows are sound")
headings = ["", "loss before → after", "gradient's size", "cosine", "weights moved by"]
expect("with the guard an evaluation changes nothing", tried["guarded"]["moved"] == 0)
Table(headings, lines, "A 4-bit model before and after one evaluation")

# %% [markdown]
# Where the fault is, the loss hardly moves. But the gradient has another direction, and weights that are
# unpacked (to be merged, say) have nothing to do with those that were there. Nothing stops; a training with
# an evaluation every hundred steps merely learns worse. `upstream.guard_4bit_on_cpu()` switches that fast
# path off, before the model is built. The fault is reported (bitsandbytes issue 2078), and cards do not
# have it. The lesson is more general: a loss that looks right is no proof that training is.
#
# ## What the rounding costs
#
# Now the question for which one has to train many models. The experiment `qlora` fine-tunes the 135M model on
# 256 tickets in four arms, six seeds each. Within a seed, the arms have the same first adapters and the same
# rows in the same order, so that a difference is due to the arm alone:
#
# - *full precision*: the base as it is;
# - *NF4*: the base rounded to NF4 with double quantisation. These are the numbers that bitsandbytes'
#   layers multiply by; held as plain weights they train faster here;
# - *noise*: the base plus Gaussian noise, as large in every block of 64 as NF4's error is there. If this does
#   the same, then NF4's error is just noise;
# - *NF4 with adapters in bfloat16*: what TRL makes of them.
#
# The measure is notebook 07's: nats for the right answer on new rows, paired.
#
# > **Predict.** Right answers cost 56 nats before training and about 5 after it. How many nats more are they
# > on the NF4 base *before* training? And how many more *after*, when the adapters were trained on that base?

# %% tags=["core"]
guess_before = None  # nats an answer more than full precision, before training
guess_after = None  # and after

# %% tags=["core"]
record = experiments.published("qlora")
for guess, where in ((guess_before, "before"), (guess_after, "own")):
    gap = arms.gap(record, "nf4", "full", "test_lookalike", "answer", where, where)
    print("before training:" if where == "before" else "after training: ", end=" ")
    predictions.compare(guess, float(f"{gap[0]:.3g}"), unit="nats")

# %% tags=["core"]
arms.arms_table(record)

# %% [markdown]
# Rounding makes the untuned model 19 nats worse at these answers, and after 32 steps of training on the
# rounded base half a nat is left: training takes 97 % of the damage away. So the loss of a base that was just
# quantised says next to nothing about the model that you will get. What is left is not nothing: on lookalike
# messages four in a hundred fewer are right, and the interval is clear of zero. Where does it sit?

# %% tags=["core"]
arms.fields_table(record)

# %% [markdown]
# In the values that have to be understood or copied (intent and order number on both sets, the product on
# lookalike messages), and hardly in the keys and brackets (*rest*) or in the end of the answer.

# %% tags=["core"]
title = "After training, NF4 costs about half a nat an answer, and so does noise"
alt = (
    "Three pairs of intervals of nats an answer more than full precision. NF4: lookalike +0.6, production "
    "+0.4. "
    "Noise of NF4's size: +0.35 and +0.56. NF4 with adapters in bfloat16: as NF4. All lie right of 0."
)
plots.show(figures.gaps(record, title), alt)

# %% tags=["core"]
pairs = {
    "NF4 less noise of its size": ("nf4", "noise"),
    "adapters in bfloat16 less float32": ("nf4, adapters in bfloat16", "nf4"),
}
lines = []
for name, (ours, theirs) in pairs.items():
    for split, set_name in arms.SETS.items():
        mean, low, high = arms.gap(record, ours, theirs, split, "answer")
        seen = 2.8 / 1.96 * (high - low) / 2  # found in four cases of five
        lines.append([name, set_name, intervals.shown((mean, low, high), "+.2f"), f"{seen:.2f}"])
Table(["", "set", "nats an answer [95 %]", "could have seen"], lines, "Two questions inside NF4, six seeds")

# %% [markdown]
# *Is NF4's error more than noise?* On one set it is a little worse than noise of its size, on the other the
# two cannot be told apart, and one interval of two that just clears zero is weak evidence. To the size of the
# effect, noise explains it. (NF4 has one error for all six seeds, noise another for each.)
#
# *Do adapters in bfloat16 cost something?* Not that could be seen: the difference is within a tenth of a nat
# either way. In so short a run at a high learning rate every step is large enough for bfloat16. What they
# break is the exact resume, and float16 training on a T4; so float32 it stays here, and you know that it is
# for these reasons. (It is a small model and 32 steps: long runs that end in small steps are another case.)
#
# ### The same adapters on the other base
#
# An adapter is a correction. It was fitted to one base; what is it worth on the other? This is no idle
# question: whoever trains on NF4 and then merges into the 16-bit model, or serves a 16-bit base in 4 bits,
# does exactly that.

# %% tags=["core"]
guess = None  # adapters trained on NF4, moved to full precision: nats an answer more (+) or less (-)

# %% tags=["core", "claim-J3"]
moved = arms.gap(record, "nf4", "nf4", "test_lookalike", "answer", "other", "own")
predictions.compare(guess, float(f"{moved[0]:.2g}"), unit="nats")
arms.bases_table(record)

# %% [markdown]
# > **Guides 001, 002 and 004 say**: train on 4 bits, then load the base in 16 bits and merge there.
# > *Imprecise*: it works, and it is not the model that you trained. Adapters of NF4 are 0.2 nats worse on the
# > better base than on their own, and 0.9 on production messages.
#
# So an adapter corrects the rounding of *its* base as well, and elsewhere that correction is a mistake. The
# other direction is worse by far: adapters trained in full precision never met the rounding, and lose 1.7
# and 1.2 nats on it. Serve an adapter on the base that it was trained on, or merge it into *that*: unpack the
# NF4 weights (`model.dequantize()`) and merge there.
#
# ## Is the curve bumpier?
#
# > **Guide 000 says**, of QLoRA: "The quantization noise during training means the loss curve is bumpier than
# > full-precision training", and that switching to the 16-bit base for inference "revealed significant
# > quality improvements".
#
# Two claims, and neither has a number. The second you have just measured. For the first we need to say what a
# bump is.
# %% [markdown]
# ### Exercise 4: how bumpy is a curve?
#
# > **8 minutes · ●●○**
# >
# > Return the root mean square of the change of the loss from one step to the next, a float in nats.
# > `losses` has the loss of each step. Its first `calm` ones are left out: there the loss falls steeply,
# > and that is no bump.
# >
# > By hand: of `[2.0, 1.0, 1.5, 1.0]` with `calm` 1, the losses 1.0, 1.5, 1.0 are left. They change by
# > +0.5 and -0.5; the squares are 0.25 and 0.25, their mean is 0.25, and its root 0.5.


# %% tags=["core"]
def bumpiness(losses: list[float], calm: int) -> float:
    ### BEGIN SOLUTION
    later = losses[calm:]
    changes = [b - a for a, b in zip(later, later[1:], strict=False)]
    return math.sqrt(sum(change**2 for change in changes) / len(changes))
    ### END SOLUTION


exercises.bumpiness.check(bumpiness)

# %% tags=["core"]
# exercises.bumpiness.hint()
bumps = exercises.bumpiness.or_reference(bumpiness)

# %% [markdown]
# Both bases saw the same batches in the same order. So a bump that comes from a hard batch is in both curves,
# and the ratio of the two is left for the rounding. First look:

# %% tags=["core"]
alt = (
    "Left: training loss over 32 steps, full precision and NF4, seed 0. Both fall from 2 to 3 nats to below "
    "0.2 "
    "and rise and fall at the same steps. Right: NF4 less full precision for six seeds: 0.7 at the first "
    "step, "
    "near 0 after ten, then a little above it."
)
plots.show(figures.curves(record, 0, "Bumps come from the batches"), alt)

# %% tags=["core", "claim-D13"]
lines = []
for arm in ("nf4", "noise", "nf4, adapters in bfloat16"):
    own = arms.cells(record, arm)
    mean = sum(bumps(own[seed]["losses"], arms.CALM) for seed in own) / len(own)
    ratio = arms.bump_ratio(record, arm)
    lines.append([arms.NAMES[arm], f"{mean:.3f}", intervals.shown(ratio, ".2f")])
Table(["base", "bumps, nats a token", "times full precision [95 %]"], lines, "Steps 9 to 32, six seeds")

# %% [markdown]
# The ratio is 1, with an interval from two thirds to one and a half. *Not reproduced here*, within that
# width: a curve that is twice as bumpy we would have seen, one that is a fifth bumpier not.
#
# Where do the bumps come from, then? If from the batches, the changes from step to step go together where
# both bases saw the same batches, and not where the batches were another seed's:

# %% tags=["core"]
same = arms.together(record, "nf4")
others = [one for shift in range(1, 6) for one in arms.together(record, "nf4", shift)]
for words, found in (("the same batches", same), ("another seed's batches", others)):
    mean = sum(found) / len(found)
    print(f"{words}: correlation {min(found):+.2f} to {max(found):+.2f}, in the mean {mean:+.2f}")

# %% [markdown]
# It could hardly be otherwise. NF4's error is *fixed*: the same weights are unpacked to the same numbers at
# every step. It moves the curve; it does not shake it.
#
# The guide's other sentence, that the 16-bit base "revealed" improvements, was the opposite here: +0.2 nats.
#
# ## A lower rate, twice the steps?
#
# > **Guide 000 says**, of QLoRA: "you need a lower learning rate (1e-4 vs 2e-4 for full-precision LoRA) and
# > may need to double the number of training steps to reach the same loss."
#
# The guide speaks of 7B models, and its two rates are theirs. What can be tried here is the *reason* it
# gives: that rounding noise moves the best rate down and slows the descent. For that one needs the whole
# curve of rates, for both bases, and many seeds. *tiny_base* has two million parameters, was trained in
# float32 and never rounded before. It learns 100 facts by heart, and how many bits it has stored can be
# counted (notebook 02).

# %% tags=["core"]
guess = None  # full precision has its best rate at 0.004. Where has NF4's, of 0.001, 0.002, 0.004, 0.008?

# %% tags=["core"]
sweep = experiments.published("qlora_rates")
title = "On NF4 the best rate is the same, and so is what is stored"
alt = (
    "Two panels, 10 and 20 epochs: bits stored over the learning rate. The lines of full precision and NF4 "
    "lie "
    "on each other: they rise up to a rate of 0.004 and fall to a few hundred bits at 0.008."
)
plots.show(rates.by_rate(sweep, title), alt)

# %% tags=["core", "claim-H1"]
for epochs in (10, 20):
    best = {name: rates.best_rate(sweep, form, epochs) for form, name in rates.FORMS.items()}
    print(f"{epochs} epochs, best rate:", ", ".join(f"{name} {rate:g}" for name, rate in best.items()))
predictions.compare(guess, rates.best_rate(sweep, "nf4", 10))
rates.bits_table(sweep)

# %% [markdown]
# *A lower rate: not reproduced here.* The two curves of rates lie on each other, at both lengths. And NF4
# stores as much in as many steps, where the runs are stable at all.
#
# Mind how wide the scatter is at the best rate. With seed 0 alone NF4 stored 1,189 bits in 10 epochs at
# 0.004, and full precision 1,885: a clear case for the guide, had we stopped there. The other five seeds took
# it back. Whoever compares two single runs compares two seeds.
#
# The same runs answer two earlier questions once more, on a base that was never rounded before:

# %% tags=["core"]
rates.moved_table(sweep)

# %% [markdown]
# Adapters that leave NF4 for the full base lose part of what they know, at every setting. And the bumps
# follow no rule: of eight settings NF4's curves are clearly smoother in two and clearly bumpier in one, at a
# rate at which the runs fall apart; and at that same rate they are smoother in the shorter runs. At the rates
# that train well the ratio is within a tenth of 1.
#
# Back to the 135M model and its tickets, where NF4 did cost half a nat. Does the guide's recipe, half the
# rate and twice the steps, make up for that? Everything is held to full precision with the course's rate and
# one epoch:

# %% tags=["core", "claim-H2"]
records = (record, experiments.published("qlora_budget"))
rates.recipes_table(records)

# %% [markdown]
# Read the rows in pairs. Half the rate in as many steps is worse on *both* bases, by a quarter of a nat. Half
# the rate and twice the steps is better on both, by about a nat: NF4's longer run comes to where full
# precision's shorter one was, and full precision's longer run is ahead again, by as much as before.
#
# So *imprecise*. As a description it is right for this model and these tickets: with twice the steps NF4
# reaches the loss. On tiny_base it needed none. And as an explanation it misleads, because more steps help
# whoever gets them; 32 were too few for this task on either base. Compare QLoRA at twice the steps with LoRA
# at once, and you have measured the steps.
#
# (Two seeds here, six where the rate is 1 in one epoch.)
#
# ## Memory and time
#
# Rounding costs quality; what does it buy? Real steps on this processor, seen by the profiler: SmolLM2's
# blocks, six of them, a plain loop with checkpointing, one row of 128 tokens. Beside it what the planner
# traced, without having run anything.

# %% tags=["core", "nbval-ignore-output"]
six = dict(model_configs.find("smollm2-135m"), num_hidden_layers=6)
# float32: a processor without bfloat16 instructions takes minutes for these products in bfloat16.
small = Setup(six, batch=1, length=128, attention="eager", trainer="plain", dtype="float32")
models, lines = {}, []
for method in ("lora", "qlora"):
    setup = replace(small, method=method)
    models[method] = workload.build_model(setup, 6, "cpu")
    real, trace = watching.measured_peak(setup, models[method]), watching.traced_peak(setup)
    weights = sum(watching.held_bytes(models[method]).values())
    lines.append([method, *(f"{size / 1e6:.0f}" for size in (weights, real, real - weights, trace))])
    assert abs(trace / real - 1) < 0.01
headings = ["", "model, MB", "peak, MB", "beside the model, MB", "traced, MB"]
Table(headings, lines, "Two real steps on this processor")

# %% [markdown]
# What is saved is saved on the *weights*. What stands beside them is the same: activations, gradients and the
# optimizer do not shrink because weights are packed. So QLoRA pays where weights are most of the peak: a
# large model, few tokens. (Here embedding and head, which stay as they were, are most of the model.)
#
# And time? Each product unpacks its weight first, in the forward pass and again in the backward pass, and
# with checkpointing once more in between. That is work for each weight; the product is work for each weight
# *and token*. So ask with few tokens and with many:

# %% tags=["core", "nbval-ignore-output"]
for batch, length in ((1, 16), (4, 128)):
    turns = {}
    for method, built in models.items():
        setup = replace(small, method=method, batch=batch, length=length)
        batches, optimizer = [workload.batch_for(setup, "cpu")], workload.optimizer_for(setup, built)
        turns[method] = partial(workload.training_step, setup, built, batches, optimizer, [])
    seconds = step_time.interleaved(turns)
    ratio = seconds["qlora"] / seconds["lora"]
    print(f"{batch * length} tokens a step: QLoRA takes {ratio:.1f} times as long as LoRA")

# %% [markdown]
# On this processor, in turns, in float32, with bitsandbytes' plain code. On a card the unpacking is a kernel
# of its own and the ratio another; guide 002's "0.8×" of full fine-tuning's speed is one of the things to
# look for in the rented hour. That it shrinks with the tokens of a step will be the same there.
#
# ## Optimizers: what 8 bits and paging can save
#
# Two guides (002, 003) train with `optim="paged_adamw_8bit"`. Two ideas are in that name. *8-bit*: Adam's two
# moments are stored in one byte each, block by block with a scale, instead of four.
# [*Paged*](../glossary.md#paged-optimizer): the moments lie in memory that the driver may move to the
# computer's RAM when the card is full. Count the bytes, on tensors with the shapes of the 135M model's
# adapters:

# %% tags=["core"]
shapes = optimizer_bytes.adapter_shapes(model_configs.find("smollm2-135m"), 16)
count = sum(rows * columns for rows, columns in shapes)
lines = []
for name, kind in optimizer_bytes.optimizers().items():
    size, warned = optimizer_bytes.state_bytes(kind, shapes)
    lines.append([name, f"{size / 1e6:.0f}", f"{size / count:.1f}", "; ".join(warned)])
Table(["optim=", "MB", "bytes a number", "says"], lines, f"Adam's state of {count / 1e6:.1f}M numbers")

# %% [markdown]
# 8 bits save what they promise, but for small tensors, which bitsandbytes keeps in float32 (below 4,096
# numbers). Here on a processor the paged ones say that they are not, and are the plain ones.
#
# What would be paged on a card? bitsandbytes pages a parameter's state only if it has 100,000 numbers or
# more. An adapter is thin: A of a 4,096-wide layer at rank 16 has 65,536.
#
# > **Predict.** Which share of the adapters' states of Llama-3.1-8B, rank 16 on all linear layers, can page?

# %% tags=["core"]
guess = None  # in percent

# %% tags=["core"]
share = 100 * optimizer_bytes.pageable(llama3, 16)
predictions.compare(guess, float(f"{share:.3g}"), unit="%", word="computed")
lines = []
for rank in (4, 8, 16, 32, 64):
    count = sum(rows * columns for rows, columns in optimizer_bytes.adapter_shapes(llama3, rank))
    share = optimizer_bytes.pageable(llama3, rank)
    pages = f"{2 * share * count / 1e6:.0f}"
    lines.append([rank, f"{8 * count / 1e6:.0f}", f"{2 * count / 1e6:.0f}", f"{100 * share:.0f}", pages])
headings = ["rank", "float32, MB", "8 bits, MB", "can page, %", "so MB of the 8 bits"]
Table(headings, lines, "Adam's states for Llama-3.1-8B, LoRA on all linear layers")

# %% [markdown]
# At rank 16 paging could rescue some 40 MB, of a peak of many GiB, and at rank 4 nothing at all. (Claim D12
# in `lab.py claims`: the guides' "prevents out-of-memory crashes" is *imprecise*.) The QLoRA paper needed it
# for 33B and 65B models at rank 64, on a card that was full to the brim. For a LoRA run: take the trainer's
# default, and if memory is short, look at tokens and checkpointing first, as notebook 05 did.

# %% [markdown]
# ## Explorer: the recipe, switch by switch
#
# Every switch of the recipe in one figure: the top bar is the recipe as you set it, each bar below it the
# recipe with that one switch turned the other way, and the black line is what the card leaves for tensors.
# Beside the bars: GiB more or less, whether it still fits, and how long a step takes, as times the recipe's.
# All of it is predicted: memory by the closed form of notebook 05 at once, and traced when you press the
# button (that takes from seconds to a minute); time as the range that the cost model leaves open. "Not
# modelled" means that the cost model has no term for it, not that it costs nothing. What a switch costs in
# quality is in the table below.
#
# 1. The guides recommend a paged 8-bit optimizer against running out of memory. How much can it give back
#    here, and from which rank on would it be worth two GiB? (Turn the rank up, and watch its bar.)
# 2. Checkpointing off makes a step shorter by three tenths, and does not fit. Keep 16 rows a step and find
#    the most rows a micro-batch with which it does. Is it still faster than the recipe you started from?

# %% tags=["core"]
qlora_recipe_explorer.explore()

# %% [markdown]
# <details><summary>Answers</summary>
#
# 1. At rank 16 about 0.1 GiB of 7.7: the two moments of the adapters are 160 MiB in AdamW's bfloat16, 81 MiB
#    in 8 bits, and nothing else of the run can be paged. At rank 256 it is 2.5 GiB of 12.4. The memory that
#    runs out in a spike is activations, which no optimizer pages.
# 2. 2 x 8: 17.9 GiB, too near the line for the closed form; the trace says that it fits. By the cost model a
#    step takes 12 to 33 s, against 16 to 43 s for 4 x 4 with checkpointing. (1 x 16 also fits, in 11.8 GiB,
#    and takes 14 to 39 s: each micro-batch unpacks the 4-bit weights anew.)
#
# Press the button once, and look at k-bit preparation: the closed form says +1.96 GiB, the trace +3.68. The
# formula counts the weights that become float32, the trace also what then flows through the blocks in
# float32.
# </details>

# %% [markdown]
# ## The rented hour
#
# Everything so far ran on a processor, with 135 million parameters. What a 7B model does on a real card you
# have only computed. One rented hour settles it, and it is cheap if nobody thinks while the meter runs: the
# jobs are prepared, ordered by value, run by themselves within a limit of money, and what they find comes
# home in one folder of a few MB.
#
# So the order is: guess, look at the plan, rehearse, rent, copy home, delete, and then open the folder beside
# your guesses.
#
# > **Predict.** A guess made after the result is a memory. These are written down with today's date, in
# > `my_work/guesses.json`, and opened when the hour is over: today, or next month. Put numbers in place of
# > `None`; a guess that you leave out is not asked for again.
#
# The fine-tune is the one of notebook 01, on Qwen2.5-7B-Instruct in NF4 and on one L4: 1,200 tickets, seen
# once. For memory, add up what notebook 05 taught you to. For time: the L4 is sold with 121 × 10¹² operations
# a second; about half of that is what such cards are measured at when all goes well. The third is notebook
# 04's relative squared error, now of the 7B weights as they were published, in the middle over all matrices.
# The last is everything: all jobs, in the currency of the rate (0.80 an hour).

# %% tags=["core"]
guesses = {
    "peak memory allocated": None,  # GiB, of the card's 22
    "training time": None,  # min
    "NF4 error": None,  # %; notebook 04 found one for another model's weights
    "hour, money": None,  # at 0.80 an hour
}
for name, guess in guesses.items():
    reading.seal(name, guess)

# %% [markdown]
# And how good does it get? Exact match, all four fields right, in per cent. *few-shot* is the same 7B model
# before training, with eight examples in the prompt. *tuned* is after. The canary's questions are those of
# notebook 07: how many points of them does the fine-tune cost? (Negative: it gains.)

# %% tags=["core"]
guesses = {
    "production, few-shot": None,  # % right
    "production, tuned": None,  # % right
    "lookalike, tuned": None,  # % right
    "canary lost": None,  # points
}
for name, guess in guesses.items():
    reading.seal(name, guess)

# %% [markdown]
# Run such a cell twice and nothing happens; change the number and you are told what is sealed already.
# Whoever has a reason to think again writes `reading.seal("training time", 25, again=True)`: both are
# kept, with their dates.
#
# ### What the hour does, and what it costs
#
# `lab.py gpu-hour` gets two numbers from you: what you will pay in all, and what the machine costs an hour.
# It takes the jobs in the order of their value as long as the *slow* end of each still fits. First what keeps
# the rest from being paid for in vain: is the machine fit, does the planner's memory hold on this card? Then
# the fine-tune. Then what single notebooks asked for.

# %% tags=["core"]
hour.forecast(budget=2.00, rate=0.80)

# %% [markdown]
# A prediction, and made before anybody ran it on a card: minutes by notebook 05's cost model, memory by its
# planner (for scoring, by hand). The wide ranges are honest: rented machines differ most in what no model of
# a card knows, the disk and the network. Your limit is a limit for all that: a job that is running when it
# comes near is asked to stop, keeps its checkpoint, and goes on from there if you come back with more money.
#
# ### Rehearse it
#
# The same jobs with a tiny model on your processor: they take minutes instead of money, and go through every
# line of code that will run on the card. Its numbers say nothing about a card, and every one is marked so. In
# a terminal:
#
#     python3 lab.py gpu-hour --budget 2.00 --rate 0.80 --dry-run
#
# ### Rent, run, copy home, delete
#
# [Renting a GPU for an hour](../docs/renting.md) is the page to have open: which card, the first minute on
# it, what can go wrong, and how to be sure that it is off. On the machine it is two commands, in a tmux
# window that outlives your connection:
#
#     python3 lab.py start --no-browser
#     python3 lab.py gpu-hour --budget 2.00 --rate 0.80
#
# Close the laptop. If the connection drops, the hour goes on; if the machine vanishes, the same command goes
# on where it was, as long as its folder is there. At the end it names the folder to copy: bring it to
# `runs/gpu_hour` here, look at it, and only then delete the machine.
#
# ### Open it
#
# Guess, plan and measurement, side by side, for all that the folder holds. Until you have been there this
# opens the rehearsal, and without one it says how to get it.

# %% tags=["core", "nbval-ignore-output"]
reading.compare()

# %% [markdown]
# Read it from the right: where your guess and the plan are both off, and to the same side, the model that
# both share is wrong, and that is worth more than a hit. Where the plan is off, `python3 lab.py gpu-check` on
# that card says by how much for other settings, too.
#
# ## Checkpoint

# %% tags=["core"]
quiz.ask("08_qlora_training")

# %% [markdown]
# ## On a rented GPU
#
# Written for 16, 24 and 80 GB cards, not yet run there. This notebook's own cells choose the 7B model there
# and train 50 steps; the planned hour above is the better use of the money. What to look for in it: whether
# NF4's price after training is as small for a 7B model as the QLoRA paper says, the ratio of the two step
# times, and your own guesses.
