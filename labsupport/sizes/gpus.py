"""Graphics cards: the memory a program finds on them and the arithmetic their makers promise."""

from __future__ import annotations

import math
from dataclasses import dataclass

from labsupport.core.files import LabError, nearest_first


@dataclass(frozen=True)
class Card:
    """memory_gib is what torch reports as total (GiB, less than the box says); peak_tflops the promised
    dense 16-bit tensor throughput with 32-bit sums (1e12 a second); capability CUDA's compute capability.
    """

    name: str
    memory_gib: float
    peak_tflops: float | None
    capability: tuple[int, int]
    sold_as: str


# Memory as torch's out-of-memory messages state it in public issues ("GPU 0 has a total capacity of ..."):
# L4 ArcInstitute/evo2#190; 4090 ali-vilab/VGen#104; L40S, by its sibling L40, QwenLM/Qwen3-VL#2097. The other
# sizes are assumptions, a little below what the card is sold as. Peak rates follow NVIDIA's data sheets as
# commonly quoted (sparse figures halved); none was checked on a card.
CARDS = {
    card.name: card
    for card in (
        Card("t4", 14.5, 65.0, (7, 5), "T4, 16 GB"),
        Card("l4", 22.03, 121.0, (8, 9), "L4, 24 GB"),
        Card("a10", 22.0, 125.0, (8, 6), "A10, 24 GB"),
        Card("3090", 23.5, 71.0, (8, 6), "GeForce RTX 3090, 24 GB"),
        Card("4090", 23.52, 165.2, (8, 9), "GeForce RTX 4090, 24 GB"),
        Card("a100-40", 39.3, 312.0, (8, 0), "A100, 40 GB"),
        Card("a100-80", 79.1, 312.0, (8, 0), "A100, 80 GB"),
        Card("l40s", 44.40, 362.0, (8, 9), "L40S, 48 GB"),
        Card("h100", 79.1, 989.0, (9, 0), "H100 SXM, 80 GB"),
    )
}


def names() -> list[str]:
    """The cards that `find` knows."""
    return list(CARDS)


def find(wanted: str | float) -> Card:
    """The card of that name, or one with that many GiB ("30" or 30.0). LabError if it is neither."""
    text = str(wanted).strip().lower().removeprefix("rtx ")
    if text in CARDS:
        return CARDS[text]
    try:
        size = float(text.removesuffix("gib").strip())
    except ValueError:
        near = nearest_first(text, CARDS)
        raise LabError(
            f"There is no card {wanted!r} here. Known, the nearest first: {near}; or give its "
            "memory as a number of GiB."
        ) from None
    if not (math.isfinite(size) and size > 0):
        raise LabError(f"A card cannot have {wanted} GiB: give a number above 0.")
    return Card(f"{size:g} GiB", size, None, (8, 0), f"a card with {size:g} GiB")
