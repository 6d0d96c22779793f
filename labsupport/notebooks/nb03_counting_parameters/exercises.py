"""The exercises of notebook 03, each with the mistakes people make."""

from __future__ import annotations

import itertools

from labsupport.checking.exercise import Exercise, told
from labsupport.sizes import counting
from labsupport.sizes.model_configs import OWN_HEAD_DIM, find

SOLUTION = "solutions/03_counting_parameters.ipynb"

# ---------------------------------------------------------------- a model


def _model_cases():
    names = ("smollm2-135m", "llama-2-7b", "llama-3.1-8b", "qwen2.5-0.5b")
    return [(config,) for config in [*map(find, names), OWN_HEAD_DIM]]


def _without(part):
    """A count that leaves out one of counting.model_parts."""
    return lambda config: counting.model_parameters(config) - counting.model_parts(config)[part]


def _square_queries(config):
    width = config["hidden_size"] // config["num_attention_heads"]
    return counting.model_parameters(config | {"head_dim": width})


def _head_though_tied(config):
    parts = counting.model_parts(config)
    return sum(parts.values()) - parts["lm_head"] + parts["embed_tokens"]


def _bias_on_o(config):
    biases = config["num_hidden_layers"] * config["hidden_size"] if counting.with_bias(config) else 0
    return counting.model_parameters(config) + biases


model_parameters = Exercise(
    name="counting_parameters.model_parameters",
    reference=counting.model_parameters,
    cases=_model_cases,
    mistakes=told(
        lambda c: counting.model_parameters(c | {"num_key_value_heads": c["num_attention_heads"]}),
        "You count k_proj and v_proj as wide as q_proj: they have num_key_value_heads heads.",
        _without("gate_proj"),
        "An MLP of this family has three matrices: gate, up and down.",
        _head_though_tied,
        "Where tie_word_embeddings is true, embedding and head are one matrix: count it once.",
        _without("lm_head"),
        "Where tie_word_embeddings is false, the head is a second vocab_size x hidden_size matrix.",
        _without("norms"),
        "The norms are missing: hidden_size weights each, two a layer and one at the end.",
        lambda c: counting.model_parameters(c) - c["hidden_size"],
        "One norm is missing: the last one, between the last layer and the head.",
        lambda c: counting.model_parameters(c) - c["num_hidden_layers"] * c["hidden_size"],
        "A layer has two norms: one before the attention and one before the MLP.",
        _without("embed_tokens"),
        "The embedding is missing: vocab_size x hidden_size.",
        _without("biases"),
        "Qwen2 has biases on q_proj, k_proj and v_proj: one for each output.",
        _bias_on_o,
        "Qwen2's o_proj has no bias: only q_proj, k_proj and v_proj have one.",
        _square_queries,
        "Use head_dim: a head need not be hidden_size / num_attention_heads wide.",
        lambda c: counting.model_parameters(c | {"num_hidden_layers": 1}),
        "You count a single layer: there are num_hidden_layers of them.",
    ),
    hints=[
        "Go part by part: embedding, one layer (attention, MLP, norms) times the layers, last norm, head. "
        "counting.model_parts(config) has the right value of each part, to compare with yours.",
        "q_proj and o_proj hold hidden_size x heads x head_dim weights; k_proj and v_proj the same with "
        "num_key_value_heads; each MLP matrix hidden_size x intermediate_size.",
        "With q, k the widths of queries and keys, h hidden, f intermediate, v vocabulary: a layer is "
        "2hq + 2hk + 3hf + 2h, plus q + 2k in qwen2; add vh + h, and vh again if not tied.",
    ],
    minutes=20,
    difficulty=2,
    solution=SOLUTION,
)

# ---------------------------------------------------------------- LoRA on a model


def _lora_cases():
    everything = [*counting.ALL_LINEAR]
    return [
        (find("llama-2-7b"), 16, everything),
        (find("llama-2-7b"), 16, ["q_proj", "v_proj"]),
        (find("llama-3.1-8b"), 16, ["q_proj", "k_proj", "v_proj", "o_proj"]),
        (find("mistral-7b-v0.3"), 8, everything),
        (find("smollm2-135m"), 64, ["down_proj"]),
    ]


def _summed(count_one):
    """A counter that adds count_one(config, rank, inputs, outputs) of all targets in all layers."""

    def wrong(config, rank, targets):
        shapes = counting.shapes(config)
        return config["num_hidden_layers"] * sum(count_one(config, rank, *shapes[name]) for name in targets)

    return wrong


def _not_grouped(config, rank, targets):
    return counting.lora_count(config | {"num_key_value_heads": config["num_attention_heads"]}, rank, targets)


lora_count = Exercise(
    name="counting_parameters.lora_count",
    reference=counting.lora_count,
    cases=_lora_cases,
    mistakes=told(
        _not_grouped,
        "k_proj and v_proj counted as wide as q_proj: mind num_key_value_heads.",
        _summed(lambda config, rank, inputs, outputs: rank * 2 * config["hidden_size"]),
        "Every matrix counted as hidden x hidden, as guide 002 does: k, v and MLP differ.",
        lambda config, rank, targets: counting.lora_count(config | {"num_hidden_layers": 1}, rank, targets),
        "That is one layer: the targets occur in each of num_hidden_layers layers.",
        _summed(lambda config, rank, inputs, outputs: rank * outputs),
        "Only B is counted: each target also gets an A with as many columns as inputs.",
        _summed(lambda config, rank, inputs, outputs: rank * inputs),
        "Only A is counted: each target also gets a B with as many rows as outputs.",
        lambda config, rank, targets: counting.lora_count(config, rank, "all-linear"),
        "You count all seven matrices whatever the targets are.",
        _summed(lambda config, rank, inputs, outputs: rank * (inputs + outputs) + outputs),
        "You count biases; LoRA's A and B have none.",
        _summed(lambda config, rank, inputs, outputs: 2 * rank * max(inputs, outputs)),
        "A and B differ in size: one is as long as the inputs, the other as the outputs.",
        _summed(lambda config, rank, inputs, outputs: rank * (inputs + outputs + rank)),
        "There is no rank x rank matrix between A and B: that is another method's.",
        _summed(lambda config, rank, inputs, outputs: rank * inputs * outputs),
        "You multiply inputs and outputs; A has rank x inputs entries, B outputs x rank: add the two.",
        _summed(lambda config, rank, inputs, outputs: inputs * outputs),
        "Those are the target matrices themselves: LoRA trains A and B beside them.",
    ),
    hints=[
        "counting.shapes(config) gives inputs and outputs of every module.",
        "Sum rank * (inputs + outputs) over the targets, then multiply by the number of layers.",
        "config['num_hidden_layers'] * sum(rank * (i + o) for each target's (i, o)).",
    ],
    minutes=10,
    difficulty=2,
    solution=SOLUTION,
)

# ---------------------------------------------------------------- which configuration prints this?

RANKS = [8, 16, 32, 64]
OTHER_RANKS = [4, 16, 48]


def _search_cases():
    return [
        (find("mistral-7b-v0.3"), 27_262_976, RANKS),
        (find("llama-2-7b"), 8_388_608, RANKS),
        (find("smollm2-135m"), 4_884_480, [16, 32]),
        (find("llama-2-7b"), 8_388_608, OTHER_RANKS),
        (find("smollm2-135m"), 3 * 4_884_480, OTHER_RANKS),
        (find("llama-2-7b"), 29_400_000, RANKS),
    ]


def _among(choices):
    """A search that tries these choices of targets."""

    def wrong(config, wanted, ranks):
        found = []
        for rank in ranks:
            each = counting.lora_by_module(config, rank)
            found += [(rank, "+".join(c)) for c in choices if sum(each[name] for name in c) == wanted]
        return sorted(found)

    return wrong


def _chosen(choose, sizes):
    return [targets for size in sizes for targets in choose(counting.ALL_LINEAR, size)]


NEIGHBOURS = [counting.ALL_LINEAR[i:j] for i in range(7) for j in range(i + 1, 8)]


configurations = Exercise(
    name="counting_parameters.configurations",
    reference=counting.configurations,
    cases=_search_cases,
    mistakes=told(
        _among([(name,) for name in counting.ALL_LINEAR]),
        "You try single modules; any set of the seven can be the targets.",
        _among(counting.SETS.values()),
        "You try only the usual sets: any of the seven modules can be a target or not.",
        _among(NEIGHBOURS),
        "You try only modules that stand next to each other; q_proj+v_proj has a gap.",
        _among(_chosen(itertools.combinations, range(1, 7))),
        "You never try all seven modules together.",
        _among(_chosen(itertools.permutations, range(1, 5))),
        "q+v and v+q are the same choice: use combinations, not permutations.",
        _among(_chosen(itertools.combinations_with_replacement, range(1, 8))),
        "A module can be a target once only: combinations without replacement.",
        lambda config, wanted, ranks: counting.configurations(config, wanted, RANKS),
        "You try ranks of your own: try those of the argument `ranks`.",
        lambda config, wanted, ranks: counting.configurations(config, wanted, ranks)[:1],
        "You stop at the first one: several configurations print the same number.",
        lambda c, *others: counting.configurations(c | {"num_hidden_layers": 1}, *others),
        "You compare one layer's count with the whole model's: multiply by the layers.",
    ),
    hints=[
        "There are 127 non-empty subsets of seven modules: try each with each rank.",
        "itertools.combinations(counting.ALL_LINEAR, size) for size in 1 to 7 gives the subsets in order.",
        "Collect (rank, '+'.join(targets)) where lora_count(config, rank, targets) == wanted; sort the list.",
    ],
    minutes=15,
    difficulty=2,
    solution=SOLUTION,
)

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
    solution=SOLUTION,
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
    solution=SOLUTION,
)


def __getattr__(name: str):
    """An exercise that this notebook had before."""
    from labsupport.notebooks.nb03_counting_parameters import retired

    return getattr(retired, name)
