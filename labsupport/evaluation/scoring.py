"""How good is a model at the ticket task? Likelihood, exact match, field F1, and honest intervals.

The primary measure is teacher-forced: the model sees the right answer token by token, and we keep the
negative log-likelihood (NLL, in nats) of each token and whether it was the model's first choice. If
every token was, greedy decoding would have written exactly this answer, so *forced exact match*
needs no generation. It is a lower bound: the same text in other tokens than the tokenizer's own counts as
wrong. Generation is needed for these, and to see what the model writes when it is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable

import torch

from labsupport.core import profiles
from labsupport.models import chat
from labsupport.models.modes import evaluation_mode
from labsupport.tasks import tickets
from labsupport.training import prefixes


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
    examples = [chat.encode_example(tokenizer, row) for row in rows]
    results: list[dict] = [{} for _ in rows]
    with evaluation_mode(model):
        for i, logits in prefixes.logits_of_answers(model, tokenizer, examples, batch_size):
            results[i] = summarise(examples[i], *compared(examples[i].targets, logits))
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
    prefix = prefixes.shared(prompts)
    written = [""] * len(prompts)
    with evaluation_mode(model):
        cache = prefixes.cache_of(model, prefix)
        for chosen in chat.batches(prompts, batch_size):
            rest, mask = chat.pad_left(tokenizer, [prompts[i][len(prefix) :] for i in chosen])
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
    return written
