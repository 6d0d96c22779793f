"""A training step as a stream of allocations, and what follows from it: the peak, its phase, its parts.

Pure Python, no torch. `memory_trace` records a stream of a shallow model; `deepen` repeats one of its
middle layers, so that a stream of any depth follows without building the deep model.
"""

from __future__ import annotations

import contextlib
import gc
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

from labsupport.files import LabError


class Block(NamedTuple):
    """One tensor's memory. `layer` is where it was made (None: outside the layers), `span` when."""

    bytes: int
    layer: int | None
    span: str
    category: str


class Event(NamedTuple):
    """A block appears or goes, during `phase` of the step, while `layer` is being worked on."""

    block: int
    appears: bool
    layer: int | None
    phase: str


@dataclass
class Stream:
    """Blocks by number, and the order in which they come and go."""

    depth: int
    blocks: dict[int, Block] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)


@dataclass(frozen=True)
class Peak:
    """The most bytes alive at once, in which phase, and of which categories."""

    bytes: int
    phase: str
    split: dict[str, int]


@contextlib.contextmanager
def no_sweeps():
    """No garbage collection inside: when Python sweeps cycles is chance, and it takes its time over torch's
    many objects."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def rounded(size: int, unit: int) -> int:
    """Bytes rounded up to a multiple of unit: CUDA's allocator hands out multiples of 512."""
    return -(-size // unit) * unit


def peak(stream: Stream, unit: int = 512) -> Peak:
    """Replay the stream: the highest sum of live blocks, each rounded up to `unit` bytes."""
    live = best = 0
    now: dict[str, int] = defaultdict(int)
    at_best: dict[str, int] = {}
    phase = ""
    for event in stream.events:
        block = stream.blocks[event.block]
        change = rounded(block.bytes, unit) * (1 if event.appears else -1)
        live += change
        now[block.category] += change
        if live > best:
            best, phase, at_best = live, event.phase, dict(now)
    return Peak(best, phase, {name: size for name, size in at_best.items() if size})


def deepen(stream: Stream, depth: int) -> Stream:
    """The stream that the same model with `depth` layers would have left.

    Layer 1 stands for all that are added: its events are repeated, each copy with blocks of its own.
    Needs a stream of at least 4 layers, whose layers 1 and 2 are then both inner ones. LabError if the
    layers are not alike, so that no layer can stand for another.
    """
    extra = depth - stream.depth
    if extra == 0:
        return stream
    if stream.depth < 4 or extra < 0:
        raise LabError(f"A stream of {stream.depth} layers cannot be deepened to {depth}: trace it whole.")
    return _Deepener(stream, extra).run()


class _Deepener:
    """Copies events layer by layer. Tens of thousands of them: plain loops over precomputed numbers."""

    def __init__(self, stream: Stream, extra: int):
        self.old, self.extra = stream, extra
        self.new = Stream(stream.depth + extra)
        self.numbers: dict[tuple[int, int | None], int] = {}  # (old block, new layer): new block
        self.made = defaultdict(list)  # (span, layer): the blocks made there, in order
        self.rank = {}
        for number, block in stream.blocks.items():
            place = self.made[block.span, block.layer]
            self.rank[number] = len(place)
            place.append(number)

    def run(self) -> Stream:
        runs = [(layer, list(events)) for layer, events in groupby(self.old.events, key=lambda e: e.layer)]
        before = None
        for layer, events in runs:
            targets = self._targets(layer, falling=before is not None and before > 1)
            for target in targets:
                self._copy(events, target, last=target == targets[-1])
            before = layer if layer is not None else before
        return self.new

    def _targets(self, layer: int | None, falling: bool) -> list[int | None]:
        """The new layers that a run of events about an old layer stands for, in order of time."""
        if layer is None or layer == 0:
            return [layer]
        if layer > 1:
            return [layer + self.extra]
        copies = list(range(1, self.extra + 2))
        return copies[::-1] if falling else copies

    def _copy(self, events: list[Event], target: int | None, last: bool) -> None:
        """Copy a run of events to a new layer; what was made outside the layers goes with the last copy."""
        old_blocks, numbers, new = self.old.blocks, self.numbers, self.new
        for event in events:
            old = event.block
            block = old_blocks[old]
            home = block.layer
            if event.appears:
                home = None if home is None else target
                number = numbers[old, home] = len(new.blocks)
                new.blocks[number] = Block(block.bytes, home, block.span, block.category)
            elif home is None:
                if not last:
                    continue
                number = numbers[old, None]
            else:
                number = self._going(old, block, target + home - event.layer)
            new.events.append(Event(number, event.appears, target, event.phase))

    def _going(self, old: int, block: Block, home: int) -> int:
        """The new number of a block that goes: the twin of an old one, made in the new layer `home`."""
        number = self.numbers.get((old, home))
        if number is not None:
            return number
        model = home if home <= 1 else max(1, home - self.extra)  # the old layer that `home` is a copy of
        place = self.made[block.span, model]
        rank = self.rank[old]
        if rank >= len(place) or self.old.blocks[place[rank]].bytes != block.bytes:
            raise LabError("The layers of this model are not alike: trace it whole.")
        return self.numbers[place[rank], home]
