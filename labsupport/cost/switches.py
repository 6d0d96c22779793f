"""A QLoRA recipe and its switches: each turned the other way alone, and what that does to memory and time.

Nothing here was measured on a GPU: memory is planned, time is estimated.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

from labsupport.allocations import streams
from labsupport.core import upstream
from labsupport.core.files import LabError
from labsupport.core.numbers import shown
from labsupport.cost.step_time import Range, step_time
from labsupport.planning import closed_form, footprint
from labsupport.setups.setup import Setup, checked, config_named
from labsupport.sizes import gpus

METHODS = ("qlora", "lora")  # the base in NF4, or in bfloat16
OPTIMIZERS = ("adamw", "adamw_8bit", "paged_adamw_8bit")
RANKS = 4  # the rank is turned to so many times as high
# Switches whose time the cost model does not know: it has no kernel for the scales, no norms in float32, no
# tiles at the head. Nor has it pages on the bus.
UNTIMED = ("double_quantization", "kbit_preparation", "trainer")


@dataclass(frozen=True)
class Recipe:
    """Fields as of Setup; method: one of METHODS. double_quantization and kbit_preparation mean nothing for
    a base in bfloat16. All linear layers get adapters, of the dtype that the trainer makes them."""

    model: str = "llama-3.1-8b"
    method: str = "qlora"
    double_quantization: bool = True
    kbit_preparation: bool = False
    checkpointing: bool = True
    trainer: str = "sft"
    optimizer: str = "adamw"
    batch: int = 4
    accumulation: int = 4
    length: int = 1024
    rank: int = 16

    def setup(self) -> Setup:
        """The recipe in the planner's vocabulary. LabError, naming what there is, if it cannot be planned."""
        if self.method not in METHODS:
            raise LabError(f"method is {shown(self.method)}: give {' or '.join(METHODS)}.")
        fields = {name: value for name, value in vars(self).items() if name != "model"}
        if self.method == "lora":
            fields |= {"double_quantization": None, "kbit_preparation": False}
        return checked(Setup(config_named(self.model), **fields))


@dataclass(frozen=True)
class Flip:
    """One switch turned the other way. switch: a field of Recipe; words: what is now so; timed: whether the
    cost model knows what that does to the time."""

    switch: str
    words: str
    recipe: Recipe
    timed: bool


@dataclass(frozen=True)
class Traced:
    """Peak allocated and reserved, in GiB; fits: whether the run gets through on the card."""

    peak_gib: float
    reserved_gib: float
    fits: bool


def flips(recipe: Recipe) -> list[Flip]:
    """Every switch turned alone, in the order of a recipe; left out is what means nothing in this one, and
    what cannot be planned."""
    found = []
    for switch, words, *choices in _turned(recipe):
        for choice in choices:
            if _can_be_planned(other := replace(recipe, **choice)):
                paged = "paged" in recipe.optimizer + other.optimizer and switch == "optimizer"
                timed = switch not in UNTIMED and not paged
                found.append(Flip(switch, words(other), other, timed))
                break
    return found


def _turned(recipe: Recipe) -> Iterator[tuple]:
    """(switch, Recipe -> words, the fields to change, others if these cannot be planned)."""

    def on_or_off(switch: str, on: str, off: str) -> tuple:
        now = getattr(recipe, switch)
        return switch, lambda other: off if now else on, {switch: not now}

    four_bit = recipe.method == "qlora"
    base = "bfloat16" if four_bit else "NF4"
    yield "method", lambda other: f"base in {base}", {"method": "lora" if four_bit else "qlora"}
    if four_bit:
        yield on_or_off("double_quantization", "double quantisation", "no double quantisation")
        yield on_or_off("kbit_preparation", "k-bit preparation", "no k-bit preparation")
    yield on_or_off("checkpointing", "checkpointing", "no checkpointing")
    plain = recipe.trainer == "plain"
    head = "TRL: head in tiles" if plain else "plain loop: full logits"
    yield "trainer", lambda other: head, {"trainer": "sft" if plain else "plain"}
    for name in OPTIMIZERS:
        if name != recipe.optimizer:
            yield "optimizer", lambda other: other.optimizer, {"optimizer": name}
    rows = recipe.batch * recipe.accumulation
    if rows > 1:
        one = {"batch": 1, "accumulation": rows} if recipe.batch > 1 else {"batch": rows, "accumulation": 1}
        yield "batch", lambda other: f"{other.batch:,} x {other.accumulation:,} rows", one
    lengths = ({"length": 2 * recipe.length}, {"length": recipe.length // 2})
    yield "length", lambda other: f"{other.length:,} tokens a row", *lengths
    ranks = ({"rank": RANKS * recipe.rank}, {"rank": recipe.rank // RANKS})
    yield "rank", lambda other: f"rank {other.rank:,}", *ranks


def _can_be_planned(recipe: Recipe) -> bool:
    try:
        recipe.setup()
    except LabError:
        return False
    return True


def time_factor(setup: Setup, other: Setup, card: gpus.Card) -> Range | None:
    """(least, most) times as long as a step of `setup` one of `other` takes; None if the card's speed is not
    known.

    Both run on the same card and the same stack, so of every term of the time (step_time.py) both have the
    fast end or both the slow one, and every combination of these is tried.
    """
    if card.sustained_tflops is None or card.bandwidth_gb_s is None:
        return None
    before, after = step_time(setup, card).terms, step_time(other, card).terms
    ratios = [
        sum(after[name][end] for name, end in zip(before, ends, strict=True))
        / sum(before[name][end] for name, end in zip(before, ends, strict=True))
        for ends in itertools.product((0, 1), repeat=len(before))
    ]
    return min(ratios), max(ratios)


def moment_bytes(setup: Setup) -> float:
    """Bytes of the optimizer's two moments, wherever they are; of a paged one, all that can be paged out."""
    at_home = replace(setup, optimizer=setup.optimizer.removeprefix("paged_"))
    return closed_form.peak_parts(at_home)[1]["optimizer"]


@functools.lru_cache(maxsize=1024)
def traced(recipe: Recipe, card: gpus.Card) -> Traced:
    """The recipe's step traced on the meta device, as `lab.py plan` does it. Takes a good part of a second,
    but once a recipe only. LabError if it cannot be planned."""
    setup = recipe.setup()
    upstream.quiet_messages()
    with streams.no_sweeps():
        stream, _ = footprint.trace_steps(setup)
        peak = streams.peak(stream).bytes
        reserved = footprint.reserved_bytes(setup, stream, card)
        usable = round(footprint.usable_gib(card) * streams.GIB)
        # Where there is enough it takes `reserved`, else it hands back what is unused: as the planner asks.
        fits = reserved <= usable or (peak <= usable and footprint.runs_in(setup, stream, card, usable))
    return Traced(peak / streams.GIB, reserved / streams.GIB, fits)
