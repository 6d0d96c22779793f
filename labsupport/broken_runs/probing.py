"""What can be asked of a run of the clinic, and for how much: each answer is a plain dict that can be shown.

What the files of a run tell costs nothing, an evaluation $0.20, a retraining with one thing changed $3.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from labsupport.broken_runs import asking, case_rows, kinds, making
from labsupport.copies import near
from labsupport.models.chat import IGNORED

# name: (price in dollars, what it shows)
PROBES = {
    "tokens": (
        0.0,
        "five training rows token by token, as the trainer feeds them, and which tokens are learned",
    ),
    "settings": (0.0, "the trainer's arguments and the adapter's"),
    "adapter": (0.0, "the norms of A and B in every adapted layer"),
    "copies": (0.0, "evaluation rows that stand, nearly word for word, in the training rows"),
    "training_rows": (0.2, "the same evaluation on rows that were trained on"),
    "lookalike": (0.2, "the same evaluation on other rows like those of the evaluation"),
    "production": (0.2, "the same evaluation on what people really write"),
    "without_adapter": (0.2, "the same evaluation of the base model alone"),
    "one_by_one": (0.2, "the same evaluation, a row at a time instead of batches"),
    "training_format": (0.2, "the same evaluation, asked exactly as in training"),
    "lower_rate": (3.0, "retrained with a tenth of the learning rate"),
    "higher_rate": (3.0, "retrained with ten times the learning rate"),
    "more_capacity": (3.0, "retrained with rank 64 on all linear layers"),
    "more_rows": (3.0, "retrained with four times as many fresh rows, for as many steps"),
    "clean_labels": (3.0, "retrained after somebody checked every answer by hand"),
    "no_copies": (3.0, "retrained without whatever also stands in the evaluation"),
    "default_tokens": (
        3.0,
        "retrained with TRL's defaults for tokens: template, what is learned, max_length",
    ),
}
ROWS_SHOWN = 5
ASKED = 32  # rows of an evaluation that is paid for


def view(case: dict, folder: Path) -> dict:
    """What a practitioner has in front of them without asking: `task`, `base`, the trainer's `log` and
    `eval_log`, the main `settings`, `counts`, five `replies` of the evaluation and its `evaluation`
    figures."""
    state = json.loads((folder / "trainer_state.json").read_text())
    rows = case_rows.evaluation(case)
    written, figures = making.evaluate(case, folder, rows)
    names = ("learning_rate", "schedule", "epochs", "batch", "rank", "targets")
    return {
        "task": case["task"],
        "base": case["base"],
        "log": entries(
            state["log_history"], ("step", "loss", "grad_norm", "learning_rate", "mean_token_accuracy")
        ),
        "eval_log": entries(state["log_history"], ("step", "eval_loss", "eval_mean_token_accuracy")),
        "settings": {name: case[name] for name in names} | {"alpha": 2 * case["rank"]},
        "counts": {
            "training_rows": case["rows"],
            "evaluation_rows": len(rows),
            "steps": state["global_step"],
        },
        "replies": shown(rows, written),
        "evaluation": figures,
    }


def entries(log: list[dict], names: tuple[str, ...]) -> list[dict]:
    """The entries of a trainer's log that hold the second name, of each what is named, to four digits."""
    return [
        {name: float(f"{entry[name]:.4g}") for name in names if name in entry}
        for entry in log
        if names[1] in entry
    ]


def shown(rows: list[dict], written: list[tuple[str, bool]]) -> list[dict]:
    """The first five replies beside what was asked and expected."""
    return [
        {
            "prompt": row["prompt"][-1]["content"],
            "expected": asking.expected(row),
            "reply": text,
            "ended": ended,
        }
        for row, (text, ended) in zip(rows[:ROWS_SHOWN], written, strict=False)
    ]


# ---------------------------------------------------------------- probes


def probe(name: str, case: dict, folder: Path) -> dict:
    """The answer of a probe of PROBES to a run folder; `case` is what making.make returned."""
    if name in READINGS:
        return READINGS[name](case, folder)
    if name in RETRAININGS:
        return retrained(name, case)
    rows = {
        "training_rows": case_rows.training,
        "lookalike": lambda case: case_rows.other(case, "test_lookalike", ASKED),
        "production": lambda case: case_rows.other(case, "test_production", ASKED),
    }.get(name, case_rows.evaluation)(case)[:ASKED]
    other_way = {
        "without_adapter": {"adapter_on": False},
        "one_by_one": {"eval_batch": 1},
        "training_format": {"asked_format": case["format"]},
    }.get(name, {})
    written, figures = making.evaluate(case | other_way, folder, rows)
    return figures | {"replies": shown(rows, written)[:2]}


# ---------------------------------------------------------------- what the files tell


def tokens(case: dict, folder: Path) -> dict:
    """`rows`: five rows of what the trainer is fed, each `tokens` as text and whether each is `learned` (0,
    1); `given` and `kept`: rows before and after the trainer's preparation; `learned_share` of all their
    tokens."""
    model, tokenizer = making.load(case["base"])
    with tempfile.TemporaryDirectory(prefix="lab-") as scratch:
        trainer = making.trainer(case, model, tokenizer, Path(scratch))
    prepared, found = trainer.train_dataset, []
    for row in prepared.select(range(min(ROWS_SHOWN, len(prepared)))):
        batch = trainer.data_collator([{"input_ids": row["input_ids"], "labels": row["labels"]}])
        ids, labels = batch["input_ids"][0].tolist(), batch["labels"][0].tolist()
        found.append(
            {
                "tokens": [tokenizer.decode([i]) for i in ids],
                "learned": [int(label != IGNORED) for label in labels],
            }
        )
    learned = sum(label != IGNORED for row in prepared["labels"] for label in row)
    share = round(learned / sum(map(len, prepared["labels"])), 3)
    return {"rows": found, "given": case["rows"], "kept": len(prepared), "learned_share": share}


def settings(case: dict, folder: Path) -> dict:
    """`arguments` that SFTConfig was given and what `adapter_config.json` says of the adapter."""
    _, tokenizer = making.load(case["base"])
    adapter = json.loads((folder / "adapter_config.json").read_text())
    names = ("r", "lora_alpha", "lora_dropout", "target_modules", "modules_to_save", "bias")
    own = {name: adapter[name] for name in names}
    own["target_modules"] = sorted({name.rpartition(".")[2] for name in own["target_modules"]})
    return {"arguments": making.arguments(case, tokenizer), "adapter": own}


def adapter(case: dict, folder: Path) -> dict:
    """For every adapted layer [norm of A, norm of B]."""
    from safetensors.torch import load_file

    weights, norms = load_file(folder / "adapter_model.safetensors"), {}
    for name, tensor in weights.items():
        layer, _, matrix = name.partition(".lora_")
        place = norms.setdefault(layer.partition("layers.")[2] or layer, [0.0, 0.0])
        place["AB".index(matrix[0])] = float(f"{tensor.norm():.4g}")
    return {"norms": norms}


def copies(case: dict, folder: Path) -> dict:
    """`found`: evaluation rows that have a near copy in training; `of`: evaluation rows; `examples`: pairs of
    messages [evaluation, training]."""
    asked, trained, kept = case_rows.evaluation(case), case_rows.training(case), near.Rows()
    for row in asked + trained:
        kept.add(row["prompt"][-1]["content"], asking.expected(row))
    pairs = [
        (i, j) for i in range(len(asked)) for j in range(len(trained)) if kept.are_copies(i, len(asked) + j)
    ]
    first = dict(reversed(pairs))
    examples = [
        [asked[i]["prompt"][-1]["content"], trained[j]["prompt"][-1]["content"]] for i, j in first.items()
    ]
    return {"found": len(first), "of": len(asked), "examples": examples[-2:]}


READINGS = {"tokens": tokens, "settings": settings, "adapter": adapter, "copies": copies}

# ---------------------------------------------------------------- retraining

# What each changes in a case.
RETRAININGS = {
    "lower_rate": lambda case: {"learning_rate": case["learning_rate"] / 10},
    "higher_rate": lambda case: {"learning_rate": case["learning_rate"] * 10},
    "more_capacity": lambda case: {"rank": 64, "targets": "all-linear"},
    "more_rows": lambda case: {"rows": 4 * case["rows"]},
    "clean_labels": lambda case: {"noise": 0.0},
    "no_copies": lambda case: {"leaked": 0.0},
    "default_tokens": lambda case: {"format": "template", "loss_on_prompt": "", "end_masked": "", "cut": 0.0},
}


def retrained(name: str, case: dict) -> dict:
    """The `log` and `eval_log` of a run in which one thing is other, and its `evaluation` by the same script.

    Where the case is already as the change would have it, the run is the same, and only {"unchanged": True}.
    """
    new = kinds.changed(case, RETRAININGS[name](case))
    if new == case:
        return {"unchanged": True}
    with tempfile.TemporaryDirectory(prefix="lab-") as scratch:
        folder = Path(scratch) / "run"
        making.train(new, folder)
        state = json.loads((folder / "trainer_state.json").read_text())
        _, figures = making.evaluate(new, folder, case_rows.evaluation(case)[:ASKED])
    return {
        "log": entries(state["log_history"], ("step", "loss")),
        "eval_log": entries(state["log_history"], ("step", "eval_loss")),
        "evaluation": figures,
    }
