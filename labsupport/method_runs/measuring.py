"""What is measured of a method after training: what it stored and forgot, how large and how slow it is."""

from __future__ import annotations

import copy
import math
import statistics
import tempfile
import time
from pathlib import Path

import torch

from labsupport.evaluation import general_text
from labsupport.method_runs import training
from labsupport.models.modes import evaluation_mode
from labsupport.qlora_runs import facts_training
from labsupport.tasks import general

ROUNDS = 7


def stored(trainer) -> list[float] | None:
    """NLL of each fact's code in nats; None if the run has left the range of numbers (NaN)."""
    found = facts_training.nats(trainer, training.FACTS)
    return found if all(map(math.isfinite, found)) else None


def passages(every: int = 1) -> list[dict]:
    """The passages of general text that are scored, or every so many-th of them."""
    return general_text.held_out(general.load())[0][::every]


def forgotten(model, tokenizer, rows: list[dict], before: list[torch.Tensor]) -> dict:
    """Over general text: scored tokens, and a token's NLL and KL(before ‖ after) in nats.

    before: `general_text.logits` of the untuned model on these rows.
    """
    found = general_text.compared(model, tokenizer, rows, before)
    tokens = sum(row["tokens"] for row in found)
    means = {name: sum(row[name] for row in found) / tokens for name in ("nll", "kl")}
    return {"tokens": tokens} | {name: float(f"{value:.5g}") for name, value in means.items()}


def parameters(model) -> int:
    """How many numbers are trained."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def file_bytes(model) -> int:
    """Bytes of the safetensors file in which what was trained is kept.

    PEFT's file of an adapter; for what PEFT does not know, every trained tensor under its name. PiSSA's is
    only of use with the changed base beside it; VeRA's holds the frozen matrices, too, as PEFT does by
    default.
    """
    from safetensors.torch import save_file

    with tempfile.TemporaryDirectory() as folder:
        if hasattr(model, "peft_config"):
            model.save_pretrained(folder, save_embedding_layers=False)
            return (Path(folder) / "adapter_model.safetensors").stat().st_size
        file = Path(folder) / "trained.safetensors"
        save_file({n: p.detach().contiguous() for n, p in model.named_parameters() if p.requires_grad}, file)
        return file.stat().st_size


def merged(model):
    """A PeftModel's copy with the adapter folded into the weights, a plain model; any other model as it
    is."""
    if not hasattr(model, "merge_and_unload"):
        return model
    plain = copy.deepcopy(model).merge_and_unload()
    vars(plain).pop("forward", None)  # TRL's, which would still run the model it was made for
    return plain


@torch.no_grad()
def forward_seconds(models: dict, rows: int = 8, length: int = 64, rounds: int = ROUNDS) -> dict[str, float]:
    """Median seconds of processor time of a forward pass of each model; they take turns."""
    ids = torch.arange(rows * length).reshape(rows, length) % 1000
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(rounds + 1):
        for name, model in models.items():
            with evaluation_mode(model):
                start = time.process_time()
                model(input_ids=ids, use_cache=False)
                seconds[name].append(time.process_time() - start)
    return {name: round(statistics.median(taken[1:]), 5) for name, taken in seconds.items()}


def costs(model, base, merges: bool) -> dict:
    """Trained parameters, the file's bytes, and seconds of a forward pass: of the bare base, of the model,
    and, if it merges, of the model with its adapter folded in."""
    models = {"base": base, "unmerged": model} | ({"merged": merged(model)} if merges else {})
    return {
        "parameters": parameters(model),
        "file_bytes": file_bytes(model),
        "forward": forward_seconds(models),
    }


def tickets_scored(model, tokenizer) -> dict[str, dict]:
    """Both test sets, teacher-forced, with products in bfloat16: the columns of `prompt_formats.scored`."""
    from labsupport.format_runs import prompt_formats

    with general_text.mixed_precision():
        return {
            split: prompt_formats.scored(model, tokenizer, "template", rows)
            for split, rows in prompt_formats.test_sets().items()
        }
