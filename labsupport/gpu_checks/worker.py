"""One setting in a process of its own: `python -m labsupport.gpu_checks.worker JOB ANSWER`, two JSON files.

A job is {"ask": "card"} or {"ask": "setting", "setup": the fields of a Setup, "device": "cuda"}. What happens
here (out of memory, a crash, a hang) touches no other setting: it is the answer, or there is none.
"""

from __future__ import annotations

import gc
import json
import math
import sys
import tempfile
import time
from pathlib import Path

from labsupport.core import files
from labsupport.gpu_checks import records
from labsupport.setups.setup import Setup, checked

SHORT = (
    0.5  # the first step's rows, of the length: the planner's stream begins so, and empties the cache next
)
WARM_UP, TIMED = 2, 4  # steps before the clock runs, the short one among them, and after


def main(job: Path, answer: Path) -> None:
    asked = json.loads(job.read_text(encoding="utf-8"))
    found = card() if asked["ask"] == "card" else outcome(checked(Setup(**asked["setup"])), asked["device"])
    files.write_atomically(answer, json.dumps(found))


def card() -> dict:
    """The first CUDA card: name, GiB in all and free, capability; driver and CUDA."""
    import torch

    from labsupport.core import profiles

    found = torch.cuda.get_device_properties(0)
    free, total = torch.cuda.mem_get_info(0)
    return {
        "name": found.name,
        "memory_gib": total / 2**30,
        "free_gib": free / 2**30,
        "capability": [found.major, found.minor],
        "driver": profiles.nvidia_driver(),
        "cuda": torch.version.cuda,
    }


def outcome(setup: Setup, device: str) -> dict:
    """What became of the setting: "done" with its figures, "out of memory" or "failed" with what was said."""
    import torch

    try:
        return {"outcome": "done", **measure(setup, device)}
    except torch.OutOfMemoryError as error:
        return {"outcome": "out of memory", "said": told(error), "measured": memory(device)}
    except Exception as error:  # whatever goes wrong on a card is what this is for
        return {"outcome": "failed", "said": told(error)}


def told(error: Exception) -> str:
    """The error in a line."""
    return records.without_folders(f"{type(error).__name__}: {files.first_line(error)}")


def measure(setup: Setup, device: str) -> dict:
    """Build, train WARM_UP + TIMED steps, and say what torch counted. RuntimeError for a loss that is no
    number, whose step may not have been the real one."""
    import torch

    from labsupport.core import upstream
    from labsupport.gpu_checks import random_model

    upstream.quiet_known_noise()
    torch.manual_seed(0)
    model = random_model.build(setup, device)
    clock = Clock(device)
    forget_building(device)
    steps = plain_steps if setup.trainer == "plain" else trainer_steps
    loss = steps(setup, model, device, clock)
    if not math.isfinite(loss):
        raise RuntimeError(f"the loss is {loss}")
    trained = {str(p.dtype).removeprefix("torch.") for p in model.parameters() if p.requires_grad}
    seconds = clock.seconds_a_step()
    speed = {"seconds_a_step": seconds, "tokens_a_second": setup.batch * setup.length / seconds}
    return {"measured": memory(device) | speed, "trained_in": sorted(trained), "loss": loss}


# ---------------------------------------------------------------- memory and time


def forget_building(device: str) -> None:
    """Let the peaks be those of training."""
    import torch

    gc.collect()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def memory(device: str) -> dict:
    """GiB at the peak, by torch; and what the card has lent that torch does not count: CUDA's context, and
    other programs. All None on a processor."""
    import torch

    if device != "cuda":
        return dict.fromkeys(("allocated_gib", "reserved_gib", "outside_torch_gib"))
    free, total = torch.cuda.mem_get_info()
    return {
        "allocated_gib": torch.cuda.max_memory_allocated() / 2**30,
        "reserved_gib": torch.cuda.max_memory_reserved() / 2**30,
        "outside_torch_gib": (total - free - torch.cuda.memory_reserved()) / 2**30,
    }


class Clock:
    """Notes the end of each step."""

    def __init__(self, device: str):
        self.device, self.ends = device, []

    def step_ended(self) -> None:
        """Wait for the card, note the time; after the short step empty the cache, as the planner has it."""
        import torch

        if self.device == "cuda":
            torch.cuda.synchronize()
            if not self.ends:
                torch.cuda.empty_cache()
        self.ends.append(time.perf_counter())

    def seconds_a_step(self) -> float:
        """The mean of the TIMED steps."""
        return (self.ends[-1] - self.ends[WARM_UP - 1]) / TIMED


# ---------------------------------------------------------------- the two trainers


def length_of(setup: Setup, step: int) -> int:
    """Tokens a row in a step, counted from 0."""
    return max(2, round(setup.length * SHORT)) if step == 0 else setup.length


def plain_steps(setup: Setup, model, device: str, clock: Clock) -> float:
    """The loop that the planner traces, with real numbers. The last loss."""
    from labsupport.memory import workload

    optimizer, held = workload.optimizer_for(setup, model), []
    for step in range(WARM_UP + TIMED):
        batch = workload.batch_for(setup, device, length_of(setup, step) / setup.length)
        batch["input_ids"].random_(setup.config["vocab_size"])
        batch["labels"].copy_(batch["input_ids"].where(batch["labels"] != -100, -100))
        workload.training_step(setup, model, [batch], optimizer, held)
        clock.step_ended()
    return held[0].loss.item()


def trainer_steps(setup: Setup, model, device: str, clock: Clock) -> float:
    """TRL's SFTTrainer as a notebook calls it, on random rows. The adapters stay in what it casts them to
    (bfloat16 on 4 bits), which is what the planner's trainer "sft" has. The mean loss."""
    from transformers import PrinterCallback, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    class Noting(TrainerCallback):
        def on_step_end(self, args, state, control, **others):
            clock.step_ended()

    steps = WARM_UP + TIMED
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(
            output_dir=folder,
            max_steps=steps,
            per_device_train_batch_size=setup.batch,
            max_length=setup.length,
            train_sampling_strategy="sequential",
            activation_checkpointing=setup.checkpointing,
            optim="adamw_torch_fused",
            use_cpu=device == "cpu",
            bf16=setup.dtype != "float16",
            fp16=setup.dtype == "float16",
            logging_strategy="no",
            logging_nan_inf_filter=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = SFTTrainer(
            model=model,
            args=arguments,
            train_dataset=random_rows(setup, steps),
            processing_class=tokenizer(),
            callbacks=[Noting()],
        )
        trainer.remove_callback(PrinterCallback)
        return trainer.train().training_loss


def random_rows(setup: Setup, steps: int):
    """A Dataset of so many batches, in their order. The first row of each is a token shorter, so that the
    mask hides something, as in the planner's padded batches; a batch of one row has none."""
    import torch
    from datasets import Dataset

    rows = []
    for step in range(steps):
        for number in range(setup.batch):
            shorter = number == 0 and setup.batch > 1
            size = (length_of(setup, step) - shorter,)
            rows.append(torch.randint(setup.config["vocab_size"], size).tolist())
    return Dataset.from_dict({"input_ids": rows, "labels": rows})


def tokenizer():
    """One that is never asked for tokens: the trainer wants to know what to pad with."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({"<pad>": 0, "<eos>": 1}, unk_token="<pad>"))
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
