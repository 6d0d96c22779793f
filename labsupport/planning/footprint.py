"""A run's footprint: the stream of its steps in all layers, what is reserved for it, what a card leaves."""

from __future__ import annotations

from labsupport.allocations import caching_allocator, streams
from labsupport.allocations.streams import GIB
from labsupport.memory.setup import Setup
from labsupport.sizes import gpus

DEPTH = 3  # layers that are really traced; the others are copies of the inner one
ALIKE, SHORT_THEN_LONG = (1.0, 1.0), (0.5, 1.0)  # the steps recorded, as shares of the length
CONTEXT_GIB = 0.5  # CUDA's context and kernels, which no tracer sees: a few hundred MiB


def trace_steps(setup: Setup, built: dict | None = None) -> tuple[streams.Stream, int]:
    """(the stream of steps in all layers, trainable parameters).

    built: models of earlier traces of this config, used again and added to.

    How much is reserved depends on the batches that came before. Packed batches are all alike. Padded ones
    vary: simulated is what PEFT's benchmark does (method_comparison/MetaMathQA/run.py). Rows are sorted
    from long to short in groups and the cache is emptied in between, so that a short batch, the emptying
    and the longest ones follow each other: a short one and a long one are recorded, the long one repeated.
    """
    from labsupport.memory import tracing  # torch

    depth = setup.config["num_hidden_layers"]
    shallow = min(depth, DEPTH)
    history = SHORT_THEN_LONG if setup.padded else ALIKE
    stream, (inside, outside) = tracing.record_steps(setup, shallow, history=history, built=built)
    if setup.padded:
        stream = streams.one_more_step(stream)
    return streams.deepen(stream, depth), inside * depth // shallow + outside


def reserved_bytes(setup: Setup, stream: streams.Stream, card: gpus.Card | None = None) -> int:
    """Bytes that the allocator would have reserved at most after the stream that `trace_steps` gave."""
    hopper = card is not None and card.capability[0] >= 9
    workspace = caching_allocator.CUBLAS_HOPPER if hopper else caching_allocator.CUBLAS
    emptied_before = 2 if setup.padded else None  # the step before which the cache is emptied
    return caching_allocator.peak_reserved(stream, workspace, not setup.four_bit, emptied_before)


def usable_gib(card: gpus.Card) -> float:
    """GiB that a card has for tensors: its memory less CUDA's context."""
    return card.memory_gib - CONTEXT_GIB


def margin_gib(card: gpus.Card, reserved: int) -> float:
    """GiB that stay free on a card, negative if it does not fit. reserved: bytes."""
    return usable_gib(card) - reserved / GIB
