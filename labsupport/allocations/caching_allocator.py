"""PyTorch's CUDA caching allocator, simulated: how much a stream of allocations makes it reserve.

The rules are those of c10/cuda/CUDACachingAllocator.cpp in torch with its default settings.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass

from labsupport.allocations.streams import KIB, MIB, Stream, rounded_up

UNIT = 512  # every block is a multiple of this (kMinBlockSize)
SMALL = MIB  # up to here a block comes out of the pool of small ones (kSmallSize)
# What cuBLAS asks of the allocator, once for the forward and once for the backward thread
# (aten/src/ATen/cuda/CUDABlas: ":4096:2:16:8", on Hopper 32 MiB).
CUBLAS = 2 * 4096 * KIB + 8 * 16 * KIB
CUBLAS_HOPPER = 32 * MIB


class OutOfMemory(Exception):
    """What is asked for is not to be had, even after all unused segments were handed back."""


@dataclass(eq=False, slots=True)
class _Piece:
    """A run of bytes of one segment, in use or free; neighbours are linked."""

    address: int
    size: int
    small: bool
    free: bool = True
    before: _Piece | None = None
    after: _Piece | None = None


class CachingAllocator:
    """Bytes in, bytes out. `reserved` is what was taken from the card, `peak` its maximum, in bytes.

    limit: what the card has, in bytes; None for a card without end.
    """

    def __init__(self, limit: int | None = None):
        self.limit = limit
        self.reserved = self.peak = 0
        self._next_address = 0
        # By whether they are small: (size, address, piece), sorted.
        self._free: dict[bool, list[tuple[int, int, _Piece]]] = {True: [], False: []}

    def take(self, size: int) -> _Piece:
        """A piece of at least `size` bytes: the smallest free one that holds it, else a new segment.

        OutOfMemory if the card does not have it.
        """
        size = rounded_up(size, UNIT) or UNIT
        small = size <= SMALL
        free = self._free[small]
        index = bisect.bisect_left(free, (size, -1))
        piece = free.pop(index)[2] if index < len(free) else self._segment(size, small)
        piece.free = False
        left = piece.size - size
        if left >= UNIT if small else left > SMALL:
            after = piece.after
            rest = _Piece(piece.address + size, left, small, True, piece, after)
            if after is not None:
                after.before = rest
            piece.size, piece.after = size, rest
            bisect.insort(free, (left, rest.address, rest))
        return piece

    def give(self, piece: _Piece) -> None:
        """Take a piece back and join it with free neighbours. Nothing is returned to the card."""
        piece.free = True
        free = self._free[piece.small]
        for other in (piece.before, piece.after):
            if other is not None and other.free:
                del free[bisect.bisect_left(free, (other.size, other.address))]
                first, second = (other, piece) if other is piece.before else (piece, other)
                first.size += second.size
                first.after = second.after
                if second.after is not None:
                    second.after.before = first
                piece = first
        bisect.insort(free, (piece.size, piece.address, piece))

    def empty_cache(self) -> None:
        """Hand every segment that is wholly free back to the card, as torch.cuda.empty_cache() does."""
        for free in self._free.values():
            kept = [found for found in free if found[2].before or found[2].after]
            self.reserved -= sum(found[0] for found in free) - sum(found[0] for found in kept)
            free[:] = kept

    def _segment(self, size: int, small: bool) -> _Piece:
        """Ask the card: 2 MiB for small blocks, 20 MiB for those under 10 MiB, else whole 2 MiB. If it has no
        more, hand back what is unused and ask again, as release_cached_blocks() does."""
        total = 2 * MIB if small else 20 * MIB if size < 10 * MIB else rounded_up(size, 2 * MIB)
        if self.limit is not None and self.reserved + total > self.limit:
            self.empty_cache()
            if self.reserved + total > self.limit:
                raise OutOfMemory
        piece = _Piece(self._next_address, total, small)
        self._next_address += total
        self.reserved += total
        self.peak = max(self.peak, self.reserved)
        return piece


def peak_reserved(
    stream: Stream,
    workspace: int = CUBLAS,
    one_block: bool = True,
    emptied_before: int | None = None,
    limit: int | None = None,
) -> int:
    """The most bytes that the allocator would have reserved after this stream. OutOfMemory if the limit, in
    bytes, does not do.

    `one_block`: transformers reserves the weights in one block before it loads them, unless it quantises.
    `emptied_before`: the step, counted from 1, before which the cache is emptied; None for never.
    """
    allocator = CachingAllocator(limit)
    if one_block:
        weights = (b.bytes for b in stream.blocks.values() if b.span.endswith("load"))
        allocator.give(allocator.take(sum(weights)))
    pieces = {}
    phase, step = "load", 0
    for number, appears, _, its_phase in stream.events:
        if its_phase != phase:
            phase = its_phase
            if phase == "forward":
                step += 1
                if step == 1:
                    for _ in range(2):
                        allocator.take(workspace)
                if step == emptied_before:
                    allocator.empty_cache()
        if appears:
            pieces[number] = allocator.take(stream.blocks[number].bytes)
        else:
            allocator.give(pieces.pop(number))
    return allocator.peak
