"""Wrong answers to notebook 03's exercises."""

import itertools

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from labsupport.memory import workload
from labsupport.sizes import counting


def counted(config, norms=2, square=False, embeddings=1, layers=None):
    """A model's parameters, with one thing or another wrong."""
    h, f, v = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    q = config["num_attention_heads"] * config["head_dim"]
    k = q if square else config["num_key_value_heads"] * config["head_dim"]
    layer = 2 * h * q + 2 * h * k + 3 * h * f + norms * h
    if config["model_type"] == "qwen2":
        layer += q + 2 * k
    heads = 0 if config["tie_word_embeddings"] else 1
    return (layers or config["num_hidden_layers"]) * layer + (embeddings + heads) * v * h + h


def of_one_layer(config, rank, targets):
    return counting.lora_count(config, rank, targets) // config["num_hidden_layers"]


def hidden_only(config, rank, targets):
    return config["num_hidden_layers"] * len(targets) * 2 * rank * config["hidden_size"]


def all_of_them(config, rank, targets):
    return sum(counting.lora_by_module(config, rank).values())


def each_alone(config, rank, targets):
    return [counting.lora_count(config, rank, [target]) for target in targets]


def both_twice(config, rank, targets):
    return 2 * counting.lora_count(config, rank, targets)


def products(config, rank, targets):
    shapes = counting.shapes(config)
    return config["num_hidden_layers"] * sum(rank * shapes[t][0] * shapes[t][1] for t in targets)


RANKS = (8, 16, 32, 64)


def own_ranks(config, wanted, ranks):
    return counting.configurations(config, wanted, RANKS)


def lists_of_targets(config, wanted, ranks):
    return [(rank, names.split("+")) for rank, names in counting.configurations(config, wanted, ranks)]


def largest_first(config, wanted, ranks):
    return counting.configurations(config, wanted, ranks)[::-1]


def only_names(config, wanted, ranks):
    return [names for _, names in counting.configurations(config, wanted, ranks)]


def one_module(config, wanted, ranks):
    each = {rank: counting.lora_by_module(config, rank) for rank in ranks}
    return sorted((rank, name) for rank in ranks for name, count in each[rank].items() if count == wanted)


def at_most(config, wanted, ranks):
    found = []
    for rank in ranks:
        each = counting.lora_by_module(config, rank)
        for size in range(1, 8):
            for chosen in itertools.combinations(each, size):
                if sum(each[name] for name in chosen) <= wanted:
                    found.append((rank, "+".join(chosen)))
    return sorted(found)


def packed_only(parameters):
    return sum(2 * n * size for kind, n, size in parameters if kind == "Params4bit")


def halves(parameters):
    return sum(n // 2 if kind == "Params4bit" else n for kind, n, size in parameters)


def four_an_element(parameters):
    return sum(4 * n if kind == "Params4bit" else n for kind, n, size in parameters)


def last_only(parameters):
    for kind, n, size in parameters:
        total = 2 * n * size if kind == "Params4bit" else n
    return total


def peft_rows(config, rank, choices, build, read=lambda adapted: adapted.get_nb_trainable_parameters()):
    """What PEFT counts on one model that is never freed of its adapters."""
    model, rows = build(config), []
    for label, targets in choices.items():
        adapted = get_peft_model(model, LoraConfig(r=rank, target_modules=targets))
        rows.append((label, *read(adapted)))
    return rows


def in_16_bits(config):
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), dtype=torch.bfloat16)


def in_4_bits(config):
    model = in_16_bits(config)
    workload.put_linear_layers_in_nf4(model, True, "meta")
    return model


def summed(adapted):
    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    return trained, sum(p.numel() for p in adapted.parameters())


def fresh_but_summed(config, rank, choices):
    rows = [peft_rows(config, rank, {label: choices[label]}, in_4_bits, summed) for label in choices]
    return [row for (row,) in rows]


def percent(config, rank, choices):
    counts = {label: counting.lora_count(config, rank, targets) for label, targets in choices.items()}
    whole = counting.model_parameters(config)
    return [(label, n, 100 * n / (n + whole)) for label, n in counts.items()]


def as_dict(config, rank, choices):
    counts = {label: counting.lora_count(config, rank, targets) for label, targets in choices.items()}
    return {label: (n, n + counting.model_parameters(config)) for label, n in counts.items()}


ANSWERS = {
    "counting_parameters.model_parameters": [
        (lambda config: counted(config, norms=1), "A layer has two norms"),
        (lambda config: counted(config, norms=3), None),
        (lambda config: counted(config, square=True), "You count k_proj and v_proj as wide as q_proj"),
        (lambda config: counted(config, embeddings=0), "The embedding is missing"),
        (lambda config: counted(config, layers=1), "You count a single layer"),
        (lambda config: 4 * counted(config), "4 times"),
        (lambda config: counted(config) / 1e9, "1/1,000,000,000 times"),
    ],
    "counting_parameters.lora_count": [
        (of_one_layer, "That is one layer"),
        (hidden_only, "Every matrix counted as hidden x hidden"),
        (all_of_them, "You count all seven matrices"),
        (each_alone, "where a number (int) was expected"),
        (both_twice, "2 times"),
        (products, "You multiply inputs and outputs"),
    ],
    "counting_parameters.configurations": [
        (own_ranks, "You try ranks of your own"),
        (lists_of_targets, "where a str was expected"),
        (largest_first, "The order is reversed"),
        (only_names, "where a list was expected"),
        (one_module, "You try single modules"),
        (at_most, None),
    ],
    "counting_parameters.unpacked": [
        (packed_only, "You count the packed ones alone"),
        (halves, "The wrong way round"),
        (four_an_element, "Right for one size of elements only"),
        (last_only, None),
    ],
    "counting_parameters.compare_targets": [
        (
            lambda *arguments: peft_rows(*arguments, in_16_bits),
            "The adapters of the rows before are still there",
        ),
        (
            lambda *arguments: peft_rows(*arguments, in_4_bits),
            "The adapters of the rows before are still there",
        ),
        (fresh_but_summed, "Your totals count bytes that hold two weights each"),
        (percent, "The last item is a share in percent"),
        (as_dict, "where a list was expected"),
    ],
}
