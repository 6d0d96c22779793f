"""Checkpoints that a killed run can be resumed from, and no others."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

from accelerate.data_loader import SeedableRandomSampler, get_sampler
from transformers import TrainerCallback, set_seed

from labsupport.core import files
from labsupport.core.files import short, write_atomically
from labsupport.core.randomness import seed_of_epoch

SAVES_A_RUN = 4


class Checkpoints(TrainerCallback):
    """Seals each checkpoint with a manifest, written last, once all its files are on disk.

    The trainer writes a checkpoint file by file. A kill in between leaves a folder that cannot be
    resumed or, worse, resumes without the optimizer's state to another result.

    It also seeds each epoch. group_by_length draws an epoch's order from the global generator, which a run
    resumed in the middle of the epoch has in another state; and accelerate seeds a random order with seed +
    epoch, so that seed 0's second epoch would be seed 1's first: runs that are no independent repeats.
    """

    def on_epoch_begin(self, args, state, control, train_dataloader=None, **kwargs):
        epoch = int(state.epoch or 0)
        set_seed(seed_of_epoch(args.seed, epoch))
        sampler = None if train_dataloader is None else get_sampler(train_dataloader)
        if isinstance(sampler, SeedableRandomSampler):
            seed = args.seed if args.data_seed is None else args.data_seed
            sampler.initial_seed = seed_of_epoch(seed, epoch) - epoch  # to which it will add the epoch

    def on_step_end(self, args, state, control, **kwargs):
        if state.epoch == int(state.epoch):  # what a checkpoint between two epochs has to hold
            set_seed(seed_of_epoch(args.seed, int(state.epoch)))

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
