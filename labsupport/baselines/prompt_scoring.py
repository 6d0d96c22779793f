"""Scores and replies under any prompts; what they have in common (see prefixes.py) is run once."""

from __future__ import annotations

import dataclasses

import torch

from labsupport.baselines import grammar
from labsupport.core import profiles
from labsupport.evaluation import scoring
from labsupport.models import chat
from labsupport.models.modes import evaluation_mode
from labsupport.tasks import tickets
from labsupport.training import prefixes


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
    allowed = grammar.for_tokenizer(model, tokenizer) if constrained else None
    examples = []
    for row, prompt in zip(rows, prompts, strict=True):
        example = chat.encode_example(tokenizer, row)
        ids = prompt + example.targets
        examples.append(dataclasses.replace(example, ids=ids, prompt_length=len(prompt)))
    results: list[dict] = [{} for _ in rows]
    with evaluation_mode(model):
        for i, logits in prefixes.logits_of_answers(model, tokenizer, examples, batch_size):
            picked, first = scoring.compared(examples[i].targets, logits)
            results[i] = scoring.summarise(examples[i], picked, first)
            results[i]["right"] = fields_right(examples[i], first)
            if constrained:
                targets = torch.tensor(examples[i].targets)
                answer = targets[: len(examples[i].answer_offsets)]
                admitted = grammar.admit(allowed, rows[i]["text"], logits, answer)
                right = fields_right(examples[i], admitted.argmax(-1) == targets)
                results[i]["constrained"] = {"exact": all(right.values()), "right": right}
    return results


def fields_right(example: chat.Example, first_choice: torch.Tensor) -> dict[str, bool]:
    """Whether every token of each field's value was the first choice."""
    fields = scoring.field_of_tokens(example.answer, example.answer_offsets)
    pairs = list(zip(fields, first_choice.tolist(), strict=False))  # the end of the turn has no field
    return {field: all(ok for name, ok in pairs if name == field) for field in tickets.FIELDS}


def generate(
    model,
    tokenizer,
    rows: list[dict],
    prompts: list[list[int]],
    constrained: bool = False,
    batch_size: int = 8,
) -> list[str]:
    """Greedy replies to any prompts; `constrained` admits only tokens that continue a valid answer."""
    processor_for = None
    if constrained:
        allowed = grammar.for_tokenizer(model, tokenizer)

        def processor_for(chosen: list[int]):
            texts = [rows[i]["text"] for i in chosen]
            return grammar.Grammar(allowed, texts, tokenizer.eos_token_id)

    longest = profiles.REPLY_TOKENS if constrained else profiles.current().reply_tokens
    return scoring.replies(model, tokenizer, prompts, longest, batch_size, processor_for)


@torch.no_grad()
def intent_log_probs(model, tokenizer, prompts: list[list[int]]) -> list[dict[str, list[float]]]:
    """For each prompt and each intent the log-probabilities (nats) of the tokens that write it.

    They follow the forced opening `{"intent":"`, and the closing quote counts: else `return` would also get
    the chance of `returned`.
    """
    texts = {value: tokenizer('{"intent":"' + value + '","')["input_ids"] for value in tickets.INTENTS}
    opening = prefixes.shared(list(texts.values()))
    result = []
    with evaluation_mode(model):
        shared = prefixes.cache_of(model, prefixes.shared(prompts))
        for prompt in prompts:
            cache = prefixes.cache_of(model, prompt, shared)
            start = len(prompt) + len(opening)
            sequences = [prompt + ids for ids in texts.values()]
            logits = prefixes.answer_logits(model, tokenizer, sequences, [start] * len(sequences), cache)
            found = {}
            for (value, ids), own in zip(texts.items(), logits, strict=True):
                targets = ids[len(opening) :]
                found[value] = scoring.compared(targets, own[-len(targets) :])[0].tolist()
            result.append(found)
    return result
