"""Other right answers to the exercises of notebook 03: measured or arranged differently."""

import itertools

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM


def model_parameters(config):
    """Every tensor's shape listed, then multiplied out."""
    hidden, inner, head = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    layer = [(heads * head, hidden), (hidden, heads * head), (hidden,), (hidden,)]
    layer += [(groups * head, hidden)] * 2 + [(inner, hidden)] * 3
    if config["model_type"] == "qwen2":
        layer += [(heads * head,), (groups * head,), (groups * head,)]
    once = [(config["vocab_size"], hidden)] * (1 if config["tie_word_embeddings"] else 2) + [(hidden,)]
    return sum(int(np.prod(s)) for s in layer * config["num_hidden_layers"] + once)


def lora_count(config, rank, targets):
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    width = config["num_attention_heads"] * config["head_dim"]
    narrow = config["num_key_value_heads"] * config["head_dim"]
    sides = {"q_proj": hidden + width, "o_proj": hidden + width}
    sides |= dict.fromkeys(("k_proj", "v_proj"), hidden + narrow)
    sides |= dict.fromkeys(("gate_proj", "up_proj", "down_proj"), hidden + inner)
    return sum(rank * sides[name] for name in targets for _ in range(config["num_hidden_layers"]))


def configurations(config, wanted, ranks):
    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    found = set()
    for rank, chosen in itertools.product(ranks, itertools.product([0, 1], repeat=len(names))):
        targets = [name for name, take in zip(names, chosen, strict=True) if take]
        if targets and lora_count(config, rank, targets) == wanted:
            found.add((rank, "+".join(targets)))
    return sorted(found)


def unpacked(parameters):
    weights = 0
    for kind, elements, size in parameters:
        weights += elements * size * 8 // 4 if kind == "Params4bit" else elements
    return weights


def compare_targets(config, rank, choices):
    """In 16 bits, of which PEFT prints the same, and with a new model for each row."""
    rows = []
    for label, targets in choices.items():
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), dtype=torch.bfloat16)
            adapted = get_peft_model(model, LoraConfig(r=rank, target_modules=list(targets)))
        rows.append([label, *adapted.get_nb_trainable_parameters()])
    return rows


ANSWERS = {
    "counting_parameters.model_parameters": model_parameters,
    "counting_parameters.lora_count": lora_count,
    "counting_parameters.configurations": configurations,
    "counting_parameters.unpacked": unpacked,
    "counting_parameters.compare_targets": compare_targets,
}
