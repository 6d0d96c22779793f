"""A training step as a stream of allocations, and what follows from it: the peak, its phase, its parts.

`memory.tracing` records a stream of a shallow model; `deepen` repeats a middle
layer, so that a stream of any depth follows without building the deep model.
"""

from __future__ import annotations

import contextlib
import gc
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import groupby, pairwise, repeat
from typing import NamedTuple

from labsupport.core.files import LabError

KIB, MIB, GIB = 2**10, 2**20, 2**30
CATEGORIES = ("weights", "adapters", "gradients", "optimizer", "activations", "logits", "temporaries")


class Block(NamedTuple):
    """One tensor's memory. `layer` is where it was made (None: outside the layers), `span` when. Copies that
    `deepen` makes keep the layer of what they are copies of."""

    bytes: int
    layer: int | None
    span: str
    category: str


@dataclass
class Stream:
    """Blocks by number, and the order in which they come and go.

    An event is (block's number, True if it appears and False if it goes, the layer that is being worked on,
    the phase of the step): a plain tuple, for there are over a hundred thousand.
    """

    depth: int
    blocks: dict[int, Block] = field(default_factory=dict)
    events: list[tuple[int, bool, int | None, str]] = field(default_factory=list)


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


def rounded_up(size: int, unit: int) -> int:
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
        change = rounded_up(size, unit) if appears else -rounded_up(size, unit)
        live += change
        now[category] += change
        if live > best:
            best, phase, at_best = live, its_phase, dict(now)
    return Peak(best, phase, {name: size for name, size in at_best.items() if size})


def deepen(stream: Stream, depth: int) -> Stream:
    """The stream that the same model with `depth` layers would have left.

    Layer 1 stands for all that are added: its events are repeated, each copy with blocks of its own.
    Needs a stream of at least 3 layers: the first, an inner one and the last. LabError if the layers are not
    alike, so that no layer can stand for another.
    """
    extra = depth - stream.depth
    if extra == 0:
        return stream
    if stream.depth < 3 or extra < 0:
        raise LabError(f"A stream of {stream.depth} layers cannot be deepened to {depth}: trace it whole.")
    return _Deepener(stream, extra).run()


def blocks_by_place(stream: Stream) -> dict[tuple[str, int | None], list[int]]:
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
    phases = ["load", *(phase for *_, phase in stream.events)]
    between_steps = ("load", "optimizer")  # and not the backward pass of an earlier micro-batch
    starts = [i for i, (old, new) in enumerate(pairwise(phases)) if old in between_steps and new == "forward"]
    step = len(starts)
    made = blocks_by_place(stream)
    longer = Stream(stream.depth, dict(stream.blocks), list(stream.events))
    numbers: dict[int, int] = {}  # block of the last step, or left over before it: block of the new one
    for (span, layer), earlier in made.items():
        before, _, phase = span.partition(" ")
        if before == str(step - 1):
            numbers.update(zip(earlier, made.get((f"{step} {phase}", layer), ()), strict=False))
    for number, appears, layer, phase in stream.events[starts[-1] :]:
        if appears:
            numbers[number] = len(longer.blocks)
            longer.blocks[len(longer.blocks)] = stream.blocks[number]._replace(span=f"{step + 1} {phase}")
        elif number not in numbers:
            raise LabError("The steps are not alike: record each of them.")
        longer.events.append((numbers[number], appears, layer, phase))
    return longer


class _Deepener:
    """Copies events layer by layer. Three copies of a run of events are worked out one by one; the others
    between first and last differ in the numbers of their blocks only, and by as much each time."""

    def __init__(self, stream: Stream, extra: int):
        self.old, self.extra = stream, extra
        self.count = len(stream.blocks)
        self.made = blocks_by_place(stream)
        self.rank = {old: rank for place in self.made.values() for rank, old in enumerate(place)}

    def run(self) -> Stream:
        new = Stream(self.old.depth + self.extra)
        for old, block in self.old.blocks.items():
            for layer in self._targets(block.layer, falling=False):
                new.blocks[self._number(old, layer)] = block
        before = None
        for layer, run in groupby(self.old.events, key=lambda event: event[2]):
            self._copy(list(run), self._targets(layer, falling=before is not None and before > 1), new.events)
            before = layer if layer is not None else before
        return new

    def _targets(self, layer: int | None, falling: bool) -> list[int | None]:
        """The new layers that a run of events about an old layer stands for, in order of time."""
        if layer is None or layer == 0:
            return [layer]
        if layer > 1:
            return [layer + self.extra]
        copies = list(range(1, self.extra + 2))
        return copies[::-1] if falling else copies

    def _number(self, old: int, layer: int | None) -> int:
        """The number of a block's copy in the new layer `layer`: each copy of layer 1 has its own numbers."""
        return old if layer is None or not 1 <= layer <= self.extra + 1 else old + (layer - 1) * self.count

    def _copy(self, events: list, targets: list[int | None], copies: list) -> None:
        """Add a run's copies; what was made outside the layers goes with the last one."""
        end = len(targets) - 1
        for index, target in enumerate(targets):
            if index in (0, 1, end):
                told, shift = self._told(events, target, index == end), 0
                numbers, appear, phases = zip(*told, strict=True) if told else ((),) * 3
            else:
                shift = (target - targets[1]) * self.count
            copies += zip([number + shift for number in numbers], appear, repeat(target), phases)

    def _told(self, events: list, target: int | None, last: bool) -> list:
        """A run's events as they are in the new layer `target`: (number, whether it appears, phase) each."""
        told = []
        for old, appears, layer, phase in events:
            home = self.old.blocks[old].layer
            if home is not None:
                if abs(home - layer) > 1:
                    raise LabError("The layers of this model reach past their neighbours: trace it whole.")
                told.append((self._twin(old, home, home + target - layer), appears, phase))
            elif appears or last:
                told.append((old, appears, phase))
        return told

    def _twin(self, old: int, was: int, home: int) -> int:
        """The number of what is in the new layer `home` as a block is in the old layer `was`."""
        model = home if home <= 1 else max(1, home - self.extra)  # the old layer that `home` is a copy of
        if model != was:
            size, _, span, _ = self.old.blocks[old]
            place, rank = self.made[span, model], self.rank[old]
            if rank >= len(place) or self.old.blocks[place[rank]].bytes != size:
                raise LabError("The layers of this model are not alike: trace it whole.")
            old = place[rank]
        return self._number(old, home)
