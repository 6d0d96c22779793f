"""The tiny base, an adapter on it and the two merged, as folders to serve."""

from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model

from labsupport.models import tiny_base
from labsupport.serving import folders
from labsupport.tasks import tickets


def conversations(number: int) -> list[list[dict]]:
    return [tickets.prompt(row["text"]) for row in tickets.load("train")[:number]]


def make(place: Path) -> Path:
    """The folder with base, adapted and merged in it; the adapter itself is beside it."""
    model, tokenizer = tiny_base.load()
    torch.manual_seed(0)
    adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)  # large enough to change what is said
    adapted.save_pretrained(place / "adapter")
    served = place / "served"
    folders.lay_out(served / "base", tiny_base.FOLDER)
    folders.lay_out(served / "adapted", tiny_base.FOLDER, place / "adapter")
    merged = PeftModel.from_pretrained(tiny_base.load()[0], place / "adapter").merge_and_unload()
    merged.save_pretrained(served / "merged")
    tokenizer.save_pretrained(served / "merged")
    return served
