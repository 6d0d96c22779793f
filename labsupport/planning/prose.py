"""A plan in words: what its figures rest on, and a report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labsupport.core import dtypes
from labsupport.memory.setup import Setup
from labsupport.planning import footprint
from labsupport.sizes import gpus

if TYPE_CHECKING:
    from labsupport.planning.planner import Plan

UNVERIFIED = (
    "UNVERIFIED on a GPU: no published measurement of NF4 with this stack was found to check against."
)


def assumptions(setup: Setup, card: gpus.Card | None) -> list[str]:
    """What the figures rest on, and what was never checked."""
    found = [
        "A prediction, not a measurement: the step is traced on the meta device.",
        "Plain training loop: zero_grad, outputs = model(**batch), backward, clip_grad_norm_, step; no "
        "autocast; once the optimizer's states exist.",
        f"Up to {footprint.DEPTH} layers are traced, the others are copies of the inner one.",
        "Reserved: a simulation of the caching allocator's default settings. Padded rows: a short batch, the "
        "cache emptied, then full ones, as PEFT's benchmark has it; a loop with another order of lengths "
        "that never empties the cache may reserve some percent more.",
        f"{footprint.CONTEXT_GIB} GiB are set aside for CUDA's context, outside allocated and reserved.",
    ]
    if setup.method != "full":
        found.append("Adapters in float32, PEFT's default; TRL casts them to bfloat16 on a 4-bit base.")
    if setup.attention == "sdpa":
        found.append(
            "sdpa: a fused kernel (FlashAttention without a mask, the memory-efficient one with it)."
        )
    if not setup.padded:
        found.append(
            "Packed: full rows without any mask. Packing that keeps documents apart under sdpa builds a "
            "mask: plan it as padded."
        )
    if setup.four_bit:
        found.append(UNVERIFIED)
        found.append(
            "4-bit products first make the 16-bit weight; short batches may use a kernel that does not."
        )
    return found + about_card(setup, card)


def about_card(setup: Setup, card: gpus.Card | None) -> list[str]:
    """What of it is due to the card."""
    if card is not None and card.capability < (8, 0) and dtypes.find(setup.dtype).name == "bfloat16":
        return [f"{card.sold_as} has no bfloat16 arithmetic: choose fp16 there."]
    return []


def report(plan: Plan) -> str:
    """The plan in words."""
    lines = [
        f"peak allocated  {plan.peak_allocated_gib:7.2f} GiB   in the phase: {plan.phase}",
        f"peak reserved   {plan.peak_reserved_gib:7.2f} GiB",
        f"by hand         {plan.closed_form_gib:7.2f} GiB   allocated, by the closed form",
        f"trainable       {plan.trainable_parameters:,} parameters",
        "at the peak:    " + ", ".join(f"{k} {v:.2f}" for k, v in plan.split_gib.items() if v >= 0.005),
    ]
    if plan.fits is not None:
        word = "fits" if plan.fits else "DOES NOT FIT"
        lines.append(f"{plan.gpu}: {word}, margin {plan.margin_gib:+.2f} GiB")
    for number, item in enumerate(plan.suggestions, 1):
        lines.append(f"  {number}. {item.change}: reserves {item.peak_reserved_gib:.2f} GiB")
    if plan.fits is False and not plan.suggestions:
        lines.append("  Nothing tried here makes it fit: take a smaller model or a larger card.")
    return "\n".join([*lines, "", *(f"- {line}" for line in plan.assumptions)])
