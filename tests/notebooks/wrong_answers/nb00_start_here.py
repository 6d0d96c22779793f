"""Wrong answers to notebook 00's exercises."""

import math
import statistics
from collections import defaultdict


def sample_deviation(values, families):
    return statistics.stdev(values) / math.sqrt(len(values))


def population_deviation(values, families):
    return statistics.pstdev(values) / math.sqrt(len(values))


def sums_of_families(values, families):
    mean, sums = sum(values) / len(values), defaultdict(float)
    for value, family in zip(values, families, strict=True):
        sums[family] += value - mean
    return sums


def by_families(values, families):
    return math.sqrt(sum(s**2 for s in sums_of_families(values, families).values())) / len(set(families))


def in_absolute_terms(values, families):
    return sum(abs(s) for s in sums_of_families(values, families).values()) / len(values)


def root_of_n(values, families):
    return math.sqrt(sum(s**2 for s in sums_of_families(values, families).values()) / len(values))


def in_percent(values, families):
    return 100 * math.sqrt(sum(s**2 for s in sums_of_families(values, families).values())) / len(values)


def in_place(logits, written, allowed):
    next_ones = {v[len(written)] for v in allowed if v[: len(written)] == written and len(v) > len(written)}
    for token in range(len(logits)):
        if token not in next_ones:
            logits[token] = -math.inf
    return logits


def off_by_one(logits, written, allowed):
    masked = logits.clone().fill_(-math.inf)
    for value in allowed:
        if value[: len(written)] == written:
            masked[value[len(written) + 1]] = logits[value[len(written) + 1]]
    return masked


def complete_values(logits, written, allowed):
    masked = logits.clone().fill_(-math.inf)
    for value in allowed:
        if value[: len(written)] == written:
            masked[value[len(written)]] = logits[value[len(written)]]
    return masked


def any_common_token(logits, written, allowed):
    masked = logits.clone().fill_(-math.inf)
    for value in allowed:
        if set(written) <= set(value) and len(value) > len(written):
            masked[value[len(written)]] = logits[value[len(written)]]
    return masked


def smallest_float(logits, written, allowed):
    import torch

    masked = torch.full_like(logits, torch.finfo(logits.dtype).min)
    for value in allowed:
        if value[: len(written)] == written and len(value) > len(written):
            masked[value[len(written)]] = logits[value[len(written)]]
    return masked


def as_a_list(logits, written, allowed):
    return in_place(logits.clone(), written, allowed).tolist()


def admitted_only(logits, written, allowed):
    masked = in_place(logits.clone(), written, allowed)
    return masked[masked > -math.inf]


def an_answer(text):
    return '{"urgency":"low"}'


def a_fifth_key(text):
    return {"intent": "return", "product": None, "order_id": None, "urgency": "low", "sure": True}


def null_as_text(text):
    return {"intent": "return", "product": "null", "order_id": None, "urgency": "low"}


def other_keys_at_times(text):
    return {"urgency": "high"} if "!" in text else {"intent": "return"}


def a_capital(text):
    return {"urgency": "Low"}


def a_set(text):
    return {"order_id": {"RL-1"}}


def fails_at_times(text):
    return {"order_id": text[text.index("RL") :][:8]}


ANSWERS = {
    "start_here.clustered_error": [
        (sample_deviation, "You treat rows as independent"),
        (population_deviation, "You treat rows as independent"),
        (by_families, "You divide by the number of families"),
        (in_absolute_terms, None),
        (root_of_n, "the square root of len(values) times"),
        (in_percent, "100 times"),
    ],
    "start_here.mask_logits": [
        (in_place, "changes"),
        (off_by_one, "It raised IndexError ("),
        (complete_values, "It raised IndexError ("),
        (any_common_token, "It must begin with them"),
        (smallest_float, "A large negative number is not -inf"),
        (as_a_list, "tensor"),
        (admitted_only, "length 3 where 7 was expected"),
    ],
    "start_here.beat": [
        (an_answer, "Return a dict"),
        (a_fifth_key, "A ticket has four keys and no other"),
        (null_as_text, "return None itself"),
        (other_keys_at_times, "the same keys for every message"),
        (a_capital, "urgency is one of low, normal, high"),
        (a_set, "order_id is words of the message, or None"),
        (fails_at_times, "It raised ValueError ("),
    ],
}
