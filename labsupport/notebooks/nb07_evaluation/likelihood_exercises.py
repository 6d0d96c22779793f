"""Notebook 07's exercises about likelihoods: perplexity, and multiple choice that writes nothing."""

from __future__ import annotations

import math

from labsupport.checking.exercise import Exercise, told
from labsupport.evaluation import canary_scoring
from labsupport.evaluation import perplexity as perplexities

# ---------------------------------------------------------------- perplexity


def _rate(nll, tokens):
    return sum(nll) / sum(tokens)


def _rows(nll, tokens):
    return [n / t for n, t in zip(nll, tokens, strict=True)]


def _mean(values):
    return sum(values) / len(values)


perplexity = Exercise(
    name="evaluation.perplexity",
    reference=perplexities.perplexity,
    cases=[
        ([2.0, 9.0], [2, 3]),
        ([31.5, 4.2, 12.9, 0.7], [12, 1, 6, 2]),
        ([55.0], [40]),
        ([3.1, 3.1, 8.8], [5, 1, 3]),
    ],
    mistakes=told(
        lambda nll, tokens: _mean([math.exp(rate) for rate in _rows(nll, tokens)]),
        "You average the rows' perplexities: one hard row of a few tokens then decides. Add up first.",
        lambda nll, tokens: math.exp(_mean(_rows(nll, tokens))),
        "You average the rows' means, so a row of two tokens weighs as much as one of forty: divide all NLL "
        "by all tokens.",
        lambda nll, tokens: 2 ** _rate(nll, tokens),
        "The NLL is in nats, so its inverse is e to the power of, not 2 to the power of.",
        _rate,
        "That is the mean NLL of a token, in nats: the perplexity is its exponential.",
        lambda nll, tokens: math.exp(sum(nll) / (sum(tokens) + len(tokens))),
        "You count one token a row too many: the first has nothing before it, so nothing predicts it, and "
        "tokens_of_rows counts the predictions.",
        lambda nll, tokens: math.exp(sum(nll) / (sum(tokens) - len(tokens) or 1)),
        "You take one token off each row: tokens_of_rows counts the predictions already.",
        lambda nll, tokens: math.exp(-_rate(nll, tokens)),
        "The sign: that is a token's probability (their geometric mean), and perplexity is 1 over it.",
        lambda nll, tokens: math.exp(_mean(nll)),
        "You divide by the number of rows: divide by the number of tokens.",
        lambda nll, tokens: _rate(nll, tokens) / math.log(2),
        "That is bits a token: the perplexity is 2 to that power, or e to the mean in nats.",
    ),
    hints=[
        "Every token counts the same, in whichever row it stands.",
        "First the mean NLL of a token: all NLL added up, over all tokens.",
        "math.exp of that mean, which is in nats.",
    ],
    minutes=5,
    difficulty=1,
)

# ---------------------------------------------------------------- multiple choice

SIZES = {
    "acc": lambda choice: 1,
    "acc_norm": len,
    "acc_bytes": lambda choice: len(choice.encode()),
}


def _by(size_of, best=min):
    """An answer that divides by size_of(choice, rule) and takes the best."""

    def chosen(nll, choices, rule):
        scores = [n / size_of(choice, rule) for n, choice in zip(nll, choices, strict=True)]
        return scores.index(best(scores))

    return chosen


def _size(choice, rule):
    return SIZES[rule](choice)


def _last(nll, choices, rule):
    return len(nll) - 1 - canary_scoring.choose(nll[::-1], choices[::-1], rule)


def _multiplied(nll, choices, rule):
    scores = [n * _size(choice, rule) for n, choice in zip(nll, choices, strict=True)]
    return scores.index(min(scores))


_CHOICES = [
    ([8.4, 7.9, 9.3, 14.0], ["tea", "café", "a long coffee", "milk"]),
    ([4.5, 5.2, 8.0, 9.9], ["tee", "thé", "milk", "coffee"]),
    ([4.0, 6.0, 6.0, 4.0], ["iron", "silver", "copper", "zinc"]),
    ([12.1, 9.7, 3.3, 3.1], ["Zürich am See", "Wien", "Rom", "Oß"]),
    ([6.6, 5.8, 8.8, 13.0], ["in May", "in May", "never ever", "on the first day"]),
    ([10.0, 12.0, 12.3, 11.0], ["of the cat", "of a tall dog", "of big cows", "of 12 mice"]),
]

choose = Exercise(
    name="evaluation.choose",
    reference=canary_scoring.choose,
    cases=[(nll, choices, rule) for rule in SIZES for nll, choices in _CHOICES],
    mistakes=told(
        _by(_size, best=max),
        "You take the largest NLL, which is the least likely choice: take the smallest.",
        _by(lambda choice, rule: 1),
        "You compare the sums under every rule: acc_norm divides by characters, acc_bytes by bytes.",
        _by(lambda choice, rule: 1 if rule == "acc" else len(choice)),
        "Under acc_bytes you divide by characters: é is one character and two bytes, in choice.encode().",
        _by(lambda choice, rule: 1 if rule == "acc" else len(choice.encode())),
        "Under acc_norm you divide by bytes: the harness divides by characters there, len(choice).",
        _by(lambda choice, rule: len(choice) if rule == "acc" else _size(choice, rule)),
        "Under acc nothing is divided: the sum itself is compared.",
        _by(lambda choice, rule: 1 if rule == "acc" else len(choice.split())),
        "You divide by words: acc_norm divides by characters, acc_bytes by bytes.",
        _by(lambda choice, rule: 1 if rule == "acc" else _size(choice, rule) + 1),
        "You count the blank before the choice as well: the harness counts the choice alone.",
        _last,
        "Of two equally likely choices you take the last: take the first.",
        _multiplied,
        "You multiply by the length: divide, for the NLL of a character or a byte.",
        lambda nll, choices, rule: choices[canary_scoring.choose(nll, choices, rule)],
        "You return the choice: return its place in the list, counted from 0.",
        lambda nll, choices, rule: canary_scoring.choose(nll, choices, rule) + 1,
        "You count from 1: the first choice has place 0.",
    ),
    hints=[
        "Three rules, one comparison: divide each NLL by 1, by len(choice) or by the number of bytes.",
        "The bytes of a text: len(choice.encode()).",
        "The place of the smallest of a list of scores, the first of equal ones: scores.index(min(scores)).",
    ],
    minutes=10,
    difficulty=1,
)
