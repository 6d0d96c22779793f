"""Runs recorded before the package had rooms: the same training, found under the hash of then.

That hash held the names of modules and did not see settings of collators and callbacks. So a run of then is
taken over only where it can have been no other: the course's own collator, whose code is as it was, callbacks
without settings, and one epoch, whose order is drawn as it was.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import shutil
from pathlib import Path

import torch

from labsupport.core import files
from labsupport.fingerprints.describing import describe
from labsupport.training import fingerprint, prefixes
from labsupport.training.checkpoints import planned_steps

COLLATOR_THEN = "labsupport.prefixes.collate"
# The hash of its source. A test says when that has changed: no old run is the same then, and this can go.
SOURCE_THEN = "bcef9dafe9319aefd62c97241cad74aefdf2999ef7afb8d628042f956ea9699a"


def adopt(trainer, weights: str, name: str, folder: Path, key: str) -> None:
    """Copy the run of this name that was recorded under the old hash, if there is one, into `folder`.

    weights: the hash of the model before training.
    """
    old_key = key_then(trainer, weights) if could_be_found(trainer) else None
    old = files.RUNS / f"{name}-{old_key[:12]}" if old_key else None
    record = files.read_json(old / "run.json") if old else None
    if not isinstance(record, dict) or record.get("fingerprint") != old_key:
        return
    shutil.copyfile(old / "trained.safetensors", folder / "trained.safetensors")
    files.write_atomically(folder / "run.json", json.dumps(record | {"fingerprint": key}, indent=1))


def could_be_found(trainer) -> bool:
    """Whether the old hash says enough of this trainer."""
    settings = [describe(c)["attributes"]["dict"] for c in fingerprint.callbacks(trainer)]
    extras = [getattr(trainer, name, None) for name in (*fingerprint.GIVEN, *fingerprint.OTHER_MODELS)]
    one_epoch = len(trainer.get_train_dataloader()) // trainer.args.gradient_accumulation_steps
    return (
        not hasattr(trainer, "starting_point")
        and trainer.data_collator is prefixes.collate
        and collator_source() == SOURCE_THEN
        and not any(settings)
        and not any(extra is not None for extra in extras)
        and planned_steps(trainer) <= one_epoch
    )


def collator_source() -> str:
    """Hex SHA-256 of the source of the collator and of the functions that it calls."""
    functions = (prefixes.collate, prefixes.shared, prefixes.first_trained)
    return hashlib.sha256("".join(map(inspect.getsource, functions)).encode()).hexdigest()


def key_then(trainer, weights: str) -> str:
    """Hex SHA-256 of what was hashed then, under the names of then."""
    classes = [type(trainer), *(type(callback) for callback in fingerprint.callbacks(trainer))]
    code = [f"{cls.__module__}.{cls.__qualname__}\n{inspect.getsource(cls)}" for cls in classes]
    code.append(f"{COLLATOR_THEN}\n{inspect.getsource(prefixes.collate)}")
    config = trainer.model.config
    settings = {k: v for k, v in config.to_dict().items() if k != "_name_or_path"}
    facts = {
        "arguments": {
            k: v for k, v in trainer.args.to_dict().items() if k not in fingerprint.NOT_IN_FINGERPRINT
        },
        "code": sorted(code),
        "peft": fingerprint.peft_settings(trainer.model),
        "start": {
            "weights": weights,
            "model": settings | {"attention": config._attn_implementation},
            "optimizer": str(trainer.optimizer),
        },
        "threads": torch.get_num_threads(),
        "versions": fingerprint.environment()["versions"],
    }
    digest = hashlib.sha256()
    for row in trainer.train_dataset:
        digest.update(json.dumps(row, sort_keys=True, default=str).encode())
    digest.update(json.dumps(facts, sort_keys=True, default=str).encode())
    return digest.hexdigest()
