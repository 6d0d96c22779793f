"""Constrained decoding: only tokens with which the answer can still become valid are admitted.

The library llguidance turns a grammar into masks over the vocabulary; this module writes the grammar of one
message's answers and applies the masks, to greedy decoding and to scores.
"""

from __future__ import annotations

import json
import re

import torch

from labsupport.tasks import tickets

LONGEST = 40  # characters of a copied value; without a limit a whole message could be copied


def grammar(text: str) -> str:
    """What a valid answer to this message is, as a Lark grammar of the library llguidance.

    The four keys in order, one of the allowed values, and for product and order id null or a short run of
    words copied from the message.
    """
    pieces = [json.dumps(piece, ensure_ascii=False)[1:-1] for piece in re.findall(r"\w+|\W", text)]
    return "\n".join(
        [
            r'start: "{\"intent\":\"" intent "\",\"product\":" copied ",\"order_id\":" copied'
            r' ",\"urgency\":\"" urgency "\"}"',
            "intent: " + " | ".join(json.dumps(value) for value in tickets.INTENTS),
            "urgency: " + " | ".join(json.dumps(value) for value in tickets.URGENCIES),
            r'copied: "null" | "\"" RUN "\""',
            "RUN: PIECES & /.{1," + str(LONGEST) + "}/s",
            "PIECES: %regex " + json.dumps({"substring_chunks": pieces}),
        ]
    )


def mask_logits(logits: torch.Tensor, written: list[int], allowed: list[list[int]]) -> torch.Tensor:
    """A copy of the logits (vocabulary,), float, with -inf for every token with which `written`, the tokens
    so far, can no longer become one of `allowed`: constrained decoding where all valid answers are listed.
    """
    n, masked = len(written), torch.full_like(logits, float("-inf"))
    for value in allowed:
        if len(value) > n and value[:n] == written:
            masked[value[n]] = logits[value[n]]
    return masked


def for_tokenizer(model, tokenizer):
    """The tokenizer as llguidance needs it (a second's work: make it once)."""
    import llguidance.hf

    return llguidance.hf.from_tokenizer(tokenizer, n_vocab=model.config.vocab_size)


def bits(matcher, vocabulary: int) -> torch.Tensor:
    """Which tokens may come next: bool, one a token of the vocabulary."""
    import llguidance.torch

    packed = llguidance.torch.allocate_token_bitmask(1, vocabulary)
    llguidance.torch.fill_next_token_bitmask(matcher, packed, 0)
    # The library's own unpacking is compiled, for which a CPU needs a C++ compiler.
    unpacked = packed[0, :, None] >> torch.arange(32, dtype=torch.int32) & 1
    return unpacked.flatten()[:vocabulary].bool()


def matcher_for(allowed, text: str):
    """llguidance's state machine for the answers to one message."""
    import llguidance

    matcher = llguidance.LLMatcher(allowed, grammar(text))
    if matcher.is_error():
        raise ValueError(matcher.get_error())
    return matcher


def admit(allowed, text: str, logits: torch.Tensor, answer: torch.Tensor) -> torch.Tensor:
    """Logits (positions, vocabulary) with -inf for what the grammar forbids, given the answer before.

    If the grammar cannot write the answer (a name that is part of a word), nothing is admitted from there
    on but token 0, so that it counts as wrong.
    """
    matcher, result = matcher_for(allowed, text), logits.clone()
    for j, token in enumerate(answer.tolist()):
        result[j].masked_fill_(~bits(matcher, logits.shape[1]), float("-inf"))
        if not matcher.consume_token(token):
            result[j:] = float("-inf")
            break
    return result


class Grammar:
    """A logits processor for `generate` that leaves each row only tokens with which it can become valid."""

    def __init__(self, allowed, texts: list[str], end: int):
        self.matchers = [matcher_for(allowed, text) for text in texts]
        self.end, self.steps = end, 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if self.steps:
            for matcher, token in zip(self.matchers, input_ids[:, -1].tolist(), strict=True):
                if not matcher.is_stopped():
                    matcher.consume_token(token)
        self.steps += 1
        scores = scores.clone()
        for row, matcher in enumerate(self.matchers):
            if matcher.is_stopped():
                keep = torch.zeros(scores.shape[1], dtype=torch.bool)
                keep[self.end] = True
            else:
                keep = bits(matcher, scores.shape[1])
            scores[row].masked_fill_(~keep.to(scores.device), float("-inf"))
        return scores
