"""Notebook 01 in full: the untuned model and the LoRA recipe with three seeds, each scored on all
600 rows of test_lookalike and all 200 of test_production."""

from __future__ import annotations

CELLS = [{"model": "base", "seed": 0}, *({"model": "lora", "seed": seed} for seed in (0, 1, 2))]


def run(cell: dict) -> dict:
    """Per-row results on both test sets; for LoRA the training log too."""
    import torch

    from labsupport import base_model, evaluation, profiles, recipe, tickets, training, upstream

    upstream.keep_freed_memory()
    torch.set_num_threads(profiles.current().threads)
    result: dict = {}
    if cell["model"] == "lora":
        trainer = recipe.trainer(seed=cell["seed"])
        done = training.recorded(trainer, "first_fine_tune")
        model, tokenizer = trainer.model, trainer.processing_class
        tokens = sum(map(len, trainer.train_dataset["input_ids"]))
        result = {"log": done.log, "seconds": done.seconds, "tokens": tokens}
    else:
        model, tokenizer = base_model.load()
    result["dtype"] = profiles.current().dtype
    for split in ("test_lookalike", "test_production"):
        rows = tickets.load(split)
        scores = evaluation.recorded(model, tokenizer, rows, "score", evaluation.score)
        replies = evaluation.recorded(model, tokenizer, rows, "generate", evaluation.generate)
        result[split] = [
            {"id": row["id"], "reply": reply, **score}
            for row, reply, score in zip(rows, replies, scores, strict=True)
        ]
    return result
