"""Other right answers to the exercises of notebook 05: arranged another way than the reference."""


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


def formula(config, method, rank, tokens):
    """The peak by hand: every weight counted here, 4 bits as 4 + 8/64 + 32/(64 x 256) a weight of a block."""
    h, f, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    head = config["head_dim"]
    q, k = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    linear = [(h, q), (h, k), (h, k), (q, h), (h, f), (h, f), (f, h)]
    in_blocks = layers * sum(n * m for n, m in linear)
    tables = (1 if config["tie_word_embeddings"] else 2) * config["vocab_size"] * h
    bits = 16 if method == "lora" else 4 + 8 / 64 + 32 / (64 * 256)
    trained = layers * rank * sum(n + m for n, m in linear)
    loss = tokens * (2 * h * layers + 14 * config["vocab_size"])
    return in_blocks * bits / 8 + 2 * tables + 12 * trained + max(loss, 8 * trained)


def recipe_for(config, rank, length, usable):
    """Most rows by bisection, for each method in turn."""
    for method in ("lora", "qlora"):
        low, high = 0, 1
        while formula(config, method, rank, high * length) <= usable:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            if formula(config, method, rank, middle * length) <= usable:
                low = middle
            else:
                high = middle
        if low:
            return [method, low]
    return ["neither", 0]


def operations(blocks, head, adapters, scores, checkpointing):
    frozen, trained = 4, 6
    again = 2 * blocks + 2 * adapters + scores if checkpointing else 0
    return frozen * (blocks + head) + trained * adapters + 3 * scores + again


def estimate(config, rows, length, epochs, speed, cards, rate):
    h, f, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    q, k = (config[name] * config["head_dim"] for name in ("num_attention_heads", "num_key_value_heads"))
    linear = [(h, q), (h, k), (h, k), (q, h), (h, f), (h, f), (f, h)]
    blocks = layers * sum(n * m for n, m in linear)
    trained = layers * 16 * sum(n + m for n, m in linear)
    scores = layers * 2 * length * q
    a_token = operations(blocks, h * config["vocab_size"], trained, scores, True)
    card_seconds = rows * length * epochs * a_token / speed
    return card_seconds / cards / 3600, card_seconds / 3600 * rate


ANSWERS = {
    "memory_and_cost.kept_by_a_block": kept_by_a_block,
    "memory_and_cost.peak_bytes": peak_bytes,
    "memory_and_cost.recipe_for": recipe_for,
    "memory_and_cost.operations": operations,
    "memory_and_cost.estimate": estimate,
}
