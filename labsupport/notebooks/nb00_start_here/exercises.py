"""The exercises of notebook 00, each with the mistakes people make."""

from __future__ import annotations

import itertools
import math
import re
import statistics

from labsupport import old_names
from labsupport.baselines import grammar
from labsupport.checking.exercise import Exercise, told
from labsupport.evaluation import intervals
from labsupport.notebooks.nb00_start_here import open_exercise
from labsupport.tasks import tickets

# ---------------------------------------------------------------- the standard error with families


def _by_family(values, families):
    groups: dict = {}
    for value, family in zip(values, families, strict=True):
        groups.setdefault(family, []).append(value)
    return list(groups.values())


def _root_of_squares(values):
    return math.sqrt(sum(value**2 for value in values))


def _centred(values):
    mean = sum(values) / len(values)
    return [value - mean for value in values]


def _of_family_means(values, families):
    means = [sum(group) / len(group) for group in _by_family(values, families)]
    return _root_of_squares(_centred(means)) / len(means)


def _neighbours(values, families):
    pairs = itertools.groupby(zip(_centred(values), families, strict=True), key=lambda pair: pair[1])
    return _root_of_squares(sum(value for value, _ in group) for _, group in pairs) / len(values)


def _not_centred(values, families):
    return _root_of_squares(map(sum, _by_family(values, families))) / len(values)


def _absolute(values, families):
    sizes = [abs(deviation) for deviation in _centred(values)]
    return _root_of_squares(map(sum, _by_family(sizes, families))) / len(values)


clustered_error = Exercise(
    name="start_here.clustered_error",
    reference=intervals.clustered_error,
    cases=[
        ([1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0], ["a", "a", "a", "b", "b", "c", "d"]),
        ([0.2, 0.4, 0.9, 0.7], ["p", "q", "q", "p"]),
        ([1.0, 0.0, 0.0, 0.0, 1.0], ["u", "v", "w", "x", "y"]),
    ],
    mistakes=told(
        (
            lambda values, families: _root_of_squares(_centred(values)) / len(values),
            lambda values, families: statistics.stdev(values) / math.sqrt(len(values)),
        ),
        "You treat rows as independent: add the deviations within a family before you square.",
        _of_family_means,
        "You average families first, so a family of one row weighs as much as one of five.",
        lambda v, families: intervals.clustered_error(v, families) * len(v) / len(set(families)),
        "You divide by the number of families; the mean was over rows, so divide by rows.",
        lambda values, families: (
            intervals.clustered_error(values, families) * len(values) / (len(values) - 1)
        ),
        "Divide by the number of rows, not by one less: this estimator has no such correction.",
        _neighbours,
        "You group neighbours only: a family's rows may stand apart, so collect them by name.",
        lambda values, families: _root_of_squares(
            sum(_centred(group)) for group in _by_family(values, families)
        ),
        "Within its own mean a family sums to nothing: take the deviations from the mean of all values.",
        _not_centred,
        "You square sums of values, not of deviations: subtract the mean first.",
        lambda values, families: intervals.clustered_error(values, families) ** 2,
        "That is the variance of the mean: the standard error is its square root.",
        _absolute,
        "You add absolute deviations: right and wrong rows of a family must be able to cancel.",
        lambda values, families: 1.96 * intervals.clustered_error(values, families),
        "That is half a 95 % interval; the standard error is without the 1.96.",
        lambda values, families: intervals.clustered_error(values, families) * len(values),
        "You forget to divide by the number of rows: the error of the sum, not of the mean.",
    ),
    hints=[
        "First the mean of all values, then each value's deviation from it.",
        "Add the deviations within each family; rows that err together then add up instead of averaging out.",
        "Square the families' sums, add them, take the root, divide by the number of rows.",
    ],
    minutes=15,
    difficulty=2,
)

# ---------------------------------------------------------------- constrained decoding


SMALLEST = 3.4028234663852886e38  # its negative is float32's least number, which some take for -inf


def _masked(tokens, fill=-math.inf):
    """A wrong answer that admits the tokens which `tokens(written, allowed)` returns."""

    def wrong(logits, written, allowed):
        result = logits.clone().fill_(fill)
        for token in tokens(written, allowed):
            result[token] = logits[token]
        return result

    return wrong


def _going_on(written, allowed):
    n = len(written)
    return {value[n] for value in allowed if len(value) > n and value[:n] == written}


def _by_place(written, allowed):
    return {value[len(written)] for value in allowed if len(value) > len(written)}


def _last_only(written, allowed):
    n = len(written)
    return {v[n] for v in allowed if len(v) > n and v[max(n - 1, 0) : n] == written[-1:]}


def _unordered(written, allowed):
    return {v[len(written)] for v in allowed if len(v) > len(written) and set(written) <= set(v)}


def _forbidden_only(logits, written, allowed):
    result = logits.clone()
    for token in _going_on(written, allowed):
        result[token] = -math.inf
    return result


def _mask_cases():
    import torch

    draw = torch.Generator().manual_seed(0)
    first = [[3, 5], [3, 1, 5], [2, 5], [4, 1, 6]]
    second = [[2], [2, 3], [0, 2, 6], [6, 2, 1]]
    tries = [([], first), ([3], first), ([3, 1], first), ([2], second), ([0, 2], second), ([], second)]
    return [(torch.randn(7 + i, generator=draw) - 0.5, *case) for i, case in enumerate(tries)]


mask_logits = Exercise(
    name="start_here.mask_logits",
    reference=grammar.mask_logits,
    cases=_mask_cases,
    mistakes=told(
        _masked(lambda written, allowed: {token for value in allowed for token in value}),
        "You admit every token of every value. Which come next depends on what is written.",
        _masked(_by_place),
        "You look at the place only. A value counts only if it begins with what is written.",
        _masked(_last_only),
        "You compare the last token only: the whole of what is written must be the value's beginning.",
        _masked(_unordered),
        "You ask whether a value has the tokens that are written. It must begin with them, in their order.",
        _masked(lambda written, allowed: {value[0] for value in allowed if value[: len(written)] == written}),
        "You admit a value's first token. Its next one stands at position len(written).",
        _masked(_going_on, fill=0.0),
        "You set what is forbidden to 0. That is a logit like any other; only -inf has probability 0.",
        tuple(_masked(_going_on, fill=fill) for fill in (-1e9, -1e4, -100.0, -SMALLEST)),
        "A large negative number is not -inf: how much it forbids depends on the dtype and the other logits.",
        _forbidden_only,
        "The other way round: you forbid what may come next and leave all else.",
        lambda logits, written, allowed: grammar.mask_logits(logits, written, allowed).softmax(-1),
        "Those are probabilities: return logits, the admitted ones as they were.",
    ),
    hints=[
        "Which values begin with what is written? value[:len(written)] == written says so.",
        "Of each of these the token at position len(written) is admitted, if it has one there.",
        "Begin with torch.full_like(logits, float('-inf')) and copy the admitted logits into it.",
    ],
    minutes=15,
    difficulty=2,
    returns="tensor",
)

# ---------------------------------------------------------------- beat a number of the table


def by_phrases(text: str) -> dict:
    """The urgency by a handful of phrases."""
    waits = re.search(r"no (rush|hurry)|whenever|can wait|take your time", text.lower())
    soon = re.search(r"urgent|asap|today|tomorrow|(by|before|on) \w+day", text.lower())
    return {"urgency": "low" if waits else "high" if soon else "normal"}


def _null_as_text(text):
    found = re.search(r"tent|rope|stove", text)
    return {"product": found[0] if found else "None"}


beat = open_exercise.Open(
    name="start_here.beat",
    reference=by_phrases,
    cases=lambda: [(row["text"],) for row in tickets.load("validation")[::40]],
    mistakes=told(
        (lambda text: by_phrases(text)["urgency"], lambda text: {}),
        open_exercise.FORM,
        lambda text: by_phrases(text) | {"reason": "a phrase"},
        open_exercise.EXTRA,
        lambda text: by_phrases(text) | ({"order_id": None} if "order" in text else {}),
        open_exercise.SAME,
        _null_as_text,
        open_exercise.NULL,
        lambda text: {"urgency": by_phrases(text)["urgency"].replace("high", "urgent")},
        f"{open_exercise.VALUE} urgency is one of low, normal, high.",
    ),
    hints=[
        "The urgency needs no learning: which phrases say that it can wait, which that it cannot?",
        "Read training messages of one value: [row['text'] for row in train if row['urgency'] == 'low'].",
        "re.search(r'no rush|whenever|can wait', text.lower()) finds one of several phrases.",
    ],
    minutes=20,
    difficulty=3,
)


def __getattr__(name: str):
    return old_names.retired(__name__, name)
