"""Perplexity: how surprised a model is by text, in one number that needs no task and no generation."""

from __future__ import annotations

import math
from collections.abc import Sequence

from labsupport.core.files import LabError


def perplexity(nll_of_rows: Sequence[float], tokens_of_rows: Sequence[int]) -> float:
    """exp(summed NLL / summed tokens): over how many tokens, equally likely, the model seems to hesitate.

    nll_of_rows: each row's negative log-likelihood, summed over its predicted tokens, in nats;
    tokens_of_rows: how many tokens that are. Every token weighs the same, so a long row weighs more than a
    short one. With counts of words or bytes in place of tokens it is the perplexity per word or per byte, by
    which models of different tokenizers can be compared (lm-evaluation-harness reports these two).
    Raises LabError where nothing is predicted.
    """
    if not sum(tokens_of_rows):
        raise LabError("No token is predicted, so there is no perplexity: give rows with at least one.")
    return math.exp(sum(nll_of_rows) / sum(tokens_of_rows))


def of_texts(model, tokenizer, texts: Sequence[str], batch_size: int = 2) -> tuple[list[float], list[int]]:
    """For each text the NLL of all its tokens, summed, in nats, and their number.

    The first token has nothing before it; as in lm-evaluation-harness the tokenizer's BOS (or where there is
    none, its EOS) is put in front of it, and is not counted. Few texts at a time: the logits of every token
    are kept, 0.2 MB each for a vocabulary of 49,152 in float32. Raises LabError for an empty text, and for
    one that is longer than the model's window, which the harness would cut.
    """
    from labsupport.evaluation import canary_scoring  # it imports torch

    if "" in texts:
        raise LabError(f"Text {list(texts).index('')} is empty, so nothing is predicted: leave it out.")
    start = tokenizer.bos_token or tokenizer.eos_token
    nll, tokens = canary_scoring.continuation_nll(
        model, tokenizer, [(start, text) for text in texts], batch_size
    )
    window = model.config.max_position_embeddings
    if max(tokens, default=0) > window:
        raise LabError(f"A text has {max(tokens):,} tokens and the model's window {window:,}: cut it first.")
    return nll, tokens
