"""How long a run takes and what it costs: the time of a step (step_time.py), times the steps, times a rate.

Nothing here was measured by this course. A range is given because software, hosts and cards differ;
evidence.py holds it against what others published.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from labsupport.core import numbers, text
from labsupport.core.files import LabError
from labsupport.cost import cheaper, operations
from labsupport.cost.step_time import Range, step_time, times
from labsupport.setups.setup import Setup, checked
from labsupport.sizes import gpus

MOST_TOKENS = 10**15  # of a run: more than any model was trained on, and no figure here overflows
FORMULA = (
    "hours = steps x seconds a step / 3600; seconds a step = micro-batches x (products + attention + "
    "activations + unpacking + launches) + optimizer + sending; money = hours x gpus x rate"
)


@dataclass(frozen=True)
class Cost:
    """Of a whole run: tokens computed, flops, optimizer steps, (least, most) hours and money, in the currency
    of the rate. terms: (least, most) hours of each part; binds: the part that takes most; tokens_a_second:
    (least, most), of all cards; cheaper: what would take less, the best first; break_even: card -> how many
    times the rate it may cost an hour before the run costs more on it. fits: by the closed form.
    """

    method: str
    gpu: str
    gpus: int
    tokens: int
    flops: float
    hours: Range
    money: Range
    formula: str
    assumptions: tuple[str, ...]
    steps: int
    terms: dict[str, Range]
    binds: str
    tokens_a_second: Range
    cheaper: tuple[cheaper.Change, ...]
    break_even: dict[str, float]
    fits: bool


def estimate(setup: Setup, rows: int, epochs: float, card: gpus.Card, rate: float, cards: int = 1) -> Cost:
    """Cost of `epochs` over `rows` of setup.length tokens at `rate` an hour and card. Raises LabError."""
    rows = numbers.whole(rows, "rows", most=MOST_TOKENS)
    cards = numbers.whole(cards, "gpus", most=10_000)
    epochs = numbers.real(epochs, "epochs", above=True, most=1e6)
    rate = numbers.real(rate, "The hourly rate", most=1e9)
    numbers.whole(setup.batch, "batch", most=10**6)
    numbers.whole(setup.accumulation, "accumulation", most=10**6)
    tokens = round(rows * setup.length * epochs)
    if tokens > MOST_TOKENS:
        raise LabError(f"That are {tokens:.2g} tokens: this counts up to {MOST_TOKENS:.0g}.")
    if not tokens:
        raise LabError(
            f"{rows} x {setup.length} tokens seen {epochs:g} times are not one whole token: give more."
        )
    sharded = cheaper.must_shard(setup, card, cards)
    fits = cheaper.fits(setup, card, cards if sharded else 1)
    step = step_time(setup, card, cards, sharded)
    steps = tokens / step.tokens
    taken = times(steps / 3600, step.seconds)
    return Cost(
        method=setup.method,
        gpu=card.sold_as,
        gpus=cards,
        tokens=tokens,
        flops=tokens * operations.flops_per_token(setup),
        hours=taken,
        money=times(rate * cards, taken),
        formula=FORMULA,
        assumptions=tuple(_assumptions(setup, card, cards, sharded)),
        steps=math.ceil(steps),
        terms={name: times(steps / 3600, term) for name, term in step.terms.items()},
        binds=step.binds,
        tokens_a_second=step.tokens_a_second,
        cheaper=tuple(cheaper.changes(setup, card, cards)),
        break_even=cheaper.break_even(setup, card, cards),
        fits=fits,
    )


def compare(
    setup: Setup, rows: int, epochs: float, card: gpus.Card, rate: float, cards: int
) -> tuple[Cost, Cost]:
    """The exercise of the day-078 page: QLoRA on one card beside 16-bit LoRA on several. LabError for a model
    that is not loaded in 4 bits."""
    single = checked(dataclasses.replace(setup, method="qlora"))
    several = dataclasses.replace(setup, method="lora", kbit_preparation=False, double_quantization=None)
    return (
        estimate(single, rows, epochs, card, rate),
        estimate(several, rows, epochs, card, rate, cards),
    )


# ---------------------------------------------------------------- in words


WHAT = {
    "products": "multiplying with the weights",
    "attention": "the attention's scores",
    "activations": "memory traffic between the products",
    "unpacking": "unpacking 4-bit weights (and DoRA's norms)",
    "launches": "starting kernels",
    "optimizer": "the optimizer's step",
    "sending": "what the cards send each other",
}


def report(costs: tuple[Cost, ...]) -> str:
    """The estimates in words."""
    return "\n\n".join([*map(_told, costs), costs[0].formula])


def _told(cost: Cost) -> str:
    whole = sum(cost.hours)
    lines = [
        f"{cost.method:7} on {cost.gpus} x {cost.gpu}: {cost.flops:.3g} FLOP for {cost.tokens:,} tokens, "
        f"{text.span(cost.hours)} hours, {text.span(cost.money)} in the currency of the rate",
        f"  {text.span(cost.tokens_a_second)} tokens a second; optimizer steps: {cost.steps:,}",
        "  where the time goes: "
        + ", ".join(
            f"{name} {sum(term) / whole:.0%}"
            for name, term in sorted(cost.terms.items(), key=lambda item: -sum(item[1]))
            if sum(term) / whole >= 0.01
        ),
        f"  what binds: {cost.binds}, {WHAT[cost.binds]}",
        *([] if cost.fits else ["  BY THE CLOSED FORM IT DOES NOT FIT: ask `lab.py plan`"]),
        *(f"  cheaper: {change.said}" for change in cost.cheaper),
    ]
    if cost.break_even:
        cards = ", ".join(f"{name} {ratio:.2g}" for name, ratio in cost.break_even.items())
        lines.append(f"  another card is cheaper below so many times your rate: {cards}")
    return "\n".join([*lines, *(f"  - {line}" for line in cost.assumptions)])


def _assumptions(setup: Setup, card: gpus.Card, cards: int, sharded: bool) -> list[str]:
    found = [
        f"{card.sold_as}: {card.sustained_tflops:g} TFLOP/s sustained by large products (promised: "
        f"{card.peak_tflops:g}), {card.bandwidth_gb_s:g} GB/s; measured by others, see gpus.py.",
        f"{setup.batch} x {setup.length} tokens a micro-batch, {operations.flops_per_token(setup):.3g} "
        "operations a token; loading, evaluation and set-up are extra.",
        "For PyTorch with Hugging Face's libraries or torchtune's; software with its own kernels, such as "
        "Unsloth's, is faster.",
    ]
    if cards > 1 and sharded:
        found.append(f"One card does not hold it: the model is split over {cards}, which send weights.")
    elif cards > 1:
        found.append(f"Each of {cards} cards holds the whole model; they send the gradients.")
    return found
