"""Right answers to notebook 08's exercises that are written in another way than the reference."""

import hashlib
import json

import numpy as np
import torch
from peft import LoraConfig, PeftModelForCausalLM
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig


def qlora_model(folder, compute_dtype, rank):
    """Each layer by its name, with dropout, the base frozen and the adapters cast by hand."""
    how = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=str(compute_dtype).removeprefix("torch."),
    )
    config = AutoConfig.from_pretrained(folder)
    base = AutoModelForCausalLM.from_pretrained(
        folder, config=config, quantization_config=how, dtype=compute_dtype
    )
    for parameter in base.parameters():
        parameter.requires_grad = False
    head = base.get_output_embeddings()
    names = {
        n.split(".")[-1] for n, m in base.named_modules() if isinstance(m, torch.nn.Linear) and m is not head
    }
    lora = LoraConfig(r=rank, lora_alpha=rank * 2, lora_dropout=0.05, target_modules=names)
    model = PeftModelForCausalLM(base, lora)
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            parameter.data = parameter.data.to(torch.float32)
    return model


def mend_adapters(model):
    """By modules: one whose own parameters are all trained is cast whole, which keeps the objects."""
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        if own and all(parameter.requires_grad for parameter in own):
            module.to(torch.float32)


def bumpiness(losses, calm):
    return np.linalg.norm(np.diff(losses[calm:])) / np.sqrt(len(losses) - calm - 1)


def newest_complete(folder):
    """From the newest on down, until one is as its manifest says."""
    numbers = [
        int(path.name[len("checkpoint-") :]) for path in folder.iterdir() if "checkpoint-" in path.name
    ]
    for number in sorted(numbers, reverse=True):
        checkpoint = folder / f"checkpoint-{number}"
        try:
            named = json.loads((checkpoint / "manifest.json").read_bytes())
            for name in named:
                with (checkpoint / name).open("rb") as file:
                    named[name] = named[name] == hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            continue
        if all(named.values()):
            return str(checkpoint)
    return None


ANSWERS = {
    "qlora_training.qlora_model": qlora_model,
    "qlora_training.mend_adapters": mend_adapters,
    "qlora_training.bumpiness": bumpiness,
    "qlora_training.newest_complete": newest_complete,
}
