"""Comparing answers: what counts as the same, and what a difference is called."""

import itertools
from collections import OrderedDict

import numpy as np
import pytest
import torch

from labsupport.checking.exercise import Exercise
from labsupport.differences.comparing import brief, mismatches, plain


def verdict(expected, got, **options):
    """Of an exercise without arguments whose right answer is `expected`."""
    return Exercise("quiz.value", lambda: expected, [()], **options).check(lambda: got)


def worst(expected, got):
    """What is said of the gravest difference."""
    found = mismatches(plain(expected), plain(got))
    return min(found, key=lambda mismatch: (mismatch.rank, -mismatch.size)).text


def agree(expected, got, tolerance=None):
    return not mismatches(plain(expected), plain(got), tolerance)


# ---------------------------------------------------------------- what a difference is called


@pytest.mark.parametrize(
    ("expected", "got", "text"),
    [
        (1.5, "1.5", "It returned a str ('1.5') where a number (float) was expected"),
        (1.5, [1.5], "It returned a list of shape (1,) where a number (float) was expected"),
        ([1.5], 1.5, "It returned a float (1.5) where a list of shape (1,) was expected"),
        ({"a": 1}, [1], "It returned a list of shape (1,) where a dict was expected"),
        ("abc", 3, "It returned an int (3) where a str was expected"),
        (3, None, "It returned None where a number (int) was expected"),
        ([3, None], [None, None], "It returned None at [0] where a number (int) was expected"),
        (None, {}, "It returned a dict where None was expected"),
        ({"a": [1, "x"]}, {"a": [1, 2]}, "It returned an int (2) at ['a'][1] where a str was expected"),
        (0.5, float("nan"), "It returned NaN, not a finite number"),
        (5, float("inf"), "It returned infinity, not a finite number"),
        ([1.0, 2.0], [1.0, np.nan], "It returned NaN in 1 of 2 values, not a finite number"),
        ([np.nan, 2.0], [np.nan, np.inf], "It returned infinity in 1 of 2 values, not a finite number"),
        (np.ones((2, 3)), np.ones((3, 2)), "It returned shape (3, 2) where (2, 3) was expected"),
        (torch.ones(2, 3), torch.ones(3, 2), "It returned shape (3, 2) where (2, 3) was expected"),
        ([[1, 2]], [1, 2], "It returned shape (2,) where (1, 2) was expected"),
        ([1, 2, 3], [1, 2], "It returned length 2 where 3 was expected"),
        (["a", "b"], ["a"], "It returned length 1 where 2 was expected"),
        ({"x": ["a", "b"]}, {"x": ["a"]}, "It returned length 1 at ['x'] where 2 was expected"),
        ({"a": 1, "b": 2}, {"a": 1, "c": 2}, "Its dict has other keys: it misses 'b' and has 'c' too many"),
        ({"a": 1, "b": 2}, {"a": 1}, "Its dict has other keys: it misses 'b'"),
        ({"a": 1}, {"a": 1, "b": 2}, "Its dict has other keys: it has 'b' too many"),
        ({"a": {"b": 1}}, {"a": {}}, "Its dict at ['a'] has other keys: it misses 'b'"),
        (True, False, "It returned False where True was expected"),
        ([1 > 0, 1 > 0], [True, False], "It returned False where True was expected (element [1])"),
        (24576, 12288, "The largest difference is 12,288 where 24,576 was expected"),
        ([1.0, 2.0], [1.0, 2.5], "The largest difference is 0.5 where 2 was expected (element [1])"),
        ([1.0, 2.0], [1.7, 2.5], "The largest difference is 0.7 where 1 was expected (element [0])"),
        ({"a": 2.0}, {"a": 2.5}, "The largest difference is 0.5 where 2 was expected at ['a']"),
        ({"a": 2.0, "b": 3.0}, {"a": 2.5, "b": 4.0}, "difference is 1 where 3 was expected at ['b']"),
        (0.0, -np.inf, "It returned infinity, not a finite number"),
        ([-np.inf, 2.0], [-np.inf, -np.inf], "It returned -inf where 2 was expected (element [1])"),
        (np.inf, 1.0, "It returned 1 where inf was expected"),
        (2.0, 2 + 1j, "The largest difference is 1 where 2 was expected"),
        (2 + 2j, 2.0, "The largest difference is 2 where 2+2j was expected"),
        (np.array([1, 2], np.uint8), [1, 3], "The largest difference is 1 where 2 was expected"),
        (3, 10**400, "It returned an integer of 1329 bits where 3 was expected"),
        (10**400, 3, "It returned 3 where an integer of 1329 bits was expected"),
        (10**400, 1.5, "It returned 1.5 where an integer of 1329 bits was expected"),
        (-1.5, -(10**400), "It returned an integer of 1329 bits where -1.5 was expected"),
        (1.5, 10**400, "It returned an integer of 1329 bits where 1.5 was expected"),
        ("a b", "a  b", "It returned 'a  b' where 'a b' was expected"),
        ({"t": "a"}, {"t": "b"}, "It returned 'b' at ['t'] where 'a' was expected"),
        ("x" * 60, "x" * 59, f"It returned {'x' * 59!r} where {'x' * 60!r} was expected"),
        (
            "x" * 99,
            "x" * 80 + "y" * 19,
            f"Its text differs from character 81 on: ...{'x' * 15 + 'y' * 19!r} where ...{'x' * 34!r} was",
        ),
        ("x" * 99, "x" * 80, "Its text differs from character 81 on"),
        (
            "a" * 90,
            "a" * 40 + "b" * 50,
            f"character 41 on: ...{'a' * 15 + 'b' * 25!r} where ...{'a' * 40!r} was expected",
        ),
        ("a" * 90, "b" * 90, f"character 1 on: ...{'b' * 25!r} where ...{'a' * 25!r} was expected"),
        ("a" * 61, "a" * 60, "Its text differs from character 61 on"),
        ([np.inf, np.nan, 1.0], [np.inf, np.nan, 2.0], "difference is 1 where 1 was expected (element [2])"),
        ([np.nan, 1.0], [1.0, 1.5], "It returned 1 where nan was expected (element [0])"),
        ({"a": 1, "b": 2, "c": 3}, {"d": 1, "e": 2, "c": 3}, "it misses 'a', 'b' and has 'd', 'e' too many"),
        (b"a", b"b", "It returned b'b' where b'a' was expected"),
        ({"a": b"a"}, {"a": b"b"}, "It returned b'b' at ['a'] where b'a' was expected"),
        (2, 2 + 2j, "The largest difference is 2 where 2 was expected"),
    ],
    ids=lambda x: "huge" if isinstance(x, int) and abs(x) > 2**99 else None,
)
@pytest.mark.filterwarnings("error")  # of numpy about infinities, which a learner would see
def test_diagnosis(expected, got, text):
    assert text in worst(expected, got)
    result = verdict(expected, got)
    assert result.status == "wrong" and result.evidence.startswith("Here it returned ")


ALL_FAULTS = [
    ("a type", 1.0, "1.0", "It returned a str"),
    ("a number that is none", 1.0, np.nan, "It returned NaN"),
    ("keys", {"k": 1}, {}, "Its dict at "),
    ("a shape", [1.0, 2.0], [1.0], "It returned length 1"),
    ("a value", 1.0, 1e9, "The largest difference"),
]
SMALLER_FAULTS = [("a text", "a", "b", "It returned 'b'"), ("another value", b"a", b"b", "It returned b'b'")]
FAULTS = [*itertools.combinations(ALL_FAULTS, 2), *itertools.product(ALL_FAULTS, SMALLER_FAULTS)]


@pytest.mark.parametrize(("first", "second"), FAULTS)
def test_the_graver_difference_speaks_first(first, second):
    _, *pair, text = zip(first, second, strict=True)
    for order in (slice(None), slice(None, None, -1)):
        expected, got = ({"x": values[order][0], "y": values[order][1]} for values in pair)
        assert worst(expected, got).startswith(text[0])


@pytest.mark.parametrize(
    ("made", "name"),
    [
        (lambda: (x for x in [1, 2]), "a generator"),
        (lambda: map(int, "12"), "a map"),
        (lambda: zip([1, 2], strict=True), "a zip"),
        (lambda: {1, 2}, "a set"),
        (lambda: {1: 0, 2: 0}.keys(), "a dict_keys"),
        (lambda: iter([1, 2]), "a list_iterator"),
    ],
)
def test_containers_that_break_the_next_cell_are_no_lists(made, name):
    """They are empty after one use, or cannot be indexed."""
    exercise = Exercise("q", lambda: [1, 2], [()])
    assert f"It returned {name} where a list of shape (2,) was expected" in exercise.check(made).message


def test_values_in_messages_are_short():
    assert brief(np.zeros((50, 4))) == "ndarray of shape (50, 4)"
    assert brief(np.array([[1, 2, 3], [4, 5, 6]])) == "[[1, 2, 3], [4, 5, 6]]"
    assert brief(torch.nn.Parameter(torch.zeros(7))) == "Parameter of shape (7,)"
    assert brief(torch.tensor([0.5, 1])) == "[0.5, 1.0]"
    assert brief(0.1 + 0.2) == "0.3"
    assert brief("x" * 99).startswith("'xxxx") and len(brief("x" * 99)) == 60
    assert brief(object()) == "<object object>"
    assert brief(torch.zeros(2, device="meta")) == "a Tensor"


# ---------------------------------------------------------------- other forms of the same


@pytest.mark.parametrize(
    ("expected", "got"),
    [
        ([1, 2], (1, 2)),
        ([1, 2], np.array([1, 2])),
        (np.array([[1.0, 2.0]]), [[1, 2]]),
        ([1, 0.5], np.array([1.0, 0.5])),
        ((3, 0.5, "a"), [3.0, 0.5, "a"]),
        (3, 3.0),
        (3.0, np.int64(3)),
        (True, 1),
        (1, True),
        (True, np.bool_(True)),
        (0.3, 0.1 + 0.2),
        (2**70, 2**70),
        (2**53 + 1, np.int64(2**53 + 1)),
        ("a", np.str_("a")),
        (["a", "b"], np.array(["a", "b"])),
        ({"a": 1, "b": [1.0]}, OrderedDict(b=(1,), a=np.float64(1))),
        ([-np.inf, 0.0], [-np.inf, 0.0]),
        ([np.nan, 1.0], [np.nan, 1.0]),
        (1 + 2j, np.complex64(1 + 2j)),
        ([], ()),
        ([], np.zeros(0)),
        ([0, 1, 2], range(3)),
        (torch.ones(2, 2), [torch.ones(2), torch.ones(2)]),
        (2.0, torch.tensor(2.0)),
        (torch.tensor(2), 2),
        ([0.1, 0.2], torch.nn.Parameter(torch.tensor([0.1, 0.2])) * 1),
        (torch.tensor([0.1, 0.2]), np.array([0.1, 0.2])),
        (torch.tensor([True, False]), [1, 0]),
    ],
)
def test_other_containers_pass(expected, got):
    result = verdict(expected, got)
    assert result.status == "correct", result


@pytest.mark.parametrize(
    ("expected", "got"),
    [
        (7, torch.tensor([7])),
        ([1.0, -1.0], [1.0, 1.0]),
        ([np.nan, 1.0], [1.0, np.nan]),
        (np.inf, -np.inf),
        (np.inf, -(10**400)),
        (-np.inf, 10**400),
        (1e300, np.inf),
        ("a", "A"),
        ("1", 1),
        (None, 0),
        ([], None),
        ([], {}),
        ([1, [2, 3]], [1, [2, 4]]),
        ({1: "a"}, {"1": "a"}),
    ],
)
def test_what_is_not_the_same(expected, got):
    assert not agree(expected, got) and not agree(got, expected)


# ---------------------------------------------------------------- tolerances


def test_tolerances_follow_the_references_dtype():
    assert agree(1.0, 1.0 + 1e-7) and not agree(1.0, 1.0 + 5e-6)
    single, half = torch.tensor([1.0]), torch.tensor([1.0], dtype=torch.bfloat16)
    assert agree(single, [1.0 + 5e-6]) and not agree(single, [1.0 + 5e-5])
    assert agree([1.0], torch.tensor([1.0 + 5e-6])), "float32 is fine where python's floats are expected"
    assert agree(half, [1.005]) and not agree(half, [1.05])
    assert agree(half.half(), [1.005]) and not agree(half.half(), [1.05])
    assert agree(half, half + 0.0078125) and not agree(half, half + 0.03125)
    assert agree(torch.zeros(1), torch.tensor([5e-6], dtype=torch.float16))
    assert not agree(np.zeros(1), torch.tensor([5e-6], dtype=torch.float16))
    assert not agree(single, torch.tensor([1.0078125], dtype=torch.bfloat16))
    assert agree(1.0, 1.05, 0.1) and not agree(1.0, 1.0 + 1e-7, 1e-9)


def test_a_tolerance_is_relative_above_one_and_absolute_below():
    assert agree(1000.0, 1009.0, 0.01) and not agree(1000.0, 1011.0, 0.01)
    assert agree(0.0, 0.009, 0.01) and not agree(0.0, 0.011, 0.01)


def test_a_tolerance_reaches_into_containers():
    for wrap in (lambda x: {"a": x}, lambda x: {"a": {"b": ["c", x]}}, lambda x: ["a", (x, "b")]):
        assert agree(wrap(1.0), wrap(1.05), 0.1) and not agree(wrap(1.0), wrap(1.3), 0.1)
        assert agree(wrap([1.0, 1]), wrap([1.05, 1]), 0.1) and not agree(wrap([1.0, 1]), wrap([1.0, 2]), 0.1)


def test_a_list_has_the_tolerance_of_its_coarsest_number():
    mixed = [np.float32(1.0), 2.0]
    assert agree(mixed, [1.0 + 5e-6, 2.0]) and not agree(mixed, [1.0 + 5e-5, 2.0])


def test_half_precision_is_named():
    expected, half = torch.tensor([0.3]), torch.tensor([0.3], dtype=torch.bfloat16)
    note = "(your values are bfloat16, the expected ones float32)"
    assert note in verdict(expected, half).message
    for message in (
        verdict(half, torch.tensor([0.9], dtype=torch.float16)).message,
        verdict(expected, [0.9]).message,
        verdict([3], torch.tensor([4], dtype=torch.bfloat16)).message,
    ):
        assert "where" in message and "your values are" not in message


def test_integers_are_exact_whatever_stands_beside_them():
    assert not agree(24_576_000, 24_576_001)
    assert not agree(24_576_000, 24_576_001.0)
    assert not agree([24_576_000, 0.5], [24_576_001, 0.5])
    assert not agree([24_576_000, 0.5], np.array([24_576_001, 0.5]))
    assert not agree(torch.tensor([24_576_000]), [24_576_001])
    assert not agree([24_576_000], torch.tensor([24_576_001]))
    assert not agree(np.array([24_576_000]), torch.tensor([24_576_001], dtype=torch.int32))
    assert not agree(10, 11, 0.5)
    assert not agree(2**60, 2**60 + 1)
    assert not agree(2**53 + 1, 2.0**53)
    assert not agree([2**63, 1], [2**63 + 1, 1])


# ---------------------------------------------------------------- lost gradients


CUT_OFF = [
    lambda w: w.detach() * 2,
    lambda w: (w * 2).data,
    lambda w: (w * 2).tolist(),
    lambda w: [x.item() * 2 for x in w],
    lambda w: w.detach().numpy() * 2,
    lambda w: torch.tensor((w * 2).tolist()),
]


@pytest.mark.parametrize("wrong", CUT_OFF)
def test_a_result_that_should_have_a_gradient_is_told_when_it_is_cut_off(wrong):
    exercise = Exercise("q", lambda w: {"out": [w * 2, "b"]}, [(torch.ones(2, requires_grad=True),)])
    assert exercise.check(lambda w: {"out": [w + w, "b"]}).status == "correct"
    assert exercise.check(lambda w: {"out": [[w[0] + w[0], w[1] * 2], "b"]}).status == "correct"
    message = exercise.check(lambda w: {"out": [wrong(w), "b"]}).message
    assert message.startswith("Its values are right, but it has no gradient at ['out'][0]: something like")
    assert message.endswith(" cuts it off.")


def test_wrong_values_speak_before_a_lost_gradient():
    exercise = Exercise("q", lambda w: [w * 2, w.sum()], [(torch.ones(2, requires_grad=True),)])
    wrong = exercise.check(lambda w: [w.tolist(), w.sum()])
    assert (
        wrong.message == "Only element [0] is wrong; the rest is right."
        and "[[1, 1], 2] where" in wrong.evidence
    )
    assert "element [1] is wrong" in exercise.check(lambda w: [w.detach() * 2, w.sum() + 1]).message


def test_a_gradient_too_many_is_fine():
    assert agree([1.0], torch.ones(1, requires_grad=True))
