"""What holds of any sequence of blocks that come and go: the laws of the allocator and of a stream's peak."""

import hypothesis.strategies as some
from hypothesis import given, settings

from labsupport.allocations.caching_allocator import UNIT, CachingAllocator, peak_reserved
from labsupport.allocations.streams import MIB, Block, Stream, peak, rounded_up

laws = settings(max_examples=100)
SIZES = some.one_of(
    some.integers(1, 4 * UNIT),
    some.integers(1, 2 * MIB),  # both pools
    some.integers(1, 64 * MIB),
)
# In turn: a block of so many bytes is taken, one of those alive is given back, or the cache is emptied.
ONE = some.one_of(
    some.tuples(some.just("take"), SIZES),
    some.tuples(some.just("give"), some.integers(0, 1000)),
    some.just(("empty", 0)),
)
HAPPENINGS = some.one_of(some.lists(ONE, max_size=8), some.lists(ONE, min_size=20, max_size=40))


class Watched:
    """An allocator, the pieces alive with the bytes asked for, and the first piece of every segment."""

    def __init__(self):
        self.allocator, self.alive, self.segments = CachingAllocator(), [], []

    def happens(self, what: str, number: int) -> None:
        if what == "take":
            reserved = self.allocator.reserved
            piece = self.allocator.take(number)
            if self.allocator.reserved > reserved:
                self.segments.append((piece, self.allocator.reserved - reserved))
            self.alive.append((piece, number))
        elif what == "give" and self.alive:
            piece, _ = self.alive.pop(number % len(self.alive))
            self.allocator.give(piece)
        elif what == "empty":
            self.allocator.empty_cache()

    @property
    def live(self) -> int:
        """Bytes in use, each block rounded up as the allocator does."""
        return sum(rounded_up(asked, UNIT) for _, asked in self.alive)

    @property
    def cached(self) -> int:
        """Bytes that are reserved and not in use."""
        return sum(size for pool in self.allocator._free.values() for size, _, _ in pool)


@laws
@given(HAPPENINGS)
def test_reserved_is_never_less_than_live_and_is_what_is_used_or_cached(happenings):
    watched = Watched()
    for what, number in happenings:
        watched.happens(what, number)
        assert watched.allocator.reserved >= watched.live
        assert watched.allocator.reserved == watched.cached + sum(piece.size for piece, _ in watched.alive)
        assert all(piece.size >= asked for piece, asked in watched.alive)


@laws
@given(HAPPENINGS)
def test_the_pieces_of_a_segment_add_up_to_it_and_lie_side_by_side(happenings):
    watched = Watched()
    for what, number in happenings:
        if what != "empty":  # a segment that was handed back has no pieces
            watched.happens(what, number)
    for piece, size in watched.segments:
        while piece.before is not None:
            piece = piece.before
        pieces = [piece]
        while pieces[-1].after is not None:
            pieces.append(pieces[-1].after)
        assert sum(piece.size for piece in pieces) == size
        assert all(piece.size >= UNIT for piece in pieces)
        for left, right in zip(pieces, pieces[1:], strict=False):
            assert left.address + left.size == right.address and right.before is left
            assert not (left.free and right.free)  # free neighbours are joined


@laws
@given(HAPPENINGS)
def test_giving_everything_back_and_emptying_the_cache_leaves_nothing_reserved(happenings):
    watched = Watched()
    for what, number in happenings:
        watched.happens(what, number)
    while watched.alive:
        watched.happens("give", 0)
    watched.happens("empty", 0)
    assert watched.allocator.reserved == watched.cached == 0


@laws
@given(HAPPENINGS)
def test_the_peak_never_falls_and_is_the_most_that_was_reserved(happenings):
    watched, before, most = Watched(), 0, 0
    for what, number in happenings:
        watched.happens(what, number)
        most = max(most, watched.allocator.reserved)
        assert watched.allocator.peak >= before
        before = watched.allocator.peak
    assert watched.allocator.peak == most


@laws
@given(some.lists(SIZES, min_size=1, max_size=12), some.randoms(use_true_random=False))
def test_the_order_in_which_blocks_go_changes_neither_live_bytes_nor_what_is_left(sizes, chance):
    shuffled = list(range(len(sizes)))
    chance.shuffle(shuffled)
    left = []
    for order in (range(len(sizes)), shuffled):
        allocator = CachingAllocator()
        pieces = [allocator.take(size) for size in sizes]
        live = sum(piece.size for piece in pieces)
        for number in order:
            live -= pieces[number].size
            allocator.give(pieces[number])
        # Wholly free segments are all that is left, whatever went first.
        left.append((live, sorted(free for pool in allocator._free.values() for free, _, _ in pool)))
    assert left[0] == left[1] and left[0][0] == 0


# ---------------------------------------------------------------- streams


@some.composite
def streams_of_blocks(draw) -> Stream:
    """A stream of one step: blocks come, and go in any order or stay."""
    stream, alive = Stream(1), []
    for what, number in draw(HAPPENINGS):
        if what == "take":
            block = len(stream.blocks)
            stream.blocks[block] = Block(number, None, "1 forward", "temporaries")
            stream.events.append((block, True, None, "forward"))
            alive.append(block)
        elif what == "give" and alive:
            stream.events.append((alive.pop(number % len(alive)), False, None, "forward"))
    return stream


def live_after_each_event(stream: Stream) -> list[int]:
    live, found = 0, [0]
    for number, appears, _, _ in stream.events:
        size = rounded_up(stream.blocks[number].bytes, UNIT)
        live += size if appears else -size
        found.append(live)
    return found


@laws
@given(streams_of_blocks())
def test_a_streams_peak_is_the_most_that_is_alive_and_its_parts_add_up(stream):
    found = peak(stream)
    assert found.bytes == max(live_after_each_event(stream)) == sum(found.split.values())


@laws
@given(streams_of_blocks(), SIZES)
def test_one_more_block_never_lowers_a_peak(stream, size):
    before, reserved = peak(stream).bytes, peak_reserved(stream)
    assert reserved >= before
    number = len(stream.blocks)
    stream.blocks[number] = Block(size, None, "1 forward", "temporaries")
    stream.events.append((number, True, None, "forward"))
    assert peak(stream).bytes >= before
    assert peak_reserved(stream) >= reserved


@laws
@given(streams_of_blocks(), some.randoms(use_true_random=False))
def test_live_bytes_do_not_depend_on_the_order_in_which_blocks_go(stream, chance):
    alive = {number for number, *_ in stream.events} - {n for n, appears, *_ in stream.events if not appears}
    ends = []
    for _ in range(2):
        order = sorted(alive)
        chance.shuffle(order)
        events = [*stream.events, *((number, False, None, "forward") for number in order)]
        longer = Stream(1, stream.blocks, events)
        assert peak(longer) == peak(stream)
        ends.append(live_after_each_event(longer)[-1])
    assert ends == [0, 0]
