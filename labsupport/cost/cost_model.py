"""How long and how much money: operations of a fine-tune, over what a card really sustains, times a rate.

Nothing here was measured on a GPU. A range is given because utilisation is one.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from labsupport.core import text
from labsupport.core.files import LabError
from labsupport.memory.setup import Setup
from labsupport.planning import closed_form, prose
from labsupport.sizes import counting, gpus

PRODUCT = 2  # operations of a token with one weight: a multiplication and an addition
# Share of the promised arithmetic that fine-tuning sustains on one card. An assumption: the MPT training
# benchmarks (mosaicml/llm-foundry, scripts/train/benchmarking/README.md) report 26 to 47 % for pretraining in
# bf16 on H100s; short rows and small batches do worse.
UTILISATION = (0.2, 0.4)
DEQUANTISATION = (1.1, 1.5)  # how much longer a 4-bit step takes: an assumption, not measured on a GPU
PARALLEL = (0.7, 0.9)  # share of ideal speed that several cards keep: an assumption


@dataclass(frozen=True)
class Cost:
    """flops of the whole run; (least, most) hours and money, in the currency of the rate."""

    method: str
    gpu: str
    gpus: int
    tokens: int
    flops: float
    hours: tuple[float, float]
    money: tuple[float, float]
    formula: str
    assumptions: tuple[str, ...]


# ---------------------------------------------------------------- operations


def training_flops(
    blocks: float,
    head: float = 0,
    adapters: float = 0,
    scores: float = 0,
    full: bool = False,
    checkpointing: bool = True,
) -> float:
    """Operations of one training step for one token that is multiplied with so many weights.

    blocks, head: weights, trained if `full`, else frozen; adapters: trained ones beside the blocks'; scores:
    operations of the attention's scores forwards, a product of two computed things. PRODUCT a weight
    forwards, as much backwards for the inputs' gradients and again where the weight itself is trained;
    forwards once more with checkpointing, without the head.
    """
    forward = PRODUCT * (blocks + adapters) + scores
    backward = 2 * forward - (0 if full else PRODUCT * blocks)
    head_products = PRODUCT * head * (3 if full else 2)
    return forward * (2 if checkpointing else 1) + backward + head_products


def weights_in_products(config: dict) -> tuple[int, int]:
    """(block weights, output head's weights) that a token is multiplied with; embeddings are looked up."""
    blocks = config["num_hidden_layers"] * sum(a * b for a, b in counting.block_shapes(config).values())
    return blocks, config["vocab_size"] * config["hidden_size"]


def flops_per_token(setup: Setup) -> float:
    """Operations of one training step of this run for one token.

    The attention's scores take 2 x 2 x row length x query width a block, halved because it looks back only.
    """
    blocks, head = weights_in_products(setup.config)
    adapters = 0 if setup.method == "full" else closed_form.trainable_parameters(setup)
    query = counting.block_shapes(setup.config)["q_proj"][1]
    scores = setup.config["num_hidden_layers"] * 2 * setup.length * query
    return training_flops(blocks, head, adapters, scores, setup.method == "full", setup.checkpointing)


# ---------------------------------------------------------------- hours and money


def hours(flops: float, card: gpus.Card, cards: int = 1, four_bit: bool = False) -> tuple[float, float]:
    """(least, most) hours of so many operations. LabError for a card whose speed is not known."""
    if card.peak_tflops is None:
        raise LabError(f"The speed of {card.name} is not known: name one of {', '.join(gpus.names())}.")
    fast, slow = DEQUANTISATION if four_bit else (1, 1)
    worst, best = PARALLEL if cards > 1 else (1, 1)
    ideal = flops / (card.peak_tflops * 1e12 * cards) / 3600
    return ideal * fast / UTILISATION[1] / best, ideal * slow / UTILISATION[0] / worst


def estimate(setup: Setup, rows: int, epochs: float, card: gpus.Card, rate: float, cards: int = 1) -> Cost:
    """Cost of `epochs` over `rows` of setup.length tokens at `rate` an hour and card. Raises LabError."""
    for name, value in (("rows", rows), ("epochs", epochs), ("gpus", cards)):
        if not (math.isfinite(value) and value > 0):
            raise LabError(f"{name} is {value}: it must be above 0.")
    if not (math.isfinite(rate) and rate >= 0):
        raise LabError(f"The hourly rate is {rate}: it cannot be below 0.")
    tokens = round(rows * setup.length * epochs)
    flops = tokens * flops_per_token(setup)
    taken = hours(flops, card, cards, setup.four_bit)
    return Cost(
        method=setup.method,
        gpu=card.sold_as,
        gpus=cards,
        tokens=tokens,
        flops=flops,
        hours=taken,
        money=tuple(round(value * rate * cards, 4) for value in taken),
        formula="hours = tokens x operations a token / (gpus x peak x utilisation x parallel share) / 3600, "
        "x dequantisation for 4 bits; money = hours x gpus x rate",
        assumptions=tuple(_assumptions(setup, card, cards)),
    )


def compare(
    setup: Setup, rows: int, epochs: float, card: gpus.Card, rate: float, cards: int
) -> tuple[Cost, Cost]:
    """The exercise of the day-078 page: QLoRA on one card beside 16-bit LoRA on several."""
    single = dataclasses.replace(setup, method="qlora")
    several = dataclasses.replace(setup, method="lora")
    return (
        estimate(single, rows, epochs, card, rate),
        estimate(several, rows, epochs, card, rate, cards),
    )


# ---------------------------------------------------------------- in words


def sustained(card: gpus.Card) -> str:
    """What is assumed of a card's speed."""
    return f"{card.sold_as}: {card.peak_tflops:g} TFLOP/s promised, {_percent(UTILISATION)} of it sustained"


def report(costs: tuple[Cost, ...]) -> str:
    """The estimates in words."""
    lines = []
    for cost in costs:
        lines.append(
            f"{cost.method:7} on {cost.gpus} x {cost.gpu}: {cost.flops:.3g} FLOP for {cost.tokens:,} tokens, "
            f"{text.span(cost.hours)} hours, "
            f"{cost.money[0]:.2f} to {cost.money[1]:.2f} in the currency of the rate"
        )
        lines += [f"  - {line}" for line in cost.assumptions]
    return "\n".join([*lines, "", costs[0].formula])


def _assumptions(setup: Setup, card: gpus.Card, cards: int) -> list[str]:
    found = [
        f"{sustained(card)}.",
        f"{flops_per_token(setup):.3g} operations a token; loading, evaluation and set-up are extra.",
    ]
    if setup.four_bit:
        found.append(f"4 bits: {DEQUANTISATION[0]} to {DEQUANTISATION[1]} times the time. {prose.UNVERIFIED}")
    if cards > 1:
        found.append(f"{cards} cards keep {_percent(PARALLEL)} of the ideal speed-up.")
    return found


def _percent(pair: tuple[float, float]) -> str:
    return f"{pair[0]:.0%} to {pair[1]:.0%}"
