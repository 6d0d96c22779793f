"""How many rows and seeds a comparison needs: against simulations, and the formulas against each other."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from labsupport.core.files import LabError
from labsupport.evaluation import intervals, power

laws = settings(max_examples=100)
SHARES = [(0.25, 0.05), (0.4, 0.2), (0.12, 0.04)]


def outcomes(discordant, difference, rows, times, seed=0):
    """On how many of the rows only the one, and only the other, of two methods is right: two arrays."""
    better, worse = (discordant + difference) / 2, (discordant - difference) / 2
    drawn = np.random.default_rng(seed).multinomial(rows, [better, worse, 1 - discordant], size=times)
    return drawn[:, 0], drawn[:, 1]


def exact_mcnemar(b, c):
    """Two-sided p of McNemar's exact test, the sign test of the rows on which the two methods disagree."""
    p = stats.binom.cdf(np.minimum(b, c), b + c, 0.5)
    return np.minimum(1, 2 * p)


def test_the_test_that_the_simulations_use_is_scipys():
    b, c = np.array([3, 10, 25, 0]), np.array([9, 10, 7, 0])
    ours = exact_mcnemar(b, c)
    assert [stats.binomtest(int(i), int(i + j)).pvalue for i, j in zip(b[:3], c[:3], strict=True)] == (
        pytest.approx(ours[:3])
    )
    assert ours[3] == 1


@pytest.mark.parametrize(("discordant", "difference"), SHARES)
@pytest.mark.parametrize(("wanted", "level"), [(0.8, 0.05), (0.9, 0.05), (0.8, 0.01)])
def test_so_many_rows_find_the_difference_as_often_as_asked(discordant, difference, wanted, level):
    """By the interval of the mean difference. McNemar's exact test finds it less often."""
    rows = power.rows_needed(discordant, difference, wanted, level)
    b, c = outcomes(discordant, difference, rows, times=20_000)
    error = np.sqrt(b + c - (b - c) ** 2 / rows) / rows
    found = np.abs(b - c) / rows > stats.norm.ppf(1 - level / 2) * error
    assert abs(found.mean() - wanted) < 0.025
    assert (exact_mcnemar(b, c) < level).mean() < wanted


@pytest.mark.parametrize(
    ("discordant", "difference", "rows", "more"), [(0.25, 0.05, 778, 1.06), (0.4, 0.2, 71, 1.21)]
)
def test_how_many_rows_more_the_exact_test_needs(discordant, difference, rows, more):
    """As the docstring says."""
    assert power.rows_needed(discordant, difference) == rows
    b, c = outcomes(discordant, difference, math.ceil(more * rows), times=40_000)
    assert abs((exact_mcnemar(b, c) < 0.05).mean() - 0.8) < 0.015


@pytest.mark.parametrize(("discordant", "difference"), SHARES)
def test_connors_formula_asks_for_a_few_rows_more(discordant, difference):
    z = stats.norm.ppf
    spread = math.sqrt(discordant - difference**2)
    connor = ((z(0.975) * math.sqrt(discordant) + z(0.8) * spread) / difference) ** 2
    ours = power.rows_needed(discordant, difference)
    assert ours - 1 < connor < 1.08 * ours + 1


@laws
@given(
    discordant=st.floats(0.02, 1),
    part=st.floats(0.05, 0.95),
    wanted=st.floats(0.2, 0.99),
    level=st.floats(0.001, 0.15),
)
def test_the_detectable_difference_is_that_of_the_rows_needed(discordant, part, wanted, level):
    difference = part * discordant
    rows = power.rows_needed(discordant, difference, wanted, level)
    found = power.detectable_difference(discordant, rows, wanted, level)
    assert found <= difference * (1 + 1e-9)
    if rows > 1:
        assert power.detectable_difference(discordant, rows - 1, wanted, level) > difference * (1 - 1e-9)
    assert power.rows_needed(discordant, -difference, wanted, level) == rows


def test_it_is_the_rule_of_thumb_of_the_intervals():
    """2.8 standard errors, `intervals.detectable`, for a small difference in many rows."""
    rows, discordant = 1000, 0.2
    values = [1.0] * 105 + [-1.0] * 95 + [0.0] * 800
    assert power.detectable_difference(discordant, rows) == pytest.approx(
        intervals.detectable(values, list(range(rows))), rel=0.01
    )


@pytest.mark.parametrize("level", [0.5, 0.2, 0.05, 0.01, 0.001])
def test_with_fewer_seeds_no_sign_test_reaches_the_level(level):
    seeds = power.seeds_needed(level)
    best = [stats.binomtest(n, n).pvalue for n in range(1, seeds + 1)]
    assert best[-1] < level and all(p >= level for p in best[:-1])


def test_six_seeds_for_five_percent():
    assert power.seeds_needed() == 6


# ---------------------------------------------------------------- rows in families


@laws
@given(st.lists(st.floats(-5, 5).map(lambda x: round(x, 3)), min_size=2, max_size=30))
def test_rows_without_families_are_worth_themselves(values):
    if len(set(values)) > 1:
        assert power.effective_rows(values, range(len(values))) == pytest.approx(len(values))


def test_copies_are_worth_one_row_each_family():
    values, families = [1.0, 0.0, 0.5, 0.2], ["a", "b", "c", "d"]
    assert power.effective_rows(values * 5, families * 5) == pytest.approx(4)


def test_it_is_rows_over_kishs_design_effect():
    """1 + (m - 1) · correlation of two rows of one family, for families of m rows."""
    rng, size, count, correlation = np.random.default_rng(0), 5, 4000, 0.3
    shared = np.sqrt(correlation) * rng.normal(size=(count, 1))
    values = (shared + np.sqrt(1 - correlation) * rng.normal(size=(count, size))).ravel()
    families = np.repeat(np.arange(count), size).tolist()
    wanted = count * size / (1 + (size - 1) * correlation)
    assert power.effective_rows(values.tolist(), families) == pytest.approx(wanted, rel=0.04)


def test_rows_that_make_up_for_each_other_are_worth_more():
    values = [1.0, -0.8, 0.9, -1.1, 1.0, -0.9]
    assert power.effective_rows(values, ["a", "a", "b", "b", "c", "c"]) > 6


# ---------------------------------------------------------------- what cannot be


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: power.rows_needed(0.1, 0.2), "difference is 0.2"),
        (lambda: power.rows_needed(0.1, 0.0), "difference is 0.0"),
        (lambda: power.rows_needed(25, 5), "discordant is 25"),
        (lambda: power.rows_needed(0.2, 0.1, power=80), "power 80"),
        (lambda: power.rows_needed(0.2, 0.1, level=0), "level 0"),
        (lambda: power.detectable_difference(0.2, 0), "rows is 0"),
        (lambda: power.detectable_difference(float("nan"), 10), "discordant is nan"),
        (lambda: power.seeds_needed(1.5), "level 1.5"),
        (lambda: power.effective_rows([1.0, 1.0], ["a", "b"]), "do not differ"),
        (lambda: power.effective_rows([1.0, 0.0, 1.0, 0.0], ["a", "a", "b", "b"]), "do not differ"),
    ],
)
def test_what_cannot_be_is_said(call, words):
    with pytest.raises(LabError, match=words):
        call()
