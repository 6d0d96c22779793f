"""Prompt tuning and prefix tuning by hand: learned vectors before a text, and nothing of the model changed.

Both return what a causal language model of transformers takes as keywords.
"""

from __future__ import annotations

import torch

from labsupport.core.files import LabError

NOT_LEARNED = -100  # of a label: no loss here


def with_prompt(
    prompt: torch.Tensor, embeddings: torch.Tensor, mask: torch.Tensor, labels: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Prompt tuning (Lester et al. 2021, arXiv 2104.08691, section 2): the input with learned vectors before.

    prompt (tokens, hidden); embeddings (batch, length, hidden) of the text; mask and labels (batch, length).
    Everything returned is (batch, tokens + length, ...); the vectors are attended to and have no label.
    LabError if prompt and embeddings are not equally wide.
    """
    if prompt.shape[-1] != embeddings.shape[-1]:
        raise LabError(
            f"The prompt's vectors are {prompt.shape[-1]} wide and the embeddings {embeddings.shape[-1]}: "
            "they go through the same layers, so give them the model's hidden_size."
        )
    batch, tokens = len(embeddings), len(prompt)
    before = prompt.expand(batch, -1, -1).to(embeddings.dtype)
    return {
        "inputs_embeds": torch.cat([before, embeddings], dim=1),
        "attention_mask": torch.cat([mask.new_ones(batch, tokens), mask], dim=1),
        "labels": torch.cat([labels.new_full((batch, tokens), NOT_LEARNED), labels], dim=1),
    }


def with_prefix(prefix: torch.Tensor, mask: torch.Tensor) -> dict:
    """Prefix tuning (Li and Liang 2021, arXiv 2101.00190, section 4), without the MLP they train it through:
    each layer finds learned keys and values before the text's own.

    prefix (layers, 2, heads, tokens, head_dim), keys first; heads are those of keys and values. mask (batch,
    length). Returns past_key_values, a DynamicCache, and the longer attention_mask. Input and labels stay
    as they are: the prefix has no positions of its own among them. A cache is for one forward pass: the
    model adds the text's keys and values to it.
    """
    from transformers import DynamicCache

    if prefix.ndim != 5 or prefix.shape[1] != 2:
        raise LabError(f"The prefix is {tuple(prefix.shape)}: give (layers, 2, heads, tokens, head_dim).")
    batch, tokens = len(mask), prefix.shape[3]
    layers = [tuple(part.expand(batch, -1, -1, -1) for part in layer) for layer in prefix]
    return {
        "past_key_values": DynamicCache(layers),
        "attention_mask": torch.cat([mask.new_ones(batch, tokens), mask], dim=1),
    }
