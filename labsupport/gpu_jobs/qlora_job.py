"""The fine-tune that the hour is for: the course's recipe on the profile's base model, QLoRA where that is in
4 bits, beside prompts on the same base, and what it forgot. Written for 16, 24 and 80 GB cards, not yet run
there.

    python -m labsupport.gpu_jobs.qlora_job FOLDER

Training comes first: a forward pass may set 4-bit layers' compute dtype, which is part of a run's
fingerprint, and a run that was killed half-way is found by that. The base is then the same model without its
adapters.
"""

from __future__ import annotations

import sys
from pathlib import Path

from labsupport.gpu_jobs import job_process

NAME = "qlora"


def job(folder: Path) -> None:
    """Write results/qlora.json step by step, and the adapter as PEFT writes one."""
    from labsupport.core import files, profiles
    from labsupport.gpu_jobs import measuring
    from labsupport.gpu_jobs.results import Record

    job_process.settle()
    record, profile = Record(folder, NAME), profiles.current()
    trainer, model, tokenizer = fine_tuned(record)
    model.save_pretrained(files.RUNS / NAME)
    sets = measuring.test_sets(profile)
    for split, rows in sets.items():
        record.step(f"tuned, {split}", lambda rows=rows: measuring.scored(model, tokenizer, rows))
    for method in ("zero_shot", "few_shot"):
        for split, rows in sets.items():
            record.step(f"{method}, {split}", lambda m=method, r=rows: base(model, tokenizer, m, r))
    for split, rows in sets.items():
        few = rows[: profile.generate_rows]
        record.step(f"replies, {split}", lambda rows=few: measuring.replies(model, tokenizer, rows))
    passages = measuring.passages(profile)
    record.step("general text", lambda: measuring.forgotten(model, tokenizer, passages))
    record.step("canary", lambda: measuring.canary_right(model, tokenizer, profile))
    record.finish()


def fine_tuned(record):
    """Trainer, model with trained adapters and tokenizer; the run's figures as a step of the record."""
    from labsupport.training import recipe

    trainer = recipe.trainer()
    figures = trained_figures(trainer, "first_fine_tune")
    record.step("training", lambda: figures)
    model = trainer.accelerator.unwrap_model(trainer.model)
    return trainer, model, trainer.processing_class


def trained_figures(trainer, name: str) -> dict:
    """Train or load; how long it took, how fast and with how much memory.

    A run that was loaded has no peak of memory, and only one that was trained in one go has a speed.
    tokens_a_second: of rows without padding.
    """
    from labsupport.gpu_jobs import results
    from labsupport.training import run_store

    results.reset_peak()
    run = run_store.recorded(trainer, name)
    args = trainer.args
    seen = trainer.state.global_step * args.per_device_train_batch_size * args.gradient_accumulation_steps
    lengths = [len(row["input_ids"]) for row in trainer.train_dataset]
    tokens = seen * sum(lengths) / len(lengths)
    return {
        "outcome": run.outcome,
        "seconds": round(run.seconds, 1),
        "steps": trainer.state.global_step,
        "tokens_a_second": round(tokens / run.seconds, 1) if run.outcome == "trained" else None,
        "peak_gib": None if run.outcome == "loaded" else results.peak_gib(),
        "trainable_parameters": sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        "adapter_dtypes": sorted({str(p.dtype) for p in trainer.model.parameters() if p.requires_grad}),
        "losses": list(zip(*run.losses(), strict=True)),
        "folder": run.folder.name,
    }


def base(model, tokenizer, method: str, rows: list[dict]) -> dict:
    """A prompted baseline: the same model with its adapters off, wording and examples fixed beforehand."""
    from labsupport.gpu_jobs import measuring

    with model.disable_adapter():
        return measuring.prompted(
            model, tokenizer, method, rows, measuring.WORDING, measuring.SHOTS[method], constrained=False
        )


if __name__ == "__main__":
    sys.exit(job_process.run(job))
