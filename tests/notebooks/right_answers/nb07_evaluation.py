"""Right answers to notebook 07's exercises that are written in another way than the reference."""

import math

import numpy as np
from scipy.stats import norm


def perplexity(nll_of_rows, tokens_of_rows):
    """The rows' means, weighted by their tokens."""
    means = np.array(nll_of_rows) / np.array(tokens_of_rows)
    return np.exp(np.average(means, weights=tokens_of_rows))


def choose(nll, choices, rule):
    """The likeliest by log-likelihood, as the harness has it."""
    scores = -np.array(nll)
    if rule == "acc_norm":
        scores = scores / [len(choice) for choice in choices]
    if rule == "acc_bytes":
        scores = scores / [len(bytes(choice, "utf-8")) for choice in choices]
    return np.argmax(scores)


def paired_interval(ours, theirs, families, level):
    """How often each family is drawn, instead of which; and the ends out of the sorted means."""
    rows = {}
    for ours_has, theirs_has, family in zip(ours, theirs, families, strict=True):
        rows.setdefault(family, []).append(ours_has - theirs_has)
    count = len(rows)
    times = np.random.default_rng(7).multinomial(count, [1 / count] * count, size=10_000)
    means = times @ [sum(r) for r in rows.values()] / (times @ [len(r) for r in rows.values()])
    means = sorted(means)
    cut = round(10_000 * (1 - level) / 2)
    return [np.mean(ours) - np.mean(theirs), means[cut], means[-cut - 1]]


def effective_rows(values, families):
    """By the products of each two rows of one family."""
    mean = sum(values) / len(values)
    off = [value - mean for value in values]
    together = sum(a * b for a, f in zip(off, families, strict=True) for b, g in zip(off, families) if f == g)  # noqa: B905
    return len(values) * sum(a * a for a in off) / together


def rows_needed(discordant, difference, power, level):
    """Row by row, until the standard error is small enough."""
    n, distance = 1, norm.isf(level / 2) + norm.isf(1 - power)
    while math.sqrt((discordant - difference**2) / n) * distance > difference:
        n += 1
    return n


ANSWERS = {
    "evaluation.perplexity": perplexity,
    "evaluation.choose": choose,
    "evaluation.paired_interval": paired_interval,
    "evaluation.effective_rows": effective_rows,
    "evaluation.rows_needed": rows_needed,
}
