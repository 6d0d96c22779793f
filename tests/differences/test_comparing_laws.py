"""The laws of comparing answers, tried on many values."""

import copy
import math

import numpy as np
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from labsupport.differences.comparing import mismatches, plain


def agree(expected, got, tolerance=None):
    return not mismatches(plain(expected), plain(got), tolerance)


reproducible = settings(max_examples=100)
any_floats = st.floats() | st.sampled_from([0.0, -0.0, math.nan, math.inf, -math.inf, 1e308, 5e-324])
near_floats = st.floats(-4, 4) | st.integers(-8, 8).map(lambda n: n / 4)
integers = st.integers(-(2**70), 2**70) | st.sampled_from(
    [0, 1, 2**53 + 1, 2**63, 2**64 - 1, -(2**63), 10**400]
)
tolerances = st.none() | st.floats(0, 2) | st.sampled_from([0.5, 1e-2, 1e-6])


def arrays(numbers):
    """Lists of one to six numbers as an array or a tensor of one or two dimensions."""
    lists = st.lists(numbers, min_size=1, max_size=6)
    flat = lists.map(np.array)
    shaped = flat | lists.map(lambda x: np.array([x, x]))
    return shaped | shaped.map(torch.from_numpy) | shaped.map(lambda a: torch.from_numpy(a).float())


def nested(leaves):
    """Leaves in lists, tuples and dicts, up to some depth."""
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.lists(inner, max_size=4).map(tuple)
            | st.dictionaries(st.text(max_size=2) | st.integers(0, 3), inner, max_size=3)
        ),
        max_leaves=8,
    )


words = st.none() | st.text(max_size=3) | st.booleans()
anything = nested(words | integers | any_floats | arrays(any_floats) | arrays(st.integers(-9, 9)))
without_rounding = nested(words | st.integers(-(2**53), 2**53) | any_floats | arrays(any_floats))


def moved(value, by):
    """The same value with every float moved a little; integers and words stay."""
    if isinstance(value, dict):
        return {key: moved(item, by) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(moved(item, by) for item in value)
    if isinstance(value, (torch.Tensor, np.ndarray)):
        whole = str(value.dtype).removeprefix("torch.").startswith(("int", "bool"))
        return value if whole else value * (1 + by)
    return value * (1 + by) if isinstance(value, float) else value


@reproducible
@given(anything)
def test_everything_agrees_with_a_copy_of_itself(value):
    assert agree(value, copy.deepcopy(value), 0.0)


@reproducible
@given(
    nested(words | integers | near_floats | arrays(near_floats)),
    st.floats(-0.9, 3) | st.sampled_from([0.0, 1e-7, 2e-6, 1e-5]),
    tolerances,
)
@example([1.0], 1.5, 0.5)
def test_agreement_is_symmetric_where_the_moved_value_is_of_the_same_types(value, by, tolerance):
    other = moved(value, by)
    assert agree(value, other, tolerance) == agree(other, value, tolerance)


@reproducible
@given(without_rounding, without_rounding)
@example(3, 3.0)
@example([1, 0.5], [1.0, 0.5])
@example(True, 1.0)
def test_agreement_of_unlike_values_is_symmetric_at_tolerance_0(one, other):
    """By default the expected side decides about the tolerance, see `mismatches`."""
    assert agree(one, other, 0.0) == agree(other, one, 0.0)


@reproducible
@given(nested(near_floats | arrays(near_floats)), st.floats(-0.9, 3), st.floats(0, 2), st.floats(0, 2))
def test_what_agrees_also_agrees_with_more_tolerance(value, by, one, two):
    other = moved(value, by)
    assert agree(value, other, max(one, two)) >= agree(value, other, min(one, two))


@reproducible
@given(st.lists(any_floats, min_size=1, max_size=6) | st.lists(st.integers(-9, 9), min_size=1, max_size=6))
def test_list_tuple_array_and_tensor_of_the_same_numbers_agree(numbers):
    forms = [numbers, tuple(numbers), np.array(numbers), torch.tensor(np.array(numbers))]
    forms += [[np.array(n) for n in numbers], [torch.tensor(n, dtype=forms[3].dtype) for n in numbers]]
    rows = [[form, form] for form in forms] + [np.array([numbers, numbers])]
    for one, other in [*zip(forms, forms[1:], strict=False), *zip(rows, rows[1:], strict=False)]:
        assert agree(one, other, 0.0) and agree(other, one, 0.0)


@reproducible
@given(integers, integers, st.floats(0, 2), near_floats)
def test_integers_agree_only_if_they_are_equal(one, other, tolerance, beside):
    assert agree(one, other, tolerance) == (one == other)
    assert agree([one, beside], [other, beside], tolerance) == (one == other)
    assert agree([one, one], [one, other], tolerance) == (one == other)


@reproducible
@given(st.floats(-1e6, 1e6), st.floats(0, 0.1))
def test_a_float_agrees_inside_its_tolerance_and_not_outside(number, tolerance):
    limit = tolerance * (1 + abs(number))
    assume(limit > 1e-9)
    assert agree(number, number + 0.99 * limit, tolerance)
    assert not agree(number, number + 1.3 * limit, tolerance)


@reproducible
@given(anything, anything)
def test_two_values_either_agree_or_have_a_sentence_for_every_difference(expected, got):
    found = mismatches(plain(expected), plain(got))
    assert agree(expected, got) == (not found)
    for mismatch in found:
        assert mismatch.size >= 0 and len(mismatch.text) < 2000 and "\n" not in mismatch.text


@reproducible
@given(anything)
def test_plain_form_is_a_snapshot(value):
    """What is done to the value afterwards does not show in it."""
    kept = copy.deepcopy(value)
    taken = plain(value)
    for item in [value] + (list(value.values()) if isinstance(value, dict) else []):
        if isinstance(item, (np.ndarray, torch.Tensor)):
            item[...] = 77
        elif isinstance(item, list):
            item.append("more")
    assert not mismatches(taken, plain(kept), 0.0)
