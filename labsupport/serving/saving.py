"""A merged model written to disk: whether it fits is looked up before a byte is written."""

from __future__ import annotations

import shutil
from pathlib import Path

from labsupport.core import files
from labsupport.core.files import LabError

BESIDE_WEIGHTS = 64 * 10**6  # bytes: tokenizer, configuration, template; Llama 3's tokenizer.json has 17 MB


def bytes_of(model) -> int:
    """Bytes of the weights as they are held, each shared tensor once: what save_pretrained writes."""
    held = {tensor.data_ptr(): tensor.numel() * tensor.element_size() for tensor in model.parameters()}
    return sum(held.values())


def check_room(folder: Path | str, needed: int) -> None:
    """LabError where the disk of `folder`, which need not exist, has fewer than `needed` bytes free."""
    folder = Path(folder).absolute()
    there = next(place for place in (folder, *folder.parents) if place.is_dir())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise LabError(
            f"The merged model needs {needed / 1e9:.3g} GB in {files.short(folder)}, and {free / 1e9:.3g} GB "
            "are free: free some disk, or keep the adapter and its base apart."
        )


def save_merged(model, tokenizer, folder: Path | str, shard_gb: float = 5.0) -> list[Path]:
    """Write a merged model with its tokenizer and chat template, all or nothing; returns the weights' files.

    model: what merge_and_unload() returned. folder: is replaced if it exists; of one that cannot be finished
    nothing is left. shard_gb: no file of weights is larger, unless one tensor is (GB of 10^9 bytes). LabError
    if an adapter is still on the model, or the disk has no room; an old folder's room does not count.
    """
    folder = Path(folder).absolute()
    if hasattr(model, "peft_config"):
        raise LabError("The model has an adapter on it: give what its merge_and_unload() returns.")
    check_room(folder, bytes_of(model) + BESIDE_WEIGHTS)
    with files.folder_atomically(folder) as unfinished:
        model.save_pretrained(unfinished, max_shard_size=round(shard_gb * 1e9))
        tokenizer.save_pretrained(unfinished)
    return sorted(folder.glob("*.safetensors"))
