"""Changes that make a run fit a card: tried from the cheapest to the dearest, each as traced."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass

from labsupport.allocations.streams import GIB
from labsupport.memory.setup import Setup
from labsupport.planning import closed_form, footprint, prose
from labsupport.sizes import gpus

# _estimated_reserved was at most 1.005 and 1.11 times what 190 random traces gave.
ESTIMATED_TOO_HIGH = {"sdpa": 1.02, "eager": 1.15}


@dataclass(frozen=True)
class Suggestion:
    """A change that makes it fit, as traced. options: fields of Setup; margin_gib: what then stays free."""

    change: str
    options: dict
    peak_reserved_gib: float
    margin_gib: float


def possible_changes(setup: Setup) -> Iterator[tuple[str, dict]]:
    """(words, fields to change), the cheapest first: time, then precision, then the data."""
    if not setup.checkpointing:
        yield "turn activation checkpointing on (about a third more time)", {"checkpointing": True}
    light = {"checkpointing": True}
    for batch in _halved(setup.batch, 1):
        options = {"batch": batch}
        yield f"batch {batch}, more accumulation", options
        if not setup.checkpointing:
            yield f"checkpointing and batch {batch}, more accumulation", light | options
    light["batch"] = 1
    if setup.optimizer == "adamw" and setup.method == "full":
        yield "8-bit AdamW", {"optimizer": "adamw_8bit"}
        light["optimizer"] = "adamw_8bit"
        yield "8-bit AdamW, checkpointing, batch 1", dict(light)
    lighter = {"full": ("lora", "qlora"), "lora": ("qlora",), "rslora": ("qlora",), "dora": ("qdora",)}
    for method in lighter.get(setup.method, ()):
        yield f"method {method}", {"method": method}
        yield f"method {method}, checkpointing, batch 1", light | {"method": method}
        light["method"] = method
    for length in _halved(setup.length, 256):
        yield f"rows of {length} tokens", {"length": length}
        yield f"all of these and rows of {length} tokens", light | {"length": length}


def _halved(number: int, least: int) -> Iterator[int]:
    """The half, the quarter and so on, as long as what is halved is more than `least`."""
    while number > least:
        number //= 2
        yield number


def changes_that_fit(
    setup: Setup, card: gpus.Card, reserved: int, built: dict, wanted: int = 2
) -> list[Suggestion]:
    """The first changes that make it fit, each traced. Passed over: hopeless ones, by arithmetic, what only
    goes further than a change that was found, and shorter rows, which cost data, if anything was found.

    reserved: bytes of the setup as it is; built: models of earlier traces.
    """
    found: list[Suggestion] = []
    traced = [(setup, reserved)]
    for words, options in possible_changes(setup):
        if found and "length" in options:
            break
        changed = dataclasses.replace(setup, **options)
        if changed == setup or any(goes_further(options, item.options) for item in found):
            continue
        by_hand = closed_form.peak_bytes(changed) / closed_form.TOO_HIGH
        estimated = estimated_reserved(changed, traced) / ESTIMATED_TOO_HIGH[setup.attention]
        if max(by_hand, estimated) > footprint.usable_gib(card) * GIB:
            continue
        reserved = footprint.reserved_bytes(changed, footprint.trace_steps(changed, built)[0], card)
        traced.append((changed, reserved))
        if (margin := footprint.margin_gib(card, reserved)) >= 0:
            words += f" ({prose.UNVERIFIED})" if changed.four_bit else ""
            found.append(Suggestion(words, options, reserved / GIB, margin))
        if len(found) == wanted:
            break
    return found


def goes_further(options: dict, found: dict) -> bool:
    """Whether a change does all that another one does, or more of it."""
    fewer = ("batch", "length")
    return all(
        options.get(name) == value or (name in fewer and options.get(name, value) < value)
        for name, value in found.items()
    )


def estimated_reserved(setup: Setup, traced: list[tuple[Setup, int]]) -> float:
    """Bytes that a setup should reserve, going by the traced one that is nearest to it and differs in rows or
    in 4 bits only: all but weights, adapters and states in proportion to the tokens. 0 if there is none."""
    alike = [
        (setup.batch * setup.length / (other.batch * other.length), other, reserved)
        for other, reserved in traced
        if _apart_from_rows(other) == _apart_from_rows(setup)
    ]
    if not alike:
        return 0.0
    tokens, other, reserved = min(alike, key=lambda found: abs(math.log(found[0])))
    return _standing_bytes(setup) + (reserved - _standing_bytes(other)) * tokens


def _apart_from_rows(setup: Setup) -> Setup:
    """What setups have in common whose memory is about in proportion to their tokens."""
    length = setup.length if setup.attention == "eager" else 1  # there the scores grow with its square
    return dataclasses.replace(setup, batch=1, length=length, method=setup.method.removeprefix("q"))


def _standing_bytes(setup: Setup) -> float:
    _, parts = closed_form.peak_parts(setup)
    return parts["weights"] + parts["adapters"] + parts["optimizer"]
