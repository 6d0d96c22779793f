"""How many rows, how varied and how clean: the course's recipe at equal optimizer steps.

Each arm takes 32 steps of 8 rows, 256 visits to a row, with the model's own chat template:
- rows32, rows64, rows128, rows256: so many rows of different families, for 8, 4, 2 and 1 epochs. The smaller
  sets are the beginnings of the larger ones. rows256 is the arm `template` of the experiment chat_formats.
- few_families: 128 rows of as few families as hold them, up to 3 rows each (no family has more), drawn from
  the families of rows128, to which it compares: as many rows, a third of the phrasings.
- noisy256: rows256 with a wrong value in one field of 8 % of the rows (20); the seed draws rows and fields.

Scored teacher-forced on one row of each family of test_lookalike (144) and every third row of
test_production (67): negative log-likelihood of the right answer in nats by field, of keys and brackets
(rest) and of the end token (end), whether every token of the answer was the first choice (exact) and the end
token after it (stops).
One processor, one thread, two seeds.
"""

from __future__ import annotations

import random

VISITS = 256
NOISE = 0.08
ARMS = ("rows256", "rows32", "rows64", "rows128", "few_families", "noisy256")
SEEDS = (0, 1)
CELLS = [{"arm": arm, "seed": seed} for seed in SEEDS for arm in ARMS]


def run(cell: dict) -> dict:
    """How the arm trained, what it trained on, and its scores on both test sets."""
    import torch

    from labsupport.core import upstream
    from labsupport.format_runs import format_training, prompt_formats
    from labsupport.tasks import tickets
    from labsupport.training import run_store

    upstream.keep_freed_memory()
    torch.set_num_threads(1)
    arm, seed = cell["arm"], cell["seed"]
    rows = rows_of(arm, tickets.load("train"), seed)
    epochs = max(1, VISITS // len(rows))
    trainer = format_training.trainer("template", rows, seed, epochs)
    name = "chat_formats_template" if arm == "rows256" else f"learning_curve_{arm}"
    result = {
        "data": format_training.counted(trainer, epochs) | {"families": len({r["family"] for r in rows})},
        "training": format_training.log(run_store.recorded(trainer, name)),
        "changed": [row["id"] for row in rows if "changed" in row],
    }
    for split, held_out in prompt_formats.test_sets().items():
        result[split] = prompt_formats.scored(trainer.model, trainer.processing_class, "template", held_out)
    return result


def rows_of(arm: str, train: list[dict], seed: int) -> list[dict]:
    """The training rows of an arm; `train` begins with one row of each family."""
    if arm == "few_families":
        return few_families(train, 128)
    if arm == "noisy256":
        return noisy(train[:VISITS], seed)
    return train[: int(arm.removeprefix("rows"))]


def few_families(train: list[dict], size: int) -> list[dict]:
    """So many rows of the families among the first `size` rows, those with the most rows first."""
    rows_of_family: dict[str, list] = {row["family"]: [] for row in train[:size]}
    for row in train:
        if row["family"] in rows_of_family:
            rows_of_family[row["family"]].append(row)
    largest_first = sorted(rows_of_family.values(), key=len, reverse=True)  # stable: then in their order
    return [row for rows in largest_first for row in rows][:size]


def noisy(rows: list[dict], seed: int) -> list[dict]:
    """The rows, NOISE of them with the value that another row has in one field; `changed` names the field."""
    from labsupport.tasks import tickets

    draw = random.Random(seed)
    result = list(rows)
    for i in sorted(draw.sample(range(len(rows)), int(NOISE * len(rows)))):
        field = draw.choice(tickets.FIELDS)
        wrong = sorted({str(row[field]) for row in rows if row[field] not in (None, rows[i][field])})
        result[i] = rows[i] | {field: draw.choice(wrong), "changed": field}
    return result
