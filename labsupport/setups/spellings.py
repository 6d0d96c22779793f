"""Other names for the choices of a run, as trainers, papers and people write them.

Each table is other name -> ours; add a line for a new one. Capitals, blanks, "-" and "_" make no difference.
"""

from __future__ import annotations

METHODS = {
    "full ft": "full",
    "fft": "full",
    "full finetune": "full",
    "full finetuning": "full",
    "full fine tune": "full",
    "full fine tuning": "full",
    "full parameter": "full",
    "rank stabilised lora": "rslora",
    "rank stabilized lora": "rslora",
}
# transformers' names (training_args.OptimizerNames) and bitsandbytes' classes. Which kernels the 32-bit one
# uses follows from the trainer: fused ones in TRL's, several tensors at once in a plain loop.
OPTIMIZERS = {
    "adamw torch": "adamw",
    "adamw torch fused": "adamw",
    "adamw 32bit": "adamw",
    "adamw bnb 8bit": "adamw_8bit",
    "adam 8bit": "adamw_8bit",
    "paged adamw 32bit": "paged_adamw",
    "paged adamw bnb 8bit": "paged_adamw_8bit",
}
ADAPTERS = {
    "fp32": "float32",
    "float": "float32",
    "torch.float32": "float32",
    "bf16": "bfloat16",
    "torch.bfloat16": "bfloat16",
}
TRAINERS = {"trl": "sft", "sfttrainer": "sft", "trl sft": "sft", "loop": "plain", "plain loop": "plain"}


def ours(name, table: dict[str, str], known) -> str:
    """Our name for a choice that may be written otherwise; the name as it is if there is none."""
    words = {_squeezed(one): one for one in known} | {_squeezed(other): one for other, one in table.items()}
    return words.get(_squeezed(name), name) if isinstance(name, str) else name


def _squeezed(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter not in " -_\t")
