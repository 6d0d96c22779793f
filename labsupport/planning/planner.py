"""Will it fit? Peak memory of a fine-tune, by tracing the real training step on the meta device.

Nothing here needs a GPU and nothing was measured on one: every figure for a card is a prediction.
"""

from __future__ import annotations

from dataclasses import dataclass

from labsupport.allocations import streams
from labsupport.allocations.streams import GIB
from labsupport.core import upstream
from labsupport.memory.setup import Setup, checked
from labsupport.planning import closed_form, footprint, prose, suggesting
from labsupport.sizes import gpus


@dataclass(frozen=True)
class Plan:
    """The answer. GiB throughout; margin_gib is the card's memory less reserved less CUDA's context."""

    peak_allocated_gib: float
    peak_reserved_gib: float
    phase: str
    split_gib: dict[str, float]
    fits: bool | None
    margin_gib: float | None
    suggestions: tuple[suggesting.Suggestion, ...]
    trainable_parameters: int
    assumptions: tuple[str, ...]
    closed_form_gib: float
    gpu: str | None


@streams.no_sweeps()
def plan(setup: Setup, card: gpus.Card | None = None, suggest: bool = True) -> Plan:
    """Trace one steady-state training step of the setup and say what it needs.

    card: None for no verdict. suggest: look for changes that make it fit, where it does not. LabError,
    naming what there is, for a setup that cannot be planned.
    """
    setup = checked(setup)
    upstream.quiet_messages()
    built: dict = {}
    stream, trainable = footprint.trace_steps(setup, built)
    allocated, reserved = streams.peak(stream), footprint.reserved_bytes(setup, stream, card)
    margin = None if card is None else footprint.margin_gib(card, reserved)
    suggestions = ()
    if card is not None and margin < 0 and suggest:
        suggestions = tuple(suggesting.changes_that_fit(setup, card, reserved, built))
    return Plan(
        peak_allocated_gib=allocated.bytes / GIB,
        peak_reserved_gib=reserved / GIB,
        phase=allocated.phase,
        split_gib={name: allocated.split.get(name, 0) / GIB for name in streams.CATEGORIES},
        fits=None if margin is None else margin >= 0,
        margin_gib=margin,
        suggestions=suggestions,
        trainable_parameters=trainable,
        assumptions=tuple(prose.assumptions(setup, card)),
        closed_form_gib=closed_form.peak_bytes(setup) / GIB,
        gpu=None if card is None else card.sold_as,
    )
