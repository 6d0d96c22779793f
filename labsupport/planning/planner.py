"""Will it fit? Peak memory of a fine-tune, by tracing the real training step on the meta device.

Nothing here needs a GPU and nothing was measured on one: every figure for a card is a prediction.
"""

from __future__ import annotations

from dataclasses import dataclass

from labsupport.allocations import streams
from labsupport.allocations.streams import GIB
from labsupport.core import upstream
from labsupport.planning import closed_form, footprint, prose, suggesting
from labsupport.setups.setup import Setup, checked
from labsupport.sizes import gpus


@dataclass(frozen=True)
class Plan:
    """The answer. GiB throughout.

    peak_reserved_gib: what the caching allocator takes where memory is ample. needed_gib: the least with
    which the run gets through on the card, since the allocator hands back what is unused before it fails;
    it decides `fits`, and margin_gib is the card's memory less needed less CUDA's context.
    """

    trainer: str
    peak_allocated_gib: float
    peak_reserved_gib: float
    needed_gib: float | None
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
    run = footprint.traced(setup, card, built)
    margin = None if card is None else footprint.margin_gib(card, run.needed)
    suggestions = ()
    if card is not None and margin < 0 and suggest:
        suggestions = tuple(suggesting.changes_that_fit(setup, card, run, built))
    return Plan(
        trainer=setup.trainer,
        peak_allocated_gib=run.peak.bytes / GIB,
        peak_reserved_gib=run.reserved / GIB,
        needed_gib=None if card is None else run.needed / GIB,
        phase=run.peak.phase,
        split_gib={name: run.peak.split.get(name, 0) / GIB for name in streams.CATEGORIES},
        fits=None if margin is None else margin >= 0,
        margin_gib=margin,
        suggestions=suggestions,
        trainable_parameters=run.trainable,
        assumptions=tuple(prose.assumptions(setup, card)),
        closed_form_gib=closed_form.peak_bytes(setup) / GIB,
        gpu=None if card is None else card.sold_as,
    )
