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
# After this notebook you will be able to
#
# - say which tokens of a chat a model is trained on, and compute its loss by hand;
# - fine-tune a chat model with LoRA, using PEFT and TRL as you would at work;
# - tell how good the result is, with an interval you can defend, and where it still fails.
#
# **Needs** nothing but this course: the model, SmolLM2-135M-Instruct, came with the set-up. A GPU is used
# if there is one. **Minutes** to run all cells: see the table in the README; `python3 lab.py doctor` says
# what to multiply them by on your machine.

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
upstream.keep_freed_memory()  # a faster allocator setting for training on a CPU
upstream.score_only_labels()  # TRL on a CPU would compute logits that the loss then ignores

# %% tags=["core"]
import json
import math

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, PrinterCallback
from trl import SFTConfig, SFTTrainer

from labsupport.baselines import comparisons
from labsupport.core import files
from labsupport.evaluation import experiments, intervals, metrics, result_store, scoring
from labsupport.models import base_model, chat
from labsupport.teaching import quiz
from labsupport.core import plots, profiles
from labsupport.tasks import tickets
from labsupport.teaching import predictions
from labsupport.training import prefixes, run_store
from labsupport.teaching.claims import expect
from labsupport.notebooks.nb01_first_fine_tune import exercises

# %% tags=["core", "nbval-ignore-output"]
profile = profiles.current()
torch.set_num_threads(profile.threads)  # sums in another order round differently
print("profile:", profile.name, "| base model:", profile.base_model, "|", profile.dtype)

# %% [markdown]
# ## The task
#
# A customer of an outdoor shop writes; the shop's software needs one line of JSON: what the customer wants
# (`intent`, one of eight values), which `product` and which `order_id` it is about (or null), and how urgent
# it is. Success can be checked exactly, and a small model cannot do it by prompting alone.
#
# Training and test messages come from hand-written *families*, one way of phrasing each. Every family of
# the test set `test_lookalike` is absent from training. `test_production` holds 200 messages written one by
# one, without templates. How each row came to be stands in `data/tickets/README.md`.

# %% tags=["core"]
train_rows = tickets.load("train")[: profile.train_rows]
for row in train_rows[:3]:
    print(row["text"], "\n   ->", tickets.answer(row), "\n")
print(len(train_rows), "training rows of", len({row["family"] for row in train_rows}), "families")

# %% [markdown]
# The model is told the task, with every allowed value, in a *system prompt*:

# %% tags=["core"]
print(tickets.SYSTEM_PROMPT)

# %% [markdown]
# ## What the untuned model does
#
# `base` is a folder (on a GPU one that was fetched from the Hugging Face hub, at a fixed revision). The
# number format comes from the profile: bfloat16 where the processor is fast at it, float32 elsewhere, and
# 4-bit NF4 on GPUs up to 24 GB (notebook 04 explains that).

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
tokenizer = AutoTokenizer.from_pretrained(base)
model = AutoModelForCausalLM.from_pretrained(
    base,
    dtype=dtype,
    quantization_config=quantization,
    attn_implementation=profile.attention,
    device_map=profile.device,
)

# %% tags=["core", "nbval-ignore-output"]
for reply in scoring.generate(model, tokenizer, train_rows[:3]):
    print(repr(reply[:160]))

# %% [markdown]
# ## What the model sees: tokens
#
# The tokenizer's *chat template* turns messages into one string with special tokens: `<|im_start|>` opens a
# turn and `<|im_end|>` ends it. We want the model to learn to write the answer and then to stop. It should
# not learn to write the customer's message.

# %% tags=["core"]
example = chat.encode_example(tokenizer, train_rows[0])
print(tokenizer.decode(example.ids))
print(len(example.ids), "tokens, of them prompt:", example.prompt_length)

# %% [markdown]
# ### Exercise 1: the labels
#
# A *label* is the token that the loss compares with. PyTorch's cross-entropy leaves out positions whose
# label is -100. Return the labels of one example: -100 for the prompt, the ids themselves for the rest.


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

# %% [markdown]
# Four tokens in five cost time and teach nothing directly: the price of telling the model its task in every
# example. If this share is ever 0, the template or the masking is broken; look at it before each run.
#
# ### Exercise 2: the loss
#
# The loss is the mean negative log-probability, in nats, of the tokens that are learned:
#
# $$L = -\frac{1}{|S|}\sum_{t \in S} \log p(x_t \mid x_{<t})$$
#
# where $S$ holds the positions whose label is not -100. Mind one thing: the logits at position $t$ predict
# token $t+1$.


# %% tags=["core"]
def answer_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    # logits: (batch, length, vocabulary); labels: (batch, length)
    ### BEGIN SOLUTION
    predictions = logits[:, :-1].flatten(0, 1).float()
    return torch.nn.functional.cross_entropy(predictions, labels[:, 1:].flatten())
    ### END SOLUTION


exercises.answer_loss.check(answer_loss)

# %% tags=["core"]
# exercises.answer_loss.hint()
loss_of = exercises.answer_loss.or_reference(answer_loss)

# %% [markdown]
# ## Low-rank adapters
#
# LoRA freezes the model and adds to each weight matrix $W$ a product of two thin ones,
#
# $$W' = W + \frac{\alpha}{r} B A$$
#
# with $A$ of shape $r \times \mathrm{in}$ and $B$ of shape $\mathrm{out} \times r$.
# Only $A$ and $B$ are trained. $r$ is the *rank*, *alpha* a scale. $B$ starts at zero, so the model
# starts exactly where it was. Notebook 02 takes this apart; here you use it. The guides say LoRA trains
# 0.1 to 1 % of a model's parameters. What is your guess for rank 16 on every linear layer of this model?

# %% tags=["core"]
guess = None  # your guess, in percent

# %% tags=["core"]
lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
torch.manual_seed(0)  # A starts at random
hand_made = get_peft_model(model, lora)
trainable, total = hand_made.get_nb_trainable_parameters()
print(f"{trainable:,} of {total:,} parameters are trained")
predictions.compare(guess, 100 * trainable / total, unit="%")

# %% [markdown]
# The same rank is a much larger share of a small model than of a 7B one: a matrix of width $n$ has $n^2$
# entries and its adapter only $2rn$.
#
# ## The training loop, by hand
#
# Forward, loss, backward, step: this is all a trainer does. Two rows, three steps.

# %% tags=["core"]
batch = encoded[:2]
longest = max(len(e.ids) for e in batch)
pad = tokenizer.pad_token_id
ids = torch.tensor([e.ids + [pad] * (longest - len(e.ids)) for e in batch]).to(model.device)
mask = torch.tensor([[1] * len(e.ids) + [0] * (longest - len(e.ids)) for e in batch]).to(model.device)
wanted = torch.tensor(
    [labels_of(e.ids, e.prompt_length) + [-100] * (longest - len(e.ids)) for e in batch]
).to(model.device)

# %% tags=["core", "nbval-ignore-output"]
adapters = [p for p in hand_made.parameters() if p.requires_grad]
optimizer = torch.optim.AdamW(adapters, lr=1e-3)
hand_made.train()
losses = []
for _step in range(3):
    loss = loss_of(hand_made(input_ids=ids, attention_mask=mask).logits, wanted)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    losses.append(loss.item())
print("loss, nats a token:", [round(value, 2) for value in losses])
assert losses[-1] < losses[0]

# %% [markdown]
# ## The same with TRL
#
# At work you would use a trainer: it also batches, schedules the learning rate, clips gradients, logs and
# saves. We take the used adapter off and let the trainer put a fresh one on. The rows are in TRL's
# *prompt-completion* form, for which it masks the prompt by itself.

# %% tags=["core"]
model = hand_made.unload()  # the base model, without the adapter
arguments = SFTConfig(
    output_dir=str(files.RUNS / "trainer"),
    learning_rate=profile.learning_rate,
    num_train_epochs=1,
    max_steps=profile.max_steps,  # -1: no limit
    lr_scheduler_type="cosine",
    warmup_steps=0.1,  # below 1: a share of all steps
    adam_beta1=0.6,  # Adam's memory of gradients: 2.5 steps instead of 10, for a short run
    adam_beta2=0.95,  # and of their squares: 20 steps instead of 1,000
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
pad_rows = trainer.data_collator  # makes a batch of rows: pads them to the longest

# %% [markdown]
# Is the trainer's loss the one you wrote? The same two rows, before any training:

# %% tags=["core"]
theirs = pad_rows([trainer.train_dataset[i] for i in range(2)])
theirs = {name: tensor.to(model.device) for name, tensor in theirs.items()}
assert torch.equal(theirs["input_ids"], ids) and torch.equal(theirs["labels"], wanted)
with torch.no_grad():
    by_trainer = trainer.compute_loss(trainer.model, dict(theirs)).item()
    by_hand = loss_of(trainer.model(input_ids=ids, attention_mask=mask).logits, wanted).item()
tolerance = 1e-5 if dtype == torch.float32 else 1e-2  # of the arithmetic
assert abs(by_trainer - by_hand) < tolerance * by_hand
print("same tokens, same labels, same loss")

# %% [markdown]
# And does LoRA start exactly at the base model, as the paper says?

# %% tags=["core"]
with torch.no_grad():
    with_adapter = trainer.model(input_ids=ids, attention_mask=mask).logits
    with trainer.model.disable_adapter():
        without = trainer.model(input_ids=ids, attention_mask=mask).logits
print("logits identical with and without the untrained adapter:", torch.equal(with_adapter, without))
assert torch.equal(with_adapter, without)

# %% [markdown]
# ## The same beginning, once
#
# Every row begins with the same system prompt, and a padded batch runs it for each row anew. A token only
# looks back, so the prompt's keys and values are the same in every row: notebook 00 keeps them in a cache to
# score prompts. Training can share them too. The prompt and the rest of each row become one sequence, with an
# attention mask that lets a row see the prompt and itself. Loss and gradients stay the same, with fewer
# tokens to run and no padding. On a CPU time goes with the tokens. (A GPU would sooner have plain rows for
# its fused attention; there the trainer stays as it is.)

# %% tags=["core"]
if profile.use_cpu:
    prefixes.share(trainer)
shared = trainer.data_collator([trainer.train_dataset[i] for i in range(2)])
shared = {name: tensor.to(model.device) for name, tensor in shared.items()}
print("tokens run for two rows:", theirs["input_ids"].numel(), "padded,", shared["input_ids"].numel(), "now")
with torch.no_grad():
    assert abs(trainer.compute_loss(trainer.model, shared).item() - by_hand) < tolerance * by_hand
print("the same loss")

# %% [markdown]
# ## Train
#
# `run_store.recorded` trains once and keeps the result under a fingerprint of everything that decides it:
# rows, weights, arguments, code, versions. Run the cell again and it loads; kill it half-way and it resumes.
# (`trainer.train()` alone would do the training.)

# %% tags=["core", "nbval-ignore-output"]
run = run_store.recorded(trainer, "first_fine_tune")
tuned = trainer.model

# %% tags=["core", "nbval-ignore-output"]
steps, losses = run.losses()
fig, axes = plots.figure()
axes.plot(steps, losses, color=plots.BLUE, marker="o", markersize=3)
axes.set(xlabel="optimizer step", ylabel="training loss (nats a token)", ylim=(0, None))
axes.set_title(f"The loss falls from {losses[0]:.1f} to {losses[-1]:.2f}, most of it at once")
plots.show(fig, f"Training loss over {steps[-1]} steps, falling fast and then slowly to {losses[-1]:.2f}.")

# %% [markdown]
# The steep start is the fixed part of the answer: brackets, keys, quotes. What is worth having, reading the
# message, comes in the slow part. A loss curve cannot tell you how good the model is on messages it has
# not seen.
#
# ## How good is it?
#
# Two sets: `lookalike` (phrasings that training never used, from the same generator) and `production`. On
# the live run we take a sample that your machine can score in a few minutes.

# %% tags=["core"]
lookalike = tickets.one_of_each_family(tickets.load("test_lookalike"))
sets = {
    "lookalike": lookalike[:: max(1, len(lookalike) // profile.eval_families)],
    "production": tickets.load("test_production")[: profile.eval_rows],
}
print({name: len(rows) for name, rows in sets.items()})

# %% [markdown]
# ### Exercise 3: right or wrong
#
# A reply is right if a program can use it and all four fields are right. `row` has the keys `intent`,
# `product`, `order_id`, `urgency`; a reply must have exactly these.


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

# %% tags=["core"]
# exercises.is_right.hint()
reply_is_right = exercises.is_right.or_reference(is_right)

# %% [markdown]
# ### Exercise 4: F1
#
# Where a field is often null, a model that always says null looks accurate. F1 counts values only:
# $F_1 = 2 \cdot \mathrm{right} / (\mathrm{predicted} + \mathrm{expected})$, where null is no value.


# %% tags=["core"]
def f1(predicted: list, expected: list) -> float:
    ### BEGIN SOLUTION
    right = sum(e is not None and p == e for p, e in zip(predicted, expected, strict=True))
    values = sum(p is not None for p in predicted) + sum(e is not None for e in expected)
    return 2 * right / values
    ### END SOLUTION


exercises.f1.check(f1)

# %% tags=["core"]
# exercises.f1.hint()
f1_of = exercises.f1.or_reference(f1)

# %% [markdown]
# ### Scores
#
# The cheapest honest measure needs no generation: show the model the right answer and ask how likely it
# found each token. If every token was its first choice, it would have written exactly this answer. That
# gives exact match (*forced*), and the negative log-likelihood (NLL) by field besides. Now predict: what
# share of production messages will the tuned model get entirely right?

# %% tags=["core"]
guess = None  # your guess, in percent

# %% tags=["core", "nbval-ignore-output"]
scores = {}
for name, rows in sets.items():
    with tuned.disable_adapter():  # the base model
        scores[name, "base"] = result_store.recorded(tuned, tokenizer, rows, "score", scoring.score)
    scores[name, "LoRA"] = result_store.recorded(tuned, tokenizer, rows, "score", scoring.score)

# %% tags=["core", "nbval-ignore-output"]
nll = {}
for (name, which), result in scores.items():
    families = [row["family"] for row in sets[name]]
    mean, low, high = intervals.interval([s["exact"] for s in result], families)
    nll[name, which] = {f: sum(s["nll"][f] for s in result) / len(result) for f in tickets.FIELDS}
    print(
        f"{name:10s} {which:4s}  exact {100 * mean:3.0f} % [{100 * low:.0f}, {100 * high:.0f}]  NLL", end=""
    )
    print("".join(f"  {field} {value:.2f}" for field, value in nll[name, which].items()))
expect(
    "LoRA finds the right value of every field likelier than the base model does, on both sets",
    all(nll[name, "LoRA"][field] < nll[name, "base"][field] for name in sets for field in tickets.FIELDS),
)
production = [s["exact"] for s in scores["production", "LoRA"]]
predictions.compare(guess, 100 * sum(production) / len(production), unit="%")

# %% [markdown]
# The brackets are 95 % intervals. Rows of one family share a phrasing and are not independent evidence, so
# the bootstrap behind them draws whole families. NLL is in nats a field: 0 would be certainty, and
# guessing one of eight intents blindly costs $\ln 8 = 2.08$.
#
# What does the model write? Generation is slow, so for fewer rows:

# %% tags=["core", "nbval-ignore-output"]
some = {name: rows[: profile.generate_rows] for name, rows in sets.items()}
both = [row for rows in some.values() for row in rows]  # at once: twelve replies take little longer than six
with tuned.disable_adapter():
    texts = {"base": result_store.recorded(tuned, tokenizer, both, "generate", scoring.generate)}
texts["LoRA"] = result_store.recorded(tuned, tokenizer, both, "generate", scoring.generate)
replies, size = {}, len(some["lookalike"])
for which, both_sets in texts.items():
    replies["lookalike", which], replies["production", which] = both_sets[:size], both_sets[size:]

# %% tags=["core", "nbval-ignore-output"]
valid = {}
for (name, which), written in replies.items():
    rows = sets[name][: len(written)]
    right = sum(reply_is_right(reply, row) for reply, row in zip(written, rows, strict=True))
    labels_read = [tickets.parse(reply) or dict.fromkeys(tickets.FIELDS) for reply in written]
    values = {f: f1_of([label[f] for label in labels_read], [row[f] for row in rows]) for f in tickets.FIELDS}
    valid[name, which] = int(metrics.valid_json(written).sum())
    counts = f"valid JSON {valid[name, which]}/{len(rows)}  right {right}/{len(rows)}"
    print(
        f"{name:10s} {which:4s}  {counts}  F1"
        + "".join(f"  {field} {value:.2f}" for field, value in values.items())
    )
expect(
    "LoRA writes valid JSON more often than the base model, on both sets",
    all(valid[name, "LoRA"] > valid[name, "base"] for name in sets),
)

# %% [markdown]
# ## All rows (recorded)
#
# A sample is a weak witness. `lab.py experiment first_fine_tune` ran this recipe, scored all 600 + 200 rows
# with it and wrote a reply to each (with the base model: one row a family, and fewer replies). Here is its
# record, with the machine it ran on. It is one training run: another seed would give somewhat other figures,
# and the intervals, which only resample test messages, do not show that.

# %% tags=["core"]
record = experiments.published("first_fine_tune")["cells"]
stamp = record[-1]["stamp"]
print("recorded", stamp["date"], "on", stamp["processor"], "with", stamp["threads"], "threads")
print("formats:", {cell["metrics"]["dtype"] for cell in record})


# %% tags=["core"]
def recorded_interval(split: str, which: str, measure) -> tuple[float, float, float]:
    """Mean and 95 % interval of measure(row result) over seeds, families and rows."""
    family = {row["id"]: row["family"] for row in tickets.load(split)}
    values, families, seeds = [], [], []
    for cell in record:
        if cell["cell"]["model"] == which:
            for result in cell["metrics"][split]:
                values.append(measure(result))
                families.append(family[result["id"]])
                seeds.append(cell["cell"]["seed"])
    return intervals.interval(values, families, seeds)


# %% tags=["core"]
table = {}
for split in ("test_lookalike", "test_production"):
    for which in ("base", "lora"):
        table[split, which] = recorded_interval(split, which, lambda result: result["exact"])
        mean, low, high = (100 * value for value in table[split, which])
        print(f"{split:16s} {which:5s} exact match {mean:3.0f} % [{low:.0f}, {high:.0f}]")

# %% [markdown]
# The replies are recorded too. F1 by field, with intervals over families as before; and is forced exact match
# what the model writes?

# %% tags=["core"]
row_of = {row["id"]: row for split in comparisons.SETS for row in tickets.load(split)}
forced, as_written, valid_share = {}, {}, {}  # of each set and model, for the rows with a reply
for split in comparisons.SETS:
    for cell in record:
        key = split, cell["cell"]["model"]
        results = [result for result in cell["metrics"][split] if result["reply"] is not None]
        rows, written = [row_of[r["id"]] for r in results], [r["reply"] for r in results]
        forced[key] = {r["id"]: r["exact"] for r in results}
        as_written[key] = {r["id"]: reply_is_right(r["reply"], row_of[r["id"]]) for r in results}
        valid_share[key] = metrics.valid_json(written).mean()
        print(*key, f"{len(rows)} replies, valid JSON {100 * valid_share[key]:.1f} %; ", end="")
        print(f"right as written {sum(as_written[key].values())}, forced {sum(forced[key].values())}")
        print("   F1 in %:", end="")
        for field, found in metrics.field_f1(rows, written).items():
            mean, low, high = (100 * value for value in found)
            print(f"  {field} {mean:.0f} [{low:.0f}, {high:.0f}]", end="")
        print()
lowest = min(share for (split, which), share in valid_share.items() if which == "lora")
expect("at least 98 % of the tuned model's replies are valid JSON, on both sets", lowest >= 0.98)

# %% [markdown]
# On lookalike some replies are right that the forced measure calls wrong. What do these have in common?

# %% tags=["core"]
judged = [(row_of[i], text, forced[key][i]) for key in forced for i, text in as_written[key].items()]
expect("all that is right as forced is right as written", all(text >= tokens for _, text, tokens in judged))
print(", ".join(sorted(row["product"] for row, text, tokens in judged if text > tokens)))

# %% [markdown]
# A tokenizer may cut a name otherwise after the quote in `":"Juniper` than after the space in a message:

# %% tags=["core"]
of_record = AutoTokenizer.from_pretrained(base_model.bundled_folder())


def cuts(product: str) -> tuple[list[str], list[str]]:
    """The product's tokens after a space (without its mark, the first character) and after a quote."""
    after_space = of_record.tokenize(" " + product)
    return [after_space[0][1:], *after_space[1:]], of_record.tokenize('":"' + product)[1:]


print(*cuts("Juniper tent"))
right = [(cuts(row["product"]), tokens) for row, text, tokens in judged if text and row["product"]]
for what, alike in (("alike", True), ("otherwise", False)):
    group = [tokens for (space, quote), tokens in right if (space == quote) == alike]
    print(f"right as written, product cut {what}: {len(group)} replies, forced right {sum(group)}")

# %% [markdown]
# The forced measure asks for the tokens that the tokenizer makes of the right answer. The model may copy the
# pieces it saw in the message instead: other tokens, the same text, a right reply. So forced exact match is
# a *lower bound*, here two points low on lookalike and none on production. It needs no writing, gives
# likelihoods by field besides and is the same for every model, so the course goes on using it; but it is not
# quite what a user sees.

# %% tags=["core"]
fig, panels = plots.figure(columns=2, sharey=True)
for axes, split in zip(panels, ("test_lookalike", "test_production"), strict=True):
    for shift, which, colour in ((-0.15, "base", plots.GREY), (0.15, "lora", plots.BLUE)):
        for place, field in enumerate(tickets.FIELDS):
            mean, low, high = recorded_interval(split, which, lambda r, f=field: r["nll"][f])
            label = which if place == 0 else None
            axes.plot([low, high], [place + shift] * 2, color=colour)
            axes.plot(mean, place + shift, "o", color=colour, label=label)
    axes.set(xlabel="NLL of the right value (nats)", title=split, xlim=(0, None))
    axes.set_yticks(range(len(tickets.FIELDS)), tickets.FIELDS)
panels[0].legend()
fig.suptitle("Fine-tuning helps every field; production is hard for its products", x=0.02, ha="left")
plots.show(
    fig,
    "Two panels, lookalike and production: NLL of each field with 95 % intervals. The tuned model's values "
    "lie far below the base model's on every field; of its own, the product in production is the highest.",
)

# %% tags=["core"]
lookalike_mean, lookalike_low, _ = table["test_lookalike", "lora"]
production_mean, _, production_high = table["test_production", "lora"]
gap = lookalike_mean - production_mean
margin = math.hypot(lookalike_mean - lookalike_low, production_high - production_mean)  # 95 %
expect(
    "LoRA beats the base model on both sets",
    all(table[s, "lora"][1] > table[s, "base"][2] for s in ("test_lookalike", "test_production")),
)
expect(
    "production is harder than lookalike",
    gap > margin,
    f"{100 * gap:.0f} points of exact match, give or take {100 * margin:.0f}",
)

# %% [markdown]
# ## Was it worth it?
#
# Notebook 00 recorded what can be had without fine-tuning: rules with a classifier, and prompts, plain and
# with constrained decoding. Its rows are one of each lookalike family and all of production; on these, here
# is each beside LoRA. *Paired* differences: both methods on the same message, so that what makes a message
# hard for both cancels.

# %% tags=["core"]
others_record = experiments.published("baselines")
others = comparisons.methods(others_record)
rows_of = {
    "rules": len(tickets.load("train")),
    "rules_few": comparisons.TRAIN_ROWS,
    "LoRA": profiles.get("cpu").train_rows,
}
print("training rows in these records:", rows_of)


# %% tags=["core"]
def rights_of_tuned(rights: dict, split: str) -> dict:
    """The tuned model's rights on a set, in the form of the others' results."""
    return {i: {"exact": right} for i, right in rights[split, "lora"].items()}


for split in comparisons.SETS:
    print(f"{split}: exact match, and LoRA (forced) minus it in points [95 %]")
    for name, results in others.items():
        share = 100 * comparisons.interval(results[split], split)[0]
        pair = rights_of_tuned(forced, split), results[split], split
        mean, low, high = (100 * value for value in comparisons.paired(*pair))
        print(f"   {name:26s} {share:3.0f} %   {mean:+3.0f} [{low:+.0f}, {high:+.0f}]")

# %% [markdown]
# The prompts were forced too, but the rules are judged by the text they return. So against the rules, LoRA is
# judged both ways:

# %% tags=["core"]
prompts = [name for name in others if name.split(" ")[0] in comparisons.PROMPTED]
best = {split: comparisons.best(others_record, prompts, split) for split in comparisons.SETS}
for split in comparisons.SETS:
    for how, ours, rival in (
        ("forced", forced, best[split]),
        ("forced", forced, "rules"),
        ("as written", as_written, "rules"),
    ):
        pair = rights_of_tuned(ours, split), others[rival][split], split
        mean, low, high = (100 * value for value in comparisons.paired(*pair))
        verdict = "LoRA wins" if low > 0 else f"{rival} wins" if high < 0 else "no difference seen"
        least = 100 * comparisons.detectable(*pair)
        print(f"{split:16s} LoRA, {how}, minus {rival}: {mean:+.0f} [{low:+.0f}, {high:+.0f}]", end=" ")
        print(f"{verdict}; could see {least:.0f} points")


def beats(ours: dict, rival: str, split: str) -> bool:
    """Whether the whole interval of LoRA minus the rival lies above zero."""
    return comparisons.paired(rights_of_tuned(ours, split), others[rival][split], split)[1] > 0


expect("LoRA beats the best prompt on both sets", all(beats(forced, best[s], s) for s in comparisons.SETS))
few = all(beats(forced, "rules_few", split) for split in comparisons.SETS)
expect("LoRA beats rules from the same 512 rows on both sets", few)
expect("on production it beats the rules from all rows", beats(forced, "rules", "test_production"))
expect(
    "whether it does on lookalike hangs on the measure",
    beats(as_written, "rules", "test_lookalike") and not beats(forced, "rules", "test_lookalike"),
)

# %% [markdown]
# A model of this size prompts badly, so beating its prompts is easy. The rules are the rival to take
# seriously: they cost seconds on a processor, and learned from 1,200 rows where LoRA had 512. On production
# LoRA is ahead by either measure. On messages like the training data its lead is narrow: by tokens the two
# cannot be told apart, by text the interval just clears zero, and LoRA's figures come from one training run.
# The measure was fixed before these replies were read, so the cautious verdict stands: no difference seen.
# Rules from the same 512 rows (`rules_few`) are behind on both sets. Make this comparison before you rent
# anything.
#
# ## What still fails
#
# The production rows whose right answer the tuned model found least likely.

# %% tags=["core"]
tuned_cell = next(cell for cell in record if cell["cell"]["model"] == "lora")
for result in sorted(tuned_cell["metrics"]["test_production"], key=lambda r: -r["nll"]["all"])[:6]:
    row = row_of[result["id"]]
    print(row["text"][:300])
    print("   right", tickets.answer(row))
    print("   wrote", result["reply"], "\n")

# %% [markdown]
# ## Measured claims
#
# What this notebook settles of the guides' claims, for this model:

# %% tags=["core", "nbval-ignore-output", "claim-H21"]
print("A real GPU is needed; CPU fine-tuning is not a thing (guide 004): wrong.")
print(f"   This run: {len(train_rows)} rows in {run.seconds / 60:.1f} minutes on the {profile.device}.")

# %% tags=["core", "claim-B11"]
print("LoRA trains 0.1 to 1 % of the parameters (guides 000, 002, 003): imprecise.")
print(f"   Rank 16 on every linear layer of this model: {100 * trainable / total:.1f} %.")

# %% tags=["core", "claim-A7"]
print(
    "B = 0 at the start, so training starts exactly at the base model (guides 001, 002): holds, bit for bit."
)

# %% tags=["core", "claim-production"]
print("A tuned model looks good on data like its own and fails in production (guide 004): holds.")
for split in ("test_lookalike", "test_production"):
    mean, low, high = (100 * value for value in table[split, "lora"])
    print(f"   {split:16s} exact match {mean:3.0f} % [{low:.0f}, {high:.0f}]")

# %% [markdown]
# ## Checkpoint

# %% tags=["core"]
quiz.ask("01_first_fine_tune")

# %% [markdown]
# ## On a rented GPU
#
# Written for 16, 24 and 80 GB cards, not yet run there. The same cells choose Qwen2.5-7B-Instruct there, in
# 4-bit on cards up to 24 GB, and train on all 1,200 rows. What is worth re-running: the two exact-match
# figures. Expect a larger model to do better on production; measure by how much.
