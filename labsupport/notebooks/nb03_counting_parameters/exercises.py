"""The exercises of notebook 03, each with the mistakes people make."""

from __future__ import annotations

import itertools

from labsupport import old_names
from labsupport.checking.exercise import Exercise, told
from labsupport.configs.model_configs import OWN_HEAD_DIM, find
from labsupport.notebooks.nb03_counting_parameters.peft_exercises import compare_targets, unpacked
from labsupport.sizes import counting

__all__ = ["compare_targets", "configurations", "lora_count", "model_parameters", "unpacked"]

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
)


def __getattr__(name: str):
    return old_names.retired(__name__, name)
