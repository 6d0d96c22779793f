"""Adapters for data/tiny_base as PEFT saves them, and spoiled copies of one."""

import functools
import json
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

from labsupport.models import tiny_base

WEIGHTS, SETTINGS = "adapter_model.safetensors", "adapter_config.json"


@functools.cache
def base():
    """The small base model's parts, loaded once: (model, tokenizer)."""
    return tiny_base.load()


def made(folder: Path, tokenizer: bool = True, **options) -> Path:
    """A LoRA of rank 4 on q_proj and v_proj with random B, saved as a trainer saves it."""
    import copy

    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    settings = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}
    model = get_peft_model(copy.deepcopy(base()[0]), LoraConfig(**(settings | options)))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    model.save_pretrained(folder)
    if tokenizer:
        base()[1].save_pretrained(folder)
    return folder


def copied(good: Path, folder: Path, **settings) -> Path:
    """A copy with other settings; None takes one out."""
    shutil.copytree(good, folder)
    path = folder / SETTINGS
    config = json.loads(path.read_text()) | settings
    path.write_text(json.dumps({name: value for name, value in config.items() if value is not None}))
    return folder


def respun(good: Path, folder: Path, change) -> Path:
    """A copy whose tensors are what `change`, given a dict of them, makes of them in place."""
    copied(good, folder)
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)
    return folder
