"""A saved LoRA adapter opened: its updates of the weights, and a copy of it made stronger or weaker."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from torch import Tensor

from labsupport.core import files
from labsupport.core.files import LabError
from labsupport.models import lora
from labsupport.run_folders.base_of_run import PREFIX
from labsupport.run_folders.run_folder import ADAPTER, CONFIG, json_object, reading


def deltas(folder: Path | str) -> dict[str, Tensor]:
    """Name of each layer, as in the bare model -> its update (alpha / rank) B A, (out, in) float32.

    LabError as `plain`.
    """
    tensors, config = plain(folder)
    found = {}
    for name, A in tensors.items():
        if name.endswith(".lora_A.weight"):
            layer = name.removeprefix(PREFIX).removesuffix(".lora_A.weight")
            B = tensors[name.replace("lora_A", "lora_B")]
            found[layer] = lora.delta(A.float(), B.float(), config["lora_alpha"])
    return found


def scaled(folder: Path | str, target: Path | str, factor: float) -> Path:
    """Write a copy of the adapter whose updates are `factor` times as large: B times the factor. Returns the
    target folder. LabError for a folder that holds no adapter."""
    from safetensors.torch import save_file

    tensors, _ = opened(folder)
    target = Path(target)
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(folder) / CONFIG, target / CONFIG)
    changed = {name: factor * tensor if ".lora_B." in name else tensor for name, tensor in tensors.items()}
    save_file(changed, target / ADAPTER)
    return target


def shuffled(delta: Tensor, seed: int = 0) -> Tensor:
    """The same numbers at random places: an update of that size that nobody trained."""
    order = torch.randperm(delta.numel(), generator=torch.Generator().manual_seed(seed))
    return delta.flatten()[order].reshape(delta.shape)


def plain(folder: Path | str) -> tuple[dict[str, Tensor], dict]:
    """`opened`, for an adapter that is LoRA and nothing more. LabError for any other: DoRA's update depends
    on the weight that it is merged into, rsLoRA divides by another number, patterns give layers their own."""
    tensors, config = opened(folder)
    other = [name for name in ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern") if config.get(name)]
    if config.get("peft_type") != "LORA" or other:
        what = ", ".join(other) or config.get("peft_type")
        raise LabError(f"{files.short(Path(folder))} is no plain LoRA adapter ({what}): its dW is not s·B A.")
    return tensors, config


def opened(folder: Path | str) -> tuple[dict[str, Tensor], dict]:
    """The adapter's tensors by name, and its configuration. LabError if one of the two files is missing or
    damaged."""
    from safetensors.torch import load_file

    folder = Path(folder)
    if missing := [name for name in (ADAPTER, CONFIG) if not (folder / name).is_file()]:
        raise LabError(
            f"{files.short(folder)} lacks {', '.join(missing)}: give a folder that save_pretrained of a "
            "PeftModel has written."
        )
    with reading(folder / ADAPTER):
        return load_file(folder / ADAPTER), json_object(folder / CONFIG)
