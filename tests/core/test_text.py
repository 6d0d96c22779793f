"""Numbers as people read them."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labsupport.core import text

laws = settings(max_examples=100)
FLOATS = st.floats(-1e300, 1e300, allow_subnormal=False)
WHOLE = st.integers(-(10**15) + 1, 10**15 - 1)


def read(written: str) -> float:
    return float(written.replace(",", ""))


@pytest.mark.parametrize(
    ("value", "three", "four"),
    [
        (0, "0", "0"),
        (-0.0, "0", "0"),
        (7, "7", "7"),
        (999, "999", "999"),
        (24_576, "24,576", "24,576"),
        (24_576.0, "24,576", "24,576"),
        (-134_515_008, "-134,515,008", "-134,515,008"),
        (999_999_999_999_999, "999,999,999,999,999", "999,999,999,999,999"),
        (10**15, "1e+15", "1e+15"),
        (2.0794, "2.08", "2.079"),
        (0.5, "0.5", "0.5"),
        (1234.567, "1,230", "1,235"),
        (999.6, "1,000", "999.6"),
        (12345.6, "12,300", "12,350"),
        (1.23456e-5, "1.23e-05", "1.235e-05"),
        (float("nan"), "nan", "nan"),
        (float("-inf"), "-inf", "-inf"),
    ],
)
def test_number(value, three, four):
    assert (text.number(value), text.number(value, digits=4)) == (three, four)


@laws
@given(WHOLE)
def test_whole_numbers_come_back_exactly(value):
    assert int(text.number(value).replace(",", "")) == value
    if abs(value) < 2**53:
        assert text.number(float(value)) == text.number(value)


@laws
@given(FLOATS, st.integers(1, 6))
def test_other_numbers_come_back_to_their_digits(value, digits):
    back = read(text.number(value, digits))
    assert math.isclose(back, value, rel_tol=0.5000001 * 10 ** (1 - digits))
    assert text.number(back, digits) == text.number(value, digits)
    assert text.number(-value, digits).lstrip("-") == text.number(value, digits).lstrip("-")


@laws
@given(FLOATS, FLOATS, st.integers(1, 6))
def test_order_is_kept(one, other, digits):
    low, high = sorted((one, other))
    whole = low.is_integer() or high.is_integer()  # those are not rounded, their neighbours are
    assert whole or read(text.number(low, digits)) <= read(text.number(high, digits))


def test_a_unit_stands_after_a_space():
    assert text.with_unit(1234.5, "GiB") == "1,230 GiB"
    assert text.with_unit(0.583, "%", digits=2) == "0.58 %"
    assert text.with_unit(3, "") == "3"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (0.01234, "0.012"), (2.34, "2.3"), (99.4, "99"), (99.6, "100"), (12_345.4, "12,345")]
    + [(999_999, "999,999"), (12_345_678, "1.2e+07")],
)
def test_rough(value, shown):
    assert text.rough(value) == shown


@laws
@given(st.floats(1e-12, 1e12))
def test_rough_is_within_a_twentieth(value):
    assert math.isclose(read(text.rough(value)), value, rel_tol=0.05)


def test_span():
    assert text.span((0.01234, 0.0246)) == "0.012 to 0.025"
    assert text.span(iter([1.5])) == "1.5"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0.000"), (0.0625, "0.062"), (1, "1.00"), (15.257, "15.26"), (-2.5, "-2.50"), (1234.5, "1,234")],
)
def test_size(value, shown):
    assert text.size(value) == shown


@laws
@given(st.floats(-1e9, 1e9))
def test_size_is_off_by_half_of_its_last_place_at_most(value):
    assert abs(read(text.size(value)) - value) <= (0.5 if abs(value) >= 1000 else 0.005) * (1 + 1e-9)
