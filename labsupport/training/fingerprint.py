"""What decides a result, as one hash: that of a training run, and that of scores and replies."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json

import torch

from labsupport.core import upstream
from labsupport.fingerprints.describing import bytes_of, describe
from labsupport.training.checkpoints import Checkpoints

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
# What a trainer may have been given of code besides collator and callbacks, or had replaced.
GIVEN = ("compute_loss_func", "compute_metrics", "preprocess_logits_for_metrics", "model_init")
REPLACED = ("compute_loss", "create_optimizer", "create_scheduler", "get_train_dataloader")
OTHER_MODELS = ("ref_model", "teacher_model", "reward_model")


def fingerprint(trainer, start: dict | None = None) -> str:
    """Hex SHA-256 of everything that decides the result of `trainer.train()`.

    Tokenised rows, the model before training, a reference model, the training arguments without paths and
    logging, code and settings of collator, callbacks and whatever else was handed in, and `environment()`.
    start: what `starting_point` gives, if it was asked before: hashing the weights takes its time.
    """
    start = start or starting_point(trainer)
    facts = {
        "rows": rows_hash(trainer.train_dataset),
        "arguments": {k: v for k, v in trainer.args.to_dict().items() if k not in NOT_IN_FINGERPRINT},
        "environment": environment(),
        "parts": parts_before_training(trainer),
        "start": start["model"],
        "other models": [of_model(m) for name in OTHER_MODELS if (m := getattr(trainer, name, None))],
    }
    if trainer.args.eval_strategy != "no":  # then it may choose the checkpoint or end the run
        facts["evaluated rows"] = rows_hash(trainer.eval_dataset)
    return as_hash(facts)


def as_hash(facts) -> str:
    """Hex SHA-256 of facts in lists, dicts and plain values."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def environment() -> dict:
    """What decides results besides rows, model and code: versions of the libraries, threads, the precision of
    float32 products."""
    return {
        "versions": [f"{library} {importlib.metadata.version(library)}" for library in LIBRARIES],
        "threads": torch.get_num_threads(),
        "float32 products": torch.get_float32_matmul_precision(),
    }


def rows_hash(rows) -> str:
    """Hex SHA-256 of a data set, or of a dict of them, row by row."""
    if isinstance(rows, dict):
        return as_hash({name: rows_hash(some) for name, some in rows.items()})
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True, default=str).encode())
    return digest.hexdigest()


# ---------------------------------------------------------------- the trainer


def starting_point(trainer) -> dict:
    """What training itself will change. Kept once it has (`keep`), so that a cell run again finds its run."""
    if hasattr(trainer, "starting_point"):
        return trainer.starting_point
    # The optimizer is None unless one was handed in; its text has its settings.
    return {
        "model": of_model(trainer.model) | {"optimizer": str(trainer.optimizer)},
        "parts": handed_in(trainer),
    }


def handed_in(trainer) -> list:
    """Code and settings of what was handed to the trainer, described."""
    given = {name: getattr(trainer, name, None) for name in GIVEN}
    replaced = {name: vars(trainer)[name] for name in REPLACED if name in vars(trainer)}
    everything = [type(trainer), trainer.data_collator, given, replaced]
    # The order of callbacks hangs on whether a display was among them.
    each = sorted((describe(callback) for callback in callbacks(trainer)), key=str)
    return [*describe(everything), each]


def callbacks(trainer) -> list:
    """The trainer's callbacks without those that only show or seal."""
    found = trainer.callback_handler.callbacks
    return [c for c in found if not isinstance(c, Checkpoints) and type(c).__name__ not in DISPLAYS]


def parts_before_training(trainer) -> list:
    """`handed_in`, as they were before the trainer trained: callbacks count and keep what they have seen."""
    now = handed_in(trainer)
    known = getattr(trainer, "starting_point", {})
    return known["parts"] if now == known.get("parts after") else now


def keep(trainer, start: dict) -> None:
    """Remember, once it has trained or been loaded, where the trainer started and how it ended."""
    trainer.starting_point = start | {"parts after": handed_in(trainer)}


# ---------------------------------------------------------------- a model


def of_model(model) -> dict:
    """What decides a model's output: weights, settings, quantisation, adapters and how they are switched,
    hooks, dtypes, device and mode (dropout in training)."""
    config = getattr(model, "config", None)
    settings = config.to_dict() if config is not None else {}
    return {
        "weights": weights_hash(model),
        "quantisation": quantisation(model),
        "model": {k: v for k, v in settings.items() if k != "_name_or_path"}
        | {"attention": getattr(config, "_attn_implementation", None), "mode": bool(model.training)},
        "generation": describe(getattr(getattr(model, "generation_config", None), "to_dict", dict)()),
        "peft": peft_settings(model),
        "adapters": adapters(model),
        "hooks": hooks(model),
        "device": str(next(model.parameters()).device.type),
    }


def weights_hash(model) -> str:
    """Hex SHA-256 of all parameters and buffers of a model, in the order of their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted({**dict(model.named_parameters()), **dict(model.named_buffers())}.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(bytes_of(tensor))
    return digest.hexdigest()


def quantisation(model) -> list:
    """What bitsandbytes keeps beside the packed weights: absmax, code, block sizes, double quantisation, and
    the dtype that layers compute in."""
    found = []
    for name, parameter in sorted(model.named_parameters()):
        if state := getattr(parameter, "quant_state", None):
            found.append([name, describe(state.as_dict())])
    dtypes = [
        [name, str(module.compute_dtype)]
        for name, module in model.named_modules()
        if hasattr(module, "compute_dtype")
    ]
    return [found, dtypes]


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


def adapters(model) -> list:
    """For each layer with adapters: which are on, merged, and how strongly they count."""
    return [
        [name, m.disable_adapters, list(m.active_adapters), m.merged, getattr(m, "scaling", None)]
        for name, m in model.named_modules()
        if hasattr(m, "disable_adapters") and hasattr(m, "merged")
    ]


def hooks(model) -> list:
    """The functions called before and after modules, in order; not upstream's, which change no result."""
    found = []
    for name, module in model.named_modules():
        hooked = [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]
        hooked = [hook for hook in hooked if getattr(hook, "__module__", "") != upstream.__name__]
        found += [[name, describe(hooked)]] if hooked else []
    return found
