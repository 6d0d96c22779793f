"""Which settings there are: the fields of the pinned libraries' classes, and what older recipes call them."""

from __future__ import annotations

import dataclasses
import functools
import typing
from enum import Enum
from typing import Any

# Arguments of earlier versions: today's name ("" where there is none), and what else to know. Each was tried
# against trl 1.16, transformers 5.23 and peft 0.21, which refuse the old name.
RENAMED = {
    "max_seq_length": ("max_length", ""),
    "evaluation_strategy": ("eval_strategy", ""),
    "warmup_ratio": ("warmup_steps", "a value below 1 is a share of all steps"),
    "no_cuda": ("use_cpu", ""),
    "group_by_length": ("train_sampling_strategy", 'with the value "group_by_length"'),
    "torch_dtype": ("dtype", ""),
    "per_gpu_train_batch_size": ("per_device_train_batch_size", ""),
    "per_gpu_eval_batch_size": ("per_device_eval_batch_size", ""),
    "push_to_hub_token": ("hub_token", ""),
    "push_to_hub_model_id": ("hub_model_id", ""),
    "use_liger": ("use_liger_kernel", ""),
    "adafactor": ("optim", 'with the value "adafactor"'),
    "tokenizer": ("", "give it to SFTTrainer as processing_class"),
    "use_flash_attention_2": ("attn_implementation", 'with the value "flash_attention_2"'),
    "overwrite_output_dir": ("", "removed: leave it out"),
    "logging_dir": ("", "removed: leave it out"),
    "save_safetensors": ("", "removed, always on: leave it out"),
    "use_mps_device": ("", "removed: leave it out"),
    "fp16_backend": ("", "removed: leave it out"),
    "half_precision_backend": ("", "removed: leave it out"),
    "fp16_opt_level": ("", "removed: leave it out"),
    "num_of_sequences": ("", "removed: leave it out"),
    "chars_per_token": ("", "removed: leave it out"),
    "dataset_batch_size": ("", "removed: leave it out"),
}
SWITCHES = {  # of those, what was yes or no and is now one value of several
    "group_by_length": "group_by_length",
    "adafactor": "adafactor",
    "use_flash_attention_2": "flash_attention_2",
}
VALUES = {("packing_strategy", "ffd"): "bfd"}  # refused now
# Still taken, with a warning.
DEPRECATED = {
    "gradient_checkpointing": "activation_checkpointing",
    "gradient_checkpointing_kwargs": "activation_checkpointing_kwargs",
    "pad_token": "the tokenizer's own pad_token",
    "use_liger_kernel": 'model_init_kwargs: {"use_kernels": true}',
}
DEPRECATED_VALUES = {
    ("packing_strategy", "bfd-requeue"): "bfd_split",
    ("loss_type", "chunked_nll"): "nll",
    ("truncation_mode", "keep_end"): "a larger max_length; keep_start cuts off the answers' ends instead",
}
STILL_ANOTHER = {("truncation_mode", "keep_end")}  # of those, what does until then what it says

# Sections that people put settings in when a script of their own reads the file.
LORA_SECTIONS = ("lora", "peft", "lora_config", "peft_config", "lora_args")
FOUR_BIT_SECTIONS = ("quantization", "quantization_config", "bnb", "bnb_config", "bitsandbytes")
PLAIN_SECTIONS = (
    *("training", "training_args", "training_arguments", "train", "trainer", "sft", "sft_config", "args"),
    *("model", "model_config", "model_args", "optimizer", "optimization"),
)
OTHERS_SECTIONS = ("data", "dataset", "data_args", "wandb", "logging", "output", "env", "inference")
# What recipes of Hugging Face's alignment handbook have besides TRL's settings.
OTHERS = (
    *("chat_template", "dataset_mixture", "dataset_mixer", "dataset_splits", "preprocessing_num_workers"),
    *(
        "accelerate_config",
        "tokenizer_name_or_path",
        "tokenizer_name",
        "system_prompt",
        "wandb_project",
        "wandb_entity",
        "wandb_run_name",
    ),
)
MODEL = ("model", "model_name", "model_id", "base_model", "base_model_name", "pretrained_model_name_or_path")
# LoraConfig's and BitsAndBytesConfig's names, and people's: TRL's ModelConfig has others for the same.
AS_IN_TRL = {
    "r": "lora_r",
    "target_modules": "lora_target_modules",
    "target_parameters": "lora_target_parameters",
    "modules_to_save": "lora_modules_to_save",
    "task_type": "lora_task_type",
    "bnb_4bit_use_double_quant": "use_bnb_nested_quant",
    "use_4bit": "load_in_4bit",
    "use_nested_quant": "use_bnb_nested_quant",
    "lora_rank": "lora_r",
}
# What only other programs' settings have.
OTHER_PROGRAMS = {
    "Axolotl": {"adapter", "micro_batch_size", "sample_packing", "sequence_len"},
    "LLaMA-Factory": {"stage", "finetuning_type", "cutoff_len", "template", "lora_target"},
}
IN_LORA_SECTION = {"rank": "lora_r", "alpha": "lora_alpha", "dropout": "lora_dropout", "enabled": "use_peft"}
# What LoraConfig takes where it is built from a section, and BitsAndBytesConfig.
DEFAULTS_OF_PEFT = {"lora_r": 8, "lora_alpha": 8, "lora_dropout": 0.0}
DEFAULTS_OF_BNB = {"bnb_4bit_quant_type": "fp4", "bnb_4bit_compute_dtype": None}


@dataclasses.dataclass(frozen=True)
class Field:
    """A setting. kinds: the types it may have (None's left out); optional: whether None is one; choices: the
    words there are, () where any will do; default: the library's."""

    kinds: tuple[type, ...]
    optional: bool
    choices: tuple[str, ...]
    default: Any


@functools.cache
def of_trl() -> dict[str, Field]:
    """What `trl sft --config` knows, from the classes themselves. Imports TRL, and so torch."""
    from trl import DatasetMixtureConfig, ModelConfig, ScriptArguments, SFTConfig

    found: dict[str, Field] = {}
    for kind in (ScriptArguments, SFTConfig, ModelConfig, DatasetMixtureConfig):
        hints = typing.get_type_hints(kind)
        found |= {one.name: field(one, hints[one.name]) for one in dataclasses.fields(kind) if one.init}
    return found


def field(one: dataclasses.Field, hint) -> Field:
    """A dataclass's field as one of ours."""
    parts = typing.get_args(hint) if typing.get_origin(hint) not in (list, dict) else (hint,)
    parts = parts or (hint,)
    kinds = tuple(typing.get_origin(part) or part for part in parts if part is not type(None))
    words = [
        word.value for kind in kinds if isinstance(kind, type) and issubclass(kind, Enum) for word in kind
    ]
    default = one.default if one.default is not dataclasses.MISSING else None
    default = default.value if isinstance(default, Enum) else default
    return Field(kinds, type(None) in parts, tuple(words or one.metadata.get("choices", ())), default)


@functools.cache
def of_peft() -> tuple[str, ...]:
    """The fields of LoraConfig."""
    from peft import LoraConfig

    return tuple(one.name for one in dataclasses.fields(LoraConfig))


@functools.cache
def of_bitsandbytes() -> tuple[str, ...]:
    """The arguments of BitsAndBytesConfig."""
    import inspect

    from transformers import BitsAndBytesConfig

    return tuple(name for name in inspect.signature(BitsAndBytesConfig).parameters if name != "kwargs")


@functools.cache
def of_accelerate() -> frozenset[str]:
    """The arguments of `accelerate launch`, to which `trl sft` hands on what it does not know itself."""
    from accelerate.commands.launch import launch_command_parser

    return frozenset(action.dest for action in launch_command_parser()._actions)


def known() -> list[str]:
    """Every name that a settings file may have, for naming the nearest to a wrong one."""
    return sorted({*of_trl(), *of_peft(), *of_bitsandbytes(), *LORA_SECTIONS, *FOUR_BIT_SECTIONS})
