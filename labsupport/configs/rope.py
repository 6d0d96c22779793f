"""The rotary position embedding as a config.json describes it: what is legal, and what of it a plan needs."""

from __future__ import annotations

import math

from labsupport.core.files import LabError, nearest_first
from labsupport.core.numbers import real, shown, whole

FIELDS = ("rope_parameters", "rope_scaling")
# The types, and what each needs besides (transformers 5.23, modeling_rope_utils.py). "su" is what the first
# files of Phi-3 call longrope, "mrope" what Qwen's vision models call the default one.
NEEDED = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor",),
    "yarn": ("factor",),
    "longrope": ("short_factor", "long_factor"),
    "su": ("short_factor", "long_factor"),
    "mrope": (),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
}
NUMBERS = {
    "factor": (1.0, 1e9),
    "rope_theta": (1.0, 1e15),
    "partial_rotary_factor": (0.0, 1.0),
    "attention_factor": (0.0, 1e9),
    "low_freq_factor": (0.0, 1e9),
    "high_freq_factor": (0.0, 1e9),
    "beta_fast": (0.0, 1e9),
    "beta_slow": (0.0, 1e9),
}
LISTS = ("short_factor", "long_factor")
KEPT = ("rope_theta", "partial_rotary_factor")
NESTED = ("gemma3_text",)  # whose layers of different types have bases of their own
LAYER_TYPES = ("full_attention", "sliding_attention")


def checked(value, name: str) -> dict:
    """The value of `rope_scaling` or `rope_parameters`, for all layers or by type of layer, if transformers
    can make positions of it. LabError, starting with `name`, if not."""
    if not isinstance(value, dict):
        raise LabError(
            f'{name} is {shown(value)}: it must be null or an object such as {{"rope_type": "llama3"}}.'
        )
    if nested := {kind: value[kind] for kind in LAYER_TYPES if isinstance(value.get(kind), dict)}:
        return {kind: checked(part, f"{name}, {kind}") for kind, part in nested.items()}
    value = {key: part for key, part in value.items() if part is not None and key not in LAYER_TYPES}
    kind = value.get("rope_type", value.get("type", "default"))
    if not isinstance(kind, str) or kind not in NEEDED:
        near = nearest_first(str(kind), NEEDED)
        raise LabError(f"{name} is of the type {shown(kind)}. Known, the nearest first: {near}.")
    missing = [key for key in NEEDED[kind] if key not in value]
    if missing:
        raise LabError(
            f"{name} is of the type {kind} and lacks {', '.join(missing)}: it is no complete config.json."
        )
    for key, limits in NUMBERS.items():
        if key in value:
            value[key] = real(value[key], f"{name}, {key}", *limits)
    if "original_max_position_embeddings" in value:
        length = value["original_max_position_embeddings"]
        value["original_max_position_embeddings"] = whole(length, f"{name}, original_max_position_embeddings")
    for key in LISTS:
        if key in value and not _is_list_of_numbers(value[key]):
            raise LabError(f"{name}, {key} is {shown(value[key])}: it must be a list of numbers.")
    return value


def _is_list_of_numbers(value) -> bool:
    numbers = isinstance(value, list) and all(type(part) in (int, float) for part in value)
    return numbers and all(abs(part) < math.inf for part in value)


def plain(config: dict) -> dict:
    """The checked configuration with the default type of rotary embedding, as wide as its own.

    Every type makes the same tables, cosines and sines by position, from as many frequencies, so a step takes
    the same memory; but some read the positions, which are not there when a step is traced.
    """
    scaling, parameters = config.get("rope_scaling") or {}, config.get("rope_parameters") or {}
    config = {key: value for key, value in config.items() if key not in FIELDS}
    config |= {key: scaling[key] for key in KEPT if key in scaling}
    nested = bool(parameters) and set(parameters) <= set(LAYER_TYPES)
    if config["model_type"] in NESTED:
        parameters = parameters if nested else {"full_attention": parameters}
        return config | {"rope_parameters": {kind: _plain(part) for kind, part in parameters.items()}}
    return config | {"rope_parameters": _plain(next(iter(parameters.values())) if nested else parameters)}


def _plain(parameters: dict) -> dict:
    return {"rope_type": "default"} | {key: parameters[key] for key in KEPT if key in parameters}
