"""The exercises of notebook 03, each with the mistakes people make."""

from __future__ import annotations

import itertools

from labsupport.models import counting, model_configs
from labsupport.checking.exercise import Exercise

SOLUTION = "solutions/03_counting_parameters.ipynb"

# ---------------------------------------------------------------- one matrix


def _whole_matrix(d_in, d_out, rank):
    return d_in * d_out


def _only_a(d_in, d_out, rank):
    return rank * d_in


def _only_b(d_in, d_out, rank):
    return rank * d_out


def _square(d_in, d_out, rank):
    return 2 * rank * d_in


def _product(d_in, d_out, rank):
    return rank * d_in * d_out


def _a_times_b(d_in, d_out, rank):
    return rank * d_in * rank * d_out


def _middle_matrix(d_in, d_out, rank):
    return rank * (d_in + d_out) + rank * rank


def _share(d_in, d_out, rank):
    return rank * (d_in + d_out) / (d_in * d_out)


lora_parameters = Exercise(
    name="counting_parameters.lora_parameters",
    reference=counting.lora_parameters,
    cases=[(4096, 4096, 16), (4096, 11008, 16), (11008, 4096, 8), (576, 192, 64), (64, 48, 1)],
    mistakes=[
        (_whole_matrix, "That is the matrix W itself, which stays frozen: count A and B."),
        (_only_a, "That is A alone: B, with d_out rows and rank columns, is trained as well."),
        (_only_b, "That is B alone: A, with rank rows and d_in columns, is trained as well."),
        (_square, "Right for square matrices only: B has d_out rows, not d_in."),
        (_product, "Rank full matrices? A has rank x d_in entries, B has d_out x rank: add the two."),
        (_a_times_b, "You multiply the sizes of A and B; they are two matrices: add their sizes."),
        (_middle_matrix, "There is no rank x rank matrix between A and B: that is another method's."),
        (_share, "That is the share of the matrix; the count itself is wanted, a whole number."),
    ],
    hints=[
        "LoRA adds B A to W. Which shapes must A and B have for the product to fit W?",
        "A is rank x d_in and B is d_out x rank. A matrix has rows x columns entries.",
        "rank * d_in for A plus d_out * rank for B.",
    ],
    solution=SOLUTION,
)

# ---------------------------------------------------------------- a model


def _model_cases():
    found = [model_configs.find(n) for n in ("smollm2-135m", "llama-2-7b", "llama-3.1-8b", "qwen2.5-0.5b")]
    return [(config,) for config in [*found, model_configs.OWN_HEAD_DIM]]


def _changed(config, **parts):
    return sum((counting.model_parts(config) | parts).values())


def _all_heads(config):
    return counting.model_parameters(config | {"num_key_value_heads": config["num_attention_heads"]})


def _two_mlp_matrices(config):
    return _changed(config, gate_proj=0)


def _head_though_tied(config):
    return _changed(config, lm_head=counting.model_parts(config)["embed_tokens"])


def _never_a_head(config):
    return _changed(config, lm_head=0)


def _no_norms(config):
    return _changed(config, norms=0)


def _no_last_norm(config):
    return counting.model_parameters(config) - config["hidden_size"]


def _one_norm(config):
    return counting.model_parameters(config) - config["num_hidden_layers"] * config["hidden_size"]


def _no_biases(config):
    return _changed(config, biases=0)


def _bias_on_o(config):
    return counting.model_parameters(config) + (
        config["num_hidden_layers"] * config["hidden_size"] if counting.with_bias(config) else 0
    )


def _square_queries(config):
    return counting.model_parameters(
        config | {"head_dim": config["hidden_size"] // config["num_attention_heads"]}
    )


def _one_layer(config):
    return counting.model_parameters(config | {"num_hidden_layers": 1})


model_parameters = Exercise(
    name="counting_parameters.model_parameters",
    reference=counting.model_parameters,
    cases=_model_cases,
    mistakes=[
        (_all_heads, "You count k_proj and v_proj as wide as q_proj: they have num_key_value_heads heads."),
        (_two_mlp_matrices, "An MLP of this family has three matrices: gate, up and down."),
        (
            _head_though_tied,
            "Where tie_word_embeddings is true, embedding and head are one matrix: count it once.",
        ),
        (
            _never_a_head,
            "Where tie_word_embeddings is false, the head is a second vocab_size x hidden_size matrix.",
        ),
        (_no_norms, "The norms are missing: hidden_size weights each, two a layer and one at the end."),
        (_no_last_norm, "One norm is missing: the last one, between the last layer and the head."),
        (_one_norm, "A layer has two norms: one before the attention and one before the MLP."),
        (_no_biases, "Qwen2 has biases on q_proj, k_proj and v_proj: one for each output."),
        (_bias_on_o, "Qwen2's o_proj has no bias: only q_proj, k_proj and v_proj have one."),
        (_square_queries, "Use head_dim: a head need not be hidden_size / num_attention_heads wide."),
        (_one_layer, "You count a single layer: there are num_hidden_layers of them."),
    ],
    hints=[
        "Go part by part: embedding, one layer (attention, MLP, norms) times the layers, last norm, head. "
        "counting.model_parts(config) has the right value of each part, to compare with yours.",
        "q_proj and o_proj hold hidden_size x heads x head_dim weights; k_proj and v_proj the same with "
        "num_key_value_heads; each MLP matrix hidden_size x intermediate_size.",
        "With q, k the widths of queries and keys, h hidden, f intermediate, v vocabulary: a layer is "
        "2hq + 2hk + 3hf + 2h, plus q + 2k in qwen2; add vh + h, and vh again if not tied.",
    ],
    solution=SOLUTION,
)

# ---------------------------------------------------------------- LoRA on a model


def _lora_cases():
    find = model_configs.find
    everything = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    return [
        (find("llama-2-7b"), 16, everything),
        (find("llama-2-7b"), 16, ["q_proj", "v_proj"]),
        (find("llama-3.1-8b"), 16, ["q_proj", "k_proj", "v_proj", "o_proj"]),
        (find("mistral-7b-v0.3"), 8, everything),
        (find("smollm2-135m"), 64, ["down_proj"]),
    ]


def _by_shape(shape_of):
    """A wrong counter from a wrong table of shapes: shape_of(config, name) -> (inputs, outputs)."""

    def count(config, rank, targets):
        shapes = [shape_of(config, name) for name in targets]
        return config["num_hidden_layers"] * rank * sum(i + o for i, o in shapes)

    return count


def _ungrouped_shape(config, name):
    return counting.shapes(config | {"num_key_value_heads": config["num_attention_heads"]})[name]


def _square_shape(config, name):
    return config["hidden_size"], config["hidden_size"]


def _one_layer_lora(config, rank, targets):
    return counting.lora_count(config, rank, targets) // config["num_hidden_layers"]


def _only_a_lora(config, rank, targets):
    return config["num_hidden_layers"] * rank * sum(counting.shapes(config)[n][0] for n in targets)


def _always_everything(config, rank, targets):
    return counting.lora_count(config, rank)


def _with_head(config, rank, targets):
    return counting.lora_count(config, rank, [*targets, "lm_head"])


def _matrices(config, rank, targets):
    return sum(counting.model_parts(config)[name] for name in targets)


lora_count = Exercise(
    name="counting_parameters.lora_count",
    reference=counting.lora_count,
    cases=_lora_cases,
    mistakes=[
        (
            _by_shape(_ungrouped_shape),
            "k_proj and v_proj counted as wide as q_proj: mind num_key_value_heads.",
        ),
        (
            _by_shape(_square_shape),
            "Every matrix counted as hidden x hidden, as guide 002 does: k, v and MLP differ.",
        ),
        (_one_layer_lora, "That is one layer: the targets occur in each of num_hidden_layers layers."),
        (_only_a_lora, "Only A is counted: each target also gets a B with as many rows as outputs."),
        (_always_everything, "You count all seven matrices whatever the targets are."),
        (_with_head, "You count the head too: it is a target only if it is named."),
        (_matrices, "Those are the target matrices themselves: LoRA trains A and B beside them."),
    ],
    hints=[
        "counting.shapes(config) gives inputs and outputs of every module.",
        "Sum lora_parameters(d_in, d_out, rank) over the targets, then multiply by the number of layers.",
        "config['num_hidden_layers'] * sum(rank * (i + o) for each target's (i, o)).",
    ],
    solution=SOLUTION,
)

# ---------------------------------------------------------------- which configuration prints this?

RANKS = [8, 16, 32, 64]


def _search_cases():
    find = model_configs.find
    return [
        (find("mistral-7b-v0.3"), 27_262_976, RANKS),
        (find("llama-2-7b"), 8_388_608, RANKS),
        (find("smollm2-135m"), 4_884_480, [16, 32]),
        (find("llama-2-7b"), 29_400_000, RANKS),
    ]


def _search(config, wanted, ranks, choices):
    found = []
    for rank in ranks:
        each = counting.lora_by_module(config, rank)
        for targets in choices:
            if sum(each[name] for name in targets) == wanted:
                found.append((rank, "+".join(targets)))
    return sorted(found)


def _subsets(sizes=range(1, 8), choose=itertools.combinations):
    return [targets for size in sizes for targets in choose(counting.ALL_LINEAR, size)]


def _named_sets(config, wanted, ranks):
    return _search(config, wanted, ranks, counting.SETS.values())


def _neighbours(config, wanted, ranks):
    names = counting.ALL_LINEAR
    return _search(config, wanted, ranks, [names[i:j] for i in range(7) for j in range(i + 1, 8)])


def _smaller_than_all(config, wanted, ranks):
    return _search(config, wanted, ranks, _subsets(range(1, 7)))


def _orders(config, wanted, ranks):
    return _search(config, wanted, ranks, _subsets(range(1, 5), itertools.permutations))


def _repeats(config, wanted, ranks):
    choose = itertools.combinations_with_replacement
    return _search(config, wanted, ranks, _subsets(range(1, 8), choose))


def _first_only(config, wanted, ranks):
    return counting.configurations(config, wanted, ranks)[:1]


def _per_layer(config, wanted, ranks):
    return counting.configurations(config | {"num_hidden_layers": 1}, wanted, ranks)


configurations = Exercise(
    name="counting_parameters.configurations",
    reference=counting.configurations,
    cases=_search_cases,
    mistakes=[
        (_named_sets, "You try only the usual sets: any of the seven modules can be a target or not."),
        (_neighbours, "You try only modules that stand next to each other; q_proj+v_proj has a gap."),
        (_smaller_than_all, "You never try all seven modules together."),
        (_orders, "q+v and v+q are the same choice: use combinations, not permutations."),
        (_repeats, "A module can be a target once only: combinations without replacement."),
        (_first_only, "You stop at the first one: several configurations print the same number."),
        (_per_layer, "You compare one layer's count with the whole model's: multiply by the layers."),
    ],
    hints=[
        "There are 127 non-empty subsets of seven modules: try each with each rank.",
        "itertools.combinations(counting.ALL_LINEAR, size) for size in 1 to 7 gives the subsets in order.",
        "Collect (rank, '+'.join(targets)) where lora_count(config, rank, targets) == wanted; sort the list.",
    ],
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


def _naive(parameters):
    return sum(n for _, n, _ in parameters)


def _twice(parameters):
    return sum(2 * n if kind == "Params4bit" else n for kind, n, _ in parameters)


def _everything_packed(parameters):
    return sum(2 * n * size for _, n, size in parameters)


def _bytes(parameters):
    return sum(n * size for _, n, size in parameters)


def _bits(parameters):
    return sum(8 * n * size if kind == "Params4bit" else n for kind, n, size in parameters)


def _halved(parameters):
    return sum(n * size // 2 if kind == "Params4bit" else n for kind, n, size in parameters)


unpacked = Exercise(
    name="counting_parameters.unpacked",
    reference=counting.unpacked,
    cases=_packed_cases,
    mistakes=[
        (_naive, "That is the naive sum: an element of a Params4bit holds more than one weight."),
        (_twice, "Right when the weights are stored in bytes; a 2-byte element holds four of them."),
        (_everything_packed, "Only Params4bit is packed: an ordinary Parameter has one weight an element."),
        (_bytes, "Those are bytes: a byte of a Params4bit holds two weights of 4 bits."),
        (_bits, "You count bits: a weight has 4 of them."),
        (_halved, "The wrong way round: a packed element holds more weights than one, not fewer."),
    ],
    hints=[
        "How many weights of 4 bits fit into one byte? And into an element of so many bytes?",
        "For class 'Params4bit' there are 2 weights a byte; for the others one weight an element.",
        "2 * numel * size if the class is 'Params4bit', else numel; add them up.",
    ],
    solution=SOLUTION,
)
