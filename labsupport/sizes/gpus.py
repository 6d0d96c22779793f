"""Graphics cards: the memory a program finds on them and the arithmetic their makers promise."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass

from labsupport.core.files import LabError, nearest_first
from labsupport.core.numbers import shown


@dataclass(frozen=True)
class Card:
    """memory_gib is what torch reports as total (GiB, less than the box says); peak_tflops the promised
    dense 16-bit tensor throughput with 32-bit sums (1e12 a second), sustained_tflops what large products of
    matrices were measured to reach; bandwidth_gb_s the promised memory bandwidth and link_gb_s that to
    another card, each way (1e9 bytes a second); capability CUDA's compute capability. None: not known.
    """

    name: str
    memory_gib: float
    peak_tflops: float | None
    capability: tuple[int, int]
    sold_as: str
    sustained_tflops: float | None = None
    bandwidth_gb_s: float | None = None
    link_gb_s: float | None = None


# Memory as torch's out-of-memory messages state it in public issues ("GPU 0 has a total capacity of ..."):
# L4 ArcInstitute/evo2#190; 4090 ali-vilab/VGen#104; L40 and L40S QwenLM/Qwen3-VL#2097; 5090
# Wan-Video/Wan2.1#465; RTX 6000 Ada DINGYANB/MTVCrafter#21; V100, H200 and B200 alike in many logs. The other
# sizes are assumptions, a little below what the card is sold as. Peak rates follow NVIDIA's data sheets as
# commonly quoted (sparse figures halved); none was checked on a card.
# Sustained, None where nothing was found: the best of many shapes in mag-/gpu_benchmark@93322b7f, README; a10
# there is AWS's A10G, promised less at the same power; l4 is the same chip at 70 W, the RTX 4000 SFF Ada,
# since the 91.4 there for the L4's 72 W were reached on small matrices only; h200 has the H100's chip; t4 by
# forums.developer.nvidia.com, "About GPU peak performance". Bandwidths follow the data sheets. Links: PCIe
# x16 of the card's generation; NVLink for V100, A100 and later, but the H100 PCIe.
CARDS = {
    card.name: card
    for card in (
        Card("t4", 14.5, 65.0, (7, 5), "T4, 16 GB", 24.0, 320, 16),
        Card("l4", 22.03, 121.0, (8, 9), "L4, 24 GB", 59.0, 300, 32),
        Card("a10", 22.0, 125.0, (8, 6), "A10, 24 GB", 69.7, 600, 32),
        Card("a10g", 22.0, 70.0, (8, 6), "A10G, 24 GB", 69.7, 600, 32),
        Card("v100-16", 15.77, 125.0, (7, 0), "V100, 16 GB", None, 900, 150),
        Card("v100-32", 31.73, 125.0, (7, 0), "V100, 32 GB", None, 900, 150),
        Card("3090", 23.5, 71.0, (8, 6), "GeForce RTX 3090, 24 GB", 78.0, 936, 32),
        Card("4090", 23.52, 165.2, (8, 9), "GeForce RTX 4090, 24 GB", 178.8, 1008, 32),
        Card("5090", 31.37, 209.5, (12, 0), "GeForce RTX 5090, 32 GB", None, 1792, 64),
        Card("a6000", 47.5, 154.8, (8, 6), "RTX A6000, 48 GB", None, 768, 32),
        Card("6000-ada", 44.43, 364.2, (8, 9), "RTX 6000 Ada, 48 GB", 278.5, 960, 32),
        Card("a40", 44.4, 149.7, (8, 6), "A40, 48 GB", None, 696, 32),
        Card("l40", 44.40, 181.0, (8, 9), "L40, 48 GB", 170.3, 864, 32),
        Card("a100-40", 39.3, 312.0, (8, 0), "A100, 40 GB", 267.9, 1555, 300),
        Card("a100-80", 79.1, 312.0, (8, 0), "A100, 80 GB", 267.9, 2039, 300),
        Card("l40s", 44.40, 362.0, (8, 9), "L40S, 48 GB", 252.0, 864, 32),
        Card("h100", 79.1, 989.0, (9, 0), "H100 SXM, 80 GB", 821.2, 3350, 450),
        Card("h100-pcie", 79.1, 756.0, (9, 0), "H100 PCIe, 80 GB", 499.5, 2000, 64),
        Card("h200", 139.8, 989.0, (9, 0), "H200, 141 GB", 821.2, 4800, 450),
        Card("b200", 178.35, 2250.0, (10, 0), "B200, 192 GB", None, 8000, 900),
    )
}

# Words that say who makes a card and how it is put in, not which it is.
NO_NAME = {"nvidia", "geforce", "rtx", "gtx", "tesla", "quadro", "gpu", "card", "with", "vram", "memory"}
NO_NAME |= {"generation", "tensor", "core", "sxm", "sxm2", "sxm3", "sxm4", "sxm5", "sxm6"}
NO_NAME |= {"hbm2", "hbm2e", "hbm3", "hbm3e", "gddr6", "gddr6x", "gddr7"}
SIZE = re.compile(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?|[-+]?nan|[-+]?inf)\s*(gib|gb|g|mib|mb)?")
SEVERAL = re.compile(r"\d+\s*[x×*]\s*[a-z]")
MOST_GIB = 1000  # more than any card has: 4080 is the name of one that is not known here


def names() -> list[str]:
    """The cards that `find` knows."""
    return list(CARDS)


def of_known_speed() -> list[str]:
    """Those of the cards whose time of a step can be estimated."""
    return [card.name for card in CARDS.values() if card.sustained_tflops]


def find(wanted: str | float) -> Card:
    """The card that people call so ("l4", "A100-40GB", "NVIDIA GeForce RTX 4090", "T4 16GB"), or one with so
    many GiB ("30", 30.0, "24GB"). Of a card that is sold with several sizes the smallest, and `sold_as` says
    so. LabError if there is none."""
    text = str(wanted).strip().lower()
    if text in CARDS:
        return CARDS[text]
    if size := SIZE.fullmatch(text):
        return _of_size(float(size[1]), size[2] or "", wanted)
    if SEVERAL.match(text):
        raise LabError(
            f"The memory of one card is looked at, and {shown(wanted)} are several: name the card."
        )
    words, sold = _words(text)
    alike = _family(words) or _family(words - {"pcie"})
    fitting = [card for card in alike if sold in (None, sold_gb(card))]
    if fitting:
        return _first_of(fitting)
    if alike:
        sizes = " or ".join(str(sold_gb(card)) for card in alike)
        raise LabError(
            f"The card {shown(wanted)} is not known: {alike[0].sold_as.split(',')[0]} has {sizes} GB."
        )
    raise _unknown(wanted)


def sold_gb(card: Card) -> int:
    """The memory that is printed on a card's box."""
    return int(re.search(r"(\d+) GB", card.sold_as)[1])


def _unknown(wanted) -> LabError:
    near = nearest_first(str(wanted).strip().lower(), CARDS)
    return LabError(
        f"There is no card {shown(wanted)} here. Known, the nearest first: {near}; or give its memory as a "
        f"number of GiB above 0, at most {MOST_GIB:,}."
    )


def _of_size(size: float, unit: str, wanted) -> Card:
    gib = size / 1024 if unit.startswith("m") else size
    if not 0 < gib <= MOST_GIB:  # nor is it if it is not a number
        raise _unknown(wanted)
    words = f"a card with {gib:g} GiB"
    alike = [card for card in CARDS.values() if unit == "gb" and sold_gb(card) == gib]
    if alike:
        least = min(alike, key=lambda card: card.memory_gib)
        words += f" (all of its {gib:g} GB; the {least.name.upper()} leaves programs {least.memory_gib:g})"
    return Card(f"{gib:g} GiB", gib, None, (8, 0), words)


def _words(text: str) -> tuple[frozenset[str], int | None]:
    """The words that name a card, and the size in GB beside them if there is one."""
    text = re.sub(r"(\d)\s+(gib|gb|g)\b", r"\1\2", text)
    text = re.sub(r"\b(rtx|gtx)(?=\d)", "", text)
    words = [word for word in re.findall(r"[a-z0-9.]+", text) if word not in NO_NAME]
    sizes = [word for word in words if re.fullmatch(r"\d{1,3}(gib|gb|g)", word)]
    sizes += [word for word in words[1:] if re.fullmatch(r"\d{2,3}", word)]  # A100-40
    return frozenset(words) - set(sizes), int(re.match(r"\d+", sizes[0])[0]) if sizes else None


def _family(words: frozenset[str]) -> list[Card]:
    """The cards of that name, whatever their size."""
    return [card for card in CARDS.values() if set(card.name.split("-")) - {str(sold_gb(card))} == words]


def _first_of(cards: list[Card]) -> Card:
    """The one with the least memory, which says of the others that they exist."""
    first, *others = sorted(cards, key=lambda card: card.memory_gib)
    if not others:
        return first
    also = ", ".join(f"{card.name} for {sold_gb(card)} GB" for card in others)
    return dataclasses.replace(first, sold_as=f"{first.sold_as} (the smaller one; name {also})")
