# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 00 · Start here
#
# After this notebook you will be able to
#
# - say whether your machine is ready, and see what a chat model really reads;
# - set a number to beat before you train anything: without a language model, and by prompting alone;
# - put an interval on a score that does not flatter you;
# - decide whether a task calls for fine-tuning at all.
#
# **Needs** nothing but this course: the model, SmolLM2-135M-Instruct, came with the set-up. Nothing is
# trained here except small classifiers. **Minutes**: see the table in the README.

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
upstream.keep_freed_memory()  # a faster allocator setting on a CPU

# %% tags=["core"]
import torch

from labsupport.baselines import comparisons, grammar, rule_based
from labsupport.evaluation import intervals, metrics
from labsupport.models import base_model
from labsupport.upkeep import doctor
from labsupport.baselines import prompting
from labsupport.baselines import prompt_scoring
from labsupport.core import plots, profiles
from labsupport.evaluation import experiments
from labsupport.tasks import tickets
from labsupport.teaching import predictions
from labsupport.training import prefixes
from labsupport.teaching.claims import expect
from labsupport.notebooks.nb00_start_here import exercises

# %% [markdown]
# ## Is this machine ready?
#
# The same as `python3 lab.py doctor`. A line that begins with BAD says below it what to do.

# %% tags=["core", "nbval-ignore-output"]
print(doctor.report(doctor.examine()))

# %% [markdown]
# ## Talk to the model
#
# 135 million parameters, about a fiftieth of the "7B" models that the guides fine-tune. Small enough to train
# on a laptop, and a real chat model.

# %% tags=["core"]
profile = profiles.current()
torch.set_num_threads(profile.threads)
model, tokenizer = base_model.load()
print(f"{model.num_parameters():,} parameters")

# %% tags=["core"]
messages = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "What is the capital of France?"},
]
inputs = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
).to(model.device)

# %% tags=["core", "nbval-ignore-output"]
output = model.generate(**inputs, max_new_tokens=20, do_sample=False, pad_token_id=tokenizer.pad_token_id)
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))

# %% [markdown]
# The model has never seen a "message". The tokenizer's *chat template* writes them as one string, with
# special tokens that open and close each turn, and the model continues that string:

# %% tags=["core"]
print(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

# %% [markdown]
# Notebook 06 takes templates apart. Here it is enough that an example in a prompt is just an earlier turn.
#
# ## The task
#
# A customer of an outdoor shop writes; the shop's software needs one line of JSON: what the customer wants
# (`intent`, eight values), which `product` and `order_id` it is about (copied, or null), how urgent it is.
# `lookalike` messages come from the same generator as the training rows, in phrasings that training never
# shows; `production` messages were written one by one.

# %% tags=["core"]
train, validation = tickets.load("train"), tickets.load("validation")
sets = {split: comparisons.one_each(split) for split in comparisons.SETS}
for row in train[:3]:
    print(row["text"], "\n   ->", tickets.answer(row), "\n")
print(len(train), "training rows;", {split: len(rows) for split, rows in sets.items()}, "test rows")

# %% [markdown]
# ## The cheapest answer
#
# Before any model: what does a constant get right? A score means nothing without this line beside it.
#
# ### Exercise 1: the commonest values
#
# Return a dict with the commonest value of each of the four `fields` in `rows`. Null (None) is a value too.


# %% tags=["core"]
def majority(rows: list[dict]) -> dict:
    fields = ("intent", "product", "order_id", "urgency")
    ### BEGIN SOLUTION
    counts = {field: {} for field in fields}
    for row in rows:
        for field in fields:
            counts[field][row[field]] = counts[field].get(row[field], 0) + 1
    return {field: max(counts[field], key=counts[field].get) for field in fields}
    ### END SOLUTION


exercises.majority.check(majority)

# %% tags=["core"]
# exercises.majority.hint()
majority_of = exercises.majority.or_reference(majority)

# %% tags=["core"]
constant = majority_of(train)
print(constant)
for split, rows in sets.items():
    rights = metrics.field_rights([constant] * len(rows), rows)
    shares = {field: sum(r[field] for r in rights) / len(rows) for field in tickets.FIELDS}
    exact = sum(all(r.values()) for r in rights)
    print(f"{split:16s}", {f: f"{100 * s:.0f} %" for f, s in shares.items()}, f"exact {exact}/{len(rows)}")

# %% [markdown]
# An order id is absent more often than not, so "never" is right that often. Accuracy of a field says little;
# *exact match*, all four fields right, is what the shop needs.
#
# ## Without a language model
#
# `rule_based.py` is what an engineer would write in an afternoon:
#
# - `order_id`: a regular expression, and words before a number that rule it out ("invoice", "tracking");
# - `intent`, `urgency`: *TF-IDF* (each word, word pair and run of letters weighted by how rare it is), then
#   logistic regression;
# - `product`: logistic regression on each word and its neighbours: is it part of the name?
#
# It learns from the training rows; validation rows choose its settings. What share of production messages
# will it get entirely right?

# %% tags=["core"]
guess = None  # your guess, in percent

# %% tags=["core", "nbval-ignore-output"]
rules = rule_based.fit(train, validation)
print("chosen on validation:", rules.settings)
for split, rows in sets.items():
    rights = metrics.field_rights(rules.predict([row["text"] for row in rows]), rows)
    shares = {field: sum(r[field] for r in rights) / len(rows) for field in tickets.FIELDS}
    exact = [all(r.values()) for r in rights]
    print(
        f"{split:16s}", {f: f"{100 * s:.0f} %" for f, s in shares.items()}, f"exact {sum(exact)}/{len(exact)}"
    )
predictions.compare(guess, 100 * sum(exact) / len(exact), unit="%")

# %% [markdown]
# ## How sure is such a number?
#
# `test_lookalike` has several rows of each family, and rows of a family share a phrasing: if one is
# wrong, its sisters tend to be. They are less evidence than as many unrelated rows.
#
# ### Exercise 2: the standard error
#
# With $\bar x$ the mean over all $n$ rows and $g$ a family,
#
# $$\mathrm{se} = \frac{1}{n}\sqrt{\sum_g \Big(\sum_{i \in g} (x_i - \bar x)\Big)^2}$$


# %% tags=["core"]
def clustered_error(values: list[float], families: list[str]) -> float:
    # families[i] is the family of values[i]
    ### BEGIN SOLUTION
    mean = sum(values) / len(values)
    sums = {}
    for value, family in zip(values, families, strict=True):
        sums[family] = sums.get(family, 0) + value - mean
    return sum(total**2 for total in sums.values()) ** 0.5 / len(values)
    ### END SOLUTION


exercises.clustered_error.check(clustered_error)

# %% tags=["core"]
# exercises.clustered_error.hint()
error_of = exercises.clustered_error.or_reference(clustered_error)

# %% tags=["core", "nbval-ignore-output"]
every = tickets.load("test_lookalike")
labels = rules.predict([row["text"] for row in every])
right = [float(r["intent"]) for r in metrics.field_rights(labels, every)]
by_row = error_of(right, [row["id"] for row in every])  # each row its own family
by_family = error_of(right, [row["family"] for row in every])
mean, low, high = intervals.interval(right, [row["family"] for row in every])
print(f"{len(every)} rows, intent right in {100 * mean:.0f} %")
print(f"95 %: rows as independent +-{196 * by_row:.1f} points, families +-{196 * by_family:.1f}")
print(f"bootstrap that draws whole families: [{100 * low:.0f}, {100 * high:.0f}]")
expect("families make the interval wider", by_row < by_family)
assert abs(1.96 * by_family - (high - low) / 2) < 0.02

# %% [markdown]
# The formula and the bootstrap agree; the course uses the bootstrap (`intervals.interval`), which also works
# for differences and several seeds. From here on, one row of each family.
#
# ## Prompting
#
# *Zero-shot*: the prompt explains the task. Fair means that it lists every allowed value with its meaning.

# %% tags=["core"]
wordings = prompting.wordings()
print(wordings["values"])
few = sets["test_production"][::50]
print(len(few), "of", len(sets["test_production"]), "production messages")

# %% tags=["core", "nbval-ignore-output"]
zero_shot = prompting.prompts(tokenizer, "zero_shot", train, few, wording="values", examples=0)
for row, reply in zip(
    few[:2], prompt_scoring.generate(model, tokenizer, few[:2], zero_shot[:2]), strict=True
):
    print(row["text"][:160], "\n   wrote", repr(reply[:160]), "\n")

# %% [markdown]
# *Few-shot*: examples with their answers as earlier turns. *Retrieved*: for each message the training
# rows most like it (cosine of TF-IDF), the nearest last. Examples cost tokens in every request:

# %% tags=["core"]
shots = {
    "prompt only": zero_shot,
    "8 fixed examples": prompting.prompts(tokenizer, "few_shot", train, few, "short", 8),
    "4 retrieved": prompting.prompts(tokenizer, "retrieved", train, few, "short", 4),
}
for name, prompts in shots.items():
    mean_length, shared = sum(map(len, prompts)) / len(prompts), len(prefixes.shared(prompts))
    print(f"{name:17s} {mean_length:4.0f} tokens a prompt, {shared:4d} shared by all")

# %% [markdown]
# What all prompts share is run once and its *key/value cache* (what attention remembers of it) is copied for
# each batch. Fixed examples are nearly free that way; retrieved ones cannot be shared.
#
# We score as notebook 01 does: show the right answer and ask, token by token, how likely it was. NLL, the
# negative log-likelihood, is in nats: 0 is certainty, and guessing one of eight intents blindly costs 2.08.

# %% tags=["core", "nbval-ignore-output"]
scores = {}
for name, prompts in shots.items():
    scores[name] = prompt_scoring.score(model, tokenizer, few, prompts)
    nll = {f: sum(s["nll"][f] for s in scores[name]) / len(few) for f in tickets.FIELDS}
    print(f"{name:17s}", {field: f"{value:.1f}" for field, value in nll.items()}, "nats")

# %% [markdown]
# ## Only valid answers
#
# A reply that is not JSON is worthless. *Constrained decoding* removes, at each step, the tokens with
# which the answer can no longer become valid. The library llguidance turns a grammar into such masks.
# Ours also says that a product or an order id is null or a run of words of the message.

# %% tags=["core"]
print(grammar.grammar("where is my tent?"))

# %% tags=["core", "nbval-ignore-output"]
constrained = prompt_scoring.generate(model, tokenizer, few[:2], shots["4 retrieved"][:2], constrained=True)
for row, reply in zip(few[:2], constrained, strict=True):
    print("wrote", reply, "\nright", tickets.answer(row), "\n")
assert metrics.valid_json(constrained).all()

# %% [markdown]
# ### Exercise 3: a constrained choice
#
# For a closed field you need no decoding: compute how likely each value is and take the likeliest.
# `candidates` maps each value to the log-probabilities of the tokens that write it.


# %% tags=["core"]
def likeliest(candidates: dict[str, list[float]]) -> str:
    ### BEGIN SOLUTION
    return max(candidates, key=lambda value: sum(candidates[value]))
    ### END SOLUTION


exercises.likeliest.check(likeliest)

# %% tags=["core"]
# exercises.likeliest.hint()
choice_of = exercises.likeliest.or_reference(likeliest)

# %% tags=["core", "nbval-ignore-output"]
found = prompt_scoring.intent_log_probs(model, tokenizer, shots["8 fixed examples"])
chosen = [choice_of(candidates) for candidates in found]
for row, intent in zip(few, chosen, strict=True):
    print(f"{intent:9s} right: {row['intent']:9s} {row['text'][:70]!r}")
print(sum(intent == row["intent"] for intent, row in zip(chosen, few, strict=True)), "of", len(few))

# %% [markdown]
# ## The numbers to beat (recorded)
#
# A few rows prove nothing. `lab.py experiment baselines` ran every baseline on one row of each lookalike
# family and on all production rows. Each tuned its settings on validation rows: the rules their
# penalties, the prompts their wording and number of examples. Which wins exact match on production, and
# with what share?

# %% tags=["core"]
guess = None  # your guess of the best share, in percent

# %% tags=["core"]
record = experiments.published("baselines")
stamp = record["cells"][-1]["stamp"]
print("recorded", stamp["date"], "on", stamp["processor"], "with", stamp["threads"], "threads")
for cell in record["cells"]:
    print(f"{cell['cell']['baseline']:10s}", cell["metrics"]["settings"])

# %% tags=["core"]
methods = comparisons.methods(record)
for split in comparisons.SETS:
    print(f"\n{split:27s}    exact [95 %]   ", "  ".join(f"{field:>8s}" for field in tickets.FIELDS))
    for name, results in methods.items():
        mean, low, high = (100 * value for value in comparisons.interval(results[split], split))
        fields = [100 * comparisons.interval(results[split], split, field)[0] for field in tickets.FIELDS]
        print(
            f"{name:27s} {mean:3.0f} % [{low:3.0f}, {high:3.0f}]",
            "".join(f"{value:8.0f} %" for value in fields),
        )

# %% [markdown]
# Prompted rows are forced scores: a field counts if each of its tokens was the first choice after the right
# fields before it, which helps prompting a little. `+ constrained` chooses among admitted tokens only.

# %% tags=["core"]
fig, panels = plots.figure(columns=2, height=3.6, sharey=True)
for axes, split in zip(panels, comparisons.SETS, strict=True):
    for place, (name, results) in enumerate(methods.items()):
        mean, low, high = (100 * value for value in comparisons.interval(results[split], split))
        colour = plots.ORANGE if name.split(" ")[0] in comparisons.PROMPTED else plots.BLUE
        axes.plot([low, high], [place] * 2, color=colour)
        axes.plot(mean, place, "o", color=colour)
    axes.set(xlabel="exact match (%)", title=split, xlim=(-1, None))
    axes.set_yticks(range(len(methods)), list(methods))
panels[0].invert_yaxis()
best = {split: comparisons.best(record, methods, split) for split in comparisons.SETS}
summary = ", ".join(f"{split.removeprefix('test_')}: {name}" for split, name in best.items())
fig.suptitle(f"The best without fine-tuning: {summary}", x=0.02, ha="left")
plots.show(fig, f"Exact match of each baseline with 95 % intervals on both test sets. Best: {summary}.")

# %% tags=["core"]
top = comparisons.interval(methods[best["test_production"]]["test_production"], "test_production")[0]
predictions.compare(guess, 100 * top, unit="%")
prompted = [name for name in methods if name.split(" ")[0] in comparisons.PROMPTED]
for split in comparisons.SETS:
    name = comparisons.best(record, prompted, split)
    pair = methods["rules"][split], methods[name][split]
    mean, low, high = (100 * value for value in comparisons.paired(*pair, split))
    least = 100 * comparisons.detectable(*pair, split)
    print(
        f"{split:16s} rules minus {name}: {mean:+.0f} points [{low:.0f}, {high:.0f}]; could see {least:.0f}"
    )

# %% [markdown]
# *Paired*: both methods on the same rows, so what makes a row hard for both cancels. "Could see" is the
# smallest difference that so many rows would show four times in five. Field by field, who wins?

# %% tags=["core"]
for split in comparisons.SETS:
    name = comparisons.best(record, prompted, split)
    pair = methods["rules"][split], methods[name][split]
    for field in tickets.FIELDS:
        mean, low, high = (100 * value for value in comparisons.paired(*pair, split, field))
        verdict = "rules win" if low > 0 else "the prompt wins" if high < 0 else "no difference seen"
        print(f"{split:16s} {field:9s} {mean:+4.0f} points [{low:4.0f}, {high:4.0f}]: {verdict}")
expect(
    "rules win the order id on both sets",
    all(
        comparisons.paired(
            methods["rules"][s], methods[comparisons.best(record, prompted, s)][s], s, "order_id"
        )[1]
        > 0
        for s in comparisons.SETS
    ),
)

# %% [markdown]
# On this model, that is: 135 million parameters follow an instruction badly, and a larger model prompts
# far better. What carries over is the order of work. A regular expression costs nothing and does not
# invent an order id; whatever you fine-tune has to beat it, field by field. Notebook 01 puts LoRA beside
# this table.
#
# ## Should you fine-tune at all?
#
# The wizard walks the steps in order: prompt, examples, retrieval, supervised fine-tuning, preference tuning,
# continued pretraining. It gives hours and money by formula at *your* hourly rate, and says what would change
# its answer. Where it differs from a guide, it says why. Start with this notebook's task:

# %% tags=["core"]
from labsupport.notebooks.nb00_start_here import decision_explorer

decision_explorer.explore(need="form", closed=True, must_be_valid=True, examples=1200, parameters_b=7)

# %% [markdown]
# Where it departs from the guides:

# %% tags=["core"]
from labsupport.baselines.decision import DISAGREEMENTS

for where, why in DISAGREEMENTS.items():
    print(f"{where}. {why}\n")

# %% [markdown]
# ## Measured claims
#
# What this notebook settles of the guides' claims, for this model and this task:

# %% tags=["core", "claim-N7"]
from labsupport.ledger import prompting as measured

print("Prompting gets you 80 % of the way (guide 003): not reproduced here.")
print("  ", measured.exact_match_of_the_best_prompt())

# %% tags=["core", "claim-N8"]
print("Prompt, then retrieval, and fine-tuning as the third thing to try (guide 004): imprecise.")
print("   It leaves out the model-free baseline.", measured.rules_beat_the_best_prompt())

# %% tags=["core", "claim-N9"]
print("Constrained decoding is what guarantees the output's structure (guide 001): holds.")
print("  ", measured.constrained_replies_are_valid())

# %% tags=["core", "claim-N10"]
print("Few-shot prompting costs little, just more tokens (guide 003): imprecise.")
print("  ", measured.examples_cost_tokens())

# %% tags=["core", "claim-N11"]
print("LoRA costs 10 to 100 dollars (guide 003): not testable without a GPU.")
print("  ", measured.gpu_hours_of_lora_on_7b())

# %% [markdown]
# ## Checkpoint

# %% tags=["core"]
from labsupport.teaching import quiz

quiz.ask("00_start_here")

# %% [markdown]
# ## On a rented GPU
#
# Written for 16, 24 and 80 GB cards, not yet run there. Only the prompted rows change with a larger
# model, and they may change a lot: re-run `lab.py experiment baselines` there before you decide to tune
# one. The rules stay what they are.
