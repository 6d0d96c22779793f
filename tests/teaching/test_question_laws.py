"""What holds of every number and every way to write it: reading, grading, showing."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labsupport.core import text
from labsupport.teaching import questions as q

laws = settings(max_examples=100)
FINITE = st.floats(-1e299, 1e299, allow_subnormal=False)
KEYS = st.floats(1e-9, 1e12) | st.floats(-1e12, -1e-9) | st.integers(1, 10**12)
TOLERANCES = st.sampled_from([0.0, 0.001, 0.01, 0.02, 0.03, 0.1, 0.25])
UNITS = st.sampled_from(["", "%", "GiB", "MB", "parameters", "nats", "s"])
SEPARATOR = st.sampled_from([*q.SEPARATORS])
SIGN = st.sampled_from(["", "+", "-", "\u2212"])


def question(right, tolerance=0.01, unit=""):
    return q.NumberQuestion("sample", "?", lambda: right, tolerance, unit, "Because.")


def reading(written: str, unit: str = "") -> float:
    number = q.read_number(written, unit)
    assert not isinstance(number, str), number
    return number


# ---------------------------------------------------------------- reading


@laws
@given(FINITE | st.integers(-(2**53), 2**53))
def test_a_number_and_its_repr_are_themselves(value):
    assert reading(value) == value
    assert reading(repr(value)) == value


@laws
@given(st.integers(0, 10**15), SEPARATOR, SIGN, st.sampled_from(["", "."]))
def test_thousands_with_any_separator(value, separator, sign, point):
    written = f"{sign}{value:,}{point}".replace(",", separator)
    assert reading(written) == (-value if sign in ("-", "\u2212") else value)


@laws
@given(st.integers(10**3, 10**9), st.integers(0, 999), SEPARATOR)
def test_thousands_before_a_decimal_point(whole, thousandths, separator):
    assert reading(f"{whole:,}".replace(",", separator) + f".{thousandths:03d}") == float(
        f"{whole}.{thousandths:03d}"
    )


@laws
@given(st.just(0) | st.integers(0, 999), st.from_regex(r"[0-9]{3}|[0-9]{1,6}", fullmatch=True), SIGN)
def test_decimal_comma_unless_it_separates_thousands(whole, decimals, sign):
    factor = -1 if sign in ("-", "\u2212") else 1
    thousands = whole > 0 and len(decimals) == 3
    wanted = float(f"{whole}{decimals}" if thousands else f"{whole}.{decimals}")
    assert reading(f"{sign}{whole},{decimals}") == factor * wanted


@laws
@given(st.floats(0.1, 10), st.integers(-30, 30), st.sampled_from("eE"), SIGN, SIGN)
def test_exponents(mantissa, exponent, letter, sign, its_sign):
    written = f"{sign}{mantissa!r}{letter}{its_sign}{abs(exponent)}"
    assert reading(written) == float(written.replace("\u2212", "-"))


@laws
@given(FINITE, UNITS, st.sampled_from(["{} {}", "{}{}", "  ~{} {} ", "= {}\u00a0{}", "≈{} {}"]))
def test_the_unit_may_follow(value, unit, pattern):
    for its_unit in (unit, unit.upper(), ""):
        assert reading(pattern.format(repr(value), its_unit), unit) == value


@laws
@given(FINITE, UNITS, UNITS)
def test_another_unit_is_refused_by_name(value, unit, other):
    said = q.read_number(f"{value!r} {other}", unit)
    if other in ("", unit):
        assert said == value
    else:
        assert said.startswith(f"The unit '{other}' does not fit")


@laws
@given(FINITE, UNITS, st.integers(1, 6))
def test_what_the_course_shows_can_be_typed_in(value, unit, digits):
    shown = text.with_unit(value, unit, digits)
    assert math.isclose(reading(shown, unit), value, rel_tol=0.5000001 * 10 ** (1 - digits))


@laws
@given(st.text(max_size=30) | st.text("0123456789.,-+eE% ", max_size=12))
def test_any_text_is_a_number_or_a_sentence(written):
    number = q.read_number(written, "%")
    if isinstance(number, str):
        assert number.endswith(".") and "\n" not in number and len(number) < 200
    else:
        assert math.isfinite(number)


# ---------------------------------------------------------------- grading


@laws
@given(KEYS, TOLERANCES, UNITS)
def test_the_right_answer_is_right_however_it_is_written(right, tolerance, unit):
    asked = question(right, tolerance, unit)
    for answer in (right, float(right), repr(right), f"{right!r} {unit}", f" {right!r}{unit}"):
        assert q.grade(asked, answer)[0] is True, answer
    verdict, message = q.grade(asked, right)
    assert message.startswith("Right: ") and message.endswith(" Because.")


@laws
@given(KEYS, TOLERANCES, st.floats(0, 1))
def test_what_is_within_the_tolerance_is_right(right, tolerance, part):
    for sign in (-1, 1):
        assert q.grade(question(right, tolerance), right * (1 + sign * part * tolerance))[0] is True


@laws
@given(KEYS, TOLERANCES, st.floats(1.001, 100))
def test_what_is_beyond_it_is_not_and_the_side_is_said(right, tolerance, times):
    step = times * max(tolerance, 1e-6)
    for sign in (-1, 1):
        answer = right * (1 + sign * step)
        verdict, message = q.grade(question(right, tolerance), answer)
        assert verdict is False
        assert f"is too {'high' if answer > right else 'low'}." in message and "Because" not in message


@laws
@given(KEYS, TOLERANCES, st.sampled_from([10, 1000, 1024, 100, 8]))
def test_powers_of_ten_bits_for_bytes_and_signs_are_wrong(right, tolerance, factor):
    for answer in (right * factor, right / factor, -right):
        assert q.grade(question(right, tolerance), answer)[0] is False


@laws
@given(KEYS, st.sampled_from([0.001, 0.01, 0.1]))
def test_the_answer_that_is_shown_is_right_when_typed_in(right, tolerance):
    asked = question(right, tolerance, "GiB")
    shown = q.solution(asked).removesuffix(". Because.")
    assert shown.endswith(" GiB") and q.grade(asked, shown)[0] is True


@pytest.mark.parametrize("answer", [0, "0", "0 %", 0.0, "-0", "0.0"])
def test_only_nothing_equals_nothing(answer):
    asked = question(0, 0.25, "%")
    assert q.grade(asked, answer)[0] is True
    assert q.grade(asked, 1e-9)[0] is False
