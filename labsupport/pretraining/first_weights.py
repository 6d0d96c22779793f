"""The weights that `data/tiny_base` starts from: random, but for an induction circuit in two layers.

To copy from its prompt a model needs two heads in a row: one that writes into each place what token stood
before it, and one that looks for the places where the present token stood before it, and copies what
stands there (Olsson and others, In-context Learning and Induction Heads, 2022). Training finds them by
itself if it is long enough; in a trial 1.5 million tokens were not. So they are put there by hand, roughly,
and training does the rest.
"""

from __future__ import annotations

import torch

SPREAD = 1.0  # standard deviation of a token's own part of the embedding
PEAK = 80.0  # how sharply layer 0 looks at the place before
WRITTEN, MATCH, COPIED = (
    4.0,
    2.0,
    20.0,
)  # size of what layer 0 writes; sharpness of layer 1; size of what it writes
GAIN = 0.1  # of the last norm: the logits of an embedding of that spread would be ten times too large
FIRST_SLOW = 6  # pairs of rotary dimensions from here on turn so slowly that they compare distant places


@torch.no_grad()
def put(model, seed: int) -> None:
    """Replace a random LlamaForCausalLM's embedding and the attention of layers 0 and 1, in place.

    Nothing else writes into the residual stream at first: the output matrices of all MLPs and of the other
    layers' attention are 0. Needs 1 + 2 · (width of the keys) <= hidden size.
    """
    generator, config = torch.Generator().manual_seed(seed), model.config
    hidden, width = config.hidden_size, config.hidden_size // config.num_attention_heads
    keys = config.num_key_value_heads * width
    # At right angles: a direction that all tokens share, `own` for a token, `before` for the one before it.
    shared, own, before = directions(hidden, generator).split([1, keys, hidden - 1 - keys])
    shared, before = shared[0], before[:keys]
    embedding = torch.randn(config.vocab_size, hidden, generator=generator)
    embedding -= torch.outer(embedding @ shared, shared)
    model.model.embed_tokens.weight.copy_(SPREAD * (embedding + hidden**0.5 * shared))
    model.model.norm.weight.fill_(GAIN)
    for layer in model.model.layers:
        layer.mlp.down_proj.weight.zero_()
        layer.self_attn.o_proj.weight.zero_()
    first, second = (layer.self_attn for layer in model.model.layers[:2])
    look_one_back(first, config, shared)
    first.v_proj.weight.copy_(own)
    first.o_proj.weight.copy_(WRITTEN * to_all_heads(before, config).T)
    look_for_the_same(second, config, own, before)
    copied = directions(hidden, generator)[:keys]
    second.v_proj.weight.copy_(copied)
    second.o_proj.weight.copy_(COPIED * to_all_heads(copied, config).T)


def directions(count: int, generator: torch.Generator) -> torch.Tensor:
    """Random directions at right angles to each other, float32, (count, count), one a row."""
    return torch.linalg.qr(torch.randn(count, count, generator=generator)).Q.T


def to_all_heads(rows: torch.Tensor, config) -> torch.Tensor:
    """Rows of the key heads, (keys, hidden), shared out among the query heads: (queries, hidden)."""
    heads, groups = config.num_attention_heads, config.num_key_value_heads
    each = rows.view(groups, -1, rows.shape[1]).repeat_interleave(heads // groups, 0)
    return each.flatten(0, 1) / (heads // groups)


def look_one_back(attention, config, shared: torch.Tensor) -> None:
    """Queries and keys that are the same for all tokens; the queries are turned back by one place, so that
    under the rotary embedding they fit best to the key of the place before."""
    heads, groups = config.num_attention_heads, config.num_key_value_heads
    width = config.hidden_size // heads
    angles = config.rope_parameters["rope_theta"] ** -(torch.arange(0, width, 2) / width)
    key = torch.ones(width)
    query = torch.cat([angles.cos() + angles.sin(), angles.cos() - angles.sin()])
    size = (PEAK / config.hidden_size) ** 0.5
    attention.k_proj.weight.copy_(size * torch.outer(key, shared).repeat(groups, 1))
    attention.q_proj.weight.copy_(size * torch.outer(query, shared).repeat(heads, 1))


def look_for_the_same(attention, config, own: torch.Tensor, before: torch.Tensor) -> None:
    """Queries made of the token itself, keys of the token before: they fit where these are the same."""
    heads, groups = config.num_attention_heads, config.num_key_value_heads
    width = config.hidden_size // heads
    attention.k_proj.weight.zero_()
    attention.q_proj.weight.zero_()
    slow = [i for i in range(width) if i % (width // 2) >= FIRST_SLOW]
    for group in range(groups):
        for place, dimension in enumerate(slow):
            row = group * len(slow) + place
            attention.k_proj.weight[group * width + dimension] = MATCH * before[row]
            for head in range(group * heads // groups, (group + 1) * heads // groups):
                attention.q_proj.weight[head * width + dimension] = MATCH * own[row]
