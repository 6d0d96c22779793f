"""How long the parts of a job take on a card, and the memory they need. Predictions; none was measured.

Training by `lab.py cost`'s model, memory by `lab.py plan`'s planner. What neither knows (starting Python,
reading weights from a disk, work on the host) stands here as a pair (fast, slow), and is an assumption.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass

from labsupport.allocations.streams import GIB
from labsupport.core.profiles import PROFILES, Profile
from labsupport.cost import cost_model, data_file, step_time
from labsupport.cost.step_time import Range, plus, times
from labsupport.planning import closed_form, footprint, planner
from labsupport.setups.setup import Setup, checked
from labsupport.sizes import gpus
from labsupport.tasks import general, tickets

START = (10.0, 60.0)  # seconds for Python, its imports and CUDA's context
DISK = (2e9, 2e8)  # bytes a second from a rented machine's disk
NET = (5e8, 3e7)  # bytes a second from the hub
HASHED = (2e9, 3e8)  # bytes a second of weights copied from the card and hashed
HOST = (5e-9, 4e-8)  # seconds a logit that is compared on the host, in float32
TEMPLATE = 25  # tokens that a chat template adds to a prompt
ANSWER = 45  # tokens of the longest right answer
WRITE_BATCH = 16


@dataclass(frozen=True)
class Ground:
    """What all estimates rest on. setup: the recipe's training step on this profile."""

    card: gpus.Card
    profile: Profile
    setup: Setup

    @functools.cached_property
    def plan(self) -> planner.Plan:
        """The step as `lab.py plan` plans it; traced once, which takes seconds."""
        return planner.plan(self.setup, self.card, suggest=False)


def profile_for(card: gpus.Card) -> Profile:
    """The profile that a card of that memory would get; the smallest for one that is too small."""
    bounds = (("gpu-80gb", 70), ("gpu-24gb", 21))  # as in profiles.detect
    return PROFILES[next((name for name, least in bounds if card.memory_gib >= least), "gpu-16gb")]


def ground(card: gpus.Card, profile: Profile, config: dict) -> Ground:
    """The estimates' ground for a base model's configuration. LabError for what cannot be planned."""
    bare = card.capability < (8, 0)
    setup = Setup(
        config=config,
        method="qlora" if profile.quantize else "lora",
        batch=profile.batch_size,
        accumulation=profile.accumulation,
        length=data_file.padded_length(row_tokens("train"), profile.batch_size),
        dtype="float16" if bare else "bfloat16",
        supervised=0.4,  # an answer's part of a row
        attention=profile.attention,
        adapters="float32",  # on a 4-bit base, too: training/recipe.py
    )
    return Ground(card, profile, checked(setup))


def row_tokens(split: str) -> list[int]:
    """Tokens of each row of a split, prompt and answer, at 4 characters a token."""
    own = len(tickets.SYSTEM_PROMPT)
    return [
        math.ceil((own + len(row["text"]) + len(tickets.answer(row))) / data_file.CHARACTERS_A_TOKEN)
        + TEMPLATE
        for row in tickets.load(split)
    ]


# ---------------------------------------------------------------- bytes


def file_bytes(at: Ground) -> float:
    """Bytes of the base model's files: two a weight."""
    plain = dataclasses.replace(at.setup, method="lora", double_quantization=None, dtype="bfloat16")
    return closed_form.weight_bytes(checked(plain))


def training_gib(at: Ground) -> float:
    """GiB with which the recipe's step gets through on the card, CUDA's context included."""
    return at.plan.needed_gib + footprint.CONTEXT_GIB


def scoring_gib(at: Ground, prompt: int, batch: int) -> float:
    """GiB for scoring `batch` prompts of so many tokens: weights, key/value cache, logits of the answers in
    16 and 32 bits, CUDA's context. By hand: the planner plans training steps."""
    config = at.setup.config
    cache = 2 * 2 * config["num_hidden_layers"] * config["num_key_value_heads"] * config["head_dim"]
    logits = 6 * config["vocab_size"] * ANSWER
    found = closed_form.weight_bytes(at.setup) + batch * ((prompt + ANSWER) * cache + logits)
    return found / GIB + footprint.CONTEXT_GIB


# ---------------------------------------------------------------- seconds


def over(amount: float, speeds: Range) -> Range:
    """Seconds for so many bytes at (fast, slow) bytes a second."""
    return amount / speeds[0], amount / speeds[1]


def load(at: Ground) -> Range:
    """Start Python and read the model from the disk."""
    return plus(START, over(file_bytes(at), DISK))


def download(at: Ground) -> Range:
    return plus(START, over(file_bytes(at), NET))


def train_steps(at: Ground) -> Range:
    """The training steps of one run of the recipe."""
    return times(3600, cost_model.estimate(at.setup, at.profile.train_rows, 1, at.card, rate=1.0).hours)


def train(at: Ground) -> Range:
    """The same, with the hashes that its record needs."""
    return plus(train_steps(at), over(2 * closed_form.weight_bytes(at.setup), HASHED))


def forward(at: Ground, rows: int, tokens: int, batch: int, scored: int = ANSWER) -> Range:
    """So many rows read once; of each `scored` tokens are compared on the host."""
    setup = dataclasses.replace(at.setup, batch=batch, length=max(1, tokens), accumulation=1)
    logits = rows * scored * at.setup.config["vocab_size"]
    passes = times(math.ceil(rows / batch), step_time.forward_time(setup, at.card))
    return plus(passes, times(logits, HOST))


def write(at: Ground, rows: int) -> Range:
    """So many replies written: a forward pass of one token a row for each token."""
    setup = dataclasses.replace(at.setup, batch=WRITE_BATCH, length=1, accumulation=1)
    steps = math.ceil(rows / WRITE_BATCH) * at.profile.reply_tokens
    return times(steps, step_time.forward_time(setup, at.card))


def test_rows(at: Ground) -> int:
    """Rows of both test sets."""
    return at.profile.eval_families + at.profile.eval_rows


def general_tokens() -> tuple[int, int]:
    """(passages of general text, tokens of one on average)."""
    rows = general.load()
    characters = sum(len(general.content(row)) for row in rows)
    return len(rows), round(characters / len(rows) / data_file.CHARACTERS_A_TOKEN)
