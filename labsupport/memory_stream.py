"""A training step as a stream of allocations, and what follows from it: the peak, its phase, its parts.

Pure Python, no torch. `memory_trace` records a stream of a shallow model; `deepen` repeats one of its
middle layers, so that a stream of any depth follows without building the deep model.
"""

from __future__ import annotations

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
    """Copies events layer by layer; `numbers` maps (old block, new layer) to the new block."""

    def __init__(self, stream: Stream, extra: int):
        self.old, self.extra = stream, extra
        self.new = Stream(stream.depth + extra)
        self.numbers: dict[tuple[int, int | None], int] = {}
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
                for event in events:
                    # What was made outside the layers goes once, with the last of the copies.
                    outside = not event.appears and self.old.blocks[event.block].layer is None
                    if not outside or target == targets[-1]:
                        self._copy(event, target)
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

    def _model_of(self, layer: int | None) -> int | None:
        """The old layer that a new layer is a copy of."""
        if layer is None or layer <= 1:
            return layer
        return max(1, layer - self.extra)

    def _copy(self, event: Event, target: int | None) -> None:
        block = self.old.blocks[event.block]
        if event.appears:
            number = len(self.numbers)
            home = None if block.layer is None else target
            self.numbers[event.block, home] = number
            self.new.blocks[number] = Block(block.bytes, home, block.span, block.category)
        else:
            number = self._going(event, block, target)
        self.new.events.append(Event(number, event.appears, target, event.phase))

    def _going(self, event: Event, block: Block, target: int | None) -> int:
        """The new number of a block that goes: made as many layers away as in the old stream."""
        if block.layer is None:
            return self.numbers[event.block, None]
        home = target + block.layer - event.layer
        twin = event.block
        if self._model_of(home) != block.layer:
            place = self.made[block.span, self._model_of(home)]
            rank = self.rank[event.block]
            if rank >= len(place) or self.old.blocks[place[rank]].bytes != block.bytes:
                raise LabError("The layers of this model are not alike: trace it whole.")
            twin = place[rank]
        return self.numbers[twin, home]
