"""The kinds of run that the clinic makes: what each changes in a healthy run of its task, as data. No torch.

A case is a flat dict of everything that decides a run. What a healthy run of a task is comes from HEALTHY,
and a seed draws from its ranges. A kind changes some entries of that and leaves the rest, so the run of a
kind and a seed differs from the healthy run of the seed in what is broken, and in nothing else.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from labsupport.core.files import LabError, nearest_first

# ---------------------------------------------------------------- how a number is drawn


@dataclass(frozen=True)
class OneOf:
    """One of the values, each as likely."""

    values: tuple

    def draw(self, rng: random.Random, healthy):
        return rng.choice(self.values)


def one_of(*values) -> OneOf:
    return OneOf(values)


@dataclass(frozen=True)
class Between:
    """A number between two, uniform; a whole one between whole ones, both included."""

    low: float
    high: float

    def draw(self, rng: random.Random, healthy):
        if isinstance(self.low, int) and isinstance(self.high, int):
            return rng.randint(self.low, self.high)
        return round(rng.uniform(self.low, self.high), 3)


@dataclass(frozen=True)
class LogBetween:
    """A number between two whose logarithm is uniform, to two digits."""

    low: float
    high: float

    def draw(self, rng: random.Random, healthy):
        return float(f"{self.low * (self.high / self.low) ** rng.random():.2g}")


@dataclass(frozen=True)
class Times:
    """The healthy value times a factor between two, whose logarithm is uniform; to two digits."""

    low: float
    high: float

    def draw(self, rng: random.Random, healthy):
        return float(f"{healthy * self.low * (self.high / self.low) ** rng.random():.2g}")


# ---------------------------------------------------------------- a healthy run

TINY, BUNDLED = "tiny_base", "smollm2-135m-instruct"
# What is the same in every healthy run: how rows become tokens, and how the evaluation asks.
SOUND = {
    "format": "template",  # of the training rows: a key of asking.FORMATS
    "loss_on_prompt": "",  # "messages": rows of messages, which TRL trains on whole; "setting": so set
    "end_masked": "",  # "labels": in the rows' own labels; "collator": by the collator
    "cut": 0.0,  # share of rows whose prompt alone is as long as max_length or longer
    "noise": 0.0,  # share of training rows with the answer of another row
    "leaked": 0.0,  # share of evaluation rows that stand, nearly word for word, in the training rows
    "input_gradients": True,
    "targets": "all-linear",
    "asked_format": "template",  # how the evaluation asks
    "padding_side": "left",
    "adapter_on": True,
}
# What a seed varies, and a diagnosis must not depend on. rows: of training; eval_rows: of the evaluation.
VARIED = {
    "rank": one_of(8, 16, 32),
    "schedule": one_of("cosine", "linear"),
    "checkpointing": one_of(False, False, False, True),  # reentrant, with gradients of the inputs
    "points": Between(16, 28),  # logged losses, about
    "eval_batch": one_of(8, 12, 16),
}
HEALTHY = {
    (TINY, "tickets"): {
        "rows": Between(96, 160),
        "eval_rows": 32,
        "epochs": Between(4, 5),
        "batch": 8,
        "learning_rate": LogBetween(2e-3, 4e-3),
    },
    (TINY, "facts"): {
        "facts": Between(24, 40),
        "eval_rows": 24,
        "epochs": Between(20, 26),
        "batch": one_of(8, 12),
        "learning_rate": LogBetween(2e-3, 4e-3),
    },
    (BUNDLED, "tickets"): {
        "rows": Between(96, 144),
        "eval_rows": 32,
        "epochs": 2,
        "batch": one_of(4, 8),
        "learning_rate": LogBetween(1e-3, 2e-3),
    },
    (BUNDLED, "facts"): {
        "facts": Between(32, 40),
        "eval_rows": 32,
        "epochs": 12,
        "batch": 8,
        "learning_rate": LogBetween(1e-3, 2e-3),
    },
}
TASKS = ("tickets", "facts")
# tiny_base learns facts well and little from a few hundred tickets. So what shows only beside a good run is
# made on facts there, and on tickets what shows beside any. The bundled model does tickets.
TINY_ON_FACTS = (
    "healthy",
    "template-mismatch",
    "prompt-in-loss",
    "eos-not-learned",
    "lr-too-low",
    "capacity-too-small",
    "noisy-labels",
    "padding-side",
    "eval-template",
)
PHRASINGS = 3  # of each fact in training

# ---------------------------------------------------------------- what a kind changes

KINDS = {
    "healthy": {},
    "template-mismatch": {"format": one_of("plain", "alpaca", "llama3")},
    "prompt-in-loss": {"loss_on_prompt": one_of("messages", "setting")},
    "eos-not-learned": {"end_masked": one_of("labels", "collator")},
    "lr-too-high": {"learning_rate": Times(30, 100)},
    "lr-too-low": {"learning_rate": Times(1 / 1000, 1 / 100)},
    "capacity-too-small": {
        "task": "facts",
        "rank": 1,
        "targets": one_of("q_proj", "v_proj", "q_proj,v_proj"),
    },
    "memorised": {"rows": Between(8, 16)},  # for as many steps as the healthy run
    "leaked-eval": {"leaked": Between(0.85, 1.0)},
    "adapter-inactive": {"adapter_on": False},
    "no-gradient": {"checkpointing": True, "input_gradients": False},
    "truncated": {"cut": Between(0.7, 0.9)},
    "noisy-labels": {"noise": Between(0.2, 0.4)},
    "padding-side": {"padding_side": "right"},
    "eval-template": {"asked_format": one_of("no_system", "alpaca", "llama3")},
}


def case(kind: str, seed: int, base: str = TINY, task: str | None = None) -> dict:
    """All that decides the run of a kind and a seed; only values that JSON knows.

    base: "tiny_base", "smollm2-135m-instruct", or the folder of a model, which is treated as tiny_base is.
    task: "tickets" or "facts"; by default what suits kind and base. LabError lists the kinds if there is none
    of that name, and the tasks.
    """
    if kind not in KINDS:
        raise LabError(f"Unknown kind of run {kind!r}. There are: {nearest_first(kind, KINDS)}.")
    changes = dict(KINDS[kind])
    on_facts = base != BUNDLED and kind in TINY_ON_FACTS
    task = changes.pop("task", None) or task or ("facts" if on_facts else "tickets")
    if task not in TASKS:
        raise LabError(f"Unknown task {task!r}. There are: {', '.join(TASKS)}.")
    settings = HEALTHY[base if base == BUNDLED else TINY, task]
    sound = {"base": base, "task": task, "seed": seed} | SOUND
    sound |= drawn({**VARIED, **settings}, random.Random(f"healthy {task} {seed}"), {})
    sound.setdefault("rows", sound.get("facts", 0) * PHRASINGS)
    sound["steps"] = -(-sound["rows"] // sound["batch"]) * sound["epochs"]
    return changed(sound, drawn(changes, random.Random(f"{kind} {seed}"), sound))


def drawn(entries: dict, rng: random.Random, healthy: dict) -> dict:
    """The entries with every range replaced by a number from it."""
    return {
        name: value.draw(rng, healthy.get(name)) if hasattr(value, "draw") else value
        for name, value in entries.items()
    }


def changed(case: dict, changes: dict) -> dict:
    """The case with other entries, and epochs that keep its steps where the number of rows is another one."""
    new = case | changes
    if "rows" in changes:
        new["epochs"] = max(1, round(case["steps"] / -(-new["rows"] // new["batch"])))
        new["steps"] = -(-new["rows"] // new["batch"]) * new["epochs"]
    return new
