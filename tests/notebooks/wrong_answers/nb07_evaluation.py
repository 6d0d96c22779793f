"""Wrong answers to notebook 07's exercises, as learners write them: (function, words of its diagnosis)."""

import math
import random

import numpy as np
from scipy.stats import norm

# ---------------------------------------------------------------- perplexity


def mean_of_perplexities(nll_of_rows, tokens_of_rows):
    return np.mean(np.exp(np.array(nll_of_rows) / np.array(tokens_of_rows)))


def mean_of_means(nll_of_rows, tokens_of_rows):
    return np.exp(np.mean(np.array(nll_of_rows) / np.array(tokens_of_rows)))


def base_two(nll_of_rows, tokens_of_rows):
    return 2 ** (sum(nll_of_rows) / sum(tokens_of_rows))


def loss(nll_of_rows, tokens_of_rows):
    return sum(nll_of_rows) / sum(tokens_of_rows)


def first_token_too(nll_of_rows, tokens_of_rows):
    return math.exp(sum(nll_of_rows) / sum(tokens + 1 for tokens in tokens_of_rows))


def one_a_row(nll_of_rows, tokens_of_rows):
    return [math.exp(nll / tokens) for nll, tokens in zip(nll_of_rows, tokens_of_rows, strict=True)]


def spoiled_rows(nll_of_rows, tokens_of_rows):
    total = 0.0
    while nll_of_rows:
        total += nll_of_rows.pop()
    return math.exp(total / sum(tokens_of_rows))


# ---------------------------------------------------------------- multiple choice


def chosen(divided=lambda nll, choice, rule: nll, best=min):
    def choose(nll, choices, rule):
        scores = [divided(n, choice, rule) for n, choice in zip(nll, choices, strict=True)]
        return scores.index(best(scores))

    return choose


def by_characters(nll, choice, rule):
    return nll / len(choice) if rule in ("acc_norm", "acc_bytes") else nll


def by_bytes(nll, choice, rule):
    return nll / len(choice.encode("utf-8")) if rule != "acc" else nll


def right_size(nll, choice, rule):
    return nll / {"acc": 1, "acc_norm": len(choice), "acc_bytes": len(choice.encode())}[rule]


def with_the_blank(nll, choice, rule):
    return right_size(nll, choice, rule) if rule == "acc" else nll / len(f" {choice}".encode())


def the_text(nll, choices, rule):
    return choices[chosen(right_size)(nll, choices, rule)]


def last_of_equals(nll, choices, rule):
    scores = [right_size(n, choice, rule) for n, choice in zip(nll, choices, strict=True)]
    return max(i for i, score in enumerate(scores) if score == min(scores))


# ---------------------------------------------------------------- an interval


def resampled(units, weights, draws=10_000):
    """Means of resamples of these units, drawn with replacement."""
    drawn = np.random.default_rng(3).integers(len(units), size=(draws, len(units)))
    return np.asarray(units)[drawn].sum(1) / np.asarray(weights)[drawn].sum(1)


def by_family(ours, theirs, families):
    rows = {}
    for a, b, family in zip(ours, theirs, families, strict=True):
        rows.setdefault(family, []).append(a - b)
    return list(rows.values())


def with_ends(means, mean, low, high):
    return (mean, *np.quantile(means, [low, high]))


def rows_drawn(ours, theirs, families, level):
    d = np.array(ours) - np.array(theirs)
    return with_ends(resampled(d, np.ones(len(d))), d.mean(), (1 - level) / 2, (1 + level) / 2)


def two_sets(ours, theirs, families, level):
    """Each method's rows drawn by themselves."""
    rng, rows = np.random.default_rng(3), {}
    for place, family in enumerate(families):
        rows.setdefault(family, []).append(place)
    sizes = np.array([len(r) for r in rows.values()])
    means = []
    for scores in (np.array(ours), np.array(theirs)):
        drawn = rng.integers(len(rows), size=(10_000, len(rows)))
        sums = np.array([scores[r].sum() for r in rows.values()])
        means.append(sums[drawn].sum(1) / sizes[drawn].sum(1))
    d = np.mean(ours) - np.mean(theirs)
    return with_ends(means[0] - means[1], d, (1 - level) / 2, (1 + level) / 2)


def families_alike(ours, theirs, families, level):
    means = [sum(rows) / len(rows) for rows in by_family(ours, theirs, families)]
    drawn = resampled(means, np.ones(len(means)))
    return with_ends(drawn, np.mean(means), (1 - level) / 2, (1 + level) / 2)


def of_families(low, high, draws=10_000, sign=1):
    """The right resamples; their quantiles low(level) and high(level)."""

    def interval(ours, theirs, families, level):
        rows = by_family(ours, theirs, families)
        means = resampled([sum(r) for r in rows], [len(r) for r in rows], draws)
        return with_ends(sign * means, sign * np.mean(sum(rows, [])), low(level), high(level))

    return interval


def permuted(ours, theirs, families, level):
    rows, means = by_family(ours, theirs, families), []
    for _ in range(200):
        drawn = random.sample(rows, len(rows))
        means.append(np.mean([d for r in drawn for d in r]))
    return with_ends(means, np.mean(means), (1 - level) / 2, (1 + level) / 2)


def quantiles_of_rows(ours, theirs, families, level):
    d = np.array(ours) - np.array(theirs)
    return with_ends(d, d.mean(), (1 - level) / 2, (1 + level) / 2)


def five_resamples(ours, theirs, families, level):
    return of_families(lambda v: (1 - v) / 2, lambda v: (1 + v) / 2, draws=5)(ours, theirs, families, level)


def families_in_place(ours, theirs, families, level):
    families.sort()
    return rows_drawn(ours, theirs, families, level)


# ---------------------------------------------------------------- what a test can see


def _errors(values, families):
    """Squared errors of the mean: rows by themselves, and families."""
    mean, sums = np.mean(values), {}
    for value, family in zip(values, families, strict=True):
        sums[family] = sums.get(family, 0) + value - mean
    n = len(values)
    return sum((np.array(values) - mean) ** 2) / n**2, sum(s * s for s in sums.values()) / n**2


def count_families(values, families):
    return len(set(families))


def design_effect(values, families):
    alone, clustered = _errors(values, families)
    return clustered / alone


def more_rows(values, families):
    return len(values) * design_effect(values, families)


def not_squared(values, families):
    return len(values) / math.sqrt(design_effect(values, families))


def by_stdev(values, families):
    alone, clustered = np.var(values, ddof=1) / len(values), _errors(values, families)[1]
    return len(values) * alone / clustered


def needed(z=lambda power, level: norm.ppf(1 - level / 2) + norm.ppf(power), formula=None, whole=math.ceil):
    formula = formula or (lambda z, share, d: z**2 * (share - d**2) / d**2)

    def rows_needed(discordant, difference, power, level):
        return whole(formula(z(power, level), discordant, difference))

    return rows_needed


def rule_of_thumb(discordant, difference, power, level):
    """As if power and level were always 0.8 and 0.05."""
    return math.ceil(2.8**2 * (discordant - difference**2) / difference**2)


ANSWERS = {
    "evaluation.perplexity": [
        (mean_of_perplexities, "one hard row of a few tokens"),
        (mean_of_means, "You average the rows' means"),
        (base_two, "The NLL is in nats"),
        (loss, "the perplexity is its exponential"),
        (first_token_too, "one token a row too many"),
        (one_a_row, None),
        (spoiled_rows, "changes argument nll_of_rows in place"),
    ],
    "evaluation.choose": [
        (chosen(right_size, max), "take the smallest"),
        (chosen(), "You compare the sums under every rule"),
        (chosen(by_characters), "Under acc_bytes you divide by characters"),
        (chosen(by_bytes), "Under acc_norm you divide by bytes"),
        (chosen(with_the_blank), None),
        (the_text, "You return the choice"),
        (last_of_equals, "Of two equally likely choices"),
    ],
    "evaluation.paired_interval": [
        (rows_drawn, "You draw rows"),
        (two_sets, "as if they had had different rows"),
        (families_alike, "Every family weighs the same"),
        (of_families(lambda v: 1 - v, lambda v: v), "You cut off 1 - level at either end"),
        (of_families(lambda v: 0.025, lambda v: 0.975), "always return the 95 % interval"),
        (of_families(lambda v: (1 - v) / 2, lambda v: (1 + v) / 2, sign=-1), "The sign"),
        (of_families(lambda v: (1 + v) / 2, lambda v: (1 - v) / 2), None),
        (permuted, "draw with replacement"),
        (quantiles_of_rows, "how rows scatter"),
        (five_resamples, None),
        (families_in_place, "You draw rows"),
    ],
    "evaluation.effective_rows": [
        (count_families, "the number of families"),
        (design_effect, "That is the design effect"),
        (more_rows, "upside down"),
        (not_squared, "square the ratio"),
        (by_stdev, "One error is with n - 1"),
    ],
    "evaluation.rows_needed": [
        (needed(lambda power, level: norm.ppf(1 - level) + norm.ppf(power)), "one-sided"),
        (needed(lambda power, level: norm.ppf(1 - level / 2) - norm.ppf(power)), "wrong sign"),
        (needed(lambda power, level: norm.ppf(1 - level / 2)), "z of the power is missing"),
        (needed(formula=lambda z, share, d: z**2 * (share - d**2) / d), "You divide by the difference"),
        (needed(formula=lambda z, share, d: z**2 * share / d**2), "the variance of a row's difference"),
        (needed(formula=lambda z, share, d: 2 * z**2 * 0.25 / d**2), "two separate test sets"),
        (needed(formula=lambda z, share, d: z**2 * share / (100 * d) ** 2), None),
        (needed(whole=lambda rows: rows), "round up"),
        (needed(whole=round), None),
        (rule_of_thumb, None),
    ],
}
