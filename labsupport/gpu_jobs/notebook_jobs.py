"""What the notebooks' sections "On a rented GPU" ask for besides the fine-tune. Not yet run on a card.

python -m labsupport.gpu_jobs.notebook_jobs FOLDER templates|prompts|nf4_error|forgetting|download
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path

from transformers import TrainerCallback

from labsupport.core import profiles
from labsupport.core.files import LabError
from labsupport.gpu_jobs import job_process, measuring, qlora_job
from labsupport.gpu_jobs.results import Record
from labsupport.tasks import tickets

FORMAT_ROWS = 48  # of each set, in each of the prompt formats
TUNING_FAMILIES = 24  # of validation, as in the experiment `baselines`
EXAMPLES = {"zero_shot": (0,), "few_shot": (4, 8, 16), "retrieved": (2, 4)}
QUARTERS = 4


def download(folder: Path) -> None:
    """Fetch the base model, once, so that the jobs after this wait for no network."""
    from labsupport.models import base_model

    record = Record(folder, "download")
    where = Path(base_model.path())
    size = sum(file.stat().st_size for file in where.glob("*.safetensors"))
    record.step("files", lambda: {"bytes": size, "commit": where.name})
    record.finish()


def templates(folder: Path) -> None:
    """Notebook 06: a model tuned with the right template, asked in wrong ones."""
    from labsupport.format_runs import prompt_formats

    job_process.settle()
    record = Record(folder, "templates")
    _, model, tokenizer = qlora_job.fine_tuned(record)
    profile = profiles.current()
    for split, rows in measuring.test_sets(profile).items():
        rows = measuring.spread(rows, FORMAT_ROWS)
        for name in prompt_formats.FORMATS:
            score = functools.partial(prompt_formats.scored, model, tokenizer, name, rows)
            record.step(f"{name}, {split}", score)
    record.finish()


def prompts(folder: Path) -> None:
    """Notebook 00: prompts of the untuned model, wording and examples chosen on validation by the NLL of the
    right answer; free and constrained by the grammar."""
    from labsupport.baselines import prompting
    from labsupport.models import base_model

    job_process.settle()
    record, profile = Record(folder, "prompts"), profiles.current()
    model, tokenizer = base_model.load()
    families = tickets.one_of_each_family(tickets.load("validation"))
    validation = measuring.spread(families, min(TUNING_FAMILIES, profile.eval_families))

    def nats(method: str, wording: str, examples: int) -> float:
        found = measuring.prompted(model, tokenizer, method, validation, wording, examples)
        return found["nats"][0]

    for method, counts in EXAMPLES.items():
        words = {
            wording: record.step(
                f"{method}, {wording}, {counts[0]} examples, validation",
                functools.partial(nats, method, wording, counts[0]),
            )
            for wording in prompting.wordings()
        }
        wording = min(words, key=words.get)
        tried = {counts[0]: words[wording]}
        for count in counts[1:]:
            step = f"{method}, {wording}, {count} examples, validation"
            tried[count] = record.step(step, functools.partial(nats, method, wording, count))
        count = min(tried, key=tried.get)
        for split, rows in measuring.test_sets(profile).items():
            score = functools.partial(
                measuring.prompted, model, tokenizer, method, rows, wording, count, True
            )
            record.step(f"{method}, {split}", score)
    record.finish()


def nf4_error(folder: Path) -> None:
    """Notebook 04: what NF4 and FP4 in blocks of 64 do to the weights as they were published."""
    from labsupport.models import base_model

    record, device = Record(folder, "nf4_error"), profiles.current().device
    for file in sorted(Path(base_model.path()).glob("*.safetensors")):
        record.step(file.name, functools.partial(errors_of_file, file, device))
    record.finish()


def errors_of_file(file: Path, device: str) -> dict[str, dict[str, float]]:
    """Of each matrix in a block of the model: relative squared errors (squared differences over squared
    weights, each summed) and the excess kurtosis of the weights, 0 for normal ones."""
    import bitsandbytes.functional as bnb
    from safetensors import safe_open

    found = {}
    with safe_open(file, framework="pt", device="cpu") as tensors:
        for name in tensors.keys():  # noqa: SIM118
            if ".layers." not in name or not name.endswith("proj.weight"):
                continue
            weight = tensors.get_tensor(name).to(device)
            plain = weight.float()
            found[name] = {"excess_kurtosis": excess_kurtosis(plain)}
            for kind in ("nf4", "fp4"):
                packed, state = bnb.quantize_4bit(weight.contiguous(), blocksize=64, quant_type=kind)
                back = bnb.dequantize_4bit(packed, state).float().reshape(plain.shape)
                error = (back - plain).square().sum() / plain.square().sum()
                found[name][kind] = round(float(error), 6)
    return found


def excess_kurtosis(weight) -> float:
    """Fourth moment over the square of the second, less 3."""
    square = (weight - weight.mean()).square()
    return round(float(square.square().mean() / square.mean().square() - 3), 3)


class AtQuarters(TrainerCallback):
    """Scores general text after each quarter of a run. It holds settings only: a callback is part of a run's
    fingerprint, and must be the same in the process that resumes it."""

    def __init__(self, folder: str, parts: int):
        self.folder, self.parts = folder, parts

    def on_step_end(self, args, state, control, model=None, processing_class=None, **others):
        ends = [round(state.max_steps * part / self.parts) for part in range(1, self.parts)]
        if state.global_step in ends:
            passages = measuring.passages(profiles.current())
            score = functools.partial(measuring.forgotten, model, processing_class, passages)
            Record(Path(self.folder), "forgetting").step(
                f"general text after step {state.global_step}", score
            )


def forgetting(folder: Path) -> None:
    """Notebook 07: KL and NLL on general text at every quarter of a second fine-tune, of another seed; and
    its scores, which say how far two seeds lie apart."""
    from labsupport.core import files
    from labsupport.training import recipe

    job_process.settle()
    profile = profiles.current()
    trainer = recipe.trainer(seed=1)
    trainer.add_callback(AtQuarters(str(folder), QUARTERS))
    begun = Record(folder, "forgetting")
    begun.step("seed", lambda: 1)  # the file is there before the callback opens it
    figures = qlora_job.trained_figures(trainer, "second_fine_tune")
    record = Record(folder, "forgetting")  # with what the callback kept
    record.step("training", lambda: figures)
    model, tokenizer = trainer.accelerator.unwrap_model(trainer.model), trainer.processing_class
    model.save_pretrained(files.RUNS / record.file.stem)
    passages = measuring.passages(profile)
    record.step("general text at the end", lambda: measuring.forgotten(model, tokenizer, passages))
    for split, rows in measuring.test_sets(profile).items():
        record.step(f"tuned, {split}", lambda rows=rows: measuring.scored(model, tokenizer, rows))
    record.finish()


JOBS = {job.__name__: job for job in (download, templates, prompts, nf4_error, forgetting)}


def chosen(folder: Path) -> None:
    """The job that the second argument names."""
    name = sys.argv[2] if len(sys.argv) > 2 else ""
    if name not in JOBS:
        raise LabError(f"There is no job {name!r}. There are: {', '.join(JOBS)}.")
    JOBS[name](folder)


if __name__ == "__main__":
    sys.exit(job_process.run(chosen))
