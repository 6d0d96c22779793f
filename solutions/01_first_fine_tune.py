# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 01 · A first fine-tune
#
# **In one sentence**: you fine-tune a chat model in minutes, try it on messages of your own, save it, and say
# how good it is.
#
# **Minutes**: 105 to read and do, 10 to run all cells.
#
# A chat is one long strip of tokens. Fine-tuning shows the model many such strips and changes it a little
# each time, so that it finds *some* of the tokens likelier: those that it should have written itself.
#
# ![One chat, turn by turn, as boxes of tokens. The system's and the user's turns and the opening of the
# assistant's turn are pale: they are read and not learned. The assistant's answer, a line of JSON, is blue:
# it is learned, each token from all that stand before it. So is the end-of-turn token after it, in
# orange.](attachment:schematic.png)
#
# Remember two things of this picture. The customer's words are read and not learned, because nobody wants a
# model that writes complaints. And the end is learned, or the model would not know when to stop.
#
# After this notebook you will be able to
#
# - fine-tune a chat model with LoRA, using PEFT and TRL as you would at work, and say why each setting is
#   what it is;
# - save the result as a file of a few megabytes and load it again;
# - write the labels, the loss and the training loop yourself, and show that a trainer does the same;
# - tell how good the result is, with an interval that you can defend, and what your test could not have seen.
#
# **Needs** notebook 00's vocabulary: [token](../glossary.md#token),
# [chat template](../glossary.md#chat-template), [family](../glossary.md#family),
# [exact match](../glossary.md#exact-match). The model, SmolLM2-135M-Instruct, came with the set-up. A GPU is
# used if there is one.

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
# The first cells only set up and import; the next ones load torch, which takes about ten seconds.

# %% tags=["core", "setup"]
from labsupport.core import upstream

upstream.quiet_known_noise()  # messages about this stack that you can do nothing about
upstream.keep_freed_memory()  # a faster allocator setting for training on a CPU
upstream.score_only_labels()  # TRL on a CPU would compute logits that the loss then ignores

# %% tags=["core", "setup"]
import copy
import itertools
import json
import textwrap

import torch
from datasets import Dataset
from IPython.display import display
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, PrinterCallback
from trl import SFTConfig, SFTTrainer

from labsupport.baselines import comparisons
from labsupport.core import files, plots, profiles
from labsupport.core.tables import Table
from labsupport.evaluation import experiments, intervals, metrics, result_store, scoring
from labsupport.models import base_model, chat
from labsupport.notebooks.nb01_first_fine_tune import exercises, figures
from labsupport.tasks import tickets
from labsupport.teaching import predictions, quiz
from labsupport.teaching.claims import expect
from labsupport.training import loop, prefixes, recipe, run_store

# %% tags=["core", "nbval-ignore-output"]
profile = profiles.current()
torch.set_num_threads(profile.threads)  # sums in another order round differently
print("profile:", profile.name, "| base model:", profile.base_model, "|", profile.dtype)

# %% [markdown]
# ## The task
#
# You know it from notebook 00: a customer of an outdoor shop writes, and the shop's software needs one line
# of JSON. Prompts did badly at it, and rules got 22 % of the production messages right. Every row is a
# message and its right answer:

# %% tags=["core"]
train_rows = tickets.load("train")[: profile.train_rows]
for row in train_rows[:3]:
    print(row["text"], "\n   ->", tickets.answer(row), "\n")
print(len(train_rows), "training rows of", len({row["family"] for row in train_rows}), "families")
print("system prompt:", tickets.SYSTEM_PROMPT)

# %% [markdown]
# Nobody sent these messages. A language model wrote 720 *families*, each one way of phrasing one request, and
# a generator fills them in; no family of the test set `lookalike` is in training. The 200 messages of the
# test set `production` were written by a language model too, one by one, without having seen the families.
# They stand in for real mail, from which they are likely to differ.
# [The data card](../data/tickets/README.md) says more. "Learned from 512 rows" therefore means: from 512 ways
# of phrasing, one row of each.
#
# What you measure in this notebook you measure on a sample that your machine can score in a few minutes:

# %% tags=["core"]
lookalike = tickets.one_of_each_family(tickets.load("test_lookalike"))
sets = {
    "lookalike": lookalike[:: max(1, len(lookalike) // profile.eval_families)],
    "production": tickets.load("test_production")[: profile.eval_rows],
}
print({name: len(rows) for name, rows in sets.items()})

# %% [markdown]
# ## Before
#
# `base` is a folder with the model: on a processor a published 4-bit edition of it, unpacked to ordinary
# numbers. The number format comes from the profile: bfloat16
# where the processor is fast at it, float32 elsewhere, and 4-bit NF4 on GPUs up to 24 GB
# ([notebook 04](04_nf4_quantization.ipynb) explains that).

# %% tags=["core"]
base = base_model.path()
dtype = getattr(torch, profile.dtype)
quantization = None
if profile.quantize:
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
how = {"dtype": dtype, "quantization_config": quantization}
how |= {"attn_implementation": profile.attention, "device_map": profile.device}
tokenizer = AutoTokenizer.from_pretrained(base)
model = AutoModelForCausalLM.from_pretrained(base, **how)

# %% tags=["core", "nbval-ignore-output"]
shown = []  # so many of each set, evenly spaced
for rows in sets.values():
    shown += rows[:: len(rows) // profile.generate_rows][: profile.generate_rows]
before = result_store.recorded(model, tokenizer, shown, "generate", scoring.generate)
for row, reply in zip(shown[:2], before, strict=False):
    print(row["text"], "\n   wrote", repr(reply[:160]), "\n")

# %% [markdown]
# ## LoRA in one paragraph
#
# The model has 135 million numbers in its weight matrices. We change none of them.
# [LoRA](../glossary.md#lora) puts beside each matrix $W$ two thin ones and adds their product:
#
# $$W' = W + \frac{\alpha}{r} B A$$
#
# with $A$ of shape $r \times \mathrm{in}$ and $B$ of shape $\mathrm{out} \times r$. Say $W$ is 576 × 576,
# which is 331,776 numbers. With $r = 16$, $A$ and $B$ have 16 · 576 each, 18,432 together: a share of 5.6 %.
# Only these are trained. $B$ starts at zero, so the model starts exactly where it was. Why that can be
# enough, and what $\alpha$ does, is [notebook 02](02_lora_math.ipynb).
#
# > **Predict.** For 7B models the guides speak of 0.1 to 1 % of the parameters. What share is it here, with
# > rank 16 on every linear layer? (The embedding, 28 million numbers, gets no adapter.)

# %% tags=["core"]
guess = None  # your guess, in percent

# %% [markdown]
# ## Every setting, and why
#
# This is the whole configuration, as you would write it at work:

# %% tags=["core"]
lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
arguments = SFTConfig(
    output_dir=str(files.RUNS / "trainer"),
    learning_rate=profile.learning_rate,
    num_train_epochs=1,
    max_steps=profile.max_steps,  # -1: no limit
    lr_scheduler_type="cosine",
    warmup_steps=0.1,  # below 1: a share of all steps
    adam_beta1=0.6,
    adam_beta2=0.95,
    per_device_train_batch_size=profile.batch_size,
    gradient_accumulation_steps=profile.accumulation,
    max_length=profile.max_length,
    activation_checkpointing=not profile.use_cpu,  # saves memory, costs time
    use_cpu=profile.use_cpu,
    bf16=profile.bf16,  # mixed precision: adapters in float32, products in the format of the weights
    fp16=profile.fp16,
    logging_steps=8,
    logging_first_step=True,
    report_to="none",
    disable_tqdm=True,
    seed=0,
)

# %% tags=["core", "nbval-ignore-output"]
a, batch = arguments, arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps
why = [
    ["rank r", lora.r, "room for what must be learned; few rows need little", "8 to 64"],
    ["alpha", lora.lora_alpha, "the product counts alpha / r = 2 times", "16 or 32"],
    ["target_modules", lora.target_modules, "every matrix gets an adapter", "the same"],
    ["learning_rate", a.learning_rate, "few steps, so each must go far", "2e-4"],
    ["lr_scheduler_type", a.lr_scheduler_type.value, "ends with small steps, which settle", "the same"],
    ["warmup_steps", a.warmup_steps, "a tenth of the run: Adam knows nothing yet", "0.03 to 0.1"],
    ["adam_beta1", a.adam_beta1, "averages 1 / (1 - 0.6) = 2.5 gradients, not 10", "0.9"],
    ["adam_beta2", a.adam_beta2, "and 20 of their squares, not 1,000", "0.999"],
    ["rows a step", batch, "many small steps instead of few large ones", "16 and more"],
    ["num_train_epochs", a.num_train_epochs, "each row once, so none is learned by heart", "1 to 3"],
    ["max_grad_norm", a.max_grad_norm, "the default: no odd batch can throw it far", "0.3 to 1"],
    ["weight_decay", a.weight_decay, "the trainer's default", "0 to 0.1"],
    ["max_length", a.max_length, "longer than any row, so nothing is cut", "what rows need"],
    ["seed", a.seed, "decides A at the start and the order of rows", "several"],
]
Table(["setting", "here", "why", "usual at 7B"], why, "What decides the run")

# %% [markdown]
# > **Careful.** A [learning rate](../glossary.md#learning-rate) of 2e-3 is ten times what the QLoRA paper and
# > the recipes of the guides use on 7B models, and none of them lowers beta1. Both belong to this small model
# > and to a run of 256 steps. Do not copy them: on 7B begin with 2e-4, beta1 0.9 and beta2 0.999. (This
# > notebook's GPU profiles take the 2e-4 and keep the betas, so that they run the same cells.)
#
# The trainer tokenises the rows, puts the adapters on and makes the batches. The rows are in TRL's
# *prompt-completion* form, for which it learns the completion only, as in the picture. (The last line is an
# economy of ours: on a processor the prompt that all rows share is run once a batch. The loss is the same; an
# optional section near the end, "the same beginning, once", shows that.)
#
# On a base in 4 bits TRL makes the adapters bfloat16. Where yours is in 4 bits, two lines make them float32
# again, as the comment above promises: float16's gradient scaler refuses bfloat16, and a run that is resumed
# would go on in float32 in any case.

# %% tags=["core"]
torch.manual_seed(0)  # decides the adapters' first weights
trainer = SFTTrainer(
    model=model,
    args=arguments,
    train_dataset=Dataset.from_list(tickets.as_prompt_completion(train_rows)),
    processing_class=tokenizer,
    peft_config=lora,
)
trainer.remove_callback(PrinterCallback)
if profile.quantize:
    recipe.adapters_in_float32(trainer.model)  # TRL has made them bfloat16
pad_rows = trainer.data_collator  # makes a batch of rows: pads them to the longest
if profile.use_cpu:
    prefixes.share(trainer)

# %% tags=["core"]
trainable, total = trainer.model.get_nb_trainable_parameters()
print(f"{trainable:,} of {total:,} parameters are trained")
predictions.compare(guess, 100 * trainable / total, unit="%")

# %% [markdown]
# The same rank is a much larger share of a small model than of a 7B one: a matrix of width $n$ has $n^2$
# entries and its adapter only $2rn$, a share of $2r/n$.
#
# ## Train
#
# `trainer.train()` would do it. `run_store.recorded` does the same and keeps the result under a fingerprint
# of everything that decides it (rows, weights, settings, code, versions): run the cell again and it loads,
# kill it half-way and it resumes. It takes four to six minutes on two processor cores. Start it, and read
# Exercise 1 below in the meantime.

# %% tags=["core", "nbval-ignore-output"]
run = run_store.recorded(trainer, "first_fine_tune")
tuned = trainer.model

# %% [markdown]
# ## Before and after
#
# The same messages again, to the model with its adapter. Neither they nor their families were in the training
# rows.

# %% tags=["core", "nbval-ignore-output"]
after = result_store.recorded(tuned, tokenizer, shown, "generate", scoring.generate)


def short(text: str) -> str:
    """At most 180 characters; JSON with a blank after commas and colons, so that a line can break there."""
    return textwrap.shorten(text.replace(',"', ', "').replace('":', '": '), 180, placeholder=" …")


lines = [
    [short(row["text"]), short(old), short(new), short(tickets.answer(row))]
    for row, old, new in zip(shown, before, after, strict=True)
]
few = min(3, profile.generate_rows)
picked = lines[:few] + lines[profile.generate_rows :][:few]  # of either set
Table(["message", "base", "tuned", "right answer"], picked, f"{few} lookalike and {few} production messages")

# %% tags=["core", "nbval-ignore-output"]
valid = {}
for number, name in enumerate(sets):
    part = slice(number * profile.generate_rows, (number + 1) * profile.generate_rows)
    valid[name] = [int(metrics.valid_json(replies[part]).sum()) for replies in (before, after)]
    print(f"{name}: valid JSON from base {valid[name][0]}, tuned {valid[name][1]} of {len(shown[part])}")
expect(
    "LoRA writes valid JSON more often than the base model, on both sets",
    all(new > old for old, new in valid.values()),
)

# %% [markdown]
# There it is: an apologetic chatterbox before, a program's helper after. Now read the two right-hand columns
# closely. The form is always there; the understanding is not: an exchange is called a change, and who wants
# it soon or late is often a guess. How often that happens is the question of the second half of this
# notebook.
#
# ## Your own message
#
# This is what a program would do with the model: the template, `generate`, and only the new tokens decoded.

# %% tags=["core"]
tuned.eval()


def reply_to(model, message: str) -> str:
    """What the model answers to a customer's message."""
    inputs = tokenizer.apply_chat_template(
        tickets.prompt(message), add_generation_prompt=True, return_dict=True, return_tensors="pt"
    ).to(model.device)
    options = {"max_new_tokens": profile.reply_tokens, "do_sample": False}
    output = model.generate(**inputs, **options, pad_token_id=tokenizer.pad_token_id)
    return tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()


# %% tags=["core", "nbval-ignore-output"]
message = (
    "hi, a pole of my Heron tent snapped (order RL-90417) and we leave on saturday. can you send a new one?"
)
print(reply_to(tuned, message))

# %% [markdown]
# Now change the message and run the cell again. Try what a customer would: no order id; two products in one
# mail; another language; "hello" and nothing else. The model was only ever shown messages with one right
# answer, and it will find one for everything that you write.
#
# ## Save it, load it
#
# What was trained are the adapters, so only they need to be kept. `save_pretrained` writes them, and
# `PeftModel.from_pretrained` puts them on a fresh copy of the base model, here or on another machine.

# %% tags=["core", "nbval-ignore-output"]
folder = files.RUNS / "first_adapter"
tuned.save_pretrained(folder)
fresh = AutoModelForCausalLM.from_pretrained(base, **how)
size = {"base model": fresh.get_memory_footprint() / 1e6}
size["adapter_model.safetensors"] = (folder / "adapter_model.safetensors").stat().st_size / 1e6
reloaded = PeftModel.from_pretrained(fresh, folder).eval()
assert size["base model"] > 10 * size["adapter_model.safetensors"]
Table(["what", "MB"], [[name, f"{megabytes:.1f}"] for name, megabytes in size.items()])

# %% tags=["core", "nbval-ignore-output"]
messages = [message, *(row["text"] for row in shown[-2:])]
assert [reply_to(reloaded, text) for text in messages] == [reply_to(tuned, text) for text in messages]
print(len(messages), "replies of the reloaded model are the same, letter by letter")

# %% [markdown]
# In float32 the file is a twenty-seventh of the model, and it holds everything that the training did. Ten
# tasks are ten such files beside one base model. Look into `runs/first_adapter`: beside the weights there is
# `adapter_config.json`, which says rank, alpha and targets, and which base model they belong to. On another
# base the file is worth nothing.
#
# That was a fine-tune: rows, a configuration, a trainer, a file. What follows takes it apart, and then asks
# what it is worth.
#
# ## What was learned from: the labels
#
# Here is the first training row as the model sees it:

# %% tags=["core"]
example = chat.encode_example(tokenizer, train_rows[0])
print(tokenizer.decode(example.ids))
print(len(example.ids), "tokens, of them prompt:", example.prompt_length)

# %% [markdown]
# ### Exercise 1: the labels
#
# > **5 minutes · ●○○**
# >
# > A [label](../glossary.md#label) is the token that the loss compares with, one for each id. PyTorch's
# > cross-entropy leaves out positions whose label is -100. `ids` is a list of n ints, of which the first
# > `prompt_length` are the prompt. Return the labels, a list of n ints: for `ids = [5, 6, 7, 2]` and a prompt
# > of 2 it is `[-100, -100, 7, 2]`. Leave `ids` as it is.


# %% tags=["core"]
def labels(ids: list[int], prompt_length: int) -> list[int]:
    ### BEGIN SOLUTION
    return [-100] * prompt_length + ids[prompt_length:]
    ### END SOLUTION


exercises.labels.check(labels)

# %% tags=["core"]
# exercises.labels.hint()
labels_of = exercises.labels.or_reference(labels)

# %% tags=["core"]
encoded = [chat.encode_example(tokenizer, row) for row in train_rows]
supervised = [label for e in encoded for label in labels_of(e.ids, e.prompt_length) if label != -100]
tokens = sum(len(e.ids) for e in encoded)
print(f"{tokens:,} tokens, {100 * len(supervised) / tokens:.0f} % of them are trained on")
assert labels_of(example.ids, example.prompt_length) == trainer.train_dataset[0]["labels"]
print("your labels of the first row are the trainer's")

# %% [markdown]
# Four tokens in five cost time and teach nothing directly: the price of telling the model its task in every
# example. Look at this share before each run. If it is ever 0, the template or the masking is broken.
#
# ## What was made small: the loss
#
# Say an answer has three tokens, and the model gives the right ones the probabilities 0.5, 0.9 and 0.1. Their
# negative logarithms are 0.69, 0.11 and 2.30 [nats](../glossary.md#nats), and the [loss](../glossary.md#loss)
# is their mean, 1.03. The token that surprised it most makes up most of the loss. In general
#
# $$L = -\frac{1}{|S|}\sum_{t \in S} \log p(x_t \mid x_{<t})$$
#
# where $S$ holds the positions whose label is not -100. Mind one thing: the model is asked *after* each token
# what comes next, so the logits at position $t$ predict token $t+1$.
#
# ### Exercise 2: the loss
#
# > **15 minutes · ●●○**
# >
# > `logits` is a float tensor of shape (rows, length, vocabulary), `labels` an int64 tensor of shape (rows,
# > length). Return the mean cross-entropy over all positions of all rows whose label is not -100: a float
# > tensor without dimensions, through which a gradient can flow back into the logits.


# %% tags=["core"]
def answer_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    ### BEGIN SOLUTION
    predictions = logits[:, :-1].flatten(0, 1).float()
    return torch.nn.functional.cross_entropy(predictions, labels[:, 1:].flatten())
    ### END SOLUTION


exercises.answer_loss.check(answer_loss)

# %% tags=["core"]
# exercises.answer_loss.hint()
loss_of = exercises.answer_loss.or_reference(answer_loss)

# %% [markdown]
# ## What a trainer does: the loop
#
# Forward, loss, backward, step. That is all, and you can write it in twenty lines. Around these four stand
# the details that make runs differ, and the trainer's are these:
#
# - it trains only parameters whose `requires_grad` is true, with `torch.optim.AdamW` and *no* weight decay
#   (torch's own default is 0.01);
# - before each step it sets the learning rate that the schedule has for it;
# - between backward and step it clips: if the norm of all gradients taken together is above 1, all are scaled
#   down to norm 1;
# - after the step it clears the gradients, because `backward()` adds to what is there.
#
# ### Exercise 3: the training loop
#
# > **20 minutes · ●●○**
# >
# > `model` is called as `model(input_ids=…, attention_mask=…)` and returns something with `.logits`.
# > `batches` is a list of dicts with the int64 tensors `input_ids`, `attention_mask` and `labels`, each of
# > shape (rows, length); `rates` is a list of as many learning rates, `betas` Adam's two numbers. Take one
# > step for each batch, as above. Return a list of floats, each batch's loss in the forward pass *before* its
# > step. The model is changed in place, which is the point. Two batches with the rates `[0.0, 0.1]` give two
# > losses, and the first step moves nothing.


# %% tags=["core"]
def train(model, batches: list[dict], rates: list[float], betas: tuple[float, float]) -> list[float]:
    ### BEGIN SOLUTION
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, betas=betas, weight_decay=0.0, fused=True)
    losses = []
    for batch, rate in zip(batches, rates, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = rate
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        loss = loss_of(logits, batch["labels"])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses
    ### END SOLUTION


exercises.train.check(train)

# %% tags=["core"]
# exercises.train.hint()
train_by = exercises.train.or_reference(train)

# %% [markdown]
# Now hold it against `SFTTrainer`: same model, same rows in the same order, three steps. The reloaded copy
# gives its adapter back and lends its base model. After the trainer's three steps the adapter is put back to
# where it began, and your loop has its turn. (`fused=True` in the solution is the trainer's default way to do
# AdamW, all in one kernel; without it the sums are rounded in another order, and the losses differ in the
# seventh digit.)

# %% tags=["core"]
settings = copy.copy(arguments)
settings.max_steps, settings.logging_steps, settings.gradient_accumulation_steps = 3, 1, 1
settings.save_strategy = "no"
torch.manual_seed(0)
spare = reloaded.unload()
three_steps = SFTTrainer(
    model=spare,
    args=settings,
    train_dataset=Dataset.from_list(tickets.as_prompt_completion(train_rows)),
    processing_class=tokenizer,
    peft_config=lora,
)
three_steps.remove_callback(PrinterCallback)
if profile.quantize:
    recipe.adapters_in_float32(three_steps.model)

# %% tags=["core", "nbval-ignore-output"]
learner = three_steps.model
start = {name: p.detach().clone() for name, p in learner.named_parameters() if p.requires_grad}
three_steps.train()
logged = [entry for entry in three_steps.state.log_history if "loss" in entry]
learner.load_state_dict(start, strict=False)  # the adapter as it was
batches = list(itertools.islice(three_steps.get_train_dataloader(), 3))
yours = train_by(learner, batches, [entry["learning_rate"] for entry in logged], (0.6, 0.95))

# %% tags=["core", "nbval-ignore-output"]
tolerance = 1e-4 if dtype == torch.float32 else 5e-2  # of the arithmetic
pairs = [(entry["learning_rate"], entry["loss"], loss) for entry, loss in zip(logged, yours, strict=True)]
assert all(abs(theirs - mine) < tolerance * theirs for _, theirs, mine in pairs)
lines = [[step, f"{rate:g}", f"{a:.4f}", f"{b:.4f}"] for step, (rate, a, b) in enumerate(pairs, start=1)]
Table(
    ["step", "learning rate", "SFTTrainer's loss", "yours"],
    lines,
    "Loss of the first three steps, nats a token",
)

# %% [markdown]
# Equal to four digits. So there is no secret in a trainer; what it adds is logging, saving, several devices,
# and years of mended mistakes. Note the first line: the warm-up begins at rate 0, so the first step moves
# nothing.
#
# ## The loss, and what it does not say
#
# Back to the long run.

# %% tags=["core", "nbval-ignore-output"]
steps, losses = run.losses()
title = f"The loss falls from {losses[0]:.1f} to {losses[-1]:.2f}, most of it at once"
alt = f"Training loss over {steps[-1]} steps, falling fast and then slowly to {losses[-1]:.2f}."
plots.show(figures.curves({"the run": (steps, losses)}, title), alt)

# %% [markdown]
# The steep start is the fixed part of the answer: brackets, keys, quotes. What is worth having, reading the
# message, comes in the slow part.
#
# ## Change one knob
#
# The learning rate is the setting that everybody asks about. What does a tenth of it do, 2e-4, the value for
# 7B? Everything else stays: first weights, rows, order, and the schedule of the whole run. To stay short,
# this run stops after 32 of the 256 steps, an eighth of the minutes above. So we compare the *first 32 steps*
# of two runs, and nothing more.
#
# > **Predict.** After 32 steps the run above had a loss of about 0.36 nats a token, averaged over its last
# > eight steps. What does a tenth of the learning rate have there?

# %% tags=["core"]
guess = None  # your guess, in nats a token

# %% tags=["core", "nbval-ignore-output"]
slower = copy.copy(arguments)
slower.learning_rate = arguments.learning_rate / 10  # the knob: change it, or another one
torch.manual_seed(0)
spare = learner.unload()
other = SFTTrainer(
    model=spare,
    args=slower,
    train_dataset=Dataset.from_list(tickets.as_prompt_completion(train_rows)),
    processing_class=tokenizer,
    peft_config=lora,
)
other.remove_callback(PrinterCallback)
if profile.quantize:
    recipe.adapters_in_float32(other.model)
other.add_callback(loop.StopAfter(32))
if profile.use_cpu:
    prefixes.share(other)
other_run = run_store.recorded(other, "a_tenth_of_the_rate")

# %% tags=["core", "nbval-ignore-output"]
other_steps, other_losses = other_run.losses()
count = len(other_steps)
predictions.compare(guess, other_losses[-1], unit="nats a token")
middle = count // 2
expect(
    f"at step {other_steps[middle]} a tenth of the rate has the larger loss",
    other_losses[middle] > losses[middle],
    f"{other_losses[middle]:.2f} against {losses[middle]:.2f} nats a token",
)
both = {f"learning rate {arguments.learning_rate:g}": (steps[:count], losses[:count])}
both[f"learning rate {slower.learning_rate:g}"] = (other_steps, other_losses)
title = "A tenth of the learning rate learns the form later"
alt = (
    f"Loss over the first steps of two runs. With the smaller rate it falls later, to {other_losses[-1]:.2f}."
)
plots.show(figures.curves(both, title), alt)

# %% [markdown]
# It starts late, and on our machine it arrives at the same place: 0.32 after 32 steps, where the run with the
# large rate had 0.36. Did it learn as much, then? Look at what it writes:

# %% tags=["core", "nbval-ignore-output"]
third = sets["production"][:3]
early = result_store.recorded(other.model, tokenizer, third, "generate", scoring.generate)
lines = [
    [short(row["text"]), short(reply), short(tickets.answer(row))]
    for row, reply in zip(third, early, strict=True)
]
Table(["production message", f"after {other_steps[-1]} steps", "right answer"], lines, "A tenth of the rate")

# %% [markdown]
# On our machine: perfect JSON, and an order id called "wknd". A third of a nat a token is the price of the
# form being nearly free and the content being guessed. A loss cannot tell you which of the two you have
# bought. Which rate is better in the end these 32 steps do not say: for that one would train both to the end,
# choose on validation rows, and repeat with other seeds.
#
# ## How good is it?
#
# Writing replies is slow, one pass of the model a token. [Forced scoring](../glossary.md#forced-scoring) asks
# another question in a single pass: give the model the *right* answer, token by token, and look at each place
# how likely it found the right next token, and whether that was its first choice. By hand, for a right answer
# of five tokens (numbers made up):
#
# | right token | its probability | the model's first choice | −ln p |
# |---|---:|---|---:|
# | `{"intent":"` | 1.00 | the same | 0.00 |
# | `exchange` | 0.30 | `change`, with 0.60 | 1.20 |
# | `","product":"` | 0.98 | the same | 0.02 |
# | `boots` | 0.80 | the same | 0.22 |
# | `"}` | 0.99 | the same | 0.01 |
#
# Three numbers come out of it. The sum 1.45 is the answer's [NLL](../glossary.md#nll), in nats. The intent's
# own NLL is 1.20, so we know *where* it is unsure. And the answer as a whole is wrong: writing freely, the
# model would have taken `change` at the second place. Had every right token been its first choice, then it
# would have written exactly this answer, since that is what greedy decoding does: forced exact match. Note
# what is forced. At the fourth place the model has `exchange` behind it, which it would not have written. So
# the NLL of late fields is that of a model whose earlier fields were right.
#
# ### Exercise 4: right or wrong
#
# > **10 minutes · ●●○**
# >
# > Where replies *are* written, somebody must judge them. `reply` is a string, `row` a dict with the keys
# > `intent`, `product`, `order_id`, `urgency` (and others). Return True if the reply is JSON for an object
# > with exactly these four keys and the row's values, else False. Blanks and the order of keys do not matter;
# > text around the JSON does, and so does a fifth key. null is `None` and not the text "None".


# %% tags=["core"]
def is_right(reply: str, row: dict) -> bool:
    ### BEGIN SOLUTION
    try:
        label = json.loads(reply)
    except ValueError:
        return False
    if not isinstance(label, dict) or set(label) != set(tickets.FIELDS):
        return False
    return all(label[field] == row[field] for field in tickets.FIELDS)
    ### END SOLUTION


exercises.is_right.check(is_right)

# %% tags=["core", "nbval-ignore-output"]
# exercises.is_right.hint()
reply_is_right = exercises.is_right.or_reference(is_right)
right = [sum(map(reply_is_right, replies, shown)) for replies in (before, after)]
print(f"of the {len(shown)} messages above: base {right[0]} right, tuned {right[1]}")

# %% [markdown]
# > **Predict.** What share of the production messages will the tuned model get entirely right?

# %% tags=["core"]
guess = None  # your guess, in percent

# %% tags=["core", "nbval-ignore-output"]
scores = {}
for name, rows in sets.items():
    with tuned.disable_adapter():  # the base model
        scores[name, "base"] = result_store.recorded(tuned, tokenizer, rows, "score", scoring.score)
    scores[name, "LoRA"] = result_store.recorded(tuned, tokenizer, rows, "score", scoring.score)

# %% tags=["core", "nbval-ignore-output"]
nll, lines = {}, []
for (name, which), result in scores.items():
    families = [row["family"] for row in sets[name]]
    mean, low, high = (100 * x for x in intervals.interval([s["exact"] for s in result], families))
    nll[name, which] = {f: sum(s["nll"][f] for s in result) / len(result) for f in tickets.FIELDS}
    found = [f"{value:.2f}" for value in nll[name, which].values()]
    lines.append([f"{name}, {which}", f"{mean:.0f} % [{low:.0f}, {high:.0f}]", *found])
predictions.compare(guess, mean, unit="%")  # production, LoRA
expect(
    "LoRA finds the right value of every field likelier than the base model does, on both sets",
    all(nll[name, "LoRA"][field] < nll[name, "base"][field] for name in sets for field in tickets.FIELDS),
)
Table(
    ["set and model", "exact [95 %]", *tickets.FIELDS],
    lines,
    "Live sample: exact match, and NLL in nats a value",
)

# %% [markdown]
# The brackets are 95 % intervals, from a [bootstrap](../glossary.md#bootstrap) that draws whole families,
# since rows of one family share a phrasing. They are as wide as a barn door: thirty messages say little.
#
# ## All rows (recorded)
#
# `lab.py experiment first_fine_tune` ran this recipe, scored all 600 + 200 rows with it and wrote a reply to
# each (with the base model: one row a family, and fewer replies). This is its record. It is *one* training
# run. Another seed would give somewhat other figures, and the intervals, which only resample test messages,
# do not show that.

# %% tags=["core"]
record = experiments.published("first_fine_tune")["cells"]
results = {cell["cell"]["model"].replace("lora", "LoRA"): cell["metrics"] for cell in record}
stamp = record[-1]["stamp"]
print("recorded", stamp["date"], "on", stamp["processor"], "with", stamp["threads"], "threads")


def recorded(split: str, which: str, measure: str) -> tuple[float, float, float]:
    """Mean and 95 % interval of "exact" or of a field's NLL, over families and rows."""
    rows = {row["id"]: {"exact": row["exact"], **row["nll"]} for row in results[which][split]}
    return comparisons.interval(rows, split, measure)


# %% tags=["core"]
exact = {(split, which): recorded(split, which, "exact") for split in comparisons.SETS for which in results}
lines = []
for (split, which), shares in exact.items():
    mean, low, high = (100 * share for share in shares)
    count = len(results[which][split])
    lines.append([f"{split}, {which}", count, f"{mean:.1f} %", f"[{low:.0f}, {high:.0f}]"])
Table(["set and model", "messages", "exact match, forced", "95 %"], lines, "All rows")

# %% tags=["core"]
sides = {split: exact[split, "LoRA"] for split in comparisons.SETS}
gap = sides["test_lookalike"][0] - sides["test_production"][0]
expect(
    "LoRA beats the base model on both sets", all(exact[s, "LoRA"][1] > exact[s, "base"][2] for s in sides)
)
expect(
    "production is harder than lookalike: the intervals do not overlap",
    sides["test_lookalike"][1] > sides["test_production"][2],
    f"{100 * gap:.0f} points apart",
)

# %% [markdown]
# From nothing to half and to a third. (The base model's interval is [0, 0] because a bootstrap cannot draw
# what it has not seen. With none right of 200, up to 3 / 200 = 1.5 % may be: the rule of three.) Which fields
# are hard? For that we look at the right value's NLL, field by field:

# %% tags=["core"]
by_field = {}
for split, which in exact:
    by_field[split, which] = {field: recorded(split, which, field) for field in tickets.FIELDS}
title = "Fine-tuning helps every field; on production, products stay hard"
means = {field: values[0] for field, values in by_field["test_production", "LoRA"].items()}
assert max(means, key=means.get) == "product"
plots.show(
    figures.fields(by_field, title),
    "Two panels, lookalike and production: NLL of each field with 95 % intervals. The base model's values "
    "lie between 4 and 9 nats, the tuned model's below 2; the product on production is the highest of these.",
)

# %% [markdown]
# ### Exercise 5: F1
#
# > **15 minutes · ●●○**
# >
# > NLL is a model's own measure; rules have none. [F1](../glossary.md#f1) judges any list of values. Where a
# > field is often null, whoever always says null looks accurate, so F1 counts values only, and null is no
# > value: $F_1 = 2 \cdot \mathrm{right} / (\mathrm{predicted} + \mathrm{expected})$, where *right* counts
# > rows in which a value was predicted and is the expected one.
# >
# > `predicted` and `expected` are lists of equal length of strings and None. Return a float. For
# > `["tent", None, "rope"]` and `["tent", "boots", None]` it is 2 · 1 / (2 + 2) = 0.5. Where neither list has
# > any value, nothing was claimed and nothing due: return `float("nan")`.


# %% tags=["core"]
def f1(predicted: list, expected: list) -> float:
    ### BEGIN SOLUTION
    right = sum(e is not None and p == e for p, e in zip(predicted, expected, strict=True))
    values = sum(p is not None for p in predicted) + sum(e is not None for e in expected)
    return 2 * right / values if values else float("nan")
    ### END SOLUTION


exercises.f1.check(f1)

# %% tags=["core"]
# exercises.f1.hint()
f1_of = exercises.f1.or_reference(f1)

# %% [markdown]
# The recorded replies as texts, judged with your two functions. A reply that is no valid JSON claims nothing.

# %% tags=["core"]
row_of = {row["id"]: row for split in comparisons.SETS for row in tickets.load(split)}
lines, share = [], {}
for split, which in exact:
    written = [(row_of[r["id"]], r["reply"]) for r in results[which][split] if r["reply"] is not None]
    labels_read = [tickets.parse(reply) or dict.fromkeys(tickets.FIELDS) for _, reply in written]
    share[split, which] = metrics.valid_json([reply for _, reply in written]).mean()
    count = sum(reply_is_right(reply, row) for row, reply in written)
    values = [
        f1_of([label[f] for label in labels_read], [row[f] for row, _ in written]) for f in tickets.FIELDS
    ]
    name, valid = f"{split.removeprefix('test_')}, {which}", f"{100 * share[split, which]:.1f} %"
    lines.append([name, valid, f"{count} of {len(written)}", *(f"{100 * value:.0f} %" for value in values)])
expect(
    "at least 98 % of the tuned model's replies are valid JSON", all(share[s, "LoRA"] >= 0.98 for s in sides)
)
Table(["set and model", "valid", "right", *tickets.FIELDS], lines, "What was written; F1 by field")

# %% [markdown]
# ## Was it worth it?
#
# Notebook 00 recorded what can be had without fine-tuning. Its rows are one of each lookalike family and all
# of production; here is every method on these same rows. `rules` learned from all 1,200 training rows;
# `rules_few` from the 512 that LoRA had.

# %% tags=["core"]
others_record = experiments.published("baselines")
methods = comparisons.methods(others_record)
forced, shares = {}, {}
for split in sides:
    forced[split] = {row["id"]: {"exact": row["exact"]} for row in results["LoRA"][split]}
    same_rows = {i: forced[split][i] for i in methods["rules"][split]}
    everyone = {"LoRA (forced)": same_rows} | {name: found[split] for name, found in methods.items()}
    shares[split] = {}
    for name, rows in everyone.items():
        shares[split][name] = [100 * share for share in comparisons.interval(rows, split)]
title = "LoRA is ahead of every prompt, and on production of the rules too"
alt = f"{title}: exact match of LoRA, rules and prompts with 95 % intervals, both sets on one axis."
plots.show(figures.forest(shares, title), alt)

# %% [markdown]
# A picture of twenty intervals tempts one to pick the nicest pair. So we name the comparison before we
# compute it: *LoRA against the rules from all rows*, the best that the shop can have without a language
# model, by forced exact match, paired, on either set. The others are for understanding.

# %% tags=["core"]
for split in sides:
    ours = {i: forced[split][i]["exact"] for i in methods["rules"][split]}
    theirs = {i: row["exact"] for i, row in methods["rules"][split].items()}
    only = [sum(a[i] and not b[i] for i in a) for a, b in ((ours, theirs), (theirs, ours))]
    print(f"{split}: of {len(ours)} messages only LoRA right {only[0]}, only the rules {only[1]}")

# %% [markdown]
# **What could such a test have seen?** On the lookalike set one is right and the other wrong on 39 and 27
# messages of 144. On the rest they do alike, which says nothing. If the two were equally good, each of these
# 66 would be a coin's toss, and the difference of heads and tails of 66 tosses scatters by $\sqrt{66} = 8$
# messages, which are 5.6 points of 144. An interval of 95 % reaches 1.96 times that to either side, 11
# points. To be found in four cases of five, a true difference must lie still further out, at 1.96 + 0.84 =
# 2.8 times: 16 points. That is the *detectable difference*. It belongs to the test and not to the methods: a
# smaller advantage may be real, and this test would often miss it, one of 11 points every second time.

# %% tags=["core"]
prompts = [name for name in methods if name.split(" ")[0] in comparisons.PROMPTED]
paired, lines = {}, []
for split in sides:
    for rival in ("rules", "rules_few", comparisons.best(others_record, prompts, split)):
        pair = forced[split], methods[rival][split], split
        paired[split, rival] = mean, low, high = [100 * x for x in comparisons.paired(*pair)]
        least = f"{100 * comparisons.detectable(*pair):.0f} points"
        verdict = "LoRA ahead" if low > 0 else "LoRA behind" if high < 0 else "open"
        lines.append([split, rival, f"{mean:+.0f} [{low:+.0f}, {high:+.0f}]", verdict, least])
Table(["set", "LoRA minus", "points [95 %]", "verdict", "could have seen"], lines, "Exact match, paired")

# %% tags=["core"]
for split in sides:
    for rival in [rival for s, rival in paired if s == split and rival != "rules"]:
        expect(f"LoRA beats {rival} on {split}", paired[split, rival][1] > 0)
expect("on production LoRA beats the rules from all rows", paired["test_production", "rules"][1] > 0)
low, high = paired["test_lookalike", "rules"][1:]
expect("on lookalike it is open", low <= 0 <= high)

# %% [markdown]
# **The verdict**: on production messages the fine-tune is 14 points ahead of the best rules, with less than
# half of their training rows, and that is more than chance. On messages like the training rows it is 8 points
# ahead, and 16 would have been needed to be seen reliably: open. It is the verdict on this model, this task
# and one seed.
#
# Beating the *prompts* is easy for a model that prompts so badly, and a larger one prompts far better. The
# rules are the rival to take seriously, and they cost seconds. Make this comparison before you rent anything.
#
# ## What still fails
#
# The production messages whose right answer the tuned model found least likely:

# %% tags=["core"]
worst = sorted(results["LoRA"]["test_production"], key=lambda r: -r["nll"]["all"])[:6]
lines = [
    [short(row_of[r["id"]]["text"]), short(r["reply"]), short(tickets.answer(row_of[r["id"]]))] for r in worst
]
assert all(tickets.parse(r["reply"])["product"] != row_of[r["id"]]["product"] for r in worst)
Table(["message", "wrote", "right answer"], lines, "The six largest NLL of production")

# %% [markdown]
# In all six the product is wrong: a name in quotes, two things in one mail, pegs, which the model takes for
# no product. (One or two of the labels could be disputed as well.) Reading twenty such rows says more about
# what to do next than any average.
#
# ## Measured claims
#
# Three sentences of the guides that this notebook can judge, each in its own scope. The rest is on the claims
# page (`python3 lab.py claims`).
#
# > **Guide 004 says**, of its module, which fine-tunes an 8B model: "You need a real GPU for this module. CPU
# > fine-tuning is not a thing."

# %% tags=["core", "nbval-ignore-output", "claim-H21"]
times = 8.03e9 / (total - trainable)  # the module's Llama-3.1-8B
minutes = run.seconds / 60
print(f"{len(train_rows)} rows, {tokens:,} tokens: {minutes:.1f} minutes on the {profile.device}")
print(f"8,030M / {(total - trainable) / 1e6:.0f}M parameters = {times:.0f} times the work")
print(f"{times:.0f} x {minutes:.1f} minutes = {times * minutes / 60:.1f} hours, and 4 x 8 = 32 GB of weights")
print("imprecise: sound advice for the module's 8B; a model of this size learns on a processor in minutes")

# %% [markdown]
# > **Guides 001 and 002 say**, of LoRA in general: B starts at zero, so (in the words of 001) "the model
# > begins from the pretrained weights with no perturbation".

# %% tags=["core", "claim-A7"]
untrained = get_peft_model(other.model.unload(), lora).eval()
ids = torch.tensor([example.ids], device=untrained.device)
with torch.no_grad():
    with_adapter = untrained(input_ids=ids).logits
    with untrained.disable_adapter():
        without = untrained(input_ids=ids).logits
print("largest difference of", f"{without.numel():,} logits:", (with_adapter - without).abs().max().item())
assert torch.equal(with_adapter, without)
print("holds, bit for bit")

# %% [markdown]
# > **Guide 004 says**, of "the first fine-tune everyone runs": "Eval on the training set looks great. Eval on
# > real data is worse than the base model."

# %% tags=["core", "claim-production"]
for split in sides:
    found = {which: [row["exact"] for row in results[which][split]] for which in ("base", "LoRA")}
    counts = [
        f"{which} {sum(right)} of {len(right)} = {100 * sum(right) / len(right):.1f} %"
        for which, right in found.items()
    ]
    print(f"{split}: {', '.join(counts)}")
print(
    "not reproduced here: lower than on messages like the training rows, and far better than the base model"
)

# %% [markdown]
# ## Checkpoint

# %% tags=["core"]
quiz.ask("01_first_fine_tune")

# %% [markdown]
# ## Optional: the same beginning, once
#
# > **Optional · 5 minutes.** Nothing later needs this section.
#
# Every row begins with the same system prompt, and a padded batch runs it for each row anew. But a token only
# looks back. So the keys and values of the prompt are the same in every row, and notebook 00 keeps them in a
# [cache](../glossary.md#kv-cache) to score prompts. Training can share them too. Prompt and rests become one
# sequence:
#
#     prompt | rest of row 1 | rest of row 2
#
# with an attention mask that lets row 2 see the prompt and itself and not row 1, and with positions that
# count on from the prompt in either row. Loss and gradients stay the same, fewer tokens are run, and there is
# no padding. On a processor time goes with the tokens. (A GPU would sooner have plain rows for its fused
# attention, so there the trainer stays as it is.)

# %% tags=["optional"]
two = [trainer.train_dataset[i] for i in range(2)]
ways = {"padded": pad_rows(two), "as trained": trainer.data_collator(two)}
lines, found = [], []
for name, batch in ways.items():
    batch = {key: tensor.to(tuned.device) for key, tensor in batch.items()}
    with torch.no_grad():
        found.append(trainer.compute_loss(tuned, dict(batch)).item())
    lines.append([name, batch["input_ids"].numel()])
assert abs(found[0] - found[1]) < (1e-4 if dtype == torch.float32 else 2e-2)
print("the same loss")
Table(["batch of two rows", "tokens run"], lines)

# %% [markdown]
# ## Optional: forced or written?
#
# > **Optional · 10 minutes.** Nothing later needs this section.
#
# Is forced exact match what the model writes? The record has both for the same messages.

# %% tags=["optional"]
as_written, judged, lines = {}, [], []
for split in sides:
    replies = {r["id"]: r["reply"] for r in results["LoRA"][split]}
    as_written[split] = {i: {"exact": reply_is_right(reply, row_of[i])} for i, reply in replies.items()}
    pairs = [(as_written[split][i]["exact"], forced[split][i]["exact"]) for i in replies]
    judged += [(row_of[i], *pair) for i, pair in zip(replies, pairs, strict=True)]
    lines.append([split, *map(sum, zip(*pairs, strict=True))])
expect("all that is right as forced is right as written", all(text >= tokens for _, text, tokens in judged))
display(Table(["set", "right as written", "right as forced"], lines))
print(", ".join(sorted(row["product"] for row, text, tokens in judged if text > tokens)))

# %% [markdown]
# On lookalike some replies are right that the forced measure calls wrong, and the names of their products
# look odd. A tokenizer may cut a name otherwise after the quote in `":"Juniper` than after the blank in a
# message:

# %% tags=["optional"]
of_record = AutoTokenizer.from_pretrained(base_model.bundled_folder())


def cuts(product: str) -> tuple[list[str], list[str]]:
    """The product's tokens after a blank (without its mark, the first character) and after a quote."""
    after_blank = of_record.tokenize(" " + product)
    return [after_blank[0][1:], *after_blank[1:]], of_record.tokenize('":"' + product)[1:]


print(*cuts("Juniper tent"))
lines = []
named = [(cuts(row["product"]), tokens) for row, text, tokens in judged if text and row["product"]]
for what, alike in (("alike", True), ("otherwise", False)):
    group = [tokens for (blank, quote), tokens in named if (blank == quote) == alike]
    lines.append([what, len(group), sum(group)])
Table(["product is cut", "right as written", "of these right as forced"], lines)

# %% [markdown]
# The forced measure asks for the tokens that the tokenizer makes of the right answer. The model may copy the
# pieces that it saw in the message instead: other tokens, the same text, a right reply. So forced exact match
# is a *lower bound*, here two points low on lookalike and none on production. It needs no writing, gives
# likelihoods by field besides and is the same for every model, so the course goes on using it. But it is not
# quite what a user sees, and the one open comparison hangs on it:

# %% tags=["optional"]
mean, low, high = (
    100 * x
    for x in comparisons.paired(
        as_written["test_lookalike"], methods["rules"]["test_lookalike"], "test_lookalike"
    )
)
print(f"lookalike, as written, LoRA minus rules: {mean:+.0f} points [{low:+.1f}, {high:+.1f}]")
expect("as written, the interval on lookalike clears zero", low > 0)

# %% [markdown]
# Just so. Rules are judged by the text they return, which speaks for this measure; the other one was fixed
# before anybody had read these replies, which speaks for caution. When a verdict turns on such a choice, it
# is open.
#
# ## On a rented GPU
#
# Written for 16, 24 and 80 GB cards, not yet run there. The same cells choose Qwen2.5-7B-Instruct there, in
# 4-bit on cards up to 24 GB, and train on all 1,200 rows. What is worth re-running: the two exact-match
# figures. Expect a larger model to do better on production; measure by how much.
