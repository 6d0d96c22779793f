"""Every interval and standard error of the course."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np


def interval(
    values,
    families: list[str],
    seeds: list | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    sizes=None,
) -> tuple[float, float, float]:
    """Mean and percentile bootstrap interval that resamples seed, then family, then row.

    values: one number a row (or the difference of two models on the same row: then the interval is
    paired). Rows of one family share a phrasing and are not independent, so whole families are drawn.
    sizes: what each value is a part of, for a ratio of sums such as F1; 1 each for a mean.
    Returns (mean, low, high) in the unit of `values`.
    """
    values = np.asarray(values, dtype=float)
    if values.size == 0 or len(families) != values.size:
        raise ValueError(f"{values.size} values for {len(families)} families: one family a value")
    sizes = np.ones_like(values) if sizes is None else np.asarray(sizes, dtype=float)
    seeds = seeds or [0] * values.size
    groups: dict = {}
    for pair, family, seed in zip(np.stack([values, sizes], axis=1), families, seeds, strict=True):
        groups.setdefault(seed, {}).setdefault(family, []).append(pair)
    rng = np.random.default_rng(0)
    chosen = rng.integers(len(groups), size=(resamples, len(groups)))
    totals = np.zeros((resamples, 2))  # of the values and of the sizes of the rows drawn
    for number, by_family in enumerate(groups.values()):
        for slot in range(len(groups)):
            here = chosen[:, slot] == number
            totals[here] += resampled(list(by_family.values()), int(here.sum()), rng)
    with np.errstate(invalid="ignore"):  # F1 where nothing is claimed and nothing due is NaN
        ratios = totals[:, 0] / totals[:, 1]
        whole = values.sum() / sizes.sum()
    low, high = np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2])
    return float(whole), float(low), float(high)


def resampled(families: list[list[np.ndarray]], times: int, rng: np.random.Generator) -> np.ndarray:
    """The sum of the rows, pairs of value and size, in each of `times` resamples of families and of rows in
    each: (times, 2)."""
    lengths = np.array([len(rows) for rows in families])
    padded = np.zeros((len(families), lengths.max(), 2))
    for place, pairs in zip(padded, families, strict=True):
        place[: len(pairs)] = pairs
    drawn = rng.integers(len(families), size=(times, len(families)))
    rows = (rng.random((*drawn.shape, lengths.max())) * lengths[drawn][..., None]).astype(int)
    there = np.arange(lengths.max()) < lengths[drawn][..., None]
    return (padded[drawn[..., None], rows] * there[..., None]).sum(axis=(1, 2))


def clustered_error(values: list[float], families: list[str]) -> float:
    """Standard error of the mean of `values` when rows of one family are not independent.

    se = sqrt(sum over families of (sum of the family's deviations from the mean)^2) / n: the sandwich
    estimator for clusters, without small-sample factor (Cameron & Miller 2015, section II).
    """
    mean = sum(values) / len(values)
    sums: dict[str, float] = defaultdict(float)
    for value, family in zip(values, families, strict=True):
        sums[family] += value - mean
    return math.sqrt(sum(total**2 for total in sums.values())) / len(values)


def wilson(hits: int, count: int) -> tuple[float, float, float]:
    """hits / count with Wilson's 95 % score interval (E. B. Wilson, JASA 1927), usable for ten questions.

    Raises ValueError if count is not positive.
    """
    from scipy.stats import binomtest  # takes a second to import

    if count < 1:
        raise ValueError("no questions, no share")
    found = binomtest(hits, count).proportion_ci(0.95, method="wilson")
    return hits / count, float(found.low), float(found.high)


def shown(found: Sequence[float], form: str) -> str:
    """Mean and ends of an interval in words, each in that number format: "+1.4 [-0.5, +3.3]" for "+.1f"."""
    return "{} [{}, {}]".format(*(format(value, form) for value in found))


def detectable(differences: list[float], families: list[str]) -> float:
    """The smallest mean difference that these rows would show in four cases of five: 2.8 standard errors.

    (1.96 + 0.84) for a two-sided test at 5 % with 80 % power, with the clustered error of the differences.
    """
    return 2.8 * clustered_error(differences, families)
