"""Recorded runs: train once, load it ever after, and survive being killed.

    run = training.recorded(trainer, "first_fine_tune")

The run is found again by a fingerprint of everything that decides its result. If it is complete it is
loaded; if it was interrupted it goes on from the newest whole checkpoint, bit for bit as if nothing
had happened; otherwise it is trained.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import inspect
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from peft.helpers import disable_input_dtype_casting
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback, set_seed

from labsupport import files
from labsupport.files import LabError, short, write_atomically

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
SAVES_A_RUN = 4


@dataclass(frozen=True)
class Run:
    """A finished training run.

    log: the trainer's log history, one dict a logging step. outcome: "trained", "resumed", "loaded".
    """

    name: str
    fingerprint: str
    folder: Path
    log: list[dict]
    seconds: float
    outcome: str

    def losses(self) -> tuple[list[int], list[float]]:
        """Steps and training loss (nats a token) of the logged steps."""
        logged = [entry for entry in self.log if "loss" in entry]
        return [entry["step"] for entry in logged], [float(entry["loss"]) for entry in logged]


def recorded(trainer, name: str) -> Run:
    """Train with `trainer`, or load the same run if it was done before.

    Either way `trainer.model` ends as training leaves it, and one line says what happened. Raises
    LabError if another process is training the same run, the disk cannot be written, or `trainer` has
    trained before and this is not the run it finished.
    """
    key = fingerprint(trainer)
    folder = files.RUNS / f"{name}-{key[:12]}"
    with one_at_a_time(folder):
        if (folder / "run.json").exists():
            run = load(trainer, folder, name, key)
            if run is not None:
                print(f"{name}: loaded, trained before in {run.seconds:.0f} s ({short(folder)})")
                return run
        return train(trainer, folder, name, key)


@contextlib.contextmanager
def one_at_a_time(folder: Path):
    """Hold the lock of a run; LabError if another process holds it or the folder cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise LabError(
            f"Another notebook or command is training this run ({short(folder)}). Wait for it, or stop it."
        ) from None
    except OSError as error:
        raise files.cannot_write(folder, error) from error
    try:
        yield
    finally:
        lock.release()


# ---------------------------------------------------------------- the fingerprint


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
    callbacks = [c for c in callbacks if c is not Checkpoints and c.__name__ not in DISPLAYS]
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


# ---------------------------------------------------------------- checkpoints


class Checkpoints(TrainerCallback):
    """Seals each checkpoint with a manifest, written last, once all its files are on disk.

    The trainer writes a checkpoint file by file. A kill in between leaves a folder that cannot be
    resumed or, worse, resumes without the optimizer's state to another result.

    It also seeds each epoch: group_by_length draws an epoch's order from the global generator, which
    a run resumed in the middle of the epoch has in another state.
    """

    def on_epoch_begin(self, args, state, control, **kwargs):
        set_seed(args.seed + int(state.epoch or 0))

    def on_step_end(self, args, state, control, **kwargs):
        if state.epoch == int(state.epoch):  # what a checkpoint between two epochs has to hold
            set_seed(args.seed + int(state.epoch))

    def on_save(self, args, state, control, **kwargs):
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        hashes = {f.name: files.sha256(f) for f in sorted(folder.iterdir()) if f.is_file()}
        write_atomically(folder / "manifest.json", json.dumps(hashes, indent=1))


def is_whole(checkpoint: Path) -> bool:
    """True if the checkpoint was sealed and every file still has its hash."""
    try:
        hashes = json.loads((checkpoint / "manifest.json").read_text())
        return bool(hashes) and all(files.sha256(checkpoint / f) == h for f, h in hashes.items())
    except (OSError, ValueError, AttributeError):
        return False


def is_last(checkpoint: Path) -> bool:
    """True if a whole checkpoint has no steps left to do."""
    state = json.loads((checkpoint / "trainer_state.json").read_text())
    return state["global_step"] >= state["max_steps"]


def newest_whole_checkpoint(folder: Path) -> Path | None:
    """The checkpoint to resume from; broken ones are named and deleted.

    So is one of the last step: resumed there, the trainer would take one step too many.
    """
    found = sorted(folder.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]), reverse=True)
    for checkpoint in found:
        whole = is_whole(checkpoint)
        if whole and not is_last(checkpoint):
            return checkpoint
        print(f"{short(checkpoint)} is {'of the last step' if whole else 'not whole'}; leaving it out")
        shutil.rmtree(checkpoint, ignore_errors=True)
    return None


# ---------------------------------------------------------------- train, save, load


def train(trainer, folder: Path, name: str, key: str) -> Run:
    """Train from the newest whole checkpoint or from the start, then save the result."""
    if hasattr(trainer, "starting_point"):
        raise LabError(
            f"The trainer of {name} has trained before. Make it again (run the cell that builds model and "
            "trainer), then run this."
        )
    trainer.starting_point = starting_point(trainer)
    checkpoints = folder / "checkpoints"
    start = newest_whole_checkpoint(checkpoints)
    args = trainer.args
    args.output_dir = str(checkpoints)
    args.save_strategy, args.save_total_limit = "steps", 2
    args.save_steps = steps_between_saves(trainer)
    if not any(type(c) is Checkpoints for c in trainer.callback_handler.callbacks):
        trainer.add_callback(Checkpoints)
    try:
        # PEFT would turn each adapter's input to float32, and mixed precision that back: copies for nothing.
        with disable_input_dtype_casting(trainer.model, active=args.bf16 or args.fp16):
            result = trainer.train(resume_from_checkpoint=str(start) if start else None)
    except Exception as error:
        if isinstance(error, LabError) or not disk_trouble(error):
            raise
        raise LabError(
            f"Training stopped because {short(folder)} cannot be written ({first_line(error)}). {TO_GO_ON}"
        ) from error
    # Mixed precision has wrapped the model's forward: a run that is loaded has it plain.
    trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    seconds = result.metrics["train_runtime"]
    save(trainer, folder, key, seconds)
    shutil.rmtree(checkpoints, ignore_errors=True)
    outcome = "resumed" if start else "trained"
    since = f" from {start.name}" if start else ""
    print(f"{name}: {outcome}{since} in {seconds:.0f} s ({short(folder)})")
    return Run(name, key, folder, trainer.state.log_history, seconds, outcome)


TO_GO_ON = (
    "Free some disk, make the trainer again (run the cell that builds model and trainer) and run this "
    "again: it goes on from the last whole checkpoint."
)


def steps_between_saves(trainer) -> int:
    """A multiple of logging_steps: the sum of losses since the last log is not in a checkpoint."""
    steps, log_every = planned_steps(trainer), trainer.args.logging_steps
    if log_every < 1:  # a share of all steps
        log_every = math.ceil(steps * log_every)
    log_every = max(1, int(log_every))
    return log_every * max(1, math.ceil(steps / SAVES_A_RUN / log_every))


def planned_steps(trainer) -> int:
    """The number of optimizer steps the trainer will take."""
    if trainer.args.max_steps > 0:
        return trainer.args.max_steps
    per_epoch = len(trainer.get_train_dataloader()) // trainer.args.gradient_accumulation_steps
    return max(1, int(per_epoch * trainer.args.num_train_epochs))


def first_line(error: BaseException) -> str:
    """An error's message without the C++ stack that torch adds to it."""
    return str(error).strip().split("\n")[0]


def disk_trouble(error: BaseException) -> bool:
    """True for an OSError and for the errors that torch and safetensors make of a full disk."""
    text = str(error).lower()
    return isinstance(error, OSError) or any(
        sign in text for sign in ("no space", "file write failed", "unexpected pos", "read-only", "i/o error")
    )


def trainable(model) -> dict[str, torch.Tensor]:
    """The parameters that training changes, by name, as contiguous CPU tensors."""
    return {n: p.detach().cpu().contiguous() for n, p in model.named_parameters() if p.requires_grad}


def save(trainer, folder: Path, key: str, seconds: float) -> None:
    """Write the trained parameters and the log; `run.json`, written last, makes the run complete."""
    weights = folder / "trained.safetensors"
    scratch = folder / ".trained.tmp"
    try:
        save_file(trainable(trainer.model), scratch)
        scratch.replace(weights)
    except Exception as error:
        scratch.unlink(missing_ok=True)
        raise LabError(
            f"Training is done but {short(weights)} cannot be written ({first_line(error)}). {TO_GO_ON}"
        ) from error
    record = {
        "fingerprint": key,
        "sha256": files.sha256(weights),
        "seconds": seconds,
        "global_step": trainer.state.global_step,
        "in_training_mode": trainer.model.training,
        "log": trainer.state.log_history,
    }
    write_atomically(folder / "run.json", json.dumps(record, indent=1))


def load(trainer, folder: Path, name: str, key: str) -> Run | None:
    """Put a finished run's weights into `trainer.model`; None, with a line saying why, if damaged."""
    try:
        record = json.loads((folder / "run.json").read_text())
        if record["fingerprint"] != key:
            raise ValueError("it belongs to another run")
        if files.sha256(folder / "trained.safetensors") != record["sha256"]:
            raise ValueError("trained.safetensors has the wrong hash")
        weights = load_file(folder / "trained.safetensors")
        run = Run(name, key, folder, record["log"], record["seconds"], "loaded")
        step, in_training_mode = record["global_step"], record["in_training_mode"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"{short(folder)} is damaged ({error}); training again")
        (folder / "run.json").unlink(missing_ok=True)
        return None
    trainer.starting_point = starting_point(trainer)
    with torch.no_grad():
        for parameter_name, parameter in trainer.model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(weights[parameter_name])
    trainer.model.train(in_training_mode)
    trainer.state.log_history = run.log
    trainer.state.global_step = step
    return run
