"""Notebook 01 in full. The LoRA recipe is scored on all 600 rows of test_lookalike and all 200 of
test_production, and replies to each; the untuned model is scored on one row of each lookalike family and the
same production rows, and replies to 72 of each set, since it seldom stops."""

from __future__ import annotations

BASE_REPLIES = 72
CELLS = [{"model": "lora", "seed": 0}, {"model": "base", "seed": 0}]


def run(cell: dict) -> dict:
    """Per-row results on both test sets; for LoRA the training log too."""
    import torch

    from labsupport.core import profiles, upstream
    from labsupport.evaluation import result_store, scoring
    from labsupport.models import base_model
    from labsupport.tasks import tickets
    from labsupport.training import recipe, run_store

    upstream.keep_freed_memory()
    torch.set_num_threads(profiles.current().threads)
    result: dict = {}
    if cell["model"] == "lora":
        trainer = recipe.trainer(seed=cell["seed"])
        done = run_store.recorded(trainer, "first_fine_tune")
        model, tokenizer = trainer.model, trainer.processing_class
        tokens = sum(map(len, trainer.train_dataset["input_ids"]))
        result = {"log": done.log, "seconds": done.seconds, "tokens": tokens}
    else:
        model, tokenizer = base_model.load()
    result["dtype"] = profiles.current().dtype
    for split in ("test_lookalike", "test_production"):
        rows = written = tickets.load(split)
        if cell["model"] == "base":
            rows = tickets.one_of_each_family(rows)
            written = rows[:: len(rows) // BASE_REPLIES][:BASE_REPLIES]
        scores = result_store.recorded(model, tokenizer, rows, "score", scoring.score)
        replies = result_store.recorded(model, tokenizer, written, "generate", scoring.generate)
        by_id = {row["id"]: reply for row, reply in zip(written, replies, strict=True)}
        result[split] = [
            {"id": row["id"], "reply": by_id.get(row["id"]), **rounded(score)}
            for row, score in zip(rows, scores, strict=True)
        ]
    return result


def rounded(score: dict) -> dict:
    """NLL to four digits: enough for every figure, and half the file."""
    return {"exact": score["exact"], "nll": {k: round(v, 4) for k, v in score["nll"].items()}}
