"""How many parameters a model has, and how many each way of adapting it adds. No torch.

Closed forms, in elements unless the name says bytes; `tests/sizes/test_counting.py` holds them against
transformers and PEFT on the meta device. A config is a dict as in a model's config.json, see model_configs.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable

from labsupport.configs import architectures, model_configs
from labsupport.core import dtypes
from labsupport.core.files import LabError

# Of Llama-like models; others have other linear layers, see architectures.
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")
ALL_LINEAR = (*ATTENTION, *MLP)
OUTSIDE = ("embed_tokens", "lm_head")  # once a model, not once a layer; not part of all-linear
SETS = {"q+v": ("q_proj", "v_proj"), "qkvo": ATTENTION, "mlp": MLP, "all-linear": ALL_LINEAR}

# ---------------------------------------------------------------- the model


def shapes(config: dict) -> dict[str, tuple[int, int]]:
    """Module name -> (inputs, outputs), for the linear layers of a block, the embedding and the head.

    Under grouped-query attention k and v are narrower than q: they have num_key_value_heads heads.
    """
    config = model_configs.checked(config)
    hidden, words = config["hidden_size"], config["vocab_size"]
    embedding, head = outside(config)
    return architectures.linear_layers(config) | {embedding: (words, hidden), head: (hidden, words)}


def block_shapes(config: dict) -> dict[str, tuple[int, int]]:
    """Those of `shapes` that every block has: its linear layers. Experts are none, see adapter_shapes."""
    return architectures.linear_layers(model_configs.checked(config))


def adapter_shapes(config: dict) -> dict[str, tuple[int, int]]:
    """Target -> (inputs, outputs), for all that PEFT adapts in a block when asked for all-linear: LoRA adds
    rank x (inputs + outputs). Experts in one parameter have an adapter each, and gate and up half of theirs.
    """
    config = model_configs.checked(config)
    return block_shapes(config) | _expert_shapes(config, architectures.expert_targets(config))


def _expert_shapes(config: dict, names: dict[str, str]) -> dict[str, tuple[int, int]]:
    """As `adapter_shapes`, of the targets that stand for experts' parameters."""
    parameters = architectures.expert_parameters(config)
    sizes = {name: parameters[parameter] for name, parameter in names.items()}
    return {name: (count * inputs, count * outputs) for name, (count, inputs, outputs) in sizes.items()}


def outside(config: dict) -> tuple[str, str]:
    """The names of the embedding and the head: once a model, not once a layer; not part of all-linear."""
    return architectures.of(config).embedding, "lm_head"


def with_bias(config: dict) -> tuple[str, ...]:
    """The linear layers that have a bias: q, k, v in Qwen2 by its architecture, in Llama as configured."""
    return architectures.of(config).biased(config)


def model_parts(config: dict) -> dict[str, int]:
    """Parameters by part, all layers together. `biases` counts those of the linear layers; `lm_head` is 0
    where the embedding matrix serves as the head (tied)."""
    config = model_configs.checked(config)
    layers, sizes = config["num_hidden_layers"], shapes(config)
    embedding, head = outside(config)
    parts = {embedding: math.prod(sizes[embedding])}
    if config["model_type"] == "gpt2":
        parts["wpe"] = config["max_position_embeddings"] * config["hidden_size"]
    experts = architectures.expert_parameters(config)
    parts |= {n: layers * math.prod(shape) for n, shape in (block_shapes(config) | experts).items()}
    parts["biases"] = layers * sum(sizes[name][1] for name in with_bias(config))
    in_block, last = architectures.norm_parameters(config)
    parts["norms"] = layers * in_block + last
    parts[head] = 0 if config["tie_word_embeddings"] else parts[embedding]
    return parts


def model_parameters(config: dict) -> int:
    """All parameters of the model, a tied head counted once."""
    return sum(model_parts(config).values())


# ---------------------------------------------------------------- LoRA and DoRA


def lora_parameters(d_in: int, d_out: int, rank: int) -> int:
    """What LoRA adds to one d_out x d_in matrix: A is rank x d_in, B is d_out x rank (LoRA, section 4.1).

    LabError if the rank is no whole number from 1 to the smaller side.
    """
    check_rank(rank, d_in, d_out)
    return rank * (d_in + d_out)


def check_rank(rank: int, d_in: int, d_out: int, what: str = "the matrix") -> None:
    """LabError unless `rank` is a whole number from 1 to the smaller side of a d_out x d_in matrix."""
    largest = min(d_in, d_out)
    if isinstance(rank, bool) or not isinstance(rank, int):
        raise LabError(
            f"The rank is {rank!r}: it counts the rows of A, so it must be a whole number such as 16."
        )
    if rank < 1:
        raise LabError(f"The rank is {rank}: give at least 1, or A has no row and there is nothing to train.")
    if rank > largest:
        raise LabError(
            f"The rank is {rank}, larger than {largest}: {what} is {d_out} x {d_in} and has rank {largest} "
            f"at most, so the rest would only cost parameters. Give at most {largest}."
        )


def in_block(config: dict) -> dict[str, tuple[str, ...]]:
    """What can be named as a target in a block -> the names of `adapter_shapes` behind it."""
    names = (*adapter_shapes(config), *architectures.expert_paths(config))
    found = {name: (name,) for name in names}
    if config["model_type"] == "gpt2":
        found["c_proj"] = ("attn.c_proj", "mlp.c_proj")
    return found


def target_names(targets: str | Iterable[str], config: dict | None = None) -> tuple[str, ...]:
    """The module names behind "q+v", "qkvo", "mlp", "all-linear" or a list of names, in the model's order.

    config: the model's, None for a Llama-like one. LabError for a name that the model has not, and for none.
    """
    if targets == "all-linear":
        return ALL_LINEAR if config is None else tuple(adapter_shapes(config))
    inside = {name: (name,) for name in ALL_LINEAR} if config is None else in_block(config)
    known = inside | {name: (name,) for name in (OUTSIDE if config is None else outside(config))}
    if isinstance(targets, str):
        targets = SETS.get(targets, (targets,))
    wanted = set(targets)
    unknown = sorted(map(str, wanted - set(known)))
    if unknown or not wanted:
        what = f"There is no target module {unknown[0]!r}" if unknown else "No target module is given"
        raise LabError(f"{what}: choose among {', '.join(known)}, or a set: {', '.join(SETS)}.")
    chosen = {name for target in wanted for name in known[target]}
    return tuple(name for name in known if name in chosen)


def lora_by_module(config: dict, rank: int, targets: str | Iterable[str] = "all-linear") -> dict[str, int]:
    """LoRA parameters by target module, all layers together. LabError for a bad rank or target."""
    config = model_configs.checked(config)
    sizes, layers = shapes(config) | adapter_shapes(config), config["num_hidden_layers"]
    routed = architectures.expert_targets(config) | architectures.expert_paths(config)
    sizes |= _expert_shapes(config, routed)
    counts = {}
    for name in target_names(targets, config):
        if name in routed:  # PEFT gives even a router of eight experts as many
            check_rank(rank, config["hidden_size"], config["hidden_size"], "an expert of this model")
        else:
            check_rank(rank, *sizes[name], f"{name} of this model")
        counts[name] = rank * sum(sizes[name]) * (1 if name in outside(config) else layers)
    return counts


def lora_count(config: dict, rank: int, targets: str | Iterable[str] = "all-linear") -> int:
    """What LoRA trains at this rank on these targets. LabError for a bad rank or target."""
    return sum(lora_by_module(config, rank, targets).values())


def dora_by_module(config: dict, targets: str | Iterable[str] = "all-linear") -> dict[str, int]:
    """The magnitudes that DoRA adds to LoRA: one for each output of each target, as PEFT counts them
    (of the embedding: one for each of the hidden_size columns)."""
    config = model_configs.checked(config)
    sizes, layers = shapes(config), config["num_hidden_layers"]
    names = target_names(targets, config)
    if experts := [name for name in names if name not in sizes]:
        raise LabError(f"PEFT has no DoRA for experts in one parameter: leave out {', '.join(experts)}.")
    return {n: sizes[n][1] * (1 if n in outside(config) else layers) for n in names}


def dora_count(config: dict, rank: int, targets: str | Iterable[str] = "all-linear") -> int:
    """What DoRA trains: LoRA's matrices and the magnitudes."""
    return lora_count(config, rank, targets) + sum(dora_by_module(config, targets).values())


def bias_count(config: dict, bias: str, targets: str | Iterable[str] = "all-linear") -> int:
    """What LoraConfig(bias=...) trains besides: "none" nothing, "lora_only" the biases of the targets,
    "all" every bias there is. LabError for another word."""
    config = model_configs.checked(config)
    sizes = shapes(config)
    names = {"none": (), "lora_only": target_names(targets, config), "all": tuple(sizes)}.get(bias)
    if names is None:
        raise LabError(f"bias is {bias!r}: PEFT knows none, lora_only and all.")
    return config["num_hidden_layers"] * sum(sizes[n][1] for n in with_bias(config) if n in names)


def configurations(config: dict, wanted: int, ranks: Iterable[int]) -> list[tuple[int, str]]:
    """Every (rank, targets) with these ranks and targets among the seven linear layers that trains exactly
    `wanted` parameters under LoRA; targets joined as "q_proj+v_proj" in the model's order; sorted."""
    found = []
    for rank in ranks:
        each = lora_by_module(config, rank)
        for size in range(1, len(ALL_LINEAR) + 1):
            for targets in itertools.combinations(ALL_LINEAR, size):
                if sum(each[name] for name in targets) == wanted:
                    found.append((rank, "+".join(targets)))
    return sorted(found)


# ---------------------------------------------------------------- other ways of adapting


def _checked_count(number: int, what: str) -> int:
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise LabError(f"{what} is {number!r}: it must be a whole number, at least 1.")
    return number


def prompt_tuning(config: dict, tokens: int) -> int:
    """Prompt tuning: that many learned input vectors (Lester 2021, section 2). LabError if not a count."""
    return _checked_count(tokens, "The number of prompt tokens") * config["hidden_size"]


def prefix_tuning(config: dict, tokens: int) -> int:
    """Prefix tuning: learned keys and values for that many positions in each layer, without the MLP that
    Li and Liang train them through. Keys and values are as wide as k_proj and v_proj: narrow under GQA.
    """
    config = model_configs.checked(config)
    _, width = architectures.widths(config)
    return config["num_hidden_layers"] * _checked_count(tokens, "The prefix length") * 2 * width


def bottleneck_adapters(config: dict, bottleneck: int, biases: bool = False) -> int:
    """Houlsby's adapters: two a layer, each hidden -> bottleneck -> hidden (Houlsby 2019, section 2.1)."""
    config = model_configs.checked(config)
    hidden, bottleneck = config["hidden_size"], _checked_count(bottleneck, "The bottleneck")
    one = 2 * hidden * bottleneck + (hidden + bottleneck if biases else 0)
    return 2 * config["num_hidden_layers"] * one


# ---------------------------------------------------------------- packed weights


def unpacked(parameters: Iterable[tuple[str, int, int]]) -> int:
    """Weights behind a model's parameters, given as (class name, numel, bytes an element).

    bitsandbytes' Params4bit packs two 4-bit weights into each byte of its elements, whose type is free
    (bnb_4bit_quant_storage). The same rule as PEFT's get_nb_trainable_parameters (peft_model.py).
    """
    return sum(n * 2 * size if kind == "Params4bit" else n for kind, n, size in parameters)


def naive_4bit(config: dict) -> int:
    """What sum(p.numel()) says of the model loaded in 4 bit, stored in bytes: the linear layers of the
    blocks at half their size, everything else in full."""
    parts = model_parts(config)
    return sum(parts.values()) - sum(parts[name] for name in architectures.in_4_bits(config)) // 2


# ---------------------------------------------------------------- the adapter's file


def adapter_tensors(
    config: dict, rank: int, targets: str | Iterable[str] = "all-linear", dora: bool = False
) -> dict[str, tuple[int, ...]]:
    """Tensor name -> shape, as PEFT writes adapter_model.safetensors for a causal language model.

    Only targets inside the blocks: LabError for embed_tokens and lm_head, with which PEFT also saves the
    frozen matrices themselves.
    """
    config = model_configs.checked(config)
    names, sizes, kind = target_names(targets, config), shapes(config), architectures.of(config)
    if set(names) & set(outside(config)):
        raise LabError("The file of an adapter on embed_tokens or lm_head also holds the base matrices.")
    if experts := [name for name in names if name not in sizes]:
        raise LabError(
            f"The file of an adapter on experts is not counted here: leave out {', '.join(experts)}."
        )
    tensors = {}
    for layer in range(config["num_hidden_layers"]):
        for name in names:
            d_in, d_out = sizes[name]
            check_rank(rank, d_in, d_out, f"{name} of this model")
            stem = f"base_model.model.{kind.stem}.{layer}.{kind.layers[name]}"
            tensors[f"{stem}.lora_A.weight"] = (rank, d_in)
            tensors[f"{stem}.lora_B.weight"] = (d_out, rank)
            if dora:
                tensors[f"{stem}.lora_magnitude_vector"] = (d_out,)
    return tensors


def adapter_bytes(
    config: dict,
    rank: int,
    targets: str | Iterable[str] = "all-linear",
    dora: bool = False,
    dtype: str = "float32",
) -> tuple[int, int]:
    """Bytes of adapter_model.safetensors: (header, tensors). All tensors in one dtype of core.dtypes.

    The format (safetensors, README, "Format"): 8 bytes for the header's length, the header in JSON with
    each tensor's type, shape and place, padded with blanks to a multiple of 8, then the tensors.
    """
    number = dtypes.find(dtype)
    header, place = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in sorted(adapter_tensors(config, rank, targets, dora).items()):
        end = place + number.bytes * math.prod(shape)
        header[name] = {"dtype": number.code, "shape": list(shape), "data_offsets": [place, end]}
        place = end
    text = len(json.dumps(header, separators=(",", ":")))
    return 8 + -(-text // 8) * 8, place
