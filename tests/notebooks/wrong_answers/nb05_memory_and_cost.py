"""Wrong answers to notebook 05's exercises."""


def widths(config):
    head = config["head_dim"]
    q, k = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    return config["hidden_size"], config["intermediate_size"], q, k


def sizes(config, rank):
    """(weights in the blocks, what LoRA trains on all their linear layers)."""
    h, f, q, k = widths(config)
    linear = [(h, q), (h, k), (h, k), (q, h), (h, f), (h, f), (f, h)]
    layers = config["num_hidden_layers"]
    return layers * sum(n * m for n, m in linear), layers * rank * sum(n + m for n, m in linear)


def formula(config, method, rank, tokens, step=8):
    """The right peak in bytes; step: bytes a trained number in the optimizer's step."""
    blocks, trained = sizes(config, rank)
    h, words = config["hidden_size"], config["vocab_size"]
    tables = (1 if config["tie_word_embeddings"] else 2) * words * h
    bits = 16 if method == "lora" else 4 + 8 / 64 + 32 / (64 * 256)
    loss = tokens * (2 * h * config["num_hidden_layers"] + 14 * words)
    return blocks * bits / 8 + 2 * tables + 12 * trained + max(loss, step * trained)


def in_elements(config, rank):
    h, f, q, k = widths(config)
    return 2 * h + 5 * h + q + f + 7 * rank + 2 * q + 2 * k + config["num_attention_heads"] + 3 * f


def all_in_two_bytes(config, rank):
    return 2 * in_elements(config, rank)


def kept(config, rank, norms=8, adapters=7, mlp=6):
    h, f, q, k = widths(config)
    inputs = 4 * (5 * h + q + f + adapters * rank)
    return norms * h + inputs + 2 * (2 * q + 2 * k) + 4 * config["num_attention_heads"] + mlp * f


def in_kilobytes(config, rank):
    return kept(config, rank) / 1024


def without_gradients(standing, activations, logits, gradients):
    return standing + max(activations + logits, gradients)


def loss_alone(standing, activations, logits, gradients):
    return standing + activations + logits


def not_standing_twice(standing, activations, logits, gradients):
    return max(standing + activations + logits, 2 * gradients)


def kept_throughout(standing, activations, logits, gradients):
    return standing + activations + max(logits, 2 * gradients)


def larger_of_all(standing, activations, logits, gradients):
    return max(standing, activations, logits, gradients)


def pair(standing, activations, logits, gradients):
    return standing + activations + logits, standing + 2 * gradients


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


def nf4_everywhere(config, method, rank, tokens):
    h, words = config["hidden_size"], config["vocab_size"]
    tables = (1 if config["tie_word_embeddings"] else 2) * words * h
    four = (4 + 8 / 64 + 32 / (64 * 256)) / 8
    return formula(config, method, rank, tokens) - (2 - four) * tables * (method == "qlora")


def chosen(peak, methods=("lora", "qlora"), fits=lambda size, usable: size <= usable):
    """An answer to recipe_for by another peak, other methods or another comparison."""

    def answer(config, rank, length, usable):
        for method in methods:
            rows = 0
            while fits(peak(config, method, rank, (rows + 1) * length), usable):
                rows += 1
            if rows:
                return method, rows
        return "neither", 0

    return answer


def one_row(config, rank, length, usable):
    for method in ("lora", "qlora"):
        if formula(config, method, rank, length) <= usable:
            return method, 1
    return "neither", 0


def none_for_neither(config, rank, length, usable):
    method, rows = chosen(formula)(config, rank, length, usable)
    return (method, rows) if rows else None


def rows_alone(config, rank, length, usable):
    return chosen(formula)(config, rank, length, usable)[1]


def weights_alone(config, method, rank, tokens):
    return formula(config, method, rank, 0) + tokens * 2 * config["hidden_size"]


def by_division(config, rank, length, usable):
    """A straight line through one row and two, as if the optimizer's step were never the peak."""
    for method in ("lora", "qlora"):
        one, two = (formula(config, method, rank, n * length) for n in (1, 2))
        rows = int((usable - 2 * one + two) // (two - one)) if two > one else 0
        if rows > 0:
            return method, rows
    return "neither", 0


def hours(config, rows, length, epochs, speed, cards, rate, again=True, frozen=4, scored=1.0):
    h, layers = config["hidden_size"], config["num_hidden_layers"]
    q = config["num_attention_heads"] * config["head_dim"]
    blocks, trained = sizes(config, 16)
    scores = scored * layers * 2 * length * q
    more = 2 * blocks + 2 * trained + scores if again else 0
    a_token = frozen * (blocks + h * config["vocab_size"]) + 6 * trained + 3 * scores + more
    return rows * length * epochs * a_token / (cards * speed) / 3600


def priced(change=lambda h, given: (h, h * given[5] * given[6]), **options):
    """An answer to estimate that counts or returns something else."""
    return lambda *given: change(hours(*given, **options), given)


ANSWERS = {
    "memory_and_cost.kept_by_a_block": [
        (in_elements, None),
        (all_in_two_bytes, None),
        (in_kilobytes, "1/1,024 times"),
        (lambda config, rank: kept(config, rank, norms=4), "A block has two norms"),
        (lambda config, rank: kept(config, rank, adapters=1), "You count one output of A"),
        (lambda config, rank: kept(config, rank, mlp=4), "The MLP keeps three tensors"),
    ],
    "memory_and_cost.peak_bytes": [
        (without_gradients, "AdamW needs a temporary"),
        (loss_alone, "That is the loss alone"),
        (not_standing_twice, "there is what stands"),
        (kept_throughout, "too large by activations"),
        (larger_of_all, None),
        (pair, "where a number (int) was expected"),
    ],
    "memory_and_cost.operations": [
        (six_for_all, "That is full fine-tuning's rule"),
        (forward_only, "Frozen weights work backwards, too"),
        (one_a_weight, "A weight costs a multiplication and an addition"),
        (forwards, "That is the forward pass alone"),
        (head_again, "The head lies behind the blocks"),
    ],
    "memory_and_cost.recipe_for": [
        (chosen(formula, ("qlora", "lora")), "You try QLoRA first"),
        (chosen(formula, ("lora",)), "QLoRA is never tried"),
        (chosen(formula, fits=lambda size, usable: size < usable), "compare with <="),
        (chosen(nf4_everywhere), "embeddings and head keep 2 bytes"),
        (chosen(lambda c, m, r, t: formula(c, m, r, t, step=0)), "That is the loss alone"),
        (chosen(lambda c, m, r, t: formula(c, m, 16, t)), "The rank is an argument"),
        (one_row, "the rows are the most that fit"),
        (lambda *given: (chosen(formula)(*given)[0], chosen(formula)(*given)[1] + 1), "One row too many"),
        (rows_alone, "where a list"),
        (none_for_neither, "returned None"),
        (chosen(lambda c, m, r, t: formula(c, m, r, t) / 2**30), "2 seconds"),
        (chosen(weights_alone), None),
        (by_division, None),
    ],
    "memory_and_cost.estimate": [
        (priced(lambda h, given: (60 * h, 60 * h * given[5] * given[6])), "Those are minutes"),
        (priced(lambda h, given: (60 * h, h * given[5] * given[6])), "the time is not in hours"),
        (priced(lambda h, given: (3600 * h, 3600 * h * given[5] * given[6])), "are seconds"),
        (priced(lambda h, given: (h, h * given[6])), "The rate is for one card"),
        (priced(lambda h, given: (h * given[5], h * given[5] * given[6])), "Your hours are card hours"),
        (priced(lambda h, given: (h / given[3], h / given[3] * given[5] * given[6])), "epochs are missing"),
        (priced(frozen=2), "the gradient passes through them"),
        (priced(again=False), "Checkpointing is on"),
        (priced(scored=0), "scores are missing"),
        (priced(scored=2), "twice too many"),
        (priced(lambda h, given: (round(h, 2), round(h * given[5] * given[6], 2))), "It is rounded"),
        (priced(lambda h, given: h * given[5] * given[6]), "where a tuple"),
        (priced(lambda h, given: {"hours": h, "money": h}), "It returned a dict where a tuple"),
        (priced(frozen=6), None),
    ],
}
