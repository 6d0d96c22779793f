"""Models as people write them: "meta-llama/Llama-3.1-8B-Instruct", "unsloth/Qwen2.5-7B-bnb-4bit"."""

from __future__ import annotations

import re

from labsupport.core.files import LabError
from labsupport.core.numbers import shown

# Words of a name that say how a model was trained on, or who wrote its files: they change no shape.
EDITIONS = {"instruct", "chat", "it", "pt", "base", "hf", "meta"}
# How a name ends whose weights are quantised, and by what. Longer endings first.
FOUR_BIT = "-bnb-4bit"
QUANTISED = {
    "-unsloth-bnb-4bit": "Unsloth's dynamic 4 bits, which leave some layers in 16 bits",
    "-bnb-8bit": "bitsandbytes' 8 bits",
    "-gptq": "GPTQ",
    "-awq": "AWQ",
    "-gguf": "llama.cpp",
    "-fp8": "FP8",
    "-fp4": "FP4",
    "-int8": "8-bit integers",
    "-int4": "4-bit integers",
    "-4bit": "4 bits of another format than bitsandbytes'",
    "-8bit": "8 bits",
    "-exl2": "ExLlama",
    "w4a16": "W4A16",
    "w8a8": "W8A8",
    "-hqq": "HQQ",
    "-aqlm": "AQLM",
}


def last_part(name: str) -> str:
    """A name in small letters without the organisation or the hub's address before it."""
    part = str(name).strip().lower().rstrip("/").rsplit("/", 1)[-1]
    return re.sub(r"[\s_]+", "-", part)


def shape_of(name: str) -> str:
    """What of a model's name its shape depends on: "Meta-Llama-3.1-8B-Instruct" is llama-3.1-8b."""
    words = last_part(name).removesuffix(FOUR_BIT).split("-")
    return "-".join(word for word in words if word not in EDITIONS)


def in_four_bits(name: str) -> bool:
    """Whether the name is that of weights in bitsandbytes' 4 bits. LabError, saying which, for another
    quantisation."""
    part = last_part(name)
    for ending, what in QUANTISED.items():
        if ending in part and not (ending == "-4bit" and part.endswith(FOUR_BIT)):
            raise LabError(
                f"The model {shown(name)} is quantised by {what}, which is not planned here: name the model "
                "before it was quantised; --method qlora quantises it to 4 bits."
            )
    return part.endswith(FOUR_BIT)
