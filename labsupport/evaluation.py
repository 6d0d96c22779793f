"""How good is a model at the ticket task? Likelihood, exact match, field F1, and honest intervals.

The primary measure is teacher-forced: the model sees the right answer token by token, and we keep the
negative log-likelihood (NLL, in nats) of each token and whether it was the model's first choice. If
every token was, greedy decoding would have written exactly this answer, so *forced exact match*
needs no generation. It is a lower bound: the same text in other tokens than the tokenizer's own counts as
wrong. Generation is needed for these, and to see what the model writes when it is wrong.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

import numpy as np
import torch

from labsupport import chat, prefixes, profiles, tickets
from labsupport.files import RUNS, write_atomically


def field_of_tokens(answer: str, offsets: list[tuple[int, int]]) -> list[str | None]:
    """Which field each token of an answer decides; None for the fixed keys and brackets.

    offsets: (start, end) of each token in characters of `answer`. A token that covers any character of
    a value belongs to that value: `":"` decides between a string and null.
    """
    label, spans, position = json.loads(answer), {}, 0
    for field in tickets.FIELDS:
        value = json.dumps(label[field], separators=(",", ":"), ensure_ascii=False)
        start = answer.index(f'"{field}":', position) + len(field) + 3
        spans[field] = (start, position := start + len(value))
    return [next((f for f, (a, b) in spans.items() if start < b and end > a), None) for start, end in offsets]


@torch.no_grad()
def score(model, tokenizer, rows: list[dict], batch_size: int = 4) -> list[dict]:
    """Teacher-forced scores of the right answers. Few rows at a time: on a CPU padding costs more than calls.

    Returns one dict a row: `nll` (nats, summed by field; key 'all' sums every token of the answer and
    the end-of-turn token) and `exact` (every token was the model's first choice).
    """
    was_training = model.training
    model.eval()
    examples = [chat.encode_example(tokenizer, row) for row in rows]
    results: list[dict] = [{} for _ in rows]
    for i, logits in prefixes.logits_of_answers(model, tokenizer, examples, batch_size):
        results[i] = summarise(examples[i], *compared(examples[i].targets, logits))
    model.train(was_training)
    return results


def compared(targets: list[int], logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """For each target token its log-probability (nats), and whether it was the first choice; from logits of
    shape (tokens, vocabulary)."""
    ids = torch.tensor(targets)
    return logits.log_softmax(-1).gather(-1, ids[:, None])[:, 0], logits.argmax(-1) == ids


def summarise(example: chat.Example, log_probs: torch.Tensor, first_choice: torch.Tensor) -> dict:
    """One row's `nll` by field and `exact`, from the log-probabilities of its answer tokens."""
    fields = field_of_tokens(example.answer, example.answer_offsets)
    used = len(fields) + 1  # the answer and the end-of-turn token; not the newline after it
    nll = {"all": -float(log_probs[:used].sum())}
    for field in tickets.FIELDS:
        chosen = [j for j, name in enumerate(fields) if name == field]
        nll[field] = -float(log_probs[chosen].sum())
    return {"nll": nll, "exact": bool(first_choice[:used].all())}


def generate(model, tokenizer, rows: list[dict], batch_size: int = 16) -> list[str]:
    """Greedy replies to the rows' messages, decoded without special tokens, cut at the profile's length."""
    prompts = [chat.prompt_ids(tokenizer, row["text"]) for row in rows]
    return replies(model, tokenizer, prompts, profiles.current().reply_tokens, batch_size)


@torch.no_grad()
def replies(
    model,
    tokenizer,
    prompts: list[list[int]],
    longest: int,
    batch_size: int,
    processor_for: Callable | None = None,
) -> list[str]:
    """Greedy replies of at most `longest` tokens to any prompts; what these begin with is run once.

    processor_for: makes of a batch's indices the LogitsProcessor that restricts what it may write.
    """
    if not prompts:
        return []
    was_training = model.training
    model.eval()
    prefix = prefixes.shared(prompts)
    cache = prefixes.cache_of(model, prefix)
    written = [""] * len(prompts)
    for chosen in chat.batches(prompts, batch_size):
        rest, mask = chat.pad_left([prompts[i][len(prefix) :] for i in chosen], tokenizer.pad_token_id)
        front = torch.tensor([prefix] * len(chosen), dtype=rest.dtype).reshape(len(chosen), -1)
        ids, mask = torch.cat([front, rest], 1), torch.cat([torch.ones_like(front), mask], 1)
        output = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            past_key_values=prefixes.repeated(cache, len(chosen)),
            logits_processor=[processor_for(chosen)] if processor_for else None,
            max_new_tokens=longest,
            do_sample=False,
            use_cache=True,
            pad_token_id=tokenizer.pad_token_id,
        )
        texts = tokenizer.batch_decode(output[:, ids.shape[1] :], skip_special_tokens=True)
        for i, text in zip(chosen, texts, strict=True):
            written[i] = text.strip()
    model.train(was_training)
    return written


# ---------------------------------------------------------------- metrics


def valid_json(replies: list[str]) -> np.ndarray:
    """1 where a reply is exactly the JSON object the task asks for, else 0."""
    return np.array([float(tickets.parse(reply) is not None) for reply in replies])


def is_right(reply: str, row: dict) -> bool:
    """Exact match: the reply is valid JSON of the task's form and all four fields are the row's."""
    label = tickets.parse(reply)
    return label is not None and all(label[field] == row[field] for field in tickets.FIELDS)


def exact_match(rows: list[dict], replies: list[str]) -> np.ndarray:
    """1 where the reply is right, else 0."""
    return np.array([float(is_right(reply, row)) for row, reply in zip(rows, replies, strict=True)])


def f1(predicted: list, expected: list) -> float:
    """Micro F1 of one field: a value is a claim, None claims nothing.

    F1 = 2·TP / (claims made + claims due); NaN where there is neither.
    """
    right, claims = f1_terms(predicted, expected)
    return sum(right) / sum(claims) if sum(claims) else float("nan")


def f1_terms(predicted: list, expected: list) -> tuple[list[int], list[int]]:
    """For each row twice its true positives, and the claims made and due: F1 is the ratio of their sums."""
    pairs = list(zip(predicted, expected, strict=True))
    right = [2 * (due is not None and made == due) for made, due in pairs]
    return right, [(made is not None) + (due is not None) for made, due in pairs]


def field_f1(rows: list[dict], replies: list[str]) -> dict[str, tuple[float, float, float]]:
    """F1 of each field with its 95 % interval over families: (F1, low, high).

    A reply that is not valid JSON claims nothing. For intent and urgency, which are never null, F1 is the
    accuracy if every reply is valid.
    """
    labels = [tickets.parse(reply) or dict.fromkeys(tickets.FIELDS) for reply in replies]
    families = [row["family"] for row in rows]
    result = {}
    for field in tickets.FIELDS:
        right, claims = f1_terms([label[field] for label in labels], [row[field] for row in rows])
        result[field] = interval(right, families, sizes=claims)
    return result


def interval(
    values,
    families: list[str],
    seeds: list | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    sizes=None,
) -> tuple[float, float, float]:
    """Mean and percentile bootstrap interval that resamples seed, then family, then row.

    values: one number a row (or the difference of two models on the same row: then the interval is
    paired). Rows of one family share a phrasing and are not independent, so whole families are drawn.
    sizes: what each value is a part of, for a ratio of sums such as F1; 1 each for a mean.
    Returns (mean, low, high) in the unit of `values`.
    """
    values = np.asarray(values, dtype=float)
    if values.size == 0 or len(families) != values.size:
        raise ValueError(f"{values.size} values for {len(families)} families: one family a value")
    sizes = np.ones_like(values) if sizes is None else np.asarray(sizes, dtype=float)
    seeds = seeds or [0] * values.size
    groups: dict = {}
    for pair, family, seed in zip(np.stack([values, sizes], axis=1), families, seeds, strict=True):
        groups.setdefault(seed, {}).setdefault(family, []).append(pair)
    rng = np.random.default_rng(0)
    chosen = rng.integers(len(groups), size=(resamples, len(groups)))
    totals = np.zeros((resamples, 2))  # of the values and of the sizes of the rows drawn
    for number, by_family in enumerate(groups.values()):
        for slot in range(len(groups)):
            here = chosen[:, slot] == number
            totals[here] += resampled(list(by_family.values()), int(here.sum()), rng)
    with np.errstate(invalid="ignore"):  # F1 where nothing is claimed and nothing due is NaN
        ratios = totals[:, 0] / totals[:, 1]
        whole = values.sum() / sizes.sum()
    low, high = np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2])
    return float(whole), float(low), float(high)


def resampled(families: list[list[np.ndarray]], times: int, rng: np.random.Generator) -> np.ndarray:
    """The sum of the rows, pairs of value and size, in each of `times` resamples of families and of rows in
    each: (times, 2)."""
    lengths = np.array([len(rows) for rows in families])
    padded = np.zeros((len(families), lengths.max(), 2))
    for place, pairs in zip(padded, families, strict=True):
        place[: len(pairs)] = pairs
    drawn = rng.integers(len(families), size=(times, len(families)))
    rows = (rng.random((*drawn.shape, lengths.max())) * lengths[drawn][..., None]).astype(int)
    there = np.arange(lengths.max()) < lengths[drawn][..., None]
    return (padded[drawn[..., None], rows] * there[..., None]).sum(axis=(1, 2))


# ---------------------------------------------------------------- recorded results


def recorded(model, tokenizer, rows: list[dict], name: str, compute: Callable) -> list:
    """`compute(model, tokenizer, rows)`, or what it returned before for exactly this model and rows.

    name: what is computed ("score", "generate"); part of the key, as are the weights of the model,
    which adapters are switched on and how strongly, the rows, the prompt and the chat template. One line
    says which it was.
    """
    from labsupport.training import weights_hash

    adapters = [
        (n, m.disable_adapters, list(m.active_adapters), m.merged, getattr(m, "scaling", None))
        for n, m in model.named_modules()
        if hasattr(m, "disable_adapters") and hasattr(m, "merged")
    ]
    texts = [tickets.SYSTEM_PROMPT, tokenizer.chat_template]
    facts = [name, weights_hash(model), adapters, rows, texts, profiles.current().reply_tokens]
    key = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()
    file = RUNS / "evaluations" / f"{name}-{key[:16]}.json"
    try:
        result = json.loads(file.read_text())["result"]
        print(f"{name}, {len(rows)} rows: loaded")
        return result
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not there, or damaged: compute it
    result = compute(model, tokenizer, rows)
    write_atomically(file, json.dumps({"key": key, "result": result}))
    print(f"{name}, {len(rows)} rows: computed")
    return result
