"""What `quantization_config` in a config.json says: bitsandbytes' 4 bits, which can be planned, or not."""

from __future__ import annotations

from dataclasses import dataclass

from labsupport.core.files import LabError
from labsupport.core.numbers import shown

FOUR_BIT_TYPES = ("nf4", "fp4")  # 4 bits and a float32 scale for 64 weights, both
COMPUTE = ("bfloat16", "float16", "float32")
OUTSIDE_BLOCKS = (
    "lm_head",
    "embed_tokens",
    "embed_out",
    "wte",
    "word_embeddings",
    "multi_modal",
    "vision",
    "visual",
)
# As Unsloth publishes models whose names end in -bnb-4bit.
AS_PUBLISHED = {
    "quant_method": "bitsandbytes",
    "load_in_4bit": True,
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": True,
    "bnb_4bit_compute_dtype": "bfloat16",
}
INSTEAD = "name the model before it was quantised, and let --method qlora quantise it"


@dataclass(frozen=True)
class FourBit:
    """Weights in bitsandbytes' 4 bits. double: the scales are quantised, too; compute: the dtype's name."""

    double: bool
    compute: str


def four_bit(config: dict, where: str = "The configuration") -> FourBit | None:
    """How a model's weights are stored in 4 bits, by its `quantization_config`; None if it has none.

    LabError, starting with `where`, for any other quantisation, by its name.
    """
    asked = config.get("quantization_config")
    if asked is None:
        return None
    where = f"{where}: quantization_config"
    if not isinstance(asked, dict):
        raise LabError(f"{where} is {shown(asked)}: it must be null or an object.")
    method = asked.get("quant_method", "bitsandbytes" if "load_in_4bit" in asked else None)
    if method != "bitsandbytes":
        raise LabError(f"{where} is that of {shown(method)}, which is not planned here: {INSTEAD}.")
    if asked.get("load_in_4bit", asked.get("_load_in_4bit")) is not True:
        raise LabError(f"{where} asks for bitsandbytes without load_in_4bit, such as 8 bits: {INSTEAD}.")
    kind = asked.get("bnb_4bit_quant_type", "fp4")
    if kind not in FOUR_BIT_TYPES:
        raise LabError(f"{where}: bnb_4bit_quant_type is {shown(kind)}: it must be nf4 or fp4.")
    double = asked.get("bnb_4bit_use_double_quant", False)
    if not isinstance(double, bool):
        raise LabError(f"{where}: bnb_4bit_use_double_quant is {shown(double)}: it must be true or false.")
    _check_skipped(asked.get("llm_int8_skip_modules"), where)
    compute = asked.get("bnb_4bit_compute_dtype", "float32")
    name = compute.removeprefix("torch.") if isinstance(compute, str) else compute
    if name not in COMPUTE:
        raise LabError(
            f"{where}: bnb_4bit_compute_dtype is {shown(compute)}: it must be one of {', '.join(COMPUTE)}."
        )
    return FourBit(double, name)


def _check_skipped(skipped, where: str) -> None:
    """LabError if layers inside the blocks keep 16 bits: blocks are planned alike."""
    if skipped is None:
        return
    if not isinstance(skipped, list) or not all(isinstance(name, str) for name in skipped):
        raise LabError(f"{where}: llm_int8_skip_modules is {shown(skipped)}: it must be a list of names.")
    inside = [name for name in skipped if not any(part in name for part in OUTSIDE_BLOCKS)]
    if inside:
        raise LabError(
            f"{where} leaves {len(inside)} layers in 16 bits (llm_int8_skip_modules, such as "
            f"{shown(inside[0])}), which is not planned here: {INSTEAD}."
        )
