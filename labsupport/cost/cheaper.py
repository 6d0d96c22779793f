"""What would make a run cheaper: the same tokens with one thing changed, where it still fits the card."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from labsupport.allocations.streams import GIB
from labsupport.cost.step_time import step_time
from labsupport.planning import closed_form
from labsupport.setups.setup import Setup
from labsupport.sizes import gpus

USABLE = 0.9  # of a card's memory, for what the closed form counts: the rest is CUDA's and the allocator's
WORTH = 0.95  # a change is named if it takes less than this of the time
PACKED = 2048  # tokens of a packed row that is suggested
LARGEST = 64  # rows of a micro-batch that are suggested at most


@dataclass(frozen=True)
class Change:
    """said: what to do, in words; share: of the time that it then takes, in the middle of the ranges."""

    said: str
    share: float


def fits(setup: Setup, card: gpus.Card, cards: int = 1) -> bool:
    """Whether the closed form's peak leaves a tenth of the card free; what can be split is over `cards`."""
    whole = closed_form.peak_bytes(setup) - (1 - 1 / cards) * splittable(setup)
    return whole <= USABLE * card.memory_gib * GIB


def runs(setup: Setup, card: gpus.Card) -> bool:
    """Whether the card computes in the run's dtype: bfloat16 from compute capability 8.0 on."""
    return setup.dtype not in ("bfloat16", "bf16") or card.capability >= (8, 0)


def splittable(setup: Setup) -> float:
    """Bytes at the peak of which each card can hold a part: weights, gradients, the optimizer's states."""
    parts = closed_form.peak_parts(setup)[1]
    return sum(parts.get(name, 0) for name in ("weights", "adapters", "gradients", "optimizer"))


def must_shard(setup: Setup, card: gpus.Card, cards: int) -> bool:
    """Whether several cards have to split the model since none holds all of it."""
    return cards > 1 and not fits(setup, card)


def seconds_a_token(setup: Setup, card: gpus.Card, cards: int) -> float:
    """In the middle of the range: the geometric mean of its ends."""
    step = step_time(setup, card, cards, must_shard(setup, card, cards))
    return math.sqrt(math.prod(step.seconds)) / step.tokens


def changes(setup: Setup, card: gpus.Card, cards: int) -> list[Change]:
    """The changes that are worth it and fit, the best first. Rows of different lengths count as full."""
    now = seconds_a_token(setup, card, cards)
    found = []
    for said, changed in possible(setup, card, cards):
        if fits(changed, card, cards if must_shard(changed, card, cards) else 1):
            share = seconds_a_token(changed, card, cards) / now
            if share < WORTH:
                found.append(Change(f"{said}: {share:.0%} of the time", share))
    return sorted(found, key=lambda change: change.share)


def possible(setup: Setup, card: gpus.Card, cards: int):
    """(in words, the setup changed) for each thing that may save time."""
    replace = dataclasses.replace
    longest = min(PACKED, setup.config.get("max_position_embeddings") or PACKED)
    if setup.padded and setup.batch * setup.length < longest:
        packed = replace(setup, padded=False, batch=1, length=longest)
        yield f"pack rows to {longest:,} tokens", packed
    if larger := larger_batch(setup, card, cards):
        yield f"{larger.batch} rows a micro-batch", larger
    if setup.checkpointing:
        yield "no activation checkpointing", replace(setup, checkpointing=False)
    if setup.four_bit:
        method = {"qlora": "lora", "qdora": "dora"}[setup.method]
        sixteen = replace(setup, method=method, kbit_preparation=False, double_quantization=None)
        yield f"{method} on 16-bit weights", sixteen
    if setup.method.endswith("dora"):
        yield "LoRA instead of DoRA", replace(setup, method=setup.method.replace("dora", "lora"))


def larger_batch(setup: Setup, card: gpus.Card, cards: int) -> Setup | None:
    """The run with the most rows a micro-batch, doubled up to LARGEST, that fits; None if no more do."""
    largest, batch = None, 2 * setup.batch
    while batch <= LARGEST:
        changed = dataclasses.replace(setup, batch=batch)
        if not fits(changed, card, cards if must_shard(changed, card, cards) else 1):
            break
        largest, batch = changed, 2 * batch
    return largest


def break_even(setup: Setup, card: gpus.Card, cards: int) -> dict[str, float]:
    """Other cards that hold the run -> how many times as fast they are, the fastest first: what they may
    cost, in times of this card's rate."""
    now = seconds_a_token(setup, card, cards)
    others = [
        other
        for other in gpus.CARDS.values()
        if other.name != card.name and other.sustained_tflops and runs(setup, other) and fits(setup, other)
    ]
    ratios = {other.name: now / seconds_a_token(setup, other, cards) for other in others}
    return dict(sorted(ratios.items(), key=lambda item: -item[1]))
