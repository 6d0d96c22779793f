"""The interval that draws families: against scipy's where every family has one row, and by its coverage."""

import numpy as np
import pytest
from scipy import stats

from labsupport.core.files import LabError
from labsupport.evaluation import intervals
from labsupport.evaluation.paired import paired_interval


def test_with_families_of_one_it_is_scipys_bootstrap():
    rng = np.random.default_rng(0)
    for level in (0.8, 0.95):
        theirs = rng.normal(size=60)
        ours = theirs + rng.exponential(size=60) - 0.7
        scipys = stats.bootstrap(
            (ours, theirs),
            lambda a, b, axis: np.mean(a - b, axis=axis),
            paired=True,
            n_resamples=40_000,
            confidence_level=level,
            method="percentile",
            rng=1,
        )
        mean, *ends = paired_interval(ours, theirs, range(60), level, resamples=40_000)
        assert mean == pytest.approx((ours - theirs).mean())
        scatter = 2.7 * scipys.standard_error / 200  # of a quantile of 40,000 resamples
        assert ends == pytest.approx(list(scipys.confidence_interval), abs=6 * scatter)


def same_method(rng, families, size, correlation):
    """Two methods that are equally good, on families of so many rows whose differences are alike."""
    shared = np.sqrt(correlation) * rng.normal(size=(families, 1))
    rows = shared + np.sqrt(1 - correlation) * rng.normal(size=(families, size))
    return rows.ravel(), np.zeros(families * size), np.repeat(np.arange(families), size).tolist()


def test_it_calls_the_same_method_different_as_rarely_as_it_says_and_rows_do_not():
    """A 90 % interval misses zero in 10 % of tests; over rows, families of five make that half of them."""
    rng, wrong, over_rows = np.random.default_rng(1), 0, 0
    for seed in range(400):
        ours, theirs, families = same_method(rng, families=60, size=5, correlation=0.8)
        _, low, high = paired_interval(ours, theirs, families, 0.9, resamples=800, seed=seed)
        wrong += not low < 0 < high
        _, low, high = paired_interval(ours, theirs, range(300), 0.9, resamples=800, seed=seed)
        over_rows += not low < 0 < high
    assert 0.06 < wrong / 400 < 0.15
    assert over_rows / 400 > 0.35


def test_pairing_takes_out_what_makes_a_row_hard_for_both():
    rng = np.random.default_rng(2)
    hard, families = 3 * rng.normal(size=200), np.arange(200) // 2
    ours, theirs = hard + 0.3 + 0.2 * rng.normal(size=200), hard
    mean, low, high = paired_interval(ours, theirs, families)
    assert low < 0.3 < high and high - low < 0.1
    _, low, high = paired_interval(ours, rng.permutation(theirs), families)
    assert high - low > 0.8


def test_it_is_a_little_narrower_than_the_one_that_draws_rows_again():
    rng = np.random.default_rng(3)
    ours, theirs, families = same_method(rng, families=80, size=3, correlation=0.4)
    _, low, high = paired_interval(ours, theirs, families)
    _, lower, higher = intervals.interval(ours, families, resamples=10_000)
    assert 0.7 < (high - low) / (higher - lower) < 0.97


def test_order_and_names_of_families_do_not_matter():
    rng = np.random.default_rng(4)
    ours, theirs, families = same_method(rng, families=30, size=4, correlation=0.5)
    order = rng.permutation(len(ours))
    before = paired_interval(ours, theirs, families)
    after = paired_interval(ours[order], theirs[order], [families[i] for i in order])
    assert after == pytest.approx(before)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([1.0], [0.0, 1.0], ["a", "b"]), "1 and 2 scores for 2 families"),
        (([1.0, 2.0], [0.0, 1.0], ["a", "a"]), "1 families"),
        (([], [], []), "0 families"),
    ],
)
def test_what_gives_no_interval_is_said(arguments, words):
    with pytest.raises(LabError, match=words):
        paired_interval(*arguments)
