"""A training step as a stream of allocations, and what follows from it: the peak, its phase, its parts.

Pure Python, no torch. `memory_trace` records a stream of a shallow model; `deepen` repeats one of its
middle layers, so that a stream of any depth follows without building the deep model.
"""

from __future__ import annotations

import contextlib
import gc
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import groupby, pairwise
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
    for number, appears, _, its_phase in stream.events:
        size, _, _, category = stream.blocks[number]
        change = rounded(size, unit) if appears else -rounded(size, unit)
        live += change
        now[category] += change
        if live > best:
            best, phase, at_best = live, its_phase, dict(now)
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


def by_place(stream: Stream) -> dict[tuple[str, int | None], list[int]]:
    """(span, layer) -> the blocks made there, in order: steps and layers that are alike make the same."""
    made = defaultdict(list)
    for number, block in stream.blocks.items():
        made[block.span, block.layer].append(number)
    return made


def one_more_step(stream: Stream) -> Stream:
    """The stream with one more step, the same as the last.

    Needs two steps or more, of which the last two differ in sizes only. What was left over from the step
    before last goes in the last one; in the new step its twin goes. LabError if there is no twin.
    """
    phases = ["load", *(event.phase for event in stream.events)]
    starts = [i for i, (old, new) in enumerate(pairwise(phases)) if old != new == "forward"]
    step = len(starts)
    made = by_place(stream)
    longer = Stream(stream.depth, dict(stream.blocks), list(stream.events))
    numbers: dict[int, int] = {}  # block of the last step, or left over before it: block of the new one
    for (span, layer), earlier in made.items():
        before, _, phase = span.partition(" ")
        if before == str(step - 1):
            numbers.update(zip(earlier, made.get((f"{step} {phase}", layer), ()), strict=False))
    for event in stream.events[starts[-1] :]:
        if event.appears:
            block = stream.blocks[event.block]
            numbers[event.block] = len(longer.blocks)
            longer.blocks[len(longer.blocks)] = block._replace(span=f"{step + 1} {event.phase}")
        elif event.block not in numbers:
            raise LabError("The steps are not alike: record each of them.")
        longer.events.append(event._replace(block=numbers[event.block]))
    return longer


class _Deepener:
    """Copies events layer by layer. Tens of thousands of them: plain loops over precomputed numbers."""

    def __init__(self, stream: Stream, extra: int):
        self.old, self.extra = stream, extra
        self.new = Stream(stream.depth + extra)
        self.numbers: dict[tuple[int, int | None], int] = {}  # (old block, new layer): new block
        self.made = by_place(stream)
        self.rank = {old: rank for place in self.made.values() for rank, old in enumerate(place)}

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
        old_blocks, numbers = self.old.blocks, self.numbers
        blocks, append = self.new.blocks, self.new.events.append
        for old, appears, layer, phase in events:
            size, home, span, category = block = old_blocks[old]
            if appears:
                home = None if home is None else target
                number = numbers[old, home] = len(blocks)
                blocks[number] = Block(size, home, span, category)
            elif home is None:
                if not last:
                    continue
                number = numbers[old, None]
            else:
                home += target - layer
                number = numbers.get((old, home))
                if number is None:
                    number = self._twin(old, block, home)
            append(Event(number, appears, target, phase))

    def _twin(self, old: int, block: Block, home: int) -> int:
        """The new number of a block that goes in another layer's events: made in the new layer `home`."""
        model = home if home <= 1 else max(1, home - self.extra)  # the old layer that `home` is a copy of
        place = self.made[block.span, model]
        rank = self.rank[old]
        if rank >= len(place) or self.old.blocks[place[rank]].bytes != block.bytes:
            raise LabError("The layers of this model are not alike: trace it whole.")
        return self.numbers[place[rank], home]
