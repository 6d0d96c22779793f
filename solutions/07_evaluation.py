# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 07 · Evaluation: what a score says, and what it hides
#
# **In one sentence**: you build the measures and their intervals by hand, and see how a good score goes
# wrong.
#
# **Minutes**: 110 to read and do, 3 to run all cells.
#
# ![A test row goes two ways: the right answer is forced, which gives NLL and perplexity, or the model writes,
# which gives exact match and F1. Both end in an interval, which is made of families and not of rows. Below:
# what changes the number and is no merit of the model, such as template, adapter, padding side, number format
# and rows seen in training.](attachment:schematic.png)
#
# Two ways to ask, one way to say how sure you are, and a list of what else can move the number.
#
# After this notebook you will be able to
#
# - compute perplexity, likelihood-scored multiple choice and F1 as the libraries do, and say what each
#   misses;
# - put an interval on a difference that holds for new messages, and say beforehand what a test can see;
# - recognise a test that is too near to the training rows, and measure what a fine-tune has forgotten;
# - try a judge before you believe it, and read errors where they teach something;
# - find out what is wrong with a run, the cheap evidence first.
#
# **Needs** [notebook 01](01_first_fine_tune.ipynb) and [06](06_chat_templates.ipynb). No GPU.

# %% [markdown]
# ## Why a number is not enough
#
# You tuned, you evaluated, it says 84 %. Of what? Asked how? How sure? The module page (guide 004) names
# the trap: "Eval on the training set looks great. Eval on real data is worse than the base model. You are
# confused." Guide 001 adds that a good validation loss is "nowhere near sufficient".
#
# This notebook takes the number apart. First the measures, each by hand and then held to a library. Then
# how sure one can be. Then what was measured on this course's model: where a test flatters, what is
# forgotten, and when to stop.
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
upstream.guard_4bit_on_cpu()  # a fault of bitsandbytes on some processors: guard before building a model

# %% tags=["core", "setup"]
import math

import numpy as np
import torch
from scipy import stats
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline

from labsupport.clinic import game as clinic
from labsupport.core import plots
from labsupport.core.tables import Table
from labsupport.evaluation import (
    canary_scoring,
    experiments,
    harness,
    intervals,
    metrics,
    perplexity as texts,
)
from labsupport.evaluation_runs import conditions, forgetting, judging
from labsupport.explorers import error_browser_explorer
from labsupport.models import base_model
from labsupport.notebooks.nb07_evaluation import exercises
from labsupport.tasks import canary, general, tickets
from labsupport.teaching import predictions, quiz
from labsupport.teaching.claims import expect

# %% tags=["core", "setup"]
torch.set_num_threads(2)
model, tokenizer = base_model.load(base_model.BUNDLED, dtype="float32")  # as it is, not tuned
print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.0f}M parameters")

# %% [markdown]
# ## Two ways to ask
#
# You can *force* the right answer: hand it to the model token by token and note how likely it found each
# one. That is cheap (one forward pass), the same for every model, and moves smoothly: it sees a change long
# before a reply changes. Its unit is the [nat](../glossary.md#nats) of [negative
# log-likelihood](../glossary.md#nll), and on plain text, where no answer is right or wrong, it is all there
# is.
#
# Or you let the model *write* and judge the text. That is what a user gets, and it is dear: one pass a token.
# Small changes drown in it, since a reply is right or wrong.
#
# Take plain text first. The two passages below cost the model so many nats:

# %% tags=["core"]
passages = [row["text"] for row in general.load() if "text" in row]
short, long = sorted(passages, key=len)[0], sorted(passages, key=len)[-1]
nll, tokens = texts.of_texts(model, tokenizer, [short, long])
Table(
    ["text", "nats", "tokens"],
    [
        [" ".join(t.split())[:48] + "…", f"{n:.0f}", c]
        for t, n, c in zip([short, long], nll, tokens, strict=True)
    ],
)

# %% [markdown]
# The longer one cost less: it is code, of which every line resembles the last. Sums of different texts say
# little, so one divides by the tokens, here 3.6 and 2.1 nats a token. And as nobody feels what 3.6 nats are,
# one takes the exponential: [perplexity](../glossary.md#perplexity), over how many equally likely tokens the
# model seems to hesitate.
#
# ### Exercise 1: perplexity
#
# > **5 minutes · ●○○**
# >
# > `nll_of_rows` holds the NLL of each row in nats, summed over its tokens; `tokens_of_rows` how many tokens
# > were predicted. Return the perplexity of all rows together, in which every token weighs the same:
# >
# > $$\mathrm{perplexity} = \exp\Big(\sum \mathrm{nll} \,\Big/\, \sum \mathrm{tokens}\Big)$$
# >
# > By hand: 2 nats over 2 tokens and 9 nats over 3 are 11 nats over 5 tokens, and $e^{2.2} = 9.03$. The
# > mean of the rows' own perplexities, $e^1$ and $e^3$, would be 11.4: that is another number.


# %% tags=["core"]
def perplexity(nll_of_rows: list[float], tokens_of_rows: list[int]) -> float:
    ### BEGIN SOLUTION
    return math.exp(sum(nll_of_rows) / sum(tokens_of_rows))
    ### END SOLUTION


exercises.perplexity.check(perplexity)

# %% tags=["core"]
# exercises.perplexity.hint()
perplexity_of = exercises.perplexity.or_reference(perplexity)

# %% [markdown]
# Does the field count like that? The most used library, lm-evaluation-harness, gives a perplexity per
# *word* and per *byte* instead of per token, so that models with other tokenizers can be compared. Give
# your function words and bytes in place of tokens, and it must say the same, on eleven passages:

# %% tags=["core"]
sample = passages[::10]
theirs = harness.perplexities(model, tokenizer, sample)
nll, tokens = texts.of_texts(model, tokenizer, sample)
lines = []
for unit, key in (("words", "word_perplexity"), ("bytes", "byte_perplexity")):
    ours = perplexity_of(nll, theirs[unit])
    assert abs(ours / theirs[key] - 1) < 1e-4
    lines.append([unit, f"{ours:.3g}", f"{theirs[key]:.3g}"])
lines.append(["tokens", f"{perplexity_of(nll, tokens):.3g}", ""])
Table(["per", "yours", "lm-evaluation-harness"], lines, f"Perplexity of {len(sample)} passages")

# %% [markdown]
# Three numbers from one model and one text. A perplexity without its unit says nothing, and one per token
# can't be compared between tokenizers: a tokenizer of longer tokens has fewer of them, each harder.
#
# ## Multiple choice without writing
#
# Benchmarks such as MMLU seldom let a model write. They compare how likely it finds each of the choices. But
# how likely is a choice of eight tokens beside one of two? Every further token costs something. So there are
# several rules, and they disagree.
#
# ### Exercise 2: the rule decides
#
# > **10 minutes · ●○○**
# >
# > `nll` holds each choice's summed NLL, `choices` their texts. Return the *place* (from 0) of the choice
# > that the rule finds likeliest; of equal ones the first. The rules, by the names of
# > lm-evaluation-harness:
# >
# > - `"acc"`: the lowest sum;
# > - `"acc_norm"`: the lowest sum per character, `len(choice)`;
# > - `"acc_bytes"`: the lowest sum per byte of UTF-8, `len(choice.encode())`.
# >
# > By hand: "tea" for 6 nats and "a long coffee" for 9: by `acc` tea; per character 2 against 0.69, coffee.


# %% tags=["core"]
def choose(nll: list[float], choices: list[str], rule: str) -> int:
    ### BEGIN SOLUTION
    if rule == "acc":
        sizes = [1] * len(choices)
    elif rule == "acc_norm":
        sizes = [len(choice) for choice in choices]
    else:
        sizes = [len(choice.encode()) for choice in choices]
    scores = [n / size for n, size in zip(nll, sizes, strict=True)]
    return scores.index(min(scores))
    ### END SOLUTION


exercises.choose.check(choose)

# %% tags=["core"]
# exercises.choose.hint()
choose_by = exercises.choose.or_reference(choose)

# %% [markdown]
# The *canary* is 120 easy questions that the untuned model should know: like a miner's bird it is there to
# fall over first. Here is every fourth question, by your function and by the harness.

# %% tags=["core"]
questions = canary.load()[::4]
theirs = harness.multiple_choice(model, tokenizer, questions)
ours = [row["nll"] for row in canary_scoring.score(model, tokenizer, questions)]
assert np.allclose(ours, theirs["nll"], atol=1e-3)
lines = []
for rule in ("acc", "acc_norm", "acc_bytes"):
    picked = [choose_by(n, q["choices"], rule) for n, q in zip(ours, questions, strict=True)]
    right = sum(p == q["answer"] for p, q in zip(picked, questions, strict=True))
    assert abs(right / len(questions) - theirs[rule]) < 1e-9
    lines.append([rule, right, f"{theirs[rule] * len(questions):.0f}"])
Table(["rule", "right by yours", "by the harness"], lines, f"Of {len(questions)} questions")

# %% [markdown]
# The same likelihoods, and the score may change by the rule alone. When you compare with a published figure,
# find out the rule, the prompt and the number of examples in it first.
#
# ## What was written
#
# Notebook 01 recorded what its tuned model wrote, on messages like those of training (*lookalike*) and on
# hand-written ones (*production*). [Exact match](../glossary.md#exact-match) asks for all four fields; F1
# gives credit by field. You wrote F1 there. scikit-learn's counts the same once it is told that "no value"
# is no class:

# %% tags=["core"]
first_run = experiments.published("first_fine_tune")["cells"]
tuned = next(c["metrics"] for c in first_run if c["cell"]["model"] == "lora")
row_of = {row["id"]: row for split in conditions.SETS for row in tickets.load(split)}
lines = []
for split, name in conditions.SETS.items():
    rows = [row_of[found["id"]] for found in tuned[split]]
    written = [found["reply"] for found in tuned[split]]
    labels = [tickets.parse(reply) or dict.fromkeys(tickets.FIELDS) for reply in written]
    products = [
        (label["product"] or "", row["product"] or "") for label, row in zip(labels, rows, strict=True)
    ]
    made, due = zip(*products, strict=True)
    values = sorted(set(made) | set(due) - {""})
    theirs = f1_score(due, made, labels=[v for v in values if v], average="micro", zero_division=0)
    ours = metrics.f1([m or None for m in made], [d or None for d in due])
    assert abs(ours - theirs) < 1e-12
    exact = metrics.exact_match(rows, written).mean()
    lines.append(
        [name, f"{100 * metrics.valid_json(written).mean():.1f}", f"{100 * exact:.1f}", f"{100 * ours:.1f}"]
    )
Table(["set", "valid JSON (%)", "all fields right (%)", "F1 of product (%)"], lines)

# %% [markdown]
# Three columns, three stories. By validity the task is solved. By the product it is mostly solved. All four
# fields right, which is what the shop needs, is another matter, and falls from lookalike to production.
#
# ## How sure? The unit is the family
#
# A score on 600 messages is one draw: other messages would give another. How far would they scatter? If the
# 600 were independent, a formula would do. They are not. Rows of a *family* share a phrasing: a model that
# reads the phrasing right has all of them, or none.
#
# See what that does. Take a method of seconds: count words, and let a logistic regression name the intent.
# Train it twice, on two random halves of the training families. Same method, same amount of data: neither
# half is better on purpose.

# %% tags=["core", "nbval-ignore-output"]
train, lookalike = tickets.load("train"), tickets.load("test_lookalike")
order = np.random.default_rng(0).permutation(sorted({row["family"] for row in train}))
right = []
for half in (order[:256], order[256:]):
    chosen = [row for row in train if row["family"] in set(half)]
    classifier = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(C=10, max_iter=1000))
    classifier.fit([row["text"] for row in chosen], [row["intent"] for row in chosen])
    named = classifier.predict([row["text"] for row in lookalike])
    right.append(np.array([float(n == row["intent"]) for n, row in zip(named, lookalike, strict=True)]))
one, other = right
families = [row["family"] for row in lookalike]
print(f"intents right on {len(lookalike)} messages: {100 * one.mean():.0f} % and {100 * other.mean():.0f} %")

# %% [markdown]
# Now be somebody with a smaller test: 24 families, drawn at random with all of their rows, a hundred
# messages. You compare the two classifiers on it and compute a 95 % interval for the difference, by drawing
# *rows*. Somebody else draws another 24 families, and so on, a hundred times.

# %% tags=["core"]
guess = None  # in how many of 100 such tests are the two called different?

# %% [markdown]
# ### Exercise 3: draw families
#
# > **20 minutes · ●●●**
# >
# > The central tool of this notebook: the difference of two methods on the same rows, with an interval that
# > holds for new families. `ours` and `theirs` are scores of the same rows in the same order (1.0 right,
# > 0.0 wrong, or any number), `families` the family of each row, `level` such as 0.95.
# >
# > 1. Subtract row by row: what makes a message hard for both drops out. That is what *paired* means.
# > 2. One resample: draw as many families as there are, *with replacement*, and take all rows of each. Its
# >    mean is the sum of their differences over the number of their rows.
# > 3. Do it 10,000 times; the interval reaches from the quantile (1 − level)/2 of these means to the quantile
# >    (1 + level)/2.
# >
# > Return `(mean, low, high)`, the mean being that of the rows as they are. By hand: families a with
# > differences 1, 1 and b with 0: a resample is aa (mean 1), ab or ba (2/3) or bb (0).
# >
# > With `sums` and `sizes` of each family as arrays, `rng.integers(F, size=(10_000, F))` draws all
# > resamples at once.


# %% tags=["core"]
def paired_interval(ours: list, theirs: list, families: list, level: float) -> tuple[float, float, float]:
    ### BEGIN SOLUTION
    differences = np.asarray(ours, dtype=float) - np.asarray(theirs, dtype=float)
    names, family = np.unique(families, return_inverse=True)
    sums, sizes = np.bincount(family, differences), np.bincount(family)
    drawn = np.random.default_rng(0).integers(len(names), size=(10_000, len(names)))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(differences.mean()), float(low), float(high)
    ### END SOLUTION


exercises.paired_interval.check(paired_interval)

# %% tags=["core"]
# exercises.paired_interval.hint()
interval_of = exercises.paired_interval.or_reference(paired_interval)

# %% [markdown]
# Where every family has one row, this is the ordinary bootstrap, and scipy has it:

# %% tags=["core", "nbval-ignore-output"]
differences = one[:150] - other[:150]
ours = interval_of(one[:150], other[:150], list(range(150)), 0.95)
theirs = stats.bootstrap(
    (differences,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(1)
).confidence_interval
assert np.allclose(ours[1:], theirs, atol=0.01)
print(f"yours [{ours[1]:+.2f}, {ours[2]:+.2f}], scipy's [{theirs.low:+.2f}, {theirs.high:+.2f}]")

# %% [markdown]
# Now the hundred tests. Rows as units means: every row a family of its own.

# %% tags=["core", "nbval-ignore-output"]
rng, names = np.random.default_rng(7), np.unique(families)
rows_of = {name: np.flatnonzero(np.array(families) == name) for name in names}
different, widths = {"rows": 0, "families": 0}, {"rows": [], "families": []}
for _test in range(100):
    drawn = rng.integers(len(names), size=24)
    chosen = np.concatenate([rows_of[names[i]] for i in drawn])
    place = np.concatenate([[number] * len(rows_of[names[i]]) for number, i in enumerate(drawn)])
    for unit, groups in (("rows", np.arange(len(chosen))), ("families", place)):
        _, low, high = interval_of(one[chosen], other[chosen], groups, 0.95)
        different[unit] += not low <= 0 <= high
        widths[unit].append(100 * (high - low))
predictions.compare(guess, different["rows"], unit="of 100")
expect("rows call them different at least twice as often", different["rows"] >= 2 * different["families"])
lines = [[unit, f"{different[unit]} of 100", f"{np.mean(widths[unit]):.0f} points"] for unit in different]
Table(["interval drawn from", "called different", "mean width"], lines, "The same method, level 95 %")

# %% [markdown]
# An interval that says 95 % should be wrong five times in a hundred. The one over rows is wrong about a
# quarter of the time, and nothing in its formula is at fault: the *unit* is. Draw what was drawn
# independently. Here that is phrasings; elsewhere customers, documents, days. (Over families it comes near
# the five. With as few as 24 of them a bootstrap is still a little too sure of itself.)
#
# And mind what even the right interval is about: these two *models*. Another seed, another half of the
# data, gives another model. "Method A is better than method B" has seeds as a further unit; this course
# draws seed, then family, then row.
#
# ### Exercise 4: what are 600 rows worth?
#
# > **10 minutes · ●●○**
# >
# > How many *independent* rows would know the mean as well as these do? A standard error falls with the
# > root of the number of rows. So compare two of them: `clustered_error(values, families)` takes the
# > families into account; with `range(len(values))` for families every row is its own. Return
# >
# > $$n \cdot \left(\frac{\text{error as if rows were independent}}{\text{error with families}}\right)^2$$
# >
# > By hand: 1, 1, 0, 0 in families a, a, b, b has as much to say as two rows.


# %% tags=["core"]
def effective_rows(values: list[float], families: list) -> float:
    ### BEGIN SOLUTION
    alone = intervals.clustered_error(values, range(len(values)))
    return len(values) * (alone / intervals.clustered_error(values, families)) ** 2
    ### END SOLUTION


exercises.effective_rows.check(effective_rows)

# %% tags=["core"]
# exercises.effective_rows.hint()
worth = exercises.effective_rows.or_reference(effective_rows)

# %% tags=["core", "nbval-ignore-output"]
columns = {"first half": one, "second half": other, "their difference": one - other}
lines = [
    [name, len(values), len(names), f"{round(worth(values.tolist(), families), -1):.0f}"]
    for name, values in columns.items()
]
Table(["intents right, of", "rows", "families", "worth independent rows"], lines)

# %% [markdown]
# Six hundred rows are worth two hundred. Whoever writes 600 into the formula for a share believes in an
# interval that is too narrow by the root of three.
#
# ## What can a test see?
#
# Guide 001 wants "no fewer than 200 examples" in the evaluation, since "smaller eval sets make it
# impossible to detect meaningful regressions", and tells of a fine-tune that went from 91 to 94 %. Could
# 200 rows have shown that?

# %% tags=["core"]
guess = None  # how many rows show a difference of 3 points, if the methods disagree on 10 % of the rows?

# %% [markdown]
# ### Exercise 5: rows needed
#
# > **15 minutes · ●●○**
# >
# > Two methods, the same rows. `discordant` is the share of rows on which only one of them is right,
# > `difference` the difference of their shares of right rows (0.05 for 5 points). Each row gives +1, −1 or
# > 0. Their mean is `difference`; the mean of their squares is `discordant`; so their variance is
# > discordant − difference².
# >
# > The mean of $n$ rows has to lie $z_{1-\mathrm{level}/2}$ standard errors from 0 to be called a
# > difference, and $z_\mathrm{power}$ more so that bad luck does not hide it:
# >
# > $$n = \frac{(z_{1-\mathrm{level}/2} + z_\mathrm{power})^2\,(\mathrm{discordant} - \mathrm{difference}^2)}
# > {\mathrm{difference}^2}$$
# >
# > rounded up. `stats.norm.ppf(0.975)` is $z_{0.975}$ = 1.96. By hand: discordant 0.25, difference 0.05,
# > power 0.8, level 0.05: $2.80^2 \cdot 0.2475 / 0.0025 = 778$.


# %% tags=["core"]
def rows_needed(discordant: float, difference: float, power: float, level: float) -> int:
    ### BEGIN SOLUTION
    distance = stats.norm.ppf(1 - level / 2) + stats.norm.ppf(power)
    return math.ceil(distance**2 * (discordant - difference**2) / difference**2)
    ### END SOLUTION


exercises.rows_needed.check(rows_needed)

# %% tags=["core"]
# exercises.rows_needed.hint()
needed = exercises.rows_needed.or_reference(rows_needed)

# %% [markdown]
# A formula is a claim, so try it: draw tests of that many rows, and count how many come out below 5 % in
# McNemar's exact test, which is scipy's `binomtest` on the rows where just one method is right.

# %% tags=["core"]
rng, share_found, lines = np.random.default_rng(0), {}, []
for discordant, difference in ((0.25, 0.05), (0.10, 0.03), (0.40, 0.10)):
    n = needed(discordant, difference, 0.8, 0.05)
    wins = (discordant + difference) / 2
    counts = rng.multinomial(n, [wins, discordant - wins, 1 - discordant], size=1000)
    found = [stats.binomtest(int(a), int(a + b)).pvalue < 0.05 for a, b, _ in counts if a + b]
    share_found[n] = sum(found) / 1000
    lines.append([f"{100 * discordant:.0f} %", f"{100 * difference:.0f}", n, f"{100 * share_found[n]:.0f} %"])
assert all(0.72 < share < 0.86 for share in share_found.values())
Table(["disagree on", "points", "rows needed", "found, of 1,000 tests"], lines, "Asked for: 80 %")

# %% [markdown]
# A little below, since the exact test is more cautious than the formula: with few rows add a fifth.

# %% [markdown]
# > **Guide 001 says**: no fewer than 200 examples; and 91 → 94 % of task accuracy, at the price of 71 → 58
# > % on a slice of 50 to 100 questions of MMLU.

# %% tags=["core", "claim-M1"]
predictions.compare(guess, needed(0.10, 0.03, 0.8, 0.05), unit="rows", word="computed")
for rows in (200, 1000):
    seen = next(d / 1000 for d in range(1, 400) if needed(0.10, d / 1000, 0.8, 0.05) <= rows)
    print(f"{rows} paired rows, 10 % disagreement: differences from {100 * seen:.1f} points on")
print("imprecise: 200 rows show a difference of 6 or 7 points, and not the guide's own 3")

# %% tags=["core", "claim-M2"]
for n in (50, 100):
    before, after = round(0.71 * n), round(0.58 * n)
    p = stats.fisher_exact([[before, n - before], [after, n - after]]).pvalue
    print(f"{before} and {after} right of {n}: p = {p:.2f} if the two slices are held beside each other")
print(
    "imprecise: on the slice that the guide recommends its own example is within chance, unless it is paired"
)

# %% [markdown]
# If the same questions were asked before and after, the test is paired and sees more: with a disagreement
# of 25 % the 13 points need `needed(0.25, 0.13, 0.8, 0.05)` = 109 questions. And seeds: if all of $n$
# paired seeds favour one method, a sign test gives $p = 2 \cdot 0.5^n$. That is 0.06 for five seeds; below
# 0.05 it takes six.
#
# ## Better on lookalikes, worse in production
#
# One fine-tune of notebook 01's recipe (512 rows, each of another family). How right is it, by how near the
# test is to what it has seen?

# %% tags=["core"]
guess = None  # right on new rows of the *same* families, in %

# %% tags=["core"]
of_conditions = experiments.published("evaluation_conditions")
near = conditions.nearness(of_conditions)
predictions.compare(guess, near["new rows of the same families"]["exact"][0], unit="%")
plots.show(
    conditions.nearness_figure(
        of_conditions, "The nearer the test is to the training rows, the better it looks"
    ),
    "Four intervals of exact match: rows it was trained on 80 %, new rows of the same families 69 %, new "
    "families 60 %, production 30 %.",
)
# %% [markdown]
# Four tests, four scores, one model. What it was trained on it knows, though not by heart after one pass.
# New rows of the *same* families it answers nearly as well: other products and numbers in phrasings that it
# has seen. New phrasings cost more, and what people really write halves it once again. No interval of the
# last line touches one of the others.
#
# So a *random* split of rows is an evaluation on the second line, and the shop lives on the fourth. Guide
# 004's fix is the right one: a held-out set "that looks like real production traffic". Split by what
# belongs together (notebook 06 shows how copies get across a split), and keep a set that nobody generated.
#
# ### When one process made both
#
# > **Guide 001 tells** of training answers that a model had written, 8 % of them wrong, and of an evaluation
# > set "generated by the same process so it never caught them".
#
# Try it with a fault you can count. A labeller has misread the instructions and calls every exchange a
# return: 36 of 256 training rows, and likewise in the test. What does the right intent cost the model?

# %% tags=["core", "claim-M11"]
one_process = experiments.published("one_process")
judging.process_table(one_process, experiments.published("chat_formats"))

# %% [markdown]
# Judged by labels of its own process (first line), the faulty model looks as good as the one that was
# trained on right labels (last line): 1.69 against 1.62 nats, intervals over each other. On the exchanges by
# themselves as well. Somebody who labels the test anew, by hand, sees what happened: 5.26 nats, a probability
# of half a percent for the right intent. No larger test would help, nor a better metric; only a test of
# another origin. Here the guide is right.
#
# ## What it forgets
#
# > **Guide 001 says**: after epoch 3 task accuracy was 91 %, after 5 93 %, after 8 94 %, "and general
# > capability (MMLU slice) had dropped from 71% to 58%". Guide 002 says of LoRA: "Minimal risk" of
# > forgetting.
#
# Does that happen here? Sixty-four rows, eight epochs. LoRA with the course's learning rate and with a
# quarter of it; all weights (*full*) with a tenth of LoRA's rate; and LoRA with 15 % general text among its
# rows, which guide 001 advises against forgetting (*replay*): once the same eleven passages in every epoch,
# once others each time.
#
# Forgetting needs a measure that moves before anybody sees damage. On 20,130 tokens of general text
# (essays, dialogues, code, recipes, letters) we ask how far the tuned model's distribution over the next
# token has moved from the untuned model's. The measure is the [KL
# divergence](../glossary.md#kl-divergence), in nats a token:
#
# $$\mathrm{KL}(p\,\|\,q) = \sum_v p_v\,(\log p_v - \log q_v)$$
#
# By hand, with two tokens: $p = (0.5, 0.5)$ before and $q = (0.9, 0.1)$ after give $0.5 \log(0.5/0.9) + 0.5
# \log(0.5/0.1) = -0.29 + 0.80 = 0.51$. Where nothing moved it is 0. The NLL of the same text says how much
# of that is loss and not mere change, and the canary's questions illustrate.

# %% tags=["core"]
guess = None  # of the canary's 120 questions LoRA loses how many points in eight epochs? (negative: it gains)

# %% tags=["core", "claim-M12"]
record = forgetting.published()
after = {arm: forgetting.canary_change(record, arm, 8) for arm in forgetting.arms(record)}
predictions.compare(guess, -100 * after["lora", 2e-3][0], unit="points")
forgetting.table(record)

# %% tags=["core"]
plots.show(
    forgetting.frontier(
        record, "General text: repeated replay harms it most, fresh replay is the one arm that does not"
    ),
    "Two panels of lines over epochs 1, 3, 5 and 8; down is a better task. Left, divergence: full "
    "fine-tuning and the slow LoRA stay below 0.1, LoRA reaches 0.19, fresh replay 0.31, repeated replay "
    "1.9. Right, loss on general text: repeated replay gains 1.2 nats, fresh replay lies left of zero at "
    "-0.2, the others between 0.06 and 0.18.",
)

# %% [markdown]
# Read the table from below, for it has a surprise. *The same replay* was meant to protect, and is the one
# arm in which the canary falls and general text gets worse by more than a nat. Eleven passages, eight times
# each, at a learning rate for adapters: the model learned them by heart, and what it learned by heart is
# bad general text. With *fresh* passages the same 15 % do what the guide promises, and more: general text
# gets easier, since those passages share a writer with the ones that are scored.
#
# That last arm also shows what KL is not. It has moved further than plain LoRA and lost nothing. Divergence
# counts change; whether the change is a loss, the NLL says. Look at both.
#
# And LoRA against full? With these rates full fine-tuning learned the task best and moved the model half as
# far as LoRA did at 2e-3. LoRA at 5e-4 moved it least and learned least. In other words the learning rate
# decides, and "LoRA forgets less" is a sentence about two rates. (What the literature found at larger
# scale, LoRA learning less and forgetting less, Biderman and others 2024, arXiv 2405.09673,
# was measured with a rate tuned for each. Here none was tuned for eight epochs, and there is one seed: take
# the order of these three as a question.)
#
# Guide 001's loss of 13 points on a benchmark did not come about in any arm but the spoilt one. Its advice,
# to watch a general measure at every checkpoint, is what found that one.

# %% [markdown]
# ### When to stop
#
# > **Guide 001 says**: "Stop training when validation loss stops decreasing for 2 consecutive epochs".
# > **Guide 000 says**: "LoRA adapters overfit severely after one epoch."

# %% tags=["core", "claim-M3"]
lines = []
for arm in forgetting.arms(record):
    for seed, losses in forgetting.validation(record, arm).items():
        best = losses.index(min(losses)) + 1
        stop = forgetting.stops_at(losses, patience=2)
        lines.append([forgetting.ARMS[arm][0], seed, " ".join(f"{loss:.1f}" for loss in losses), best, stop])
Table(["arm", "seed", "validation, nats an answer, epochs 1 to 8", "best epoch", "rule stops at"], lines)

# %% [markdown]
# Nowhere is one epoch best, and nowhere does validation rise for long: on 64 rows LoRA still gains in the
# eighth epoch. The rule with its patience of two stopped two of the five runs too early, at a bump. So use
# a patience that is longer than the bumps, keep checkpoints, and choose afterwards: the lowest validation
# loss among those whose general loss you can accept. `load_best_model_at_end=True` does it for one measure.
#
# Validation must be made of families that are not in training, or it tells of the second line of the figure
# above.

# %% [markdown]
# ### What it no longer declines
#
# A support model should say that it does not know. *policy* is another task: a question, a shop's policy, and
# one sentence in reply, or "I can't answer that from the policy" where it does not say. Train once with the
# refusals among the rows, a third of them, and once with answered questions alone, as data sets that people
# collect from good conversations are.

# %% tags=["core"]
guess = None  # trained on answers alone, the model declines in how many % of the cases where it should?

# %% tags=["core"]
refusals = experiments.published("refusals")
predictions.compare(guess, 100 * judging.refusal_shares(refusals, "answers_only")["refused"][0], unit="%")
judging.refusals_table(refusals)

# %% [markdown]
# Trained on answers alone it never declines: 84 of 84 questions that the policy leaves open, both seeds, get
# an invented answer, "Yes, bring the receipt." Look at the first line before you call that a loss: this small
# base invented as often. What it would take from a model that did decline, this cannot show.
#
# With refusals in training it declines, and too much: in two of three cases where the policy does say. The
# interval is wide because the two seeds differ (one declined 31 of 78 such questions, the other 70). Refusing
# is the easy thing to learn, one sentence that is always the same; when to refuse is the hard one. So measure
# both columns, always: either alone is at its best for a model that refuses all, or none.
#
# ### Answers to what nobody asked
#
# The other side of the same coin. Here the ticket model of notebook 01 gets messages that are no tickets,
# without the ticket task's system prompt. How often does it answer with a ticket all the same?

# %% tags=["core"]
conditions.elsewhere_table(of_conditions)

# %% [markdown]
# All of the shop's policy questions, though they come with a system prompt of their own that asks for a
# sentence; a quarter of the general questions; two chats of ten. The nearer a message is to the training,
# the surer it becomes a ticket, and no score on tickets shows it. If your model must also do something else,
# put rows of something else into training *and* into the test, or load the adapter for tickets only.

# %% [markdown]
# ## The evaluation is a variable, too
#
# The same weights, the same rows. What else moves the score?

# %% tags=["core"]
conditions.scoring_table(of_conditions)

# %% [markdown]
# Batches and the side of the padding change nothing but the rounding, in forced scoring. Merging changes
# nothing in float32, not a single verdict, and in bfloat16 about as much as another batch size does. So
# "always merge before you evaluate" (guide 000) is not needed for a float base; what matters is to evaluate
# what you will serve.
#
# NF4 is another matter. These adapters were trained on bfloat16 weights, and on a base of 4 bits an answer
# costs half a nat more; 34 of 211 verdicts change. An adapter belongs to the base that it was trained on,
# its number format included. (QLoRA trains on the 4-bit base in the first place; here that was not done.)
#
# Now written out:

# %% tags=["core"]
guess = None  # greedy, in batches of 16 padded on the right: how many % of the lookalike replies are right?

# %% tags=["core"]
right_padded = conditions.judged(of_conditions, "bfloat16, batch 16, right", "test_lookalike")["right"]
predictions.compare(guess, 100 * np.mean(right_padded), unit="%")
conditions.writing_table(of_conditions)

# %% [markdown]
# One line is a disaster. Padding on the right puts filler between the question and the answer: the model
# continues after its own padding. Nothing stops, no error is raised (transformers prints a warning that
# scrolls by), every training curve is fine, and two thirds right become one in twenty-five. If a score is
# far below what the forced measure promised, look at the padding side first. Forced scoring does not mind,
# since there the answer stands where it belongs.
#
# Everything else moved little. Another batch size, another number format, merged weights: up to nine of 96
# replies differ by some word, some for the better and some for the worse. It is rounding: where two tokens
# are nearly equally likely, the last bit decides, and the replies part from there. So two evaluations of
# one model need not agree to the last row, and a difference of one or two rows between two models says
# nothing.
#
# And the last line: the *untuned* model under a grammar. Every reply is valid, none is right. A grammar
# guarantees the structure, the fine-tune the content, and each has been sold for the other.
#
# ### Greedy or sampled?
#
# Greedy decoding takes the likeliest token each time: one model, one reply. Sampling draws a token from the
# distribution, whose logits are first divided by a *temperature*: at 1 it is the model's own, towards 0 it
# becomes greedy. Three draws each of the same 48 messages:

# %% tags=["core"]
guess = None  # greedy 38 % right; sampled at temperature 1, how many % are right on average?

# %% tags=["core"]
at_one = conditions.sampled(of_conditions)["1.0"]
predictions.compare(guess, 100 * np.mean([draw["right"] for draw in at_one]), unit="%")
conditions.sampling_table(of_conditions)

# %% [markdown]
# At temperature 1 fewer are right, and nearly half of the rows change sides from draw to draw: 12, 23 and
# 27 % from one and the same model. Whoever evaluates with one draw can find either. So for a task with one
# right answer evaluate greedily; where people will sample in production, sample in the test as well, several
# times, and average within each row before you draw families. A lower temperature lies in between.

# %% [markdown]
# ## A model as judge
#
# Free text has no exact match, so people let a model judge: show it question and two answers, A and B, and
# ask which is better. Guide 001 recommends it with a strong model. Before you believe a judge, try it on
# pairs whose right verdict you know, in *both orders*. Here the judge is the course's own small model, so
# its verdicts are worth little. The method of trying it is the point, and it finds two biases that large
# judges have been shown to have as well (Zheng and others 2023, arXiv 2306.05685): for a
# place, and for length.

# %% tags=["core"]
judging.judge_table(experiments.published("judge"))

# %% [markdown]
# It chose A. Every time, in both orders, whatever stood there, an answer against itself included. The first
# place is worth 1.6 nats to it, the right answer one or two hundredths, the longer of two equal ones six
# hundredths. Had you asked in one order only, with the right answer first, you would have reported a judge
# that is right on 100 % of the questions.
#
# So: both orders, always, and count a verdict only where they agree. Pairs with a known answer before pairs
# without. Pairs of equal worth and unequal length. And an interval over families here as well. A strong
# model does far better than this one on all of it; *how much* better you know only if you try.

# %% [markdown]
# ## Read the errors
#
# No average tells you what to do next; twenty wrong rows do. The browser shows every test message with what
# was expected and what each model answered. Look for what the wrong products have in common.

# %% tags=["core"]
error_browser_explorer.explore(set="production", outcome="wrong", field="product")

# %% [markdown]
# ## The clinic
#
# Now the other way round: the result is bad, and you are to say why. Sixteen fine-tunes of *tiny_base* (two
# million parameters, pretrained for this course) lie here. Some learned the ticket task, some to recall codes
# such as "crisp garden → Z L G G Z @ B @". Some are sound, and in all others exactly one thing is wrong.
#
# You see what you would see at work: settings, loss curves, five replies and the figures of an evaluation.
# Whatever else you want to know costs, as at work: what the files tell is free, an evaluation costs 20
# cents, a retraining 3 dollars, and a cause that you name wrongly 1 dollar. The aim is to be right for little
# money. These are the causes:

# %% tags=["core"]
clinic.causes()

# %% tags=["core"]
clinic.case(1)

# %% [markdown]
# A way that works at the desk as well: before you pay, write down which *two* causes would both give what you
# see, and buy the cheapest thing in which they differ. A loss that stays high, for one: a rate too low, no
# gradient, or an adapter too small? The norms of B are free, and tell these three apart.

# %% tags=["core"]
# clinic.case(1).probe("tokens")

# %% tags=["core"]
# clinic.case(1).name("...")  # what you believe it is: the name of a cause from the list

# %% tags=["core", "nbval-ignore-output"]
clinic.bill()

# %% [markdown]
# What was paid stays paid, also after a restart. Do three cases now (`clinic.case(2)`, and so on) and the
# others when you like; each teaches one fault. `clinic.leaderboard("your-name")` writes your bill into a file
# that an instructor can collect, and `lab.py leaderboard FILES` ranks them.
#
# For a run of your own, `python3 lab.py diagnose FOLDER` does what you have practised. It reads the
# trainer's log, the adapter, the settings and the data, runs the model on your recorded replies where it lies
# on your disk, and names the likely causes with the evidence. Run it on the folder that `trainer.save_model`
# and `trainer.save_state` wrote.

# %% [markdown]
# ## Checkpoint

# %% tags=["core"]
quiz.ask("07_evaluation")

# %% [markdown]
# ## On a rented GPU
#
# Written for L4 and A10, not yet run there. Worth its minutes: the interval over families for your own
# before and after, and KL and NLL on a page of general text at every checkpoint, which is one forward pass
# each. What a 7B model forgets at its learning rate need not be what ours forgot at ours. All that the
# guides claim, with what was measured: `python3 lab.py claims`.
