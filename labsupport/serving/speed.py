"""Tokens a second of several models that take turns, so that a busy moment meets all of them alike."""

from __future__ import annotations

import time
from collections.abc import Mapping

import torch

from labsupport.models.modes import evaluation_mode


@torch.no_grad()
def seconds_a_token(models: Mapping, prompt_tokens: int, tokens: int, rounds: int) -> dict[str, float]:
    """Seconds of processor time for one token of a greedy reply, by the models' names.

    models: name -> a causal language model on the processor; all get the same prompt of so many tokens and
    write `tokens` more, with the key-value cache, one reply at a time. The prompt's own pass is not counted:
    it is what `tokens` of 1 takes. Both are the fastest of the rounds (2 or more: a first one is cold): what
    disturbs a run can only make it slower.
    """
    prompt = {"input_ids": (torch.arange(prompt_tokens) % 1000)[None] + 100}
    prompt["attention_mask"] = torch.ones_like(prompt["input_ids"])
    lengths = (1, tokens + 1)
    found: dict[str, list[list[float]]] = {name: [] for name in models}
    for _ in range(rounds):
        for name, model in models.items():
            with evaluation_mode(model):
                found[name].append([_generating(model, prompt, length) for length in lengths])
    fastest = {name: [min(times) for times in zip(*rows, strict=True)] for name, rows in found.items()}
    return {name: (whole - first) / tokens for name, (first, whole) in fastest.items()}


def _generating(model, prompt: dict, tokens: int) -> float:
    start = time.process_time()
    model.generate(**prompt, do_sample=False, min_new_tokens=tokens, max_new_tokens=tokens)
    return time.process_time() - start
