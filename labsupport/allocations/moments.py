"""What is alive at each moment of a training step: sorted by kind, and each kind at its largest."""

from __future__ import annotations

from collections import Counter

from labsupport.allocations.streams import CATEGORIES, Stream

PHASES = ("forward", "loss", "backward", "optimizer")


def of_second_step(stream: Stream) -> list[tuple[str, Counter]]:
    """(phase, bytes alive by category) after each allocation or release of the second step: from there on,
    with the optimizer's states there, all steps are alike."""
    found, live, second = [], Counter(), False
    for number, appears, _, phase in stream.events:
        block = stream.blocks[number]
        live[block.category] += block.bytes if appears else -block.bytes
        second = second or block.span.startswith("2 ")
        if second:
            found.append((phase, live.copy()))
    return found


def largest(stream: Stream) -> dict[str, int]:
    """Category -> the most bytes that it ever has in the second step, at whatever moment."""
    found = of_second_step(stream)
    return {name: max(live[name] for _, live in found) for name in CATEGORIES}


def tensors_at_largest(stream: Stream, category: str) -> list[int]:
    """Bytes of each tensor of a category at the moment when they are most."""
    alive, most, now, highest = {}, [], 0, 0
    for number, appears, _, _ in stream.events:
        block = stream.blocks[number]
        if block.category != category:
            continue
        if appears:
            alive[number] = block.bytes
        else:
            del alive[number]
        now += block.bytes if appears else -block.bytes
        if now > highest:
            most, highest = list(alive.values()), now
    return most
