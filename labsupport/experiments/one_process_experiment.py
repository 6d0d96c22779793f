"""Training rows and evaluation rows that one faulty process has labelled: does the evaluation notice?

The process calls every exchange a return (36 of the 256 training rows), as a labeller does who has misread
the instructions. 32 steps of 8 rows, seeds 0 and 1. Those of the experiment chat_formats' arm `template` saw
the right labels of the same rows, with the same seeds and steps.

Scored teacher-forced on one row of each family of test_lookalike (144) and every third row of
test_production (67): NLL in nats by field and whether every token was the first choice (exact), against the
right labels (`right`) and against the labels that the faulty process gives to the same messages (`same`).
One thread.
"""

from __future__ import annotations

ROWS = 256
CELLS = [{"arm": "faulty", "seed": seed} for seed in (0, 1)]


def run(cell: dict) -> dict:
    """The log, how many labels are wrong, and the scores under both labels."""
    import torch

    from labsupport.core import profiles, upstream
    from labsupport.format_runs import format_training, prompt_formats
    from labsupport.tasks import tickets
    from labsupport.training import run_store

    upstream.keep_freed_memory()
    torch.set_num_threads(1)
    right = tickets.load("train")[:ROWS]
    rows = [faulty(row) for row in right]
    trainer = format_training.trainer("template", rows, cell["seed"])
    run = run_store.recorded(trainer, "one_process")
    result: dict = {
        "dtype": profiles.current().dtype,
        "wrong_labels": sum(a["intent"] != b["intent"] for a, b in zip(rows, right, strict=True)),
        "training": format_training.log(run),
    }
    for split, held_out in prompt_formats.test_sets().items():
        for labels, judged in (("right", held_out), ("same", [faulty(row) for row in held_out])):
            found = prompt_formats.scored(trainer.model, trainer.processing_class, "template", judged)
            result[f"{split}, {labels}"] = found
    return result


def faulty(row: dict) -> dict:
    """The row as the process labels it."""
    return row | {"intent": "return"} if row["intent"] == "exchange" else row
