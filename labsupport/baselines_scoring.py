"""Scores and replies under any prompts, with one key/value cache for what the prompts have in common.

The shared beginning (the system prompt, fixed examples) is run through the model once and its cache is copied
for every batch.
"""

from __future__ import annotations

import copy
import dataclasses

import torch

from labsupport import baselines_grammar, chat, evaluation, profiles, tickets


def shared_prefix(prompts: list[list[int]]) -> list[int]:
    """The ids that all prompts begin with, at least one id short of the shortest prompt."""
    first, limit = prompts[0], min(map(len, prompts)) - 1
    same = 0
    while same < limit and all(prompt[same] == first[same] for prompt in prompts):
        same += 1
    return first[:same]


@torch.no_grad()
def prefix_cache(model, ids: list[int], known=None):
    """The key/value cache of a prefix for a batch of one; None for an empty prefix.

    known: the cache of an own beginning of `ids`, which is copied instead of run.
    """
    if not ids:
        return None
    rest = ids[known.get_seq_length() if known is not None else 0 :]
    # One logit only: the cache is what is wanted.
    return model(
        input_ids=torch.tensor([rest], device=model.device),
        past_key_values=repeated(known, 1),
        use_cache=True,
        logits_to_keep=1,
    ).past_key_values


def repeated(cache, rows: int):
    """A copy of a one-row cache for a batch of that many rows."""
    if cache is None:
        return None
    cache = copy.deepcopy(cache)
    cache.batch_repeat_interleave(rows)
    return cache


# ---------------------------------------------------------------- scores and replies


@torch.no_grad()
def score(
    model,
    tokenizer,
    rows: list[dict],
    prompts: list[list[int]],
    constrained: bool = False,
    batch_size: int = 8,
) -> list[dict]:
    """evaluation.score under any prompts: `nll` by field (nats), `exact`, and `right` by field.

    right[field]: each token of the field's right value was the first choice, given the right answer before
    it. constrained: adds `constrained` with `exact` and `right` if choices are among the tokens that the
    grammar admits, so that keys, quotes and brackets cannot be wrong: what greedy constrained decoding
    would write, without writing it.
    """
    prefix = shared_prefix(prompts)
    cache = prefix_cache(model, prefix)
    allowed = baselines_grammar.for_tokenizer(model, tokenizer) if constrained else None
    examples = []
    for row, prompt in zip(rows, prompts, strict=True):
        example = chat.encode_example(tokenizer, row)
        ids = prompt + example.ids[example.prompt_length :]
        examples.append(dataclasses.replace(example, ids=ids, prompt_length=len(prompt)))
    results: list[dict] = [{} for _ in rows]
    for chosen in chat.batches([e.ids for e in examples], batch_size):
        batch = [examples[i] for i in chosen]
        logits = answer_logits(
            model, tokenizer, [e.ids for e in batch], [e.prompt_length for e in batch], cache
        )
        for i, example, own in zip(chosen, batch, logits, strict=True):
            targets = torch.tensor(example.ids[example.prompt_length :])
            own = own[-len(targets) :]
            picked = own.log_softmax(-1).gather(-1, targets[:, None])[:, 0]
            first = own.argmax(-1) == targets
            results[i] = evaluation.summarise(example, picked, first) | {
                "right": fields_right(example, first)
            }
            if constrained:
                text, answer = rows[i]["text"], targets[: len(example.answer_offsets)]
                admitted = baselines_grammar.admit(allowed, text, own, answer)
                right = fields_right(example, admitted.argmax(-1) == targets)
                results[i]["constrained"] = {"exact": all(right.values()), "right": right}
    return results


def answer_logits(model, tokenizer, sequences: list[list[int]], starts: list[int], cache) -> torch.Tensor:
    """float32 logits (rows, longest answer, vocabulary) that predict each sequence's ids from its start on.

    The sequences begin with the ids of `cache` (or it is None); answers line up at their ends.
    """
    known = cache.get_seq_length() if cache is not None else 0
    ids, mask = chat.pad_left([s[known:] for s in sequences], tokenizer.pad_token_id)
    mask = torch.cat([torch.ones(len(sequences), known, dtype=mask.dtype), mask], 1)
    keep = max(len(s) - start for s, start in zip(sequences, starts, strict=True))
    logits = model(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        position_ids=(mask.cumsum(1) - 1).clamp(min=0)[:, known:].to(model.device),
        past_key_values=repeated(cache, len(sequences)),
        logits_to_keep=keep + 1,
    ).logits
    return logits[:, :-1].float().cpu()


def fields_right(example: chat.Example, first_choice: torch.Tensor) -> dict[str, bool]:
    """Whether every token of each field's value was the first choice."""
    fields = evaluation.field_of_tokens(example.answer, example.answer_offsets)
    pairs = list(zip(fields, first_choice.tolist(), strict=False))  # the end of the turn has no field
    return {field: all(ok for name, ok in pairs if name == field) for field in tickets.FIELDS}


@torch.no_grad()
def generate(
    model,
    tokenizer,
    rows: list[dict],
    prompts: list[list[int]],
    constrained: bool = False,
    batch_size: int = 8,
) -> list[str]:
    """Greedy replies to any prompts; `constrained` admits only tokens that continue a valid answer."""
    prefix = shared_prefix(prompts)
    cache = prefix_cache(model, prefix)
    allowed = baselines_grammar.for_tokenizer(model, tokenizer) if constrained else None
    longest = profiles.REPLY_TOKENS if constrained else profiles.current().reply_tokens
    replies = [""] * len(rows)
    for chosen in chat.batches(prompts, batch_size):
        ids, mask = chat.pad_left([prompts[i][len(prefix) :] for i in chosen], tokenizer.pad_token_id)
        front = torch.tensor([prefix] * len(chosen), dtype=ids.dtype).reshape(len(chosen), -1)
        ids, mask = torch.cat([front, ids], 1), torch.cat([torch.ones_like(front), mask], 1)
        texts = [rows[i]["text"] for i in chosen]
        output = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            past_key_values=repeated(cache, len(chosen)),
            logits_processor=[baselines_grammar.Grammar(allowed, texts, tokenizer.eos_token_id)]
            if constrained
            else None,
            max_new_tokens=longest,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
        )
        written = tokenizer.batch_decode(output[:, ids.shape[1] :], skip_special_tokens=True)
        for i, reply in zip(chosen, written, strict=True):
            replies[i] = reply.strip()
    return replies


@torch.no_grad()
def intent_log_probs(model, tokenizer, prompts: list[list[int]]) -> list[dict[str, list[float]]]:
    """For each prompt and each intent the log-probabilities (nats) of the tokens that write it.

    They follow the forced opening `{"intent":"`, and the closing quote counts: else `return` would also get
    the chance of `returned`.
    """
    texts = {value: tokenizer('{"intent":"' + value + '","')["input_ids"] for value in tickets.INTENTS}
    opening = shared_prefix(list(texts.values()))
    shared = prefix_cache(model, shared_prefix(prompts))
    result = []
    for prompt in prompts:
        cache = prefix_cache(model, prompt, shared)
        start = len(prompt) + len(opening)
        sequences = [prompt + ids for ids in texts.values()]
        logits = answer_logits(model, tokenizer, sequences, [start] * len(sequences), cache)
        found = {}
        for (value, ids), own in zip(texts.items(), logits, strict=True):
            targets = torch.tensor(ids[len(opening) :])
            found[value] = own[-len(targets) :].log_softmax(-1).gather(-1, targets[:, None])[:, 0].tolist()
        result.append(found)
    return result
