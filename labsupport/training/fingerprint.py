"""What decides the result of a training run, as one hash."""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
import json
from collections.abc import Callable

import torch

from labsupport.training import checkpoints

LIBRARIES = ("torch", "transformers", "peft", "trl", "accelerate", "bitsandbytes", "datasets")

# Arguments that say where and how often to write, not what to compute.
NOT_IN_FINGERPRINT = {
    "output_dir", "run_name", "logging_dir", "logging_steps", "logging_strategy", "logging_first_step",
    "disable_tqdm", "log_level", "log_level_replica", "report_to", "save_strategy", "save_steps",
    "save_total_limit", "project", "trackio_space_id", "trackio_bucket_id", "trackio_static_space_id",
    "hub_token", "push_to_hub_token", "save_on_each_node",
}  # fmt: skip

# Callbacks that only show progress; which of them is there depends on disable_tqdm and on the kernel.
DISPLAYS = {"PrinterCallback", "ProgressCallback", "NotebookProgressCallback"}


def fingerprint(trainer) -> str:
    """Hex SHA-256 of everything that decides the result of `trainer.train()`.

    Tokenised rows, every parameter before training, the model's settings, the optimizer if one was
    handed in, the training arguments without paths and logging, the code of trainer, collator and
    callbacks, the thread count and the versions of the libraries.
    """
    digest = hashlib.sha256()
    for row in trainer.train_dataset:
        digest.update(json.dumps(row, sort_keys=True, default=str).encode())
    arguments = {k: v for k, v in trainer.args.to_dict().items() if k not in NOT_IN_FINGERPRINT}
    callbacks = [type(c) for c in trainer.callback_handler.callbacks]
    callbacks = [c for c in callbacks if c is not checkpoints.Checkpoints and c.__name__ not in DISPLAYS]
    collator = trainer.data_collator
    code = [type(trainer), collator if inspect.isfunction(collator) else type(collator), *callbacks]
    versions = [f"{library} {importlib.metadata.version(library)}" for library in LIBRARIES]
    facts = {
        "arguments": arguments,
        "code": sorted(source_of(cls) for cls in code),
        "peft": peft_settings(trainer.model),
        "start": starting_point(trainer),
        "threads": torch.get_num_threads(),
        "versions": versions,
    }
    digest.update(json.dumps(facts, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def starting_point(trainer) -> dict:
    """What training itself will change. Kept once it has, so that a cell run again finds its run."""
    if hasattr(trainer, "starting_point"):
        return trainer.starting_point
    config = trainer.model.config
    settings = {k: v for k, v in config.to_dict().items() if k != "_name_or_path"}
    return {
        "weights": weights_hash(trainer.model),
        "model": settings | {"attention": config._attn_implementation},
        "optimizer": str(trainer.optimizer),  # None unless one was handed in
    }


def peft_settings(model) -> dict:
    """The adapter settings that are not visible in the weights: alpha, dropout and their like."""
    configs = getattr(model, "peft_config", {})
    return {
        name: {
            k: sorted(v) if isinstance(v, set) else v
            for k, v in config.to_dict().items()
            if k != "base_model_name_or_path"  # a folder; the weights are in the fingerprint
        }
        for name, config in configs.items()
    }


def source_of(thing: type | Callable) -> str:
    """The name and, where it can be read, the code of a class or a function."""
    try:
        return f"{thing.__module__}.{thing.__qualname__}\n{inspect.getsource(thing)}"
    except (OSError, TypeError):  # typed into a notebook of an older kernel
        return f"{thing.__module__}.{thing.__qualname__}"


def weights_hash(model) -> str:
    """Hex SHA-256 of all parameters and buffers of a model, in the order of their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted({**dict(model.named_parameters()), **dict(model.named_buffers())}.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        data = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        digest.update(memoryview(data.numpy()))
    return digest.hexdigest()
