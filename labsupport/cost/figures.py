"""Figures of time: tokens a second over the tokens of a step, and the range beside published times."""

from __future__ import annotations

import math

from labsupport.core import plots
from labsupport.cost import evidence
from labsupport.cost.step_time import StepTime

COLOURS = (plots.BLUE, plots.ORANGE)
ROLES = {"fitted": ("fitted", plots.GREY), "held out": ("kept out", plots.BLUE)}
MARKS = {"products": "o", "unpacking": "s", "launches": "^", "activations": "v", "attention": "D"}


def over_tokens(bands: dict[str, list[StepTime]], title: str):
    """Tokens a second over the tokens of a step: a band from slow to fast for each run, and a mark
    in its middle for the term that takes most of the time."""
    fig, axes = plots.figure(height=3.8)
    seen = set()
    for (name, steps), colour in zip(bands.items(), COLOURS, strict=True):
        tokens = [step.tokens for step in steps]
        slow, fast = zip(*(step.tokens_a_second for step in steps), strict=True)
        axes.fill_between(tokens, slow, fast, color=colour, alpha=0.25, label=name)
        for step in steps:
            middle = math.sqrt(math.prod(step.tokens_a_second))
            axes.plot(step.tokens, middle, MARKS.get(step.binds, "x"), color=colour)
            seen.add(step.binds)
    for term in sorted(seen):
        axes.plot([], [], MARKS.get(term, "x"), color=plots.GREY, label=f"most time: {term}")
    axes.set(xscale="log", yscale="log", xlabel="tokens a step", ylabel="tokens a second (estimated)")
    axes.set_xticks(tokens, [f"{count:,}" for count in tokens])
    axes.minorticks_off()
    marks = [count for count in (50, 100, 200, 500, 1000) if count < 2 * max(fast)]
    axes.set_yticks(marks, [f"{count:,}" for count in marks])
    axes.set_title(title)
    axes.legend(loc="lower right")
    return fig


def places_of(held: list[tuple[evidence.Row, StepTime]]) -> list[float]:
    """Where each run stands: at its tokens a step, those of the same number a little beside each other."""
    before: dict[int, int] = {}
    found = []
    for _, step in held:
        number = before.get(step.tokens, 0)
        before[step.tokens] = number + 1
        found.append(step.tokens * 1.035**number)
    return found


def against_published(held: list[tuple[evidence.Row, StepTime]], title: str):
    """Each run at its tokens a step: a bar from the model's fast end to its slow one, and a dot for what was
    published, all as shares of the middle of the range; a cross on the dots beside their bars."""
    fig, axes = plots.figure(height=3.8)
    for role, (label, colour) in ROLES.items():
        pairs = [pair for pair in held if pair[0].role == role]
        places = places_of(pairs)
        middles = [math.sqrt(math.prod(found.seconds)) for _, found in pairs]
        ends = [[found.seconds[i] / m for (_, found), m in zip(pairs, middles, strict=True)] for i in (0, 1)]
        axes.vlines(places, *ends, color=colour, alpha=0.3, linewidth=2)
        shares = [row.seconds / m for (row, _), m in zip(pairs, middles, strict=True)]
        axes.plot(places, shares, "o", color=colour, markersize=4, label=f"published, {label}")
        outside = [
            (place, share)
            for place, share, pair in zip(places, shares, pairs, strict=True)
            if not evidence.inside(*pair)
        ]
        for place, share in outside:
            axes.plot(place, share, "x", color=plots.ORANGE, markersize=10)
    axes.plot([], [], "x", color=plots.ORANGE, markersize=10, label="outside its range")
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set(xscale="log", yscale="log", ylim=(0.45, 7), xlabel="tokens a step")
    axes.set_ylabel("seconds a step\n(1: middle of the range)")
    powers = (100, 1000, 10_000, 100_000, 1_000_000)
    axes.set_xticks(powers, [f"{tokens:,}" for tokens in powers])
    axes.set_yticks([0.5, 1, 2, 4], ["0.5", "1", "2", "4"])
    axes.minorticks_off()
    axes.set_title(title)
    axes.legend(ncols=3, loc="upper left")
    return fig
