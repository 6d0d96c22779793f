"""Numbers that somebody typed: taken, or refused in one line."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labsupport.core import numbers
from labsupport.core.files import LabError

ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.lists(st.integers()),
    st.dictionaries(st.text(), st.integers()),
    st.sampled_from([10**5000, -(10**5000), "9" * 10_000]),
)


@given(ANYTHING)
def test_a_whole_number_is_taken_as_one_or_refused_in_one_line(value):
    try:
        taken = numbers.whole(value, "batch", 1, 100)
    except LabError as error:
        text = str(error)
        assert text.startswith("batch is ") and "\n" not in text and len(text) < 200
    else:
        assert type(taken) is int and 1 <= taken <= 100 and taken == value


@given(ANYTHING, st.booleans())
def test_a_number_is_finite_and_within_its_limits(value, above):
    try:
        taken = numbers.real(value, "rate", 0.0, 1e6, above=above)
    except LabError as error:
        text = str(error)
        assert text.startswith("rate is ") and "\n" not in text and len(text) < 200
    else:
        assert type(taken) is float and math.isfinite(taken) and taken == value
        assert 0 < taken <= 1e6 if above else 0 <= taken <= 1e6


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "batch is 0: it must be a whole number of at least 1 and at most 1,000,000."),
        (10**18, "batch is 1000000000000000000: it must be"),
        (True, "batch is True: it must be"),
        ("4", "batch is '4': it must be"),
        (2.5, "batch is 2.5: it must be"),
        (math.nan, "batch is nan"),
        pytest.param(10**5000, "batch is a number of thousands of digits", id="very long"),
    ],
)
def test_what_is_no_count_is_named_with_its_value_and_what_is_wanted(value, words):
    with pytest.raises(LabError) as caught:
        numbers.whole(value, "batch", 1, 1_000_000)
    assert str(caught.value).startswith(words)


def test_a_float_that_is_whole_is_a_whole_number():
    assert numbers.whole(4096.0, "hidden_size") == 4096


def test_no_limit_above_is_none():
    assert numbers.whole(10**18, "n") == 10**18
    with pytest.raises(LabError, match="n is -1: it must be a number of at least 0.$"):
        numbers.real(-1, "n")


def test_a_long_value_is_shown_by_its_ends():
    shown = numbers.shown("a" * 1000 + "b")
    assert len(shown) < 70 and shown.startswith("'aaa") and shown.endswith("b'")
    assert numbers.shown("short\n") == "'short\\n'"
