"""What is alive at each moment of a step, on a stream small enough to count by hand."""

from labsupport.allocations import moments
from labsupport.allocations.streams import Block, Stream


def stream() -> Stream:
    """Two steps. Weights of 100 stay; each step makes activations of 10 and 20 and logits of 7, and frees
    them in the backward pass, where gradients of 5 come."""
    made = Stream(depth=1)
    made.blocks[0] = Block(100, 0, "0 load", "weights")
    made.events.append((0, True, 0, "load"))
    for step in (1, 2):
        first = len(made.blocks)
        parts = [(10, "forward", "activations"), (20, "forward", "activations"), (7, "loss", "logits")]
        parts.append((5, "backward", "gradients"))
        for number, (size, phase, category) in enumerate(parts, start=first):
            made.blocks[number] = Block(size, 0, f"{step} {phase}", category)
        made.events += [(first, True, 0, "forward"), (first + 1, True, 0, "forward")]
        made.events += [(first + 2, True, None, "loss"), (first + 2, False, None, "loss")]
        made.events += [(first + 1, False, 0, "backward"), (first + 3, True, 0, "backward")]
        made.events += [(first, False, 0, "backward"), (first + 3, False, 0, "optimizer")]
    return made


def test_each_moment_of_the_second_step_has_its_phase_and_its_sum():
    found = moments.of_second_step(stream())
    assert [(phase, live.total()) for phase, live in found] == [
        ("forward", 110),
        ("forward", 130),
        ("loss", 137),
        ("loss", 130),
        ("backward", 110),
        ("backward", 115),
        ("backward", 105),
        ("optimizer", 100),
    ]


def test_each_kind_at_its_own_largest_is_more_than_the_peak_together():
    largest = moments.largest(stream())
    assert (largest["weights"], largest["activations"]) == (100, 30)
    assert sum(largest.values()) == 142 > max(live.total() for _, live in moments.of_second_step(stream()))


def test_the_tensors_of_a_kind_are_those_of_its_largest_moment():
    assert moments.tensors_at_largest(stream(), "activations") == [10, 20]
    assert moments.tensors_at_largest(stream(), "optimizer") == []
