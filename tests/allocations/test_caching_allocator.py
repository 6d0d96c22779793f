"""The simulated allocator follows the rules of CUDA's; a stream too shallow is refused."""

import pytest

from labsupport.allocations import caching_allocator, streams
from labsupport.core.files import LabError


def test_the_allocator_follows_the_rules_of_the_cuda_one():
    allocator = caching_allocator.CachingAllocator()
    mib = 2**20
    first = allocator.take(1)
    assert (first.size, allocator.reserved) == (512, 2 * mib)  # small: 2 MiB segments
    allocator.take(5 * mib)
    assert allocator.reserved == 22 * mib  # under 10 MiB: a segment of 20
    large = allocator.take(15 * mib)
    assert (large.size, allocator.reserved) == (15 * mib, 22 * mib)  # the rest of the 20 held it exactly
    exact = allocator.take(33 * mib)
    assert (exact.size, allocator.reserved) == (34 * mib, 56 * mib)  # a rest of 1 MiB is not split off
    allocator.give(exact)
    assert allocator.take(20 * mib).size == 20 * mib
    assert allocator.reserved == allocator.peak == 56 * mib


def test_emptying_the_cache_returns_only_segments_without_a_used_piece():
    allocator = caching_allocator.CachingAllocator()
    mib = 2**20
    kept, part, whole = allocator.take(5 * mib), allocator.take(9 * mib), allocator.take(40 * mib)
    allocator.give(part)
    allocator.give(whole)
    allocator.empty_cache()
    assert (allocator.reserved, allocator.peak) == (20 * mib, 60 * mib)
    assert allocator.take(12 * mib).before is kept  # the free rest of the kept segment still serves
    assert allocator.reserved == 20 * mib
    allocator.take(40 * mib)
    assert allocator.reserved == 60 * mib


def test_at_its_limit_it_hands_back_what_is_unused_before_it_fails():
    mib = 2**20
    allocator = caching_allocator.CachingAllocator(limit=100 * mib)
    kept, unused = allocator.take(40 * mib), allocator.take(50 * mib)
    allocator.give(unused)
    large = allocator.take(60 * mib)  # does not fit into the 50, nor beside them
    assert (allocator.reserved, large.size) == (100 * mib, 60 * mib)
    allocator.give(large)
    allocator.take(30 * mib)  # half of the segment is in use now: it cannot be handed back
    with pytest.raises(caching_allocator.OutOfMemory):
        allocator.take(40 * mib)
    assert not kept.free


def test_a_stream_too_shallow_is_not_deepened():
    with pytest.raises(LabError, match="trace it whole"):
        streams.deepen(streams.Stream(2), 8)
