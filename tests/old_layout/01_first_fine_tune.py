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
upstream.keep_freed_memory()  # a faster allocator setting for training on a CPU
upstream.score_only_labels()  # TRL on a CPU would compute logits that the loss then ignores

# %%
import json
import math

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, PrinterCallback
from trl import SFTConfig, SFTTrainer

from labsupport import base_model, baselines, chat, checkpoints, evaluation, experiments, files
from labsupport import plots, predictions, prefixes, profiles, tickets, training
from labsupport.claims import expect
from labsupport.exercises import first_fine_tune as exercises
from labsupport.experiment_list.baselines import TRAIN_ROWS

# %%
profile = profiles.current()
torch.set_num_threads(profile.threads)  # sums in another order round differently
print("profile:", profile.name, "| base model:", profile.base_model, "|", profile.dtype)

# %%
train_rows = tickets.load("train")[: profile.train_rows]
for row in train_rows[:3]:
    print(row["text"], "\n   ->", tickets.answer(row), "\n")
print(len(train_rows), "training rows of", len({row["family"] for row in train_rows}), "families")

# %%
print(tickets.SYSTEM_PROMPT)

# %%
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

# %%
for reply in evaluation.generate(model, tokenizer, train_rows[:3]):
    print(repr(reply[:160]))

# %%
example = chat.encode_example(tokenizer, train_rows[0])
print(tokenizer.decode(example.ids))
print(len(example.ids), "tokens, of them prompt:", example.prompt_length)

# %%
def labels(ids: list[int], prompt_length: int) -> list[int]:
    raise NotImplementedError  # your code here


exercises.labels.check(labels)

# %%
# exercises.labels.hint()
labels_of = exercises.labels.or_reference(labels)

# %%
encoded = [chat.encode_example(tokenizer, row) for row in train_rows]
supervised = [label for e in encoded for label in labels_of(e.ids, e.prompt_length) if label != -100]
tokens = sum(len(e.ids) for e in encoded)
print(f"{tokens:,} tokens, {100 * len(supervised) / tokens:.0f} % of them are trained on")

# %%
def answer_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    # logits: (batch, length, vocabulary); labels: (batch, length)
    raise NotImplementedError  # your code here


exercises.answer_loss.check(answer_loss)

# %%
# exercises.answer_loss.hint()
loss_of = exercises.answer_loss.or_reference(answer_loss)

# %%
guess = None  # your guess, in percent

# %%
lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
torch.manual_seed(0)  # A starts at random
hand_made = get_peft_model(model, lora)
trainable, total = hand_made.get_nb_trainable_parameters()
print(f"{trainable:,} of {total:,} parameters are trained")
predictions.compare(guess, 100 * trainable / total, unit="%")

# %%
batch = encoded[:2]
longest = max(len(e.ids) for e in batch)
pad = tokenizer.pad_token_id
ids = torch.tensor([e.ids + [pad] * (longest - len(e.ids)) for e in batch]).to(model.device)
mask = torch.tensor([[1] * len(e.ids) + [0] * (longest - len(e.ids)) for e in batch]).to(model.device)
wanted = torch.tensor(
    [labels_of(e.ids, e.prompt_length) + [-100] * (longest - len(e.ids)) for e in batch]
).to(model.device)

# %%
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

# %%
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

# %%
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

# %%
theirs = pad_rows([trainer.train_dataset[i] for i in range(2)])
theirs = {name: tensor.to(model.device) for name, tensor in theirs.items()}
assert torch.equal(theirs["input_ids"], ids) and torch.equal(theirs["labels"], wanted)
with torch.no_grad():
    by_trainer = trainer.compute_loss(trainer.model, dict(theirs)).item()
    by_hand = loss_of(trainer.model(input_ids=ids, attention_mask=mask).logits, wanted).item()
tolerance = 1e-5 if dtype == torch.float32 else 1e-2  # of the arithmetic
assert abs(by_trainer - by_hand) < tolerance * by_hand
print("same tokens, same labels, same loss")

# %%
with torch.no_grad():
    with_adapter = trainer.model(input_ids=ids, attention_mask=mask).logits
    with trainer.model.disable_adapter():
        without = trainer.model(input_ids=ids, attention_mask=mask).logits
print("logits identical with and without the untrained adapter:", torch.equal(with_adapter, without))
assert torch.equal(with_adapter, without)

# %%
if profile.use_cpu:
    prefixes.share(trainer)
shared = trainer.data_collator([trainer.train_dataset[i] for i in range(2)])
shared = {name: tensor.to(model.device) for name, tensor in shared.items()}
print("tokens run for two rows:", theirs["input_ids"].numel(), "padded,", shared["input_ids"].numel(), "now")
with torch.no_grad():
    assert abs(trainer.compute_loss(trainer.model, shared).item() - by_hand) < tolerance * by_hand
print("the same loss")

# %%
run = training.recorded(trainer, "first_fine_tune")
tuned = trainer.model

# %%
steps, losses = run.losses()
fig, axes = plots.figure()
axes.plot(steps, losses, color=plots.BLUE, marker="o", markersize=3)
axes.set(xlabel="optimizer step", ylabel="training loss (nats a token)", ylim=(0, None))
axes.set_title(f"The loss falls from {losses[0]:.1f} to {losses[-1]:.2f}, most of it at once")
plots.show(fig, f"Training loss over {steps[-1]} steps, falling fast and then slowly to {losses[-1]:.2f}.")

# %%
lookalike = list({row["family"]: row for row in tickets.load("test_lookalike")}.values())
sets = {
    "lookalike": lookalike[:: max(1, len(lookalike) // profile.eval_families)],
    "production": tickets.load("test_production")[: profile.eval_rows],
}
print({name: len(rows) for name, rows in sets.items()})

# %%
def is_right(reply: str, row: dict) -> bool:
    raise NotImplementedError  # your code here


exercises.is_right.check(is_right)

# %%
# exercises.is_right.hint()
reply_is_right = exercises.is_right.or_reference(is_right)

# %%
def f1(predicted: list, expected: list) -> float:
    raise NotImplementedError  # your code here


exercises.f1.check(f1)

# %%
# exercises.f1.hint()
f1_of = exercises.f1.or_reference(f1)

# %%
guess = None  # your guess, in percent

# %%
scores = {}
for name, rows in sets.items():
    with tuned.disable_adapter():  # the base model
        scores[name, "base"] = evaluation.recorded(tuned, tokenizer, rows, "score", evaluation.score)
    scores[name, "LoRA"] = evaluation.recorded(tuned, tokenizer, rows, "score", evaluation.score)

# %%
nll = {}
for (name, which), result in scores.items():
    families = [row["family"] for row in sets[name]]
    mean, low, high = evaluation.interval([s["exact"] for s in result], families)
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

# %%
some = {name: rows[: profile.generate_rows] for name, rows in sets.items()}
both = [row for rows in some.values() for row in rows]  # at once: twelve replies take little longer than six
with tuned.disable_adapter():
    texts = {"base": evaluation.recorded(tuned, tokenizer, both, "generate", evaluation.generate)}
texts["LoRA"] = evaluation.recorded(tuned, tokenizer, both, "generate", evaluation.generate)
replies, size = {}, len(some["lookalike"])
for which, both_sets in texts.items():
    replies["lookalike", which], replies["production", which] = both_sets[:size], both_sets[size:]

# %%
valid = {}
for (name, which), written in replies.items():
    rows = sets[name][: len(written)]
    right = sum(reply_is_right(reply, row) for reply, row in zip(written, rows, strict=True))
    labels_read = [tickets.parse(reply) or dict.fromkeys(tickets.FIELDS) for reply in written]
    values = {f: f1_of([label[f] for label in labels_read], [row[f] for row in rows]) for f in tickets.FIELDS}
    valid[name, which] = int(evaluation.valid_json(written).sum())
    counts = f"valid JSON {valid[name, which]}/{len(rows)}  right {right}/{len(rows)}"
    print(
        f"{name:10s} {which:4s}  {counts}  F1"
        + "".join(f"  {field} {value:.2f}" for field, value in values.items())
    )
expect(
    "LoRA writes valid JSON more often than the base model, on both sets",
    all(valid[name, "LoRA"] > valid[name, "base"] for name in sets),
)

# %%
record = experiments.published("first_fine_tune")["cells"]
stamp = record[-1]["stamp"]
print("recorded", stamp["date"], "on", stamp["processor"], "with", stamp["threads"], "threads")
print("formats:", {cell["metrics"]["dtype"] for cell in record})

# %%
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
    return evaluation.interval(values, families, seeds)

# %%
table = {}
for split in ("test_lookalike", "test_production"):
    for which in ("base", "lora"):
        table[split, which] = recorded_interval(split, which, lambda result: result["exact"])
        mean, low, high = (100 * value for value in table[split, which])
        print(f"{split:16s} {which:5s} exact match {mean:3.0f} % [{low:.0f}, {high:.0f}]")

# %%
row_of = {row["id"]: row for split in baselines.SETS for row in tickets.load(split)}
forced, as_written, valid_share = {}, {}, {}  # of each set and model, for the rows with a reply
for split in baselines.SETS:
    for cell in record:
        key = split, cell["cell"]["model"]
        results = [result for result in cell["metrics"][split] if result["reply"] is not None]
        rows, written = [row_of[r["id"]] for r in results], [r["reply"] for r in results]
        forced[key] = {r["id"]: r["exact"] for r in results}
        as_written[key] = {r["id"]: reply_is_right(r["reply"], row_of[r["id"]]) for r in results}
        valid_share[key] = evaluation.valid_json(written).mean()
        print(*key, f"{len(rows)} replies, valid JSON {100 * valid_share[key]:.1f} %; ", end="")
        print(f"right as written {sum(as_written[key].values())}, forced {sum(forced[key].values())}")
        print("   F1 in %:", end="")
        for field, found in evaluation.field_f1(rows, written).items():
            mean, low, high = (100 * value for value in found)
            print(f"  {field} {mean:.0f} [{low:.0f}, {high:.0f}]", end="")
        print()
lowest = min(share for (split, which), share in valid_share.items() if which == "lora")
expect("at least 98 % of the tuned model's replies are valid JSON, on both sets", lowest >= 0.98)

# %%
judged = [(row_of[i], text, forced[key][i]) for key in forced for i, text in as_written[key].items()]
expect("all that is right as forced is right as written", all(text >= tokens for _, text, tokens in judged))
print(", ".join(sorted(row["product"] for row, text, tokens in judged if text > tokens)))

# %%
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

# %%
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

# %%
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

# %%
others_record = experiments.published("baselines")
others = baselines.methods(others_record)
rows_of = {
    "rules": len(tickets.load("train")),
    "rules_few": TRAIN_ROWS,
    "LoRA": profiles.get("cpu").train_rows,
}
print("training rows in these records:", rows_of)

# %%
def rights_of_tuned(rights: dict, split: str) -> dict:
    """The tuned model's rights on a set, in the form of the others' results."""
    return {i: {"exact": right} for i, right in rights[split, "lora"].items()}


for split in baselines.SETS:
    print(f"{split}: exact match, and LoRA (forced) minus it in points [95 %]")
    for name, results in others.items():
        share = 100 * baselines.interval(results[split], split)[0]
        pair = rights_of_tuned(forced, split), results[split], split
        mean, low, high = (100 * value for value in baselines.paired(*pair))
        print(f"   {name:26s} {share:3.0f} %   {mean:+3.0f} [{low:+.0f}, {high:+.0f}]")

# %%
prompts = [name for name in others if name.split(" ")[0] in baselines.PROMPTED]
best = {split: baselines.best(others_record, prompts, split) for split in baselines.SETS}
for split in baselines.SETS:
    for how, ours, rival in (
        ("forced", forced, best[split]),
        ("forced", forced, "rules"),
        ("as written", as_written, "rules"),
    ):
        pair = rights_of_tuned(ours, split), others[rival][split], split
        mean, low, high = (100 * value for value in baselines.paired(*pair))
        verdict = "LoRA wins" if low > 0 else f"{rival} wins" if high < 0 else "no difference seen"
        least = 100 * baselines.detectable(*pair)
        print(f"{split:16s} LoRA, {how}, minus {rival}: {mean:+.0f} [{low:+.0f}, {high:+.0f}]", end=" ")
        print(f"{verdict}; could see {least:.0f} points")


def beats(ours: dict, rival: str, split: str) -> bool:
    """Whether the whole interval of LoRA minus the rival lies above zero."""
    return baselines.paired(rights_of_tuned(ours, split), others[rival][split], split)[1] > 0


expect("LoRA beats the best prompt on both sets", all(beats(forced, best[s], s) for s in baselines.SETS))
few = all(beats(forced, "rules_few", split) for split in baselines.SETS)
expect("LoRA beats rules from the same 512 rows on both sets", few)
expect("on production it beats the rules from all rows", beats(forced, "rules", "test_production"))
expect(
    "whether it does on lookalike hangs on the measure",
    beats(as_written, "rules", "test_lookalike") and not beats(forced, "rules", "test_lookalike"),
)

# %%
tuned_cell = next(cell for cell in record if cell["cell"]["model"] == "lora")
for result in sorted(tuned_cell["metrics"]["test_production"], key=lambda r: -r["nll"]["all"])[:6]:
    row = row_of[result["id"]]
    print(row["text"][:300])
    print("   right", tickets.answer(row))
    print("   wrote", result["reply"], "\n")

# %%
print("A real GPU is needed; CPU fine-tuning is not a thing (guide 004): wrong.")
print(f"   This run: {len(train_rows)} rows in {run.seconds / 60:.1f} minutes on the {profile.device}.")

# %%
print("LoRA trains 0.1 to 1 % of the parameters (guides 000, 002, 003): imprecise.")
print(f"   Rank 16 on every linear layer of this model: {100 * trainable / total:.1f} %.")

# %%
print(
    "B = 0 at the start, so training starts exactly at the base model (guides 001, 002): holds, bit for bit."
)

# %%
print("A tuned model looks good on data like its own and fails in production (guide 004): holds.")
for split in ("test_lookalike", "test_production"):
    mean, low, high = (100 * value for value in table[split, "lora"])
    print(f"   {split:16s} exact match {mean:3.0f} % [{low:.0f}, {high:.0f}]")

# %%
checkpoints.ask("01_first_fine_tune")
