"""Changes that make a run fit a card: tried from the cheapest to the dearest, each as traced."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass

from labsupport.allocations.streams import GIB
from labsupport.planning import closed_form, footprint
from labsupport.setups.setup import Setup
from labsupport.sizes import gpus

# estimated_peak was at most this many times too high in 190 random traces.
ESTIMATED_TOO_HIGH = {"sdpa": 1.02, "eager": 1.15}
# The closed form, where it was furthest off: TRL's step in float32. Experts and Falcon: 1.35.
CLOSED_FORM_TOO_HIGH = 1.6
# How a plain loop and TRL's SFTConfig say it.
SFT_NAMES = {
    "batch": "per_device_train_batch_size",
    "accumulation": "gradient_accumulation_steps",
    "checkpointing": "gradient_checkpointing",
    "optimizer": "optim",
    "length": "max_length",
}
COSTS = {"checkpointing": "about a third more time", "length": "cuts longer rows"}


@dataclass(frozen=True)
class Suggestion:
    """A change that makes it fit, as traced. options: fields of Setup; margin_gib: what then stays free."""

    change: str
    options: dict
    peak_reserved_gib: float
    margin_gib: float


def possible_changes(setup: Setup) -> Iterator[dict]:
    """Fields to change, the cheapest first: the head, time, then precision, then the data."""
    light = {}
    if setup.trainer == "plain":
        yield {"trainer": "sft"}
        light["trainer"] = "sft"
    if not setup.checkpointing:
        yield {"checkpointing": True}
        light["checkpointing"] = True
        yield dict(light)
    for batch in _halved(setup.batch, 1):
        options = {"batch": batch, "accumulation": setup.accumulation * math.ceil(setup.batch / batch)}
        yield options
        yield light | options
    if setup.batch > 1:
        light |= {"batch": 1, "accumulation": setup.accumulation * setup.batch}
    if setup.optimizer == "adamw" and setup.method == "full":
        yield {"optimizer": "adamw_8bit"}
        light["optimizer"] = "adamw_8bit"
        yield dict(light)
    lighter = {"full": ("lora", "qlora"), "lora": ("qlora",), "rslora": ("qlora",), "dora": ("qdora",)}
    for method in lighter.get(setup.method, ()):
        yield {"method": method}
        light["method"] = method
        yield dict(light)
    for length in _halved(setup.length, 256):
        yield {"length": length}
        yield light | {"length": length}


def _halved(number: int, least: int) -> Iterator[int]:
    """The half, the quarter and so on, as long as what is halved is more than `least`."""
    while number > least:
        number //= 2
        yield number


def said(setup: Setup, options: dict) -> str:
    """A change in the words of the one who runs it: TRL's arguments, or plain ones."""
    words, costs = [], [COSTS[name] for name in options if name in COSTS]
    for name, value in options.items():
        if setup.trainer == "sft" and name in SFT_NAMES:
            words.append(f"{SFT_NAMES[name]}={value!r}")
        elif name == "trainer":
            words.append("TRL's SFTTrainer, which makes no full logits")
        else:
            words.append(f"{name} {'on' if value is True else value}")
    return ", ".join(words) + (f" ({', '.join(costs)})" if costs else "")


def changes_that_fit(
    setup: Setup, card: gpus.Card, run: footprint.Traced, built: dict, wanted: int = 2
) -> list[Suggestion]:
    """The first changes that make it fit, each traced. Passed over: hopeless ones, by arithmetic, what only
    goes further than a change that was found, and shorter rows, which cost data, if anything was found.

    run: the setup as it is; built: models of earlier traces.
    """
    found: list[Suggestion] = []
    known = [(setup, run.peak.bytes)]
    for options in possible_changes(setup):
        if found and "length" in options:
            break
        changed = dataclasses.replace(setup, **options)
        tried = any(changed == other for other, _ in known)
        if tried or any(goes_further(options, item.options) for item in found):
            continue
        by_hand = closed_form.peak_bytes(changed) / CLOSED_FORM_TOO_HIGH
        estimated = estimated_peak(changed, known) / ESTIMATED_TOO_HIGH[setup.attention]
        if max(by_hand, estimated) > footprint.usable_gib(card) * GIB:
            continue
        run = footprint.traced(changed, card, built)
        known.append((changed, run.peak.bytes))
        if (margin := footprint.margin_gib(card, run.needed)) >= 0:
            found.append(Suggestion(said(setup, options), options, run.reserved / GIB, margin))
        if len(found) == wanted:
            break
    return found


def goes_further(options: dict, found: dict) -> bool:
    """Whether a change does all that another one does, or more of it."""
    fewer = ("batch", "length")
    return all(
        options.get(name) == value or (name in fewer and options.get(name, value) < value)
        for name, value in found.items()
        if name != "accumulation"  # follows from the batch
    )


def estimated_peak(setup: Setup, traced: list[tuple[Setup, int]]) -> float:
    """Bytes that a setup's tensors should take at most, going by the traced one that is nearest to it and
    differs in rows or in 4 bits only: all but weights, adapters and states in proportion to the tokens. 0 if
    there is none. traced: setups with more tokens, and their peaks in bytes."""
    alike = [
        (setup.batch * setup.length / (other.batch * other.length), other, peak)
        for other, peak in traced
        if _apart_from_rows(other) == _apart_from_rows(setup)
    ]
    if not alike:
        return 0.0
    tokens, other, peak = min(alike, key=lambda found: abs(math.log(found[0])))
    return _standing_bytes(setup) + (peak - _standing_bytes(other)) * tokens


def _apart_from_rows(setup: Setup) -> Setup:
    """What setups have in common whose memory is about in proportion to their tokens."""
    length = setup.length if setup.attention == "eager" else 1  # there the scores grow with its square
    # Adapters are alike on 4 and on 16 bits in a plain loop; TRL has them in other dtypes.
    method = setup.method.removeprefix("q") if setup.trainer == "plain" else setup.method
    return dataclasses.replace(setup, batch=1, length=length, method=method, accumulation=1)


def _standing_bytes(setup: Setup) -> float:
    _, parts = closed_form.peak_parts(setup)
    return parts["weights"] + parts["adapters"] + parts["optimizer"]
