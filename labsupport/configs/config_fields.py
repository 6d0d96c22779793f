"""What the fields of a config.json must hold: a table by kind of value, for all architectures of the course.

Only these fields reach a model. The rest of such a file (token ids, `use_cache`, `transformers_version` and
so on) changes nothing that is counted or planned. tests/configs/test_config_fields.py holds the table to
those of transformers' configuration classes.
"""

from __future__ import annotations

import functools

from labsupport.configs import rope
from labsupport.core.files import LabError, nearest_first
from labsupport.core.numbers import real, shown, whole

# Fields that count something: the least and the most. The most are far beyond any model that was published,
# and keep every product of them countable.
WIDTH, WORDS, HEADS, EXPERTS = (1, 2_000_000), (1, 1_000_000), (1, 65_536), (1, 4096)
LENGTH, STRIDE = (1, 10**9), (0, 10**9)
LAYERS = (1, 256)  # the deepest published models have about 130; more cost a plan seconds and memory
COUNTS = {
    "hidden_size": WIDTH,
    "n_embd": WIDTH,
    "n_embed": WIDTH,
    "intermediate_size": WIDTH,
    "n_inner": WIDTH,
    "ffn_hidden_size": WIDTH,
    "moe_intermediate_size": WIDTH,
    "vocab_size": WORDS,
    "head_dim": HEADS,
    "num_attention_heads": HEADS,
    "n_head": HEADS,
    "num_key_value_heads": HEADS,
    "num_kv_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "n_layer": LAYERS,
    "num_local_experts": EXPERTS,
    "num_experts": EXPERTS,
    "num_experts_per_tok": EXPERTS,
    "max_position_embeddings": LENGTH,
    "n_positions": LENGTH,
    "original_max_position_embeddings": LENGTH,
    "sliding_window": LENGTH,
    "query_pre_attn_scalar": LENGTH,
    "max_window_layers": STRIDE,
    "decoder_sparse_step": STRIDE,
    "no_rope_layer_interval": LENGTH,
    "num_ln_in_parallel_attn": (1, 2),
}
SWITCHES = {
    "tie_word_embeddings",
    "attention_bias",
    "mlp_bias",
    "bias",
    "use_sliding_window",
    "alibi",
    "multi_query",
    "parallel_attn",
    "new_decoder_architecture",
    "scale_attn_weights",
    "scale_attn_by_inverse_layer_idx",
    "reorder_and_upcast_attn",
    "add_cross_attention",
    "norm_topk_prob",
    "use_bidirectional_attention",
    "output_router_logits",
}
# Fields that hold any number from the first to the second.
SHARE, BASE, FACTOR = (0.0, 1.0), (1.0, 1e15), (0.0, 1e9)
NUMBERS = {
    "rms_norm_eps": SHARE,
    "layer_norm_epsilon": SHARE,
    "partial_rotary_factor": SHARE,
    "attention_dropout": SHARE,
    "resid_pdrop": SHARE,
    "embd_pdrop": SHARE,
    "attn_pdrop": SHARE,
    "hidden_dropout": SHARE,
    "router_jitter_noise": SHARE,
    "router_aux_loss_coef": SHARE,
    "rope_theta": BASE,
    "rope_local_base_freq": BASE,
    "final_logit_softcapping": FACTOR,
    "attn_logit_softcapping": FACTOR,
    "embedding_multiplier": FACTOR,
    "logits_scaling": FACTOR,
    "residual_multiplier": FACTOR,
    "attention_multiplier": FACTOR,
}
ACTIVATION_FIELDS = ("hidden_act", "hidden_activation", "activation_function", "activation")
# As transformers.activations.ACT2FN has them, without prelu and xielu, which have parameters to train.
ACTIVATIONS = ("silu", "swish", "gelu", "gelu_10", "gelu_accurate", "gelu_fast", "gelu_new", "gelu_python")
ACTIVATIONS += ("gelu_python_tanh", "gelu_pytorch_tanh", "quick_gelu", "relu", "relu2", "relu6", "leaky_relu")
ACTIVATIONS += ("hardswish", "laplace", "linear", "mish", "sigmoid", "sqrtsoftplus", "tanh")
# Lists, of which those by layer have one entry for each of them: what an entry must be.
LAYER_TYPES = ("full_attention", "sliding_attention")
LISTS = {"layer_types": LAYER_TYPES, "no_rope_layers": (0, 1), "mlp_only_layers": None}
BY_LAYER = ("layer_types", "no_rope_layers")
WINDOW_OFF = (
    "qwen2",
    "qwen3",
    "qwen3_moe",
    "smollm3",
)  # they have use_sliding_window, which is false by default
# null there says that there is none; elsewhere null is as good as absent.
NONE_MEANS_NONE = ("sliding_window", "final_logit_softcapping", "attn_logit_softcapping")
# Kept as they are: looked at where they are used.
OTHERS = ("model_type", "quantization_config")


def typed(config: dict, where: str) -> dict:
    """The fields of a config.json that the course uses, whole numbers such as 4096.0 as such.

    LabError, starting with `where`, for a value that is none of its kind. What is absent stays absent.
    """
    try:
        found = {name: _CHECKS[name](value, name) for name, value in config.items() if _is_told(name, value)}
    except LabError as error:
        raise LabError(f"{where}: {error}") from error
    _check_layers(found, where)
    return found


def _check_layers(found: dict, where: str) -> None:
    """LabError unless what is said layer by layer agrees with the rest."""
    layers = found.get("num_hidden_layers")
    for name in BY_LAYER:
        if layers is not None and len(found.get(name, ())) not in (0, layers):
            raise LabError(
                f"{where}: {name} is of {len(found[name])} layers and num_hidden_layers is {layers}: make "
                "them agree."
            )
    used = found.get("use_sliding_window", found.get("model_type") not in WINDOW_OFF)
    if "sliding_attention" in found.get("layer_types", ()) and not (used and found.get("sliding_window")):
        raise LabError(
            f"{where}: layer_types name sliding_attention, so sliding_window must be a number, and "
            "use_sliding_window true where there is such a switch."
        )


def _is_told(name: str, value) -> bool:
    return name in _CHECKS and (value is not None or name in NONE_MEANS_NONE)


def _count(value, name: str, limits: tuple[int, int]) -> int | None:
    return None if value is None else whole(value, name, *limits)


def _number(value, name: str, limits: tuple[float, float]) -> float | None:
    return None if value is None else real(value, name, *limits)


def _notes(value, name: str) -> tuple[str, ...]:
    """The course's own sentences about a configuration; whatever a file has under that name is none."""
    sentences = isinstance(value, (list, tuple)) and all(isinstance(part, str) for part in value)
    return tuple(value) if sentences else ()


def _as_it_is(value, name: str):
    return value


def _switch(value, name: str) -> bool:
    if not isinstance(value, bool):
        raise LabError(f"{name} is {shown(value)}: it must be true or false, without quotes.")
    return value


def _activation(value, name: str) -> str:
    if value not in ACTIVATIONS:
        near = nearest_first(str(value), ACTIVATIONS)
        raise LabError(f"{name} is {shown(value)}: no such activation. Known, the nearest first: {near}.")
    return value


def _list(value, name: str, known: tuple | None) -> list:
    if not isinstance(value, list):
        raise LabError(
            f"{name} is {shown(value)}: it must be a list, such as [{', '.join(map(str, known or (0,)))}]."
        )
    wrong = [entry for entry in value if not _is_entry(entry, known)]
    if wrong:
        wanted = " or ".join(map(str, known)) if known else "a layer's number"
        raise LabError(f"{name} holds {shown(wrong[0])}: each entry must be {wanted}.")
    return value


def _is_entry(entry, known: tuple | None) -> bool:
    if isinstance(entry, bool) or not isinstance(entry, (int, str)):
        return False
    return entry in known if known else isinstance(entry, int)


_CHECKS = {
    **{name: functools.partial(_count, limits=limits) for name, limits in COUNTS.items()},
    **{name: functools.partial(_number, limits=limits) for name, limits in NUMBERS.items()},
    **dict.fromkeys(SWITCHES, _switch),
    **dict.fromkeys(ACTIVATION_FIELDS, _activation),
    **{name: functools.partial(_list, known=known) for name, known in LISTS.items()},
    **dict.fromkeys(rope.FIELDS, rope.checked),
    **dict.fromkeys(OTHERS, _as_it_is),
    "notes": _notes,
}
