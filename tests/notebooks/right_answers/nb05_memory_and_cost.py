"""Other right answers to the exercises of notebook 05: arranged another way than the reference."""


def block_keeps(config, rank, adapters):
    """Every tensor as (how many, width, bytes), then added."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    heads, head = config["num_attention_heads"], config["head_dim"]
    query, key = heads * head, config["num_key_value_heads"] * head
    kept = [(2, hidden, 4), (2, query, 2), (2, key, 2), (1, heads, 4), (3, inner, 2)]
    if adapters == "bfloat16":
        return sum(
            many * width * size for many, width, size in [*kept, (2, hidden, 2), (1, inner, 2), (7, rank, 2)]
        )
    size = {"float32": 4, "autocast": 2}[adapters]
    kept += [(5, hidden, size), (1, query, size), (1, inner, size), (7, rank, size)]
    return sum(many * width * size for many, width, size in kept)


def peak_of_step(standing, kept, head, block, gradients, scratch, accumulates):
    earlier = accumulates * gradients
    forwards = earlier + kept + max(head, block)
    afterwards = gradients + max(block, scratch)
    return sorted([standing + forwards, standing + afterwards])[-1]


def formula(config, trainer, method, rank, tokens):
    """The peak by hand: every weight counted here, 4 bits as 4 + 8/64 + 32/(64 x 256) a weight of a block."""
    h, f, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    q, k = (config[name] * config["head_dim"] for name in ("num_attention_heads", "num_key_value_heads"))
    linear = [(h, q), (h, k), (h, k), (q, h), (h, f), (h, f), (f, h)]
    in_blocks = layers * sum(n * m for n, m in linear)
    tables = (1 if config["tie_word_embeddings"] else 2) * config["vocab_size"] * h
    bits = 16 if method == "lora" else 4 + 8 / 64 + 32 / (64 * 256)
    adapters = "float32" if trainer == "plain" else "autocast" if method == "lora" else "bfloat16"
    trained = layers * rank * sum(n + m for n, m in linear) * (2 if adapters == "bfloat16" else 4)
    words = config["vocab_size"]
    head = 14 * tokens * words if trainer == "plain" else 2 * min(tokens, 4096) * min(words, 32768)
    block = tokens * (block_keeps(config, rank, adapters) + 6 * f)
    kept = tokens * 2 * h * layers
    scratch = trained if trainer == "plain" else 0
    standing = in_blocks * bits / 8 + 2 * tables + 3 * trained
    return peak_of_step(standing, kept, head, block, trained, scratch, False)


def method_for_card(config, trainer, rank, length, usable):
    """Most rows by bisection, for each method in turn."""
    for method in ("lora", "qlora"):
        low, high = 0, 1
        while formula(config, trainer, method, rank, high * length) <= usable:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            if formula(config, trainer, method, rank, middle * length) <= usable:
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


def priced(steps, tokens, a_token, weights, kernels, card, rate):
    computing, reading = tokens * a_token / card["speed"], weights / card["bandwidth"]
    launching = card["launch"] * kernels
    longest = sorted([(computing, "computing"), (reading, "reading"), (launching, "launching")])[-1]
    seconds = steps * (launching + (computing if computing > reading else reading))
    return seconds / 3600, rate * seconds / 3600, longest[1]


ANSWERS = {
    "memory_and_cost.block_keeps": block_keeps,
    "memory_and_cost.peak_of_step": peak_of_step,
    "memory_and_cost.method_for_card": method_for_card,
    "memory_and_cost.operations": operations,
    "memory_and_cost.priced": priced,
}
