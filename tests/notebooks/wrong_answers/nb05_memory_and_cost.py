"""Wrong answers to notebook 05's exercises."""


def widths(config):
    head = config["head_dim"]
    q, k = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    return config["hidden_size"], config["intermediate_size"], q, k


def kept(config, rank, adapters, norms=8, outputs=7, mlp=6, size=None, shared=None):
    """What a block keeps; size and shared: what to take in place of what the adapters ask for."""
    h, f, q, k = widths(config)
    size = size or (4 if adapters == "float32" else 2)
    shared = adapters == "bfloat16" if shared is None else shared
    inputs = 2 * h + f if shared else 5 * h + q + f
    attention = 2 * (2 * q + 2 * k) + 4 * config["num_attention_heads"]
    return norms * h + size * (inputs + outputs * rank) + attention + mlp * f


def all_in_two_bytes(config, rank, adapters):
    h, f, q, k = widths(config)
    return 2 * (2 * h + 5 * h + q + f + 7 * rank + 2 * q + 2 * k + config["num_attention_heads"] + 3 * f)


def frozen_alone(config, rank, adapters):
    h, f, q, k = widths(config)
    return 8 * h + 4 * (q + k) + 4 * config["num_attention_heads"] + 6 * f


def moments(standing, kept, head, block, gradients, scratch, accumulates):
    earlier = gradients if accumulates else 0
    return kept + head + earlier, kept + block + earlier, block + gradients, gradients + scratch


def by_moments(change):
    """An answer `change(standing, four moments)`."""
    return lambda *given: change(given[0], moments(*given))


def by_hand(config, trainer, method, rank, tokens, tables_in_nf4=False):
    """The right peak in bytes; tables_in_nf4: with embeddings and head in 4 bits as well."""
    h, f, q, k = widths(config)
    linear = [(h, q), (h, k), (h, k), (q, h), (h, f), (h, f), (f, h)]
    layers, words = config["num_hidden_layers"], config["vocab_size"]
    four = (4 + 8 / 64 + 32 / (64 * 256)) / 8
    bytes_a_weight = 2 if method == "lora" else four
    tables = (1 if config["tie_word_embeddings"] else 2) * words * h
    weights = layers * sum(n * m for n, m in linear) * bytes_a_weight
    weights += tables * (four if tables_in_nf4 and method == "qlora" else 2)
    adapters = "float32" if trainer == "plain" else "autocast" if method == "lora" else "bfloat16"
    trained = layers * rank * sum(n + m for n, m in linear) * (2 if adapters == "bfloat16" else 4)
    head = 14 * tokens * words if trainer == "plain" else 2 * min(tokens, 4096) * min(words, 32768)
    block = tokens * (kept(config, rank, adapters) + 6 * f)
    found = moments(0, tokens * 2 * h * layers, head, block, trained, trained * (trainer == "plain"), False)
    return weights + 3 * trained + max(found)


def chosen(peak, methods=("lora", "qlora"), fits=lambda size, usable: size <= usable):
    """An answer to method_for_card by another peak, other methods or another comparison."""

    def answer(config, trainer, rank, length, usable):
        for method in methods:
            rows = 0
            while fits(peak(config, trainer, method, rank, (rows + 1) * length), usable):
                rows += 1
            if rows:
                return method, rows
        return "neither", 0

    return answer


def one_row(config, trainer, rank, length, usable):
    for method in ("lora", "qlora"):
        if by_hand(config, trainer, method, rank, length) <= usable:
            return method, 1
    return "neither", 0


def none_for_neither(*given):
    method, rows = chosen(by_hand)(*given)
    return (method, rows) if rows else None


def by_division(config, trainer, rank, length, usable):
    """A straight line through one row and two."""
    for method in ("lora", "qlora"):
        one, two = (by_hand(config, trainer, method, rank, n * length) for n in (1, 2))
        rows = int((usable - 2 * one + two) // (two - one)) if two > one else 0
        if rows > 0:
            return method, rows
    return "neither", 0


def six_for_all(blocks, head, adapters, scores, checkpointing):
    return 6 * (blocks + head + adapters) + 3 * scores + (2 * blocks + 2 * adapters + scores) * checkpointing


def forward_only(blocks, head, adapters, scores, checkpointing):
    again = 2 * (blocks + adapters) + scores if checkpointing else 0
    return 2 * (blocks + head) + 6 * adapters + 3 * scores + again


def one_a_weight(blocks, head, adapters, scores, checkpointing):
    again = blocks + adapters + scores if checkpointing else 0
    return 2 * (blocks + head) + 3 * adapters + 3 * scores + again


def forwards(blocks, head, adapters, scores, checkpointing):
    return 2 * (blocks + head + adapters) + scores


def head_again(blocks, head, adapters, scores, checkpointing):
    again = 2 * (blocks + head + adapters) + scores if checkpointing else 0
    return 4 * (blocks + head) + 6 * adapters + 3 * scores + again


def paid(step=lambda c, r, n: max(c, r) + n, back=lambda h, rate, binds: (h, h * rate, binds), binds=max):
    """An answer to priced whose step takes step(computing, reading, launching), or that gives back others."""

    def answer(steps, tokens, a_token, weights, kernels, card, rate):
        parts = {
            "computing": tokens * a_token / card["speed"],
            "reading": weights / card["bandwidth"],
            "launching": kernels * card["launch"],
        }
        hours = steps * step(*parts.values()) / 3600
        return back(hours, rate, binds(parts, key=parts.get))

    return answer


ANSWERS = {
    "memory_and_cost.block_keeps": [
        (all_in_two_bytes, None),
        (frozen_alone, None),
        (lambda *given: kept(*given) / 1024, "1/1,024 times"),
        (lambda *given: kept(*given, norms=4), "A block has two norms"),
        (lambda *given: kept(*given, outputs=1), "You count one output of A"),
        (lambda *given: kept(*given, outputs=0), "Each adapter also keeps what A gives"),
        (lambda *given: kept(*given, mlp=4), "The MLP keeps three tensors"),
        (lambda *given: kept(*given, size=4, shared=False), "Float32 copies are the plain loop's"),
        (lambda *given: kept(*given, shared=False), "Adapters in bfloat16 cast nothing"),
        (lambda *given: kept(*given, shared=True), "each adapter casts them anew"),
        (lambda *given: kept(*given, size=4), None),
    ],
    "memory_and_cost.peak_of_step": [
        (by_moments(lambda standing, found: standing + found[0]), "That is the loss alone"),
        (by_moments(lambda standing, found: max(found)), "What stands is missing"),
        (by_moments(lambda standing, found: standing + sum(found)), "You add the moments"),
        (by_moments(lambda standing, found: standing + max(found[0], found[3])), "Both moments of the back"),
        (by_moments(lambda standing, found: standing + max(found[:3])), "The optimizer's step is missing"),
        (by_moments(lambda standing, found: standing + max(found[1:])), "The loss is missing"),
        (by_moments(lambda standing, found: [standing + one for one in found]), "where a number"),
        (lambda *given: given[0] + max(moments(*given[:6], False)), "With accumulation the gradients of"),
        (lambda *given: given[0] + max(moments(*given[:6], True)), "Without accumulation there are no"),
        (lambda *given: max(given[:6]), None),
        (lambda *given: sum(given[:6]), "they are not all there at the same moment"),
        (lambda *given: given[0] + max(given[1:6]), "You take the largest part"),
        (lambda *given: given[0] + max(moments(*given)) + given[2], None),
    ],
    "memory_and_cost.method_for_card": [
        (chosen(by_hand, ("qlora", "lora")), "You try QLoRA first"),
        (chosen(by_hand, ("lora",)), "QLoRA is never tried"),
        (chosen(by_hand, fits=lambda size, usable: size < usable), "compare with <="),
        (chosen(lambda c, t, m, r, n: by_hand(c, "plain", m, r, n)), "you plan a plain loop for all"),
        (chosen(lambda c, t, m, r, n: by_hand(c, "sft", m, r, n)), "you plan TRL's for all"),
        (chosen(lambda c, t, m, r, n: by_hand(c, t, m, 16, n)), "The rank is an argument"),
        (one_row, "the rows are the most that fit"),
        (lambda *given: (chosen(by_hand)(*given)[0], chosen(by_hand)(*given)[1] + 1), "One row too many"),
        (lambda *given: chosen(by_hand)(*given)[1], "where a list"),
        (none_for_neither, "returned None"),
        (chosen(lambda c, t, m, r, n: by_hand(c, t, m, r, n) / 2**30), "2 seconds"),
        (chosen(lambda c, t, m, r, n: by_hand(c, t, m, r, n, tables_in_nf4=True)), None),
        (by_division, None),
    ],
    "memory_and_cost.operations": [
        (six_for_all, "That is full fine-tuning's rule"),
        (forward_only, "Frozen weights work backwards, too"),
        (one_a_weight, "A weight costs a multiplication and an addition"),
        (forwards, "That is the forward pass alone"),
        (head_again, "The head lies behind the blocks"),
    ],
    "memory_and_cost.priced": [
        (paid(lambda c, r, n: c + r + n), "of these two the longer one counts"),
        (paid(lambda c, r, n: max(c, r, n)), "comes on top here"),
        (paid(lambda c, r, n: c + n), "Reading the weights is missing"),
        (paid(lambda c, r, n: max(c, r)), "Starting the kernels is missing"),
        (paid(lambda c, r, n: c), "That is computing alone"),
        (paid(binds=min), "You name the shortest part"),
        (paid(back=lambda h, rate, binds: (60 * h, h * rate, binds)), "the time is in minutes"),
        (paid(back=lambda h, rate, binds: (60 * h, 60 * h * rate, binds)), "You divide by 60"),
        (paid(back=lambda h, rate, binds: (3600 * h, 3600 * h * rate, binds)), "Those are seconds"),
        (paid(back=lambda h, rate, binds: (h, h / rate, binds)), "not divided by it"),
        (paid(back=lambda h, rate, binds: (h * rate, h, binds)), "hours first, then money"),
        (paid(back=lambda h, rate, binds: (round(h, 2), round(h * rate, 2), binds)), "It is rounded"),
        (paid(back=lambda h, rate, binds: (h, h * rate)), None),
        (paid(back=lambda h, rate, binds: (h, h * rate, binds.upper())), None),
    ],
}
