"""Recorded runs: train once, load it ever after, and survive being killed.

    run = run_store.recorded(trainer, "first_fine_tune")

The run is found again by a fingerprint of everything that decides its result. If it is complete it is
loaded; if it was interrupted it goes on from the newest whole checkpoint, bit for bit as if nothing
had happened; otherwise it is trained."""

from __future__ import annotations

import contextlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from peft.helpers import disable_input_dtype_casting
from safetensors.torch import load_file, save_file

from labsupport.core import files, randomness
from labsupport.core.files import LabError, short, write_atomically
from labsupport.training import checkpoints as sealed
from labsupport.training import fingerprint, old_runs


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

    Either way `trainer.model` ends as training leaves it, the random generators stand where they stood, and
    one line says what happened. Raises LabError if another process is training the same run, the disk cannot
    be written, or `trainer` has trained before and this is not the run it finished.
    """
    start = fingerprint.starting_point(trainer)
    key = fingerprint.fingerprint(trainer, start)
    folder = files.RUNS / f"{name}-{key[:12]}"
    with randomness.kept(), one_at_a_time(folder):
        if not (folder / "run.json").exists():
            old_runs.adopt(trainer, start["model"]["weights"], name, folder, key)
        if (folder / "run.json").exists():
            run = load(trainer, folder, name, key, start)
            if run is not None:
                print(f"{name}: loaded, trained before in {run.seconds:.0f} s ({short(folder)})")
                return run
        return train(trainer, folder, name, key, start)


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


def train(trainer, folder: Path, name: str, key: str, starting_point: dict) -> Run:
    """Train from the newest whole checkpoint or from the start, then save the result."""
    if hasattr(trainer, "starting_point"):
        raise LabError(
            f"The trainer of {name} has trained before. Make it again (run the cell that builds model and "
            "trainer), then run this."
        )
    trainer.starting_point = starting_point
    checkpoints = folder / "checkpoints"
    start = sealed.newest_whole_checkpoint(checkpoints)
    args = trainer.args
    args.output_dir = str(checkpoints)
    args.save_strategy, args.save_total_limit = "steps", 2
    args.save_steps = sealed.steps_between_saves(trainer)
    if not any(type(c) is sealed.Checkpoints for c in trainer.callback_handler.callbacks):
        trainer.add_callback(sealed.Checkpoints)
    try:
        # PEFT would turn each adapter's input to float32, and mixed precision that back: copies for nothing.
        with disable_input_dtype_casting(trainer.model, active=args.bf16 or args.fp16):
            result = trainer.train(resume_from_checkpoint=str(start) if start else None)
    except Exception as error:
        if isinstance(error, LabError) or not files.is_disk_trouble(error):
            raise
        why = f"{short(folder)} cannot be written ({files.first_line(error)})"
        raise LabError(f"Training stopped because {why}. {TO_GO_ON}") from error
    if problem := spoilt(trainer.model):
        shutil.rmtree(checkpoints, ignore_errors=True)  # they hold the same
        raise LabError(f"{name} is not kept: {problem}")
    fingerprint.keep(trainer, starting_point)
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


def spoilt(model) -> str:
    """Why what was trained is worth nothing, with the way out; "" if all of it are numbers.

    The log does not tell: transformers writes the loss of a step that is no number as 0.
    """
    bad = [name for name, p in model.named_parameters() if p.requires_grad and not p.isfinite().all()]
    if not bad:
        return ""
    return (
        f"{len(bad)} of its trained tensors hold NaN or infinity ({bad[0]}). Lower the learning rate; where "
        "the arithmetic is float16 (a T4, say) take a card with bfloat16, or LAB_DTYPE=float32."
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
        if not files.is_disk_trouble(error):
            raise
        raise LabError(
            f"Training is done but {short(weights)} cannot be written ({files.first_line(error)}). {TO_GO_ON}"
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


def load(trainer, folder: Path, name: str, key: str, starting_point: dict) -> Run | None:
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
    fingerprint.keep(trainer, starting_point)
    with torch.no_grad():
        for parameter_name, parameter in trainer.model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(weights[parameter_name])
    trainer.model.train(in_training_mode)
    trainer.state.log_history = run.log
    trainer.state.global_step = step
    return run
