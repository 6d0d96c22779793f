"""Adapters that each learn some facts by heart, and how much of them any combination still knows."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from labsupport.method_runs import bases, training
from labsupport.models.modes import evaluation_mode
from labsupport.qlora_runs import facts_training
from labsupport.tasks import facts

RATE, EPOCHS = 4e-3, 20  # with which an adapter on 50 facts stores 99 % of them


def train(rows: list[dict], folder: Path, seed: int = 0, epochs: int = EPOCHS) -> Path:
    """Train a LoRA adapter of rank 16 on these facts, from tiny_base, and save it in the folder, which is
    returned: PEFT's two files, of a size that does not depend on the rows.

    seed: of A's first values and of the order of the rows; epochs: whole passes over them.
    """
    model, tokenizer = bases.tiny()
    steps = epochs * math.ceil(len(rows) / facts_training.BATCH)
    examples = facts.as_prompt_completion(rows)
    trainer = training.trainer("lora", model, tokenizer, examples, RATE, seed, steps, betas=(0.9, 0.999))
    training.train(trainer)
    # PEFT would ask the hub whether the vocabulary has grown if it were not told.
    trainer.accelerator.unwrap_model(trainer.model).save_pretrained(folder, save_embedding_layers=False)
    return folder


@torch.no_grad()
def logits(model, tokenizer, rows: list[dict], names: list[str] | None = None) -> tuple[torch.Tensor, ...]:
    """What the model answers to the keys of all rows in one batch, teacher-forced, and what is right: logits
    (rows, 8, vocabulary) and the codes' tokens (rows, 8).

    names: the adapter of each row, "__base__" for none; without them the active one answers all.
    """
    fronts = [
        tokenizer.apply_chat_template(facts.prompt(row["key"]), add_generation_prompt=True)["input_ids"]
        for row in rows
    ]
    codes = [tokenizer(facts.answer(row), add_special_tokens=False)["input_ids"] for row in rows]
    whole = {"input_ids": [front + code for front, code in zip(fronts, codes, strict=True)]}
    batch = tokenizer.pad(whole, padding_side="left", return_tensors="pt")  # so that all codes end together
    more = {"adapter_names": names} if names else {}
    with evaluation_mode(model):
        found = model(**batch, **more, use_cache=False).logits
    return found[:, -facts.LENGTH - 1 : -1].float(), torch.tensor(codes)


def stored(model, tokenizer, rows: list[dict], names: list[str] | None = None) -> tuple[float, int]:
    """What the model knows of these facts: bits stored, of 40 a row, and symbols right, of 8 a row.

    Bits fall below zero where it is surer of wrong symbols than of right ones. names: as in `logits`.
    """
    found, codes = logits(model, tokenizer, rows, names)
    nll = torch.nn.functional.cross_entropy(found.flatten(0, 1), codes.flatten(), reduction="sum")
    return facts.bits_learned(nll.item(), len(rows)), int((found.argmax(-1) == codes).sum())


@torch.no_grad()
def changes(model, name: str) -> torch.Tensor:
    """What an adapter adds to the weights of all its layers, scaled, as one long vector."""
    layers = [module for module in model.modules() if name in getattr(module, "lora_A", {})]
    return torch.cat([layer.get_delta_weight(name).flatten() for layer in layers])
