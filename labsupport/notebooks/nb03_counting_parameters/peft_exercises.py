"""The exercises of notebook 03 on what torch and PEFT count: packed weights, and adapters on one model."""

from __future__ import annotations

from labsupport.checking.exercise import Exercise, told
from labsupport.configs.model_configs import OWN_HEAD_DIM, find
from labsupport.sizes import counting

# ---------------------------------------------------------------- packed weights


def _packed_cases():
    return [
        ([("Params4bit", 165_888, 1), ("Parameter", 1_000, 4)],),
        ([("Params4bit", 82_944, 2), ("Parameter", 576, 2)],),  # the same matrix, stored in bfloat16
        ([("Params4bit", 41_472, 4), ("Params4bit", 8, 1)],),
        ([("Parameter", 331_776, 4), ("Parameter", 331_776, 2)],),
    ]


def _packed_as(weights):
    """A count with weights(n, size) in a Params4bit of n elements of that size, and n in any other."""
    return lambda parameters: sum(
        weights(n, size) if kind == "Params4bit" else n for kind, n, size in parameters
    )


unpacked = Exercise(
    name="counting_parameters.unpacked",
    reference=counting.unpacked,
    cases=_packed_cases,
    mistakes=told(
        lambda parameters: sum(n for _, n, _ in parameters),
        "That is the naive sum: an element of a Params4bit holds more than one weight.",
        (_packed_as(lambda n, size: 2 * n), _packed_as(lambda n, size: 4 * n)),
        "Right for one size of elements only: one of 1 byte holds two weights, one of 2 bytes four.",
        lambda parameters: sum(2 * n * size for kind, n, size in parameters if kind == "Params4bit"),
        "You count the packed ones alone: an ordinary Parameter holds weights, too.",
        lambda parameters: sum(2 * n * size for _, n, size in parameters),
        "Only Params4bit is packed: an ordinary Parameter has one weight an element.",
        lambda parameters: sum(n * size for _, n, size in parameters),
        "Those are bytes: a byte of a Params4bit holds two weights of 4 bits.",
        (_packed_as(lambda n, size: n * size // 2), _packed_as(lambda n, size: n // 2)),
        "The wrong way round: a packed element holds more weights than one, not fewer.",
    ),
    hints=[
        "How many weights of 4 bits fit into one byte? And into an element of so many bytes?",
        "For class 'Params4bit' there are 2 weights a byte; for the others one weight an element.",
        "2 * numel * size if the class is 'Params4bit', else numel; add them up.",
    ],
    minutes=10,
    difficulty=1,
)

# ---------------------------------------------------------------- the config explorer


def _explorer_cases():
    """Of two or three layers, built in a moment; later choices lack modules of earlier ones."""
    q, k, v, o, gate, up, down = counting.ALL_LINEAR
    short = [find(name) | {"num_hidden_layers": 2} for name in ("smollm2-135m", "qwen2.5-0.5b")]
    return [
        (short[0], 16, {"mlp": [gate, up, down], "q+v": [q, v], "qkvo": [q, k, v, o]}),
        (short[1], 4, {"k": [k], "down": [down], "k and o": [k, o]}),
        (OWN_HEAD_DIM, 8, {"o": [o], "gate and up": [gate, up]}),
    ]


def _rows(trained, whole=counting.model_parameters, adapter_counts=True):
    """An explorer with trained(config, rank, targets) on a base of whole(config) parameters."""

    def rows(config, rank, choices):
        counts = {label: trained(config, rank, targets) for label, targets in choices.items()}
        return [(label, n, whole(config) + n * adapter_counts) for label, n in counts.items()]

    return rows


# (label, trained, all) of each choice by arithmetic; tests/sizes/test_counting.py has PEFT count the same.
what_peft_prints = _rows(counting.lora_count)


def _one_upon_the_other(config, rank, choices):
    """Without unload(): the targets so far stay adapted, and trained."""
    rows, so_far = [], set()
    for label, targets in choices.items():
        so_far |= set(targets)
        count = counting.lora_count(config, rank, so_far)
        rows.append((label, count, counting.model_parameters(config) + count))
    return rows


def _side_by_side(config, rank, choices):
    """With add_adapter(): only the newest is trained, and all of them are there."""
    rows, total = [], counting.model_parameters(config)
    for label, targets in choices.items():
        count = counting.lora_count(config, rank, targets)
        total += count
        rows.append((label, count, total))
    return rows


def _never_packed(config):
    """What PEFT's rule makes of linear layers of class Params4bit that still hold float32: eight times."""
    parts = counting.model_parts(config)
    return sum(parts.values()) + 7 * sum(parts[name] for name in counting.ALL_LINEAR)


compare_targets = Exercise(
    name="counting_parameters.compare_targets",
    reference=what_peft_prints,
    cases=_explorer_cases,
    mistakes=told(
        _one_upon_the_other,
        "The adapters of the rows before are still there: get_peft_model changes the model it is given. Call "
        "unload() after each row, or build the model anew.",
        _side_by_side,
        "All adapters so far count in your totals: each row must be that of a fresh model.",
        _rows(counting.lora_count, counting.naive_4bit),
        "Your totals count bytes that hold two weights each: take get_nb_trainable_parameters().",
        _rows(counting.lora_count, _never_packed),
        "Your totals count 4-bit weights before they are packed, eight times each: use in_4_bits(config).",
        _rows(counting.lora_count, adapter_counts=False),
        "Your totals are those of the model alone: PEFT's include the adapter.",
        _rows(lambda config, rank, targets: counting.lora_count(config, 8, targets)),
        "The rank is 8 whatever was asked, LoraConfig's default: give it r=rank.",
        _rows(lambda config, rank, targets: counting.lora_count(config, rank)),
        "Every row adapts all seven modules: give LoraConfig the choice's target_modules.",
        lambda *arguments: [(a, b, 100 * b / c) for a, b, c in what_peft_prints(*arguments)],
        "The last item is a share in percent: the number of all parameters is wanted.",
        lambda *arguments: [(a, c, b) for a, b, c in what_peft_prints(*arguments)],
        "Trained and all are swapped: get_nb_trainable_parameters() returns (trained, all).",
    ),
    hints=[
        "For each choice: LoraConfig(r=rank, target_modules=...), get_peft_model(model, ...), and "
        "get_nb_trainable_parameters() of what comes back.",
        "What does get_peft_model do to the model that you hand it? PEFT's warning says what to call.",
        "model = adapted.unload() at the end of each round takes the adapters out again. With "
        'torch.device("meta") around get_peft_model the adapters of a 7B need no memory either.',
    ],
    minutes=20,
    difficulty=2,
)
