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
upstream.keep_freed_memory()  # a faster allocator setting on a CPU

# %%
import torch

from labsupport import base_model, baselines, baselines_grammar, baselines_rules, doctor, evaluation
from labsupport import baselines_prompting as prompting
from labsupport import baselines_scoring as scoring
from labsupport import experiments, plots, predictions, prefixes, profiles, tickets
from labsupport.claims import expect
from labsupport.exercises import start_here as exercises

# %%
print(doctor.report(doctor.examine()))

# %%
profile = profiles.current()
torch.set_num_threads(profile.threads)
model, tokenizer = base_model.load()
print(f"{model.num_parameters():,} parameters")

# %%
messages = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "What is the capital of France?"},
]
inputs = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
).to(model.device)

# %%
output = model.generate(**inputs, max_new_tokens=20, do_sample=False, pad_token_id=tokenizer.pad_token_id)
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))

# %%
print(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

# %%
train, validation = tickets.load("train"), tickets.load("validation")
sets = {split: baselines.one_each(split) for split in baselines.SETS}
for row in train[:3]:
    print(row["text"], "\n   ->", tickets.answer(row), "\n")
print(len(train), "training rows;", {split: len(rows) for split, rows in sets.items()}, "test rows")

# %%
def majority(rows: list[dict]) -> dict:
    fields = ("intent", "product", "order_id", "urgency")
    raise NotImplementedError  # your code here


exercises.majority.check(majority)

# %%
# exercises.majority.hint()
majority_of = exercises.majority.or_reference(majority)

# %%
constant = majority_of(train)
print(constant)
for split, rows in sets.items():
    rights = baselines.field_rights([constant] * len(rows), rows)
    shares = {field: sum(r[field] for r in rights) / len(rows) for field in tickets.FIELDS}
    exact = sum(all(r.values()) for r in rights)
    print(f"{split:16s}", {f: f"{100 * s:.0f} %" for f, s in shares.items()}, f"exact {exact}/{len(rows)}")

# %%
guess = None  # your guess, in percent

# %%
rules = baselines_rules.fit(train, validation)
print("chosen on validation:", rules.settings)
for split, rows in sets.items():
    rights = baselines.field_rights(rules.predict([row["text"] for row in rows]), rows)
    shares = {field: sum(r[field] for r in rights) / len(rows) for field in tickets.FIELDS}
    exact = [all(r.values()) for r in rights]
    print(
        f"{split:16s}", {f: f"{100 * s:.0f} %" for f, s in shares.items()}, f"exact {sum(exact)}/{len(exact)}"
    )
predictions.compare(guess, 100 * sum(exact) / len(exact), unit="%")

# %%
def clustered_error(values: list[float], families: list[str]) -> float:
    # families[i] is the family of values[i]
    raise NotImplementedError  # your code here


exercises.clustered_error.check(clustered_error)

# %%
# exercises.clustered_error.hint()
error_of = exercises.clustered_error.or_reference(clustered_error)

# %%
every = tickets.load("test_lookalike")
labels = rules.predict([row["text"] for row in every])
right = [float(r["intent"]) for r in baselines.field_rights(labels, every)]
by_row = error_of(right, [row["id"] for row in every])  # each row its own family
by_family = error_of(right, [row["family"] for row in every])
mean, low, high = evaluation.interval(right, [row["family"] for row in every])
print(f"{len(every)} rows, intent right in {100 * mean:.0f} %")
print(f"95 %: rows as independent +-{196 * by_row:.1f} points, families +-{196 * by_family:.1f}")
print(f"bootstrap that draws whole families: [{100 * low:.0f}, {100 * high:.0f}]")
expect("families make the interval wider", by_row < by_family)
assert abs(1.96 * by_family - (high - low) / 2) < 0.02

# %%
wordings = prompting.wordings()
print(wordings["values"])
few = sets["test_production"][::50]
print(len(few), "of", len(sets["test_production"]), "production messages")

# %%
zero_shot = prompting.prompts(tokenizer, "zero_shot", train, few, wording="values", examples=0)
for row, reply in zip(few[:2], scoring.generate(model, tokenizer, few[:2], zero_shot[:2]), strict=True):
    print(row["text"][:160], "\n   wrote", repr(reply[:160]), "\n")

# %%
shots = {
    "prompt only": zero_shot,
    "8 fixed examples": prompting.prompts(tokenizer, "few_shot", train, few, "short", 8),
    "4 retrieved": prompting.prompts(tokenizer, "retrieved", train, few, "short", 4),
}
for name, prompts in shots.items():
    mean_length, shared = sum(map(len, prompts)) / len(prompts), len(prefixes.shared(prompts))
    print(f"{name:17s} {mean_length:4.0f} tokens a prompt, {shared:4d} shared by all")

# %%
scores = {}
for name, prompts in shots.items():
    scores[name] = scoring.score(model, tokenizer, few, prompts)
    nll = {f: sum(s["nll"][f] for s in scores[name]) / len(few) for f in tickets.FIELDS}
    print(f"{name:17s}", {field: f"{value:.1f}" for field, value in nll.items()}, "nats")

# %%
print(baselines_grammar.grammar("where is my tent?"))

# %%
constrained = scoring.generate(model, tokenizer, few[:2], shots["4 retrieved"][:2], constrained=True)
for row, reply in zip(few[:2], constrained, strict=True):
    print("wrote", reply, "\nright", tickets.answer(row), "\n")
assert evaluation.valid_json(constrained).all()

# %%
def likeliest(candidates: dict[str, list[float]]) -> str:
    raise NotImplementedError  # your code here


exercises.likeliest.check(likeliest)

# %%
# exercises.likeliest.hint()
choice_of = exercises.likeliest.or_reference(likeliest)

# %%
found = scoring.intent_log_probs(model, tokenizer, shots["8 fixed examples"])
chosen = [choice_of(candidates) for candidates in found]
for row, intent in zip(few, chosen, strict=True):
    print(f"{intent:9s} right: {row['intent']:9s} {row['text'][:70]!r}")
print(sum(intent == row["intent"] for intent, row in zip(chosen, few, strict=True)), "of", len(few))

# %%
guess = None  # your guess of the best share, in percent

# %%
record = experiments.published("baselines")
stamp = record["cells"][-1]["stamp"]
print("recorded", stamp["date"], "on", stamp["processor"], "with", stamp["threads"], "threads")
for cell in record["cells"]:
    print(f"{cell['cell']['baseline']:10s}", cell["metrics"]["settings"])

# %%
methods = baselines.methods(record)
for split in baselines.SETS:
    print(f"\n{split:27s}    exact [95 %]   ", "  ".join(f"{field:>8s}" for field in tickets.FIELDS))
    for name, results in methods.items():
        mean, low, high = (100 * value for value in baselines.interval(results[split], split))
        fields = [100 * baselines.interval(results[split], split, field)[0] for field in tickets.FIELDS]
        print(
            f"{name:27s} {mean:3.0f} % [{low:3.0f}, {high:3.0f}]",
            "".join(f"{value:8.0f} %" for value in fields),
        )

# %%
fig, panels = plots.figure(columns=2, height=3.6, sharey=True)
for axes, split in zip(panels, baselines.SETS, strict=True):
    for place, (name, results) in enumerate(methods.items()):
        mean, low, high = (100 * value for value in baselines.interval(results[split], split))
        colour = plots.ORANGE if name.split(" ")[0] in baselines.PROMPTED else plots.BLUE
        axes.plot([low, high], [place] * 2, color=colour)
        axes.plot(mean, place, "o", color=colour)
    axes.set(xlabel="exact match (%)", title=split, xlim=(-1, None))
    axes.set_yticks(range(len(methods)), list(methods))
panels[0].invert_yaxis()
best = {split: baselines.best(record, methods, split) for split in baselines.SETS}
summary = ", ".join(f"{split.removeprefix('test_')}: {name}" for split, name in best.items())
fig.suptitle(f"The best without fine-tuning: {summary}", x=0.02, ha="left")
plots.show(fig, f"Exact match of each baseline with 95 % intervals on both test sets. Best: {summary}.")

# %%
top = baselines.interval(methods[best["test_production"]]["test_production"], "test_production")[0]
predictions.compare(guess, 100 * top, unit="%")
prompted = [name for name in methods if name.split(" ")[0] in baselines.PROMPTED]
for split in baselines.SETS:
    name = baselines.best(record, prompted, split)
    pair = methods["rules"][split], methods[name][split]
    mean, low, high = (100 * value for value in baselines.paired(*pair, split))
    least = 100 * baselines.detectable(*pair, split)
    print(
        f"{split:16s} rules minus {name}: {mean:+.0f} points [{low:.0f}, {high:.0f}]; could see {least:.0f}"
    )

# %%
for split in baselines.SETS:
    name = baselines.best(record, prompted, split)
    pair = methods["rules"][split], methods[name][split]
    for field in tickets.FIELDS:
        mean, low, high = (100 * value for value in baselines.paired(*pair, split, field))
        verdict = "rules win" if low > 0 else "the prompt wins" if high < 0 else "no difference seen"
        print(f"{split:16s} {field:9s} {mean:+4.0f} points [{low:4.0f}, {high:4.0f}]: {verdict}")
expect(
    "rules win the order id on both sets",
    all(
        baselines.paired(methods["rules"][s], methods[baselines.best(record, prompted, s)][s], s, "order_id")[
            1
        ]
        > 0
        for s in baselines.SETS
    ),
)

# %%
from labsupport.explorers import decision

decision.explore(need="form", closed=True, must_be_valid=True, examples=1200, parameters_b=7)

# %%
from labsupport.decision import DISAGREEMENTS

for where, why in DISAGREEMENTS.items():
    print(f"{where}. {why}\n")

# %%
from labsupport.verifications import start_here as verified

print("Prompting gets you 80 % of the way (guide 003): not reproduced here.")
print("  ", verified.n7())

# %%
print("Prompt, then retrieval, and fine-tuning as the third thing to try (guide 004): imprecise.")
print("   It leaves out the model-free baseline.", verified.n8())

# %%
print("Constrained decoding is what guarantees the output's structure (guide 001): holds.")
print("  ", verified.n9())

# %%
print("Few-shot prompting costs little, just more tokens (guide 003): imprecise.")
print("  ", verified.n10())

# %%
print("LoRA costs 10 to 100 dollars (guide 003): not testable without a GPU.")
print("  ", verified.n11())

# %%
from labsupport import checkpoints

checkpoints.ask("00_start_here")
