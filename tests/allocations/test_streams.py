"""A shallow stream made deep: layers that take turns are repeated in turns."""

import pytest

from labsupport.allocations import streams
from labsupport.allocations.streams import Block, Stream
from labsupport.core.files import LabError

SIZES = {"even": 1000, "odd": 3000}


def turns(depth: int, order=None) -> Stream:
    """A model whose odd layers keep three times as much: forward each layer makes its output and frees the
    one before, backward it frees what it kept."""
    stream = Stream(depth)

    def make(layer, size, span):
        number = len(stream.blocks)
        stream.blocks[number] = Block(size, layer, span, "activations")
        stream.events.append((number, True, layer, span))
        return number

    kept, output = {}, make(None, 10, "forward")
    for layer in order or range(depth):
        kept[layer] = make(layer, SIZES["odd" if layer % 2 else "even"], "forward")
        before, output = output, make(layer, 10, "forward")
        stream.events.append((before, False, layer, "forward"))
    stream.events.append((output, False, layer, "loss"))
    for layer in reversed(order or range(depth)):
        stream.events.append((kept[layer], False, layer, "backward"))
    return stream


@pytest.mark.parametrize("depth", [6, 8, 20])
def test_two_kinds_of_layers_are_repeated_in_turns(depth):
    deep, whole = streams.deepen(turns(4), depth, 2), turns(depth)

    def sizes(stream):
        return [(stream.blocks[number].bytes, *rest) for number, *rest in stream.events]

    assert sizes(deep) == sizes(whole)
    assert len(deep.blocks) == len(whole.blocks)
    assert streams.peak(deep) == streams.peak(whole)


def test_a_stream_that_is_deep_enough_stays_as_it_is():
    stream = turns(4)
    assert streams.deepen(stream, 4, 2) is stream


@pytest.mark.parametrize(("depth", "wanted", "period"), [(4, 7, 2), (3, 7, 2), (4, 2, 2), (2, 3, 1)])
def test_only_whole_periods_can_be_added(depth, wanted, period):
    with pytest.raises(LabError, match=f"{depth} layers cannot be deepened to {wanted}: trace it whole"):
        streams.deepen(turns(depth), wanted, period)


def test_layers_of_two_kinds_are_not_alike():
    with pytest.raises(LabError, match="not alike"):
        streams.deepen(with_a_late_release(turns(3)), 9)


def with_a_late_release(stream: Stream) -> Stream:
    """What each layer kept goes one layer later."""
    events = [e for e in stream.events if e[3] != "backward"]
    backward = [e for e in stream.events if e[3] == "backward"]
    late = [(number, goes, layer - 1, span) for number, goes, layer, span in backward if layer > 0]
    return Stream(stream.depth, stream.blocks, [*events, *late, backward[-1]])


def test_layers_that_do_not_come_one_after_the_other_cannot_be_repeated():
    with pytest.raises(LabError, match="do not take turns"):
        streams.deepen(turns(4, order=[0, 2, 1, 2, 3]), 6, 2)
