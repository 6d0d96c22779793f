"""A plan in words: what its figures rest on, and a report."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from labsupport.allocations.streams import GIB
from labsupport.core import dtypes
from labsupport.planning import closed_form, evidence, footprint
from labsupport.setups import limits
from labsupport.setups.setup import Setup
from labsupport.sizes import gpus

if TYPE_CHECKING:
    from labsupport.planning.planner import Plan

# What a step does, and in which order, besides the model's own code.
STEPS = {
    "sft": "TRL's SFTTrainer: a fused head that makes no full logits, on the supervised tokens; {autocast}; "
    "{adapters}; fused AdamW.",
    "plain": "A plain loop: zero_grad, outputs = model(**batch), backward, clip_grad_norm_, step; full "
    "logits, {autocast}, {adapters}, foreach AdamW.",
}
ADAPTERS = {"sft": "adapters in bfloat16 on 4 bits, else in float32", "plain": "adapters in float32"}


def assumptions(setup: Setup, card: gpus.Card | None) -> list[str]:
    """What the figures rest on, and what was never checked."""
    found = [
        "A prediction: the real step is traced on the meta device, a few layers of it; the others are copies "
        "of inner ones. Once the optimizer's states exist.",
        STEPS[setup.trainer].format(
            autocast="autocast to bfloat16" if setup.autocasts else "no autocast", adapters=adapters(setup)
        ),
        "Reserved: the caching allocator with its default settings, simulated where memory is ample. On a "
        "card it hands back what is unused before it fails: needed is what it then gets through with."
        + (" Padded: a short batch, the cache emptied, then full ones." if setup.padded else ""),
        f"{footprint.CONTEXT_GIB} GiB are set aside for CUDA's context, outside allocated and reserved.",
    ]
    if setup.attention == "sdpa":
        kernel = "the memory-efficient one" if setup.padded else "FlashAttention in 16 bits"
        found.append(f"sdpa: a fused kernel, here {kernel}.")
    if not setup.padded:
        found.append(
            "Packed: full rows without any mask. Packing that keeps documents apart under sdpa builds a "
            "mask: plan it as padded."
        )
    if setup.four_bit:
        found.append(
            "4-bit products first make the 16-bit weight; short batches may use a kernel that does not."
        )
    return [*found, *limits.notes(setup), evidence.said(setup), *about_card(setup, card)]


def adapters(setup: Setup) -> str:
    """What adapters are trained in, and who makes them so."""
    if setup.adapters is None:
        return ADAPTERS[setup.trainer]
    by_trainer = dataclasses.replace(setup, adapters=None).adapters_in
    found = f"adapters in {setup.adapters_in}"
    return found if by_trainer == setup.adapters_in else f"{found}, cast from the trainer's {by_trainer}"


def about_card(setup: Setup, card: gpus.Card | None) -> list[str]:
    """What of it is due to the card."""
    if card is not None and card.capability < (8, 0) and dtypes.find(setup.dtype).name == "bfloat16":
        return [f"{card.sold_as} has no bfloat16 arithmetic: choose fp16 there."]
    return []


def by_hand(setup: Setup) -> str:
    """What can be said of a checked setup before anything is traced."""
    phase, parts = closed_form.peak_parts(setup)
    total = sum(parts.values()) / GIB
    return f"By hand {total:.2f} GiB allocated, in the phase: {phase}. Tracing the real step ..."


def report(plan: Plan) -> str:
    """The plan in words."""
    lines = [
        f"peak allocated  {plan.peak_allocated_gib:7.2f} GiB   in the phase: {plan.phase}",
        f"peak reserved   {plan.peak_reserved_gib:7.2f} GiB   where memory is ample",
        f"by hand         {plan.closed_form_gib:7.2f} GiB   allocated, by the closed form",
        f"trainable       {plan.trainable_parameters:,} parameters",
        "at the peak:    " + ", ".join(f"{k} {v:.2f}" for k, v in plan.split_gib.items() if v >= 0.005),
    ]
    if plan.fits is not None:
        lines.append(f"{plan.gpu}: {verdict(plan)}")
    for number, item in enumerate(plan.suggestions, 1):
        lines.append(f"  {number}. {item.change}: reserves {item.peak_reserved_gib:.2f} GiB")
    if plan.fits is False and not plan.suggestions:
        lines.append("  Nothing tried here makes it fit: take a smaller model or a larger card.")
    return "\n".join([*lines, "", *(f"- {line}" for line in plan.assumptions)])


def verdict(plan: Plan) -> str:
    """Whether it fits, by how much, and whether only just."""
    words = f"needs {plan.needed_gib:.2f} GiB, {'fits' if plan.fits else 'DOES NOT FIT'}"
    words += f", margin {plan.margin_gib:+.2f} GiB"
    if plan.fits and plan.peak_reserved_gib > plan.needed_gib + plan.margin_gib:
        words += "; only as unused memory is handed back, which takes time: try expandable_segments:True"
    return words
