"""The model families whose sizes the course knows: the layers of a block, and what a config.json leaves out.

Names and shapes as transformers 5 has them (its modeling files). tests/configs/test_architectures.py holds
them to the models that transformers builds, and the defaults to its configuration classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from labsupport.core.files import LabError
from labsupport.core.numbers import shown

LLAMA = {
    "q_proj": "self_attn.q_proj",
    "k_proj": "self_attn.k_proj",
    "v_proj": "self_attn.v_proj",
    "o_proj": "self_attn.o_proj",
    "gate_proj": "mlp.gate_proj",
    "up_proj": "mlp.up_proj",
    "down_proj": "mlp.down_proj",
}
LLAMA_ATTENTION = {name: path for name, path in LLAMA.items() if path.startswith("self_attn")}
PHI = {
    "qkv_proj": "self_attn.qkv_proj",
    "o_proj": "self_attn.o_proj",
    "gate_up_proj": "mlp.gate_up_proj",
    "down_proj": "mlp.down_proj",
}
FALCON = {
    "query_key_value": "self_attention.query_key_value",
    "dense": "self_attention.dense",
    "dense_h_to_4h": "mlp.dense_h_to_4h",
    "dense_4h_to_h": "mlp.dense_4h_to_h",
}
# GPT-2 has two layers named c_proj in a block: as a target, c_proj means both.
GPT2 = {"c_attn": "attn.c_attn", "attn.c_proj": "attn.c_proj", "c_fc": "mlp.c_fc", "mlp.c_proj": "mlp.c_proj"}


@dataclass(frozen=True)
class Architecture:
    """One model_type. Widths in elements.

    layers: the linear layers of a block, by the name that PEFT matches, and their paths in it.
    norms: how many vectors of hidden_size a block's norms have; heads_normed: one more for queries and keys.
    biased: the layers with a bias, by the config. defaults: what transformers takes where a config.json says
    nothing; other_names: other names of the sizes in such a file.
    """

    layers: dict[str, str]
    norms: int = 2
    heads_normed: bool = False
    biased: Callable[[dict], tuple[str, ...]] = lambda config: ()
    defaults: dict = field(default_factory=dict)
    other_names: dict[str, str] = field(default_factory=dict)
    embedding: str = "embed_tokens"
    stem: str = "model.layers"  # where the blocks are in the model


def _as_configured(config: dict) -> tuple[str, ...]:
    attention = tuple(LLAMA_ATTENTION) if config.get("attention_bias") else ()
    mlp = tuple(name for name in LLAMA if name not in LLAMA_ATTENTION)
    return attention + (mlp if config.get("mlp_bias") else ())


def _attention_as_configured(config: dict) -> tuple[str, ...]:
    return tuple(LLAMA_ATTENTION) if config.get("attention_bias") else ()


UNTIED, TIED = {"tie_word_embeddings": False}, {"tie_word_embeddings": True}
ARCHITECTURES = {
    "llama": Architecture(LLAMA, biased=_as_configured, defaults=UNTIED),
    "mistral": Architecture(LLAMA, defaults=UNTIED),
    "qwen2": Architecture(LLAMA, biased=lambda config: ("q_proj", "k_proj", "v_proj"), defaults=UNTIED),
    "qwen3": Architecture(
        LLAMA, heads_normed=True, biased=_attention_as_configured, defaults=UNTIED | {"head_dim": 128}
    ),
    "gemma2": Architecture(
        LLAMA, norms=4, biased=_attention_as_configured, defaults=TIED | {"head_dim": 256}
    ),
    "gemma3_text": Architecture(
        LLAMA,
        norms=4,
        heads_normed=True,
        biased=_attention_as_configured,
        # The text part of a published multimodal config.json names only what differs from these.
        defaults=TIED
        | {"head_dim": 256, "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 262208}
        | {"max_position_embeddings": 131072},
    ),
    "phi3": Architecture(PHI, defaults=UNTIED),
    "granite": Architecture(LLAMA, biased=_as_configured, defaults=UNTIED),
    "smollm3": Architecture(LLAMA, biased=_as_configured, defaults=TIED),
    "falcon": Architecture(
        FALCON,
        biased=lambda config: tuple(FALCON) if config.get("bias") else (),
        defaults=TIED | {"max_position_embeddings": 2048, "multi_query": True, "parallel_attn": True},
        other_names={"n_embed": "hidden_size"},
        embedding="word_embeddings",
        stem="transformer.h",
    ),
    "gpt2": Architecture(
        GPT2,
        norms=4,  # two, each with a bias
        biased=lambda config: tuple(GPT2),
        defaults=TIED | {"vocab_size": 50257, "max_position_embeddings": 1024},
        other_names={
            "n_embd": "hidden_size",
            "n_layer": "num_hidden_layers",
            "n_head": "num_attention_heads",
            "n_positions": "max_position_embeddings",
        },
        embedding="wte",
        stem="transformer.h",
    ),
    "mixtral": Architecture(
        LLAMA_ATTENTION, defaults=UNTIED | {"num_local_experts": 8, "num_experts_per_tok": 2}
    ),
    "qwen3_moe": Architecture(
        LLAMA_ATTENTION,
        heads_normed=True,
        biased=_attention_as_configured,
        defaults=UNTIED | {"num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768},
    ),
}
NAMES = tuple(ARCHITECTURES)

# PEFT trains experts, which transformers 5 stores as one parameter of three dimensions, when a target has one
# of their former names (peft 0.21, utils/transformers_weight_conversion.py) or their path.
EXPERT_TARGETS = {
    "mixtral": {"gate": "gate", "w1": "gate_up_proj", "w3": "gate_up_proj", "w2": "down_proj"},
    "qwen3_moe": {
        "gate": "gate",
        "gate_proj": "gate_up_proj",
        "up_proj": "gate_up_proj",
        "down_proj": "down_proj",
    },
}
EXPERT_PATHS = {"mlp.experts.gate_up_proj": "gate_up_proj", "mlp.experts.down_proj": "down_proj"}


def of(config: dict) -> Architecture:
    """The architecture of a configuration of a known model_type."""
    return ARCHITECTURES[config["model_type"]]


def completed(config: dict, where: str) -> dict:
    """The configuration with its sizes under the names that most models use, and what the file leaves to
    transformers filled in. LabError, starting with `where`, if the model_type is not known, or a variant."""
    kind = config.get("model_type")
    if kind not in ARCHITECTURES:
        raise LabError(
            f"{where} is of the architecture {shown(kind)}, whose layers the course does not know: "
            f"model_type must be one of {', '.join(NAMES)}."
        )
    for name, usual in of(config).other_names.items():
        if name in config:
            config = {key: value for key, value in config.items() if key != name} | {usual: config[name]}
    for key, value in of(config).defaults.items():
        if config.get(key) is None:
            config = config | {key: value}
    if kind in ("falcon", "gpt2"):
        config = config | _derived(config)
    if config.get("add_cross_attention"):
        raise LabError(f"{where} has add_cross_attention, for an encoder beside it, which is not counted.")
    if kind == "qwen3_moe" and (config.get("mlp_only_layers") or config.get("decoder_sparse_step", 1) != 1):
        raise LabError(
            f"{where} has layers without experts (mlp_only_layers, decoder_sparse_step): the course counts "
            "Qwen3 models with experts in every layer."
        )
    return config


def _derived(config: dict) -> dict:
    """Sizes that Falcon and GPT-2 derive from others, under the usual names."""
    hidden, heads = config.get("hidden_size"), config.get("num_attention_heads")
    wider = config.get("ffn_hidden_size" if config["model_type"] == "falcon" else "n_inner")
    if not (isinstance(hidden, int) and isinstance(heads, int) and heads > 0):
        return {}  # told by the checks of sizes
    found = {"intermediate_size": wider or 4 * hidden}
    if hidden % heads == 0:
        found["head_dim"] = hidden // heads
    if config["model_type"] == "gpt2":
        return found | {"num_key_value_heads": heads}
    if config.get("new_decoder_architecture"):
        return found | {"num_key_value_heads": config.get("num_kv_heads") or heads}
    return found | {"num_key_value_heads": 1 if config["multi_query"] else heads}


def widths(config: dict) -> tuple[int, int]:
    """(queries, keys): how wide the outputs of a completed configuration's attention are, all heads together.

    Under grouped-query attention keys and values are narrower: they have num_key_value_heads heads.
    """
    size = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    return config["num_attention_heads"] * size, config["num_key_value_heads"] * size


def linear_layers(config: dict) -> dict[str, tuple[int, int]]:
    """Name -> (inputs, outputs) of the linear layers of a block of a completed configuration; of a model with
    experts those of the attention alone."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    queries, keys = widths(config)
    into, out = (hidden, inner), (inner, hidden)
    fused, back = (hidden, queries + 2 * keys), (queries, hidden)
    shapes = {"q_proj": (hidden, queries), "k_proj": (hidden, keys), "v_proj": (hidden, keys)}
    shapes |= dict.fromkeys(("qkv_proj", "query_key_value", "c_attn"), fused)
    shapes |= dict.fromkeys(("o_proj", "dense", "attn.c_proj"), back)
    shapes |= dict.fromkeys(("gate_proj", "up_proj", "dense_h_to_4h", "c_fc"), into)
    shapes |= dict.fromkeys(("down_proj", "dense_4h_to_h", "mlp.c_proj"), out)
    shapes["gate_up_proj"] = (hidden, 2 * inner)
    return {name: shapes[name] for name in of(config).layers}


def expert_parameters(config: dict) -> dict[str, tuple[int, int, int]]:
    """Name -> (experts, inputs, outputs) of what a block with experts has besides linear layers: the experts'
    matrices and the router, `gate`. Empty for a model without."""
    hidden = config["hidden_size"]
    if config["model_type"] == "mixtral":
        experts, inner = config["num_local_experts"], config["intermediate_size"]
    elif config["model_type"] == "qwen3_moe":
        experts, inner = config["num_experts"], config["moe_intermediate_size"]
    else:
        return {}
    return {
        "gate_up_proj": (experts, hidden, 2 * inner),
        "down_proj": (experts, inner, hidden),
        "gate": (1, hidden, experts),
    }


def expert_targets(config: dict) -> dict[str, str]:
    """Target -> the parameter of `expert_parameters` that PEFT adapts for it, in all-linear, too."""
    return EXPERT_TARGETS.get(config["model_type"], {})


def expert_paths(config: dict) -> dict[str, str]:
    """Paths -> parameters, as given to LoraConfig(target_parameters=...), for a model with experts."""
    return EXPERT_PATHS if expert_parameters(config) else {}


def in_4_bits(config: dict) -> tuple[str, ...]:
    """The layers of a block that load_in_4bit packs: those of the class nn.Linear or Conv1D itself. Falcon
    has a class of its own; experts are parameters (transformers 5.23, integrations/bitsandbytes.py)."""
    return () if config["model_type"] == "falcon" else tuple(of(config).layers)


def norm_parameters(config: dict) -> tuple[int, int]:
    """(of a block, of the last norm): parameters of the norms, biases included."""
    kind, hidden = of(config), config["hidden_size"]
    if config["model_type"] == "gpt2":
        return kind.norms * hidden, 2 * hidden
    if config["model_type"] == "falcon":  # each with a bias
        return 2 * hidden * _falcon_norms(config), 2 * hidden
    heads = 2 * config["head_dim"] if kind.heads_normed else 0
    return kind.norms * hidden + heads, hidden


def _falcon_norms(config: dict) -> int:
    if not config["parallel_attn"]:
        return 2
    asked = config.get("num_ln_in_parallel_attn")
    return 2 if asked == 2 or (asked is None and config.get("new_decoder_architecture")) else 1
