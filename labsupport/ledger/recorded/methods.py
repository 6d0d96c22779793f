"""The claims about DoRA that notebook 10 settles by its recorded runs."""

from __future__ import annotations

import statistics

from labsupport.evaluation import experiments, intervals
from labsupport.method_runs import methods, movement, ranks, reading, scales, ticket_reading
from labsupport.qlora_runs import reading as by_row
from labsupport.teaching.claims import shows


def record() -> dict:
    return experiments.published("method_comparison")


@shows("G2")
def magnitudes_and_directions() -> str:
    """The correlation of their changes over layers and moments, in the mean over seeds, on both bases."""
    found = []
    for words, own in (("tiny_base", record()), ("135M", experiments.published("method_tickets"))):
        parts = []
        for method in ("full", "lora", "dora"):
            means = [
                statistics.fmean(movement.correlation(points) for points in reading.moves(own, method, part))
                for part in ("q_proj", "v_proj")
            ]
            title = methods.METHODS[method].title
            parts.append(f"{title} {', '.join(f'{value:+.2f}' for value in means)}")
        found.append(f"{words} {', '.join(parts)}")
    return f"correlation in q_proj and v_proj: {'; '.join(found)}"


@shows("G6")
def forward_passes() -> str:
    """A forward pass beside the weights and folded in, times the bare base's."""
    parts = []
    for method in ("lora", "dora"):
        ways = [f"{reading.forward_ratio(record(), method, way):.2f} {way}" for way in ("unmerged", "merged")]
        parts.append(f"{methods.METHODS[method].title} {', '.join(ways)}")
    return f"tiny_base, 8 rows of 64 tokens, times the bare base's: {'; '.join(parts)}"


@shows("G7")
def times_of_a_step() -> str:
    """Steps a second over full fine-tuning's, medians over seeds."""
    found = []
    for words, own, cell in (
        ("tiny_base", record(), {"budget": "steps"}),
        ("135M", experiments.published("method_tickets"), {}),
    ):
        full = reading.values(own, "seconds_a_step", method="full", **cell)
        parts = []
        for method in ("lora", "dora"):
            ours = reading.values(own, "seconds_a_step", method=method, **cell)
            speed = statistics.median(full[seed] / ours[seed] for seed in ours)
            parts.append(f"{methods.METHODS[method].title} {speed:.2f}")
        found.append(f"{words} {', '.join(parts)}")
    return f"on a processor, times full fine-tuning's speed: {'; '.join(found)}"


@shows("G8")
def dora_beside_lora() -> str:
    """DoRA less LoRA, tuned and paired, at both scales; and on tickets with the larger base."""
    parts = []
    for words, (ours, theirs) in list(scales.PAIRS.items())[:2]:
        gap = reading.versus(record(), "bits", ours, base=theirs)
        parts.append(f"{words.removeprefix('DoRA, ')} {intervals.shown(gap, '+,.0f')}")
    larger = experiments.published("method_tickets")
    gaps = [
        f"{name} {intervals.shown(ticket_reading.versus(larger, 'dora', split, 'answer'), '+.2f')}"
        for split, name in by_row.SETS.items()
    ]
    exact = [
        f"{100 * by_row.level(ticket_reading.as_arms(larger), method, 'test_production', 'exact')[0]:.0f}"
        for method in ("dora", "lora")
    ]
    return (
        f"bits stored more than LoRA, {', '.join(parts)}; 135M, nats an answer more, {', '.join(gaps)}, "
        f"of 100 production answers exact {exact[0]} (LoRA {exact[1]})"
    )


@shows("G9")
def fewer_steps() -> str:
    """DoRA's loss less LoRA's in the mean over all steps, at both scales."""
    parts = [
        f"{words.removeprefix('DoRA, ')} {intervals.shown(scales.slower(record(), *pair), '+.3f')}"
        for words, pair in list(scales.PAIRS.items())[:2]
    ]
    return f"tiny_base on facts, nats a token more than LoRA in the mean over steps: {', '.join(parts)}"


@shows("G10")
def low_ranks() -> str:
    """DoRA's lead at each rank, both at their best rate, and the largest lead at one rate for both."""
    sweep, parts = experiments.published("method_ranks"), []
    for rank in ranks.ranks(sweep):
        parts.append(f"rank {rank} {intervals.shown(ranks.gap(sweep, rank), '+,.0f')}")
    return f"tiny_base on facts, bits that DoRA stores more at each one's best rate: {'; '.join(parts)}"
