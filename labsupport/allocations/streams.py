"""A training step as a stream of allocations, and what follows from it: the peak, its phase, its parts.

`memory.tracing` records a stream of a shallow model; `deepen` repeats a middle
layer, so that a stream of any depth follows without building the deep model.
"""

from __future__ import annotations

import contextlib
import gc
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import groupby, pairwise
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


def deepen(stream: Stream, depth: int, period: int = 1) -> Stream:
    """The stream that the same model with `depth` layers would have left.

    Layers 1 to `period` stand for all that are added: their events are repeated, each copy with blocks of its
    own. Needs a stream of at least period + 2 layers, the first, the repeated ones and the last, and whole
    periods to add. LabError if not, or if the layers are not alike, so that none can stand for another.
    """
    extra = depth - stream.depth
    if extra == 0:
        return stream
    if stream.depth < period + 2 or extra < 0 or extra % period:
        raise LabError(f"A stream of {stream.depth} layers cannot be deepened to {depth}: trace it whole.")
    return _Deepener(stream, extra, period).run()


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
            _, _, when = stream.blocks[number].span.partition(" ")
            longer.blocks[len(longer.blocks)] = stream.blocks[number]._replace(span=f"{step + 1} {when}")
        elif number not in numbers:
            raise LabError("The steps are not alike: record each of them.")
        longer.events.append((numbers[number], appears, layer, phase))
    return longer


class _Deepener:
    """Copies events period by period. Three copies of a run of events are worked out one by one; the others
    between first and last differ in the numbers of their blocks only, and by as much each time."""

    def __init__(self, stream: Stream, extra: int, period: int):
        self.old, self.extra, self.period = stream, extra, period
        self.count = len(stream.blocks)
        self.made = blocks_by_place(stream)
        self.rank = {old: rank for place in self.made.values() for rank, old in enumerate(place)}

    def run(self) -> Stream:
        new = Stream(self.old.depth + self.extra)
        for old, block in self.old.blocks.items():
            for shift in self._shifts(self._repeats(block.layer)):
                new.blocks[self._number(old, block.layer, shift)] = block
        before = 0  # the layer of the event before
        for repeats, events in groupby(self.old.events, key=lambda event: self._repeats(event[2])):
            run, shifts = list(events), self._shifts(repeats)
            if repeats:
                self._check_pass(run)
            self._copy(run, shifts[::-1] if before > self.period else shifts, new.events)
            before = next((layer for *_, layer, _ in reversed(run) if layer is not None), before)
        return new

    def _check_pass(self, run: list) -> None:
        """A run that is repeated must go through all layers of the period once, up or down."""
        passed = [layer for layer, _ in groupby(layer for _, _, layer, _ in run)]
        up = list(range(1, self.period + 1))
        if passed not in (up, up[::-1]):
            raise LabError("The layers of this model do not take turns: trace it whole.")

    def _repeats(self, layer: int | None) -> bool | None:
        """Whether an old layer is one of those that are repeated; None outside the layers and before them."""
        return None if layer is None or layer == 0 else layer <= self.period

    def _shifts(self, repeats: bool | None) -> list[int]:
        """By how much the new layers differ from the old ones, for each copy, in the layers' order."""
        if repeats is None:
            return [0]
        return list(range(0, self.extra + 1, self.period)) if repeats else [self.extra]

    def _number(self, old: int, layer: int | None, shift: int) -> int:
        """The number of a block's copy in the new layer layer + shift: of repeated ones each its own."""
        return old + shift // self.period * self.count if self._repeats(layer) else old

    def _copy(self, events: list, shifts: list[int], copies: list) -> None:
        """Add a run's copies; what was made outside the layers goes with the last one."""
        end = len(shifts) - 1
        for index, shift in enumerate(shifts):
            if index in (0, 1, end):
                told, further = self._told(events, shift, index == end), 0
                numbers, appear, layers, phases = zip(*told, strict=True) if told else ((),) * 4
            else:
                further = shift - shifts[1]
            number = further // self.period * self.count
            moved = [layer if layer is None else layer + further for layer in layers]
            copies += zip([old + number for old in numbers], appear, moved, phases, strict=True)

    def _told(self, events: list, shift: int, last: bool) -> list:
        """A run's events as they are `shift` layers further: (number, whether it appears, layer, phase)."""
        told = []
        for old, appears, layer, phase in events:
            home = self.old.blocks[old].layer
            now = layer if layer is None else layer + shift
            if home is not None:
                if abs(home - layer) > 1:
                    raise LabError("The layers of this model reach past their neighbours: trace it whole.")
                told.append((self._twin(old, home, home + shift), appears, now, phase))
            elif appears or last:
                told.append((old, appears, now, phase))
        return told

    def _twin(self, old: int, was: int, home: int) -> int:
        """The number of what is in the new layer `home` as a block is in the old layer `was`."""
        if home <= self.period:
            model = home
        elif home <= self.period + self.extra:
            model = (home - 1) % self.period + 1
        else:
            model = home - self.extra
        if model != was:
            size, _, span, _ = self.old.blocks[old]
            place = self.made[span, model]
            # Counted from the end: what goes over to a neighbour is made last, and the first layer, which
            # need not go back further, may have made less before.
            rank = self.rank[old] - len(self.made[span, was])
            if len(place) < -rank or self.old.blocks[place[rank]].bytes != size:
                raise LabError("The layers of this model are not alike: trace it whole.")
            old = place[rank]
        return self._number(old, model, home - model)
