"""The ways from a QLoRA adapter to a merged model, each by the libraries' own calls.

base: a model's name or folder, as `base_model.load` takes it; adapter: a folder that a PeftModel was saved
in. Every function loads the base anew, because merging changes it. All on the processor. What the weights
come to is in `rounding`, in numbers.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import torch

from labsupport.merge_runs import adapters
from labsupport.models import base_model, lora
from labsupport.run_folders import base_of_run

FIX = "load it on its own base"


def unmerged(base: str, adapter: Path | str):
    """The model that was trained: the base in NF4 (float32 products) with the adapter beside it."""
    return with_adapter(base_model.load(base, "nf4", "cpu")[0], adapter)


def dequantised(base: str, adapter: Path | str):
    """Merged into what the adapter was trained on: the base's NF4 numbers as plain float32 weights."""
    model, _ = base_model.load(base, "nf4", "cpu")
    return with_adapter(model.dequantize(), adapter).merge_and_unload()


def dequantised_in_bfloat16(base: str, adapter: Path | str):
    """The same, rounded to bfloat16 as one would save it, and back to float32 for float32 products."""
    return rounded_to_bfloat16(dequantised(base, adapter))


def into_float32(base: str, adapter: Path | str):
    """Merged into the base as it was before NF4, in float32."""
    return with_adapter(base_model.load(base, "float32", "cpu")[0], adapter).merge_and_unload()


def into_bfloat16(base: str, adapter: Path | str):
    """Merged into the base in bfloat16, which is how most bases are published; then float32 for the
    products."""
    model, _ = base_model.load(base, "bfloat16", "cpu")
    return with_adapter(model, adapter).merge_and_unload().to(torch.float32)


def requantised(base: str, adapter: Path | str):
    """Merged into the float32 base, saved, and loaded in NF4: a 4-bit model without an adapter."""
    model, tokenizer = base_model.load(base, "float32", "cpu")
    merged = with_adapter(model, adapter).merge_and_unload()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        merged.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return base_model.load(folder, "nf4", "cpu")[0]


def in_place(base: str, adapter: Path | str):
    """`merge_and_unload` of the 4-bit model: PEFT dequantises, adds, and quantises again, layer by layer."""
    model = unmerged(base, adapter)
    with warnings.catch_warnings():
        # PEFT warns of rounding errors at every layer; how large they are is what is measured here.
        warnings.filterwarnings("ignore", message="Merge lora module to 4-bit linear")
        return model.merge_and_unload()


MERGED = {
    "dequantised": dequantised,
    "dequantised, bfloat16": dequantised_in_bfloat16,
    "float32 base": into_float32,
    "bfloat16 base": into_bfloat16,
    "re-quantised": requantised,
    "in place": in_place,
}


def with_adapter(model, adapter: Path | str):
    """The model with the saved adapter on it, frozen, in evaluation mode.

    LabError for an adapter of another base model: PEFT would name the first layers that differ in dozens of
    lines, or drop without a word what the model has no layers for. And as `adapters.opened`.
    """
    from peft import PeftModel

    tensors, _ = adapters.opened(adapter)
    mine = base_of_run.matrices({name: tensor.shape for name, tensor in tensors.items()})
    layers = lora.linear_layers(model)
    theirs = {name: (layer.out_features, layer.in_features) for name, layer in layers.items()}
    base_of_run.check_matrices(Path(adapter), mine, theirs, FIX)
    if absent := sorted(set(mine) - {name for name, _ in model.named_modules()}):
        raise base_of_run.of_another_base(Path(adapter), f"the model has no {absent[0]}", FIX)
    return PeftModel.from_pretrained(model, str(adapter)).eval()


def rounded_to_bfloat16(model):
    """The model with every weight rounded to bfloat16, in float32 again; changes it."""
    return model.to(torch.bfloat16).to(torch.float32)
