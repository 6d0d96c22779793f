"""A run's footprint: the stream of its steps in all layers, what is reserved for it, what a card leaves."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass

from labsupport.allocations import caching_allocator, streams
from labsupport.allocations.streams import GIB
from labsupport.core import upstream
from labsupport.core.files import LabError
from labsupport.setups.setup import Setup
from labsupport.sizes import gpus

ALIKE, SHORT_THEN_LONG = (1.0, 1.0), (0.5, 1.0)  # the steps recorded, as shares of the length
NEEDED_TOO_HIGH = 1.01
CONTEXT_GIB = 0.5  # CUDA's context and kernels, which no tracer sees: a few hundred MiB


@dataclass(frozen=True)
class Traced:
    """What a traced run takes: the peak of its tensors; bytes reserved where memory is ample and, if a card
    was named, needed on it; and how many parameters are trained."""

    peak: streams.Peak
    reserved: int
    needed: int | None
    trainable: int


def traced(setup: Setup, card: gpus.Card | None = None, built: dict | None = None) -> Traced:
    """Trace a checked setup. built: as `trace_steps`."""
    stream, trainable = trace_steps(setup, built)
    peak, reserved = streams.peak(stream), reserved_bytes(setup, stream, card)
    needed = None if card is None else needed_bytes(setup, stream, card, peak.bytes, reserved)
    return Traced(peak, reserved, needed, trainable)


def stream_of(setup: Setup) -> streams.Stream:
    """The stream of `trace_steps`, traced once and remembered after: for what asks for the same run often."""
    return _remembered(json.dumps(vars(setup)))  # a Setup holds a dict, so it cannot be a key itself


@functools.cache
def _remembered(setup: str) -> streams.Stream:
    return trace_steps(Setup(**json.loads(setup)))[0]


def trace_steps(setup: Setup, built: dict | None = None) -> tuple[streams.Stream, int]:
    """(the stream of steps in all layers, trainable parameters).

    built: models of earlier traces of this config, used again and added to.

    How much is reserved depends on the batches that came before. Packed batches are all alike. Padded ones
    vary: simulated is what PEFT's benchmark does (method_comparison/MetaMathQA/run.py). Rows are sorted
    from long to short in groups and the cache is emptied in between, so that a short batch, the emptying
    and the longest ones follow each other: a short one and a long one are recorded, the long one repeated.
    """
    upstream.quick_bitsandbytes()
    from labsupport.memory import layer_kinds, tracing  # torch

    depth = setup.config["num_hidden_layers"]
    shallow, period = layer_kinds.to_trace(setup)
    # A row of one token predicts nothing, and its step is no pattern for another.
    history = SHORT_THEN_LONG if setup.padded and setup.length > 3 else ALIKE

    def deepened(traced: int) -> tuple[streams.Stream, int]:
        stream, (inside, outside) = tracing.record_steps(setup, traced, history=history, built=built)
        if setup.padded:
            stream = streams.one_more_step(stream)
        return streams.deepen(stream, depth, period), inside * depth // traced + outside

    try:
        return deepened(shallow)
    except LabError:
        # Under autocast the first layer may get other dtypes than the next ones.
        if depth > layer_kinds.MOST_WHOLE:
            raise
        return deepened(depth)


def reserved_bytes(
    setup: Setup, stream: streams.Stream, card: gpus.Card | None = None, limit: int | None = None
) -> int:
    """Bytes that the allocator would have reserved at most after the stream that `trace_steps` gave.

    limit: bytes that there are; None for no end of them, which is what the figure is where memory is ample.
    caching_allocator.OutOfMemory if it does not do.
    """
    hopper = card is not None and card.capability[0] >= 9
    workspace = caching_allocator.CUBLAS_HOPPER if hopper else caching_allocator.CUBLAS
    emptied_before = 2 if setup.padded else None  # the step before which the cache is emptied
    return caching_allocator.peak_reserved(stream, workspace, not setup.four_bit, emptied_before, limit)


def runs_in(setup: Setup, stream: streams.Stream, card: gpus.Card, limit: int) -> bool:
    """Whether the run gets through with so many bytes: before it fails, the allocator hands its unused
    segments back to the card and asks again."""
    try:
        reserved_bytes(setup, stream, card, limit)
    except caching_allocator.OutOfMemory:
        return False
    return True


def needed_bytes(setup: Setup, stream: streams.Stream, card: gpus.Card, allocated: int, reserved: int) -> int:
    """The fewest bytes with which the run gets through, at most NEEDED_TOO_HIGH times too many.

    allocated: the peak of the tensors, less than which cannot do; reserved: what the allocator takes if it
    may, which always does. The answer is at most a card's usable bytes just where it runs in them.
    """
    usable = round(usable_gib(card) * GIB)
    low, high = allocated, reserved
    if low < usable < high:
        low, high = (low, usable) if runs_in(setup, stream, card, usable) else (usable, high)
    while high > low * NEEDED_TOO_HIGH:
        middle = (low + high) // 2
        low, high = (low, middle) if runs_in(setup, stream, card, middle) else (middle, high)
    return high


def usable_gib(card: gpus.Card) -> float:
    """GiB that a card has for tensors: its memory less CUDA's context."""
    return card.memory_gib - CONTEXT_GIB


def margin_gib(card: gpus.Card, needed: int) -> float:
    """GiB that a card has beyond what a run needs, negative if it does not fit. needed: bytes."""
    return usable_gib(card) - needed / GIB
