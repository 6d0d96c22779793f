"""Other right answers to the exercises of notebook 05: arranged another way than the reference."""

import numpy as np


def recipe_bytes(weight, gradient, moment, master):
    return int(np.sum([weight, gradient, moment, moment] + [4] * bool(master)))


def kept_by_a_block(config, rank):
    """Every tensor as (how many, width, bytes), then added."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    heads, head = config["num_attention_heads"], config["head_dim"]
    query, key = heads * head, config["num_key_value_heads"] * head
    kept = [(2, hidden, 4), (5, hidden, 4), (1, query, 4), (1, inner, 4), (7, rank, 4)]
    kept += [(2, query, 2), (2, key, 2), (1, heads, 4), (3, inner, 2)]
    return sum(many * width * size for many, width, size in kept)


def peak_bytes(standing, activations, logits, gradients):
    loss = standing + activations + logits
    optimizer = standing + gradients + gradients
    return sorted([loss, optimizer])[-1]


def operations(blocks, head, adapters, scores, checkpointing):
    frozen, trained = 4, 6
    again = 2 * blocks + 2 * adapters + scores if checkpointing else 0
    return frozen * (blocks + head) + trained * adapters + 3 * scores + again


def run_cost(per_token, tokens, cards, tflops, share, rate):
    card_hours = tokens * per_token / 1e12 / tflops / share / 60 / 60
    return [card_hours / cards, card_hours * rate]


ANSWERS = {
    "memory_and_cost.recipe_bytes": recipe_bytes,
    "memory_and_cost.kept_by_a_block": kept_by_a_block,
    "memory_and_cost.peak_bytes": peak_bytes,
    "memory_and_cost.operations": operations,
    "memory_and_cost.run_cost": run_cost,
}
