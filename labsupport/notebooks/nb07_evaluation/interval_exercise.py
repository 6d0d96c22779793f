"""Notebook 07's central exercise: an interval for the difference of two methods, by drawing families.

An interval by resampling differs a little with every seed, so an answer is right within 0.016: some five
standard deviations of the difference between two right answers of 10,000 resamples. Any generator will do.
"""

from __future__ import annotations

import numpy as np

from labsupport.checking.exercise import Exercise, told
from labsupport.evaluation import intervals
from labsupport.evaluation.paired import paired_interval as reference

RESAMPLES = 10_000


def _scores(seed: int, families: int, largest: int, shared: float, gain: float, kind: str = "scores"):
    """Scores of two methods on rows in families of 1 to `largest`. shared: how much a family's rows have in
    common. kind: "right or wrong", "scores", or "opposite" where a family's rows make up for each other."""
    rng = np.random.default_rng(seed)
    family = np.repeat(np.arange(families), rng.integers(1, largest + 1, families))
    rows = len(family)
    signs = 1 - 2 * (np.arange(rows) % 2) if kind == "opposite" else 1
    own = shared * signs * rng.normal(size=families)[family] + (1 - shared) * rng.normal(size=rows)
    theirs = rng.normal(size=rows)  # how easy a row is, for both: pairing takes it out
    ours = theirs + gain + own
    if kind == "right or wrong":
        ours, theirs = (ours > 0).astype(float), (theirs > 0).astype(float)
    else:
        ours, theirs = 0.5 * ours, 0.5 * theirs
    order = np.argsort(family + families * rng.integers(2, size=rows), kind="stable")  # families in two parts
    return ours[order], theirs[order], [f"f{number}" for number in family[order]]


def _cases() -> list[tuple]:
    return [
        (*_scores(1, 50, 7, 0.9, 0.3, "right or wrong"), 0.95),
        (*_scores(2, 40, 6, 0.8, 0.4), 0.9),
        (*_scores(3, 40, 2, 0.8, 0.3, "opposite"), 0.95),
        (*_scores(4, 40, 9, 0.7, -0.3, "right or wrong"), 0.8),
        (*_scores(5, 14, 9, 0.3, 1.2), 0.95),
    ]


# ---------------------------------------------------------------- what people write


def _groups(ours, theirs, families):
    """For each family the indices of its rows."""
    names, family = np.unique(families, return_inverse=True)
    return [np.flatnonzero(family == number) for number in range(len(names))]


def _ends(means, level):
    return np.quantile(means, [(1 - level) / 2, (1 + level) / 2]).tolist()


def _differences(ours, theirs):
    return np.asarray(ours) - np.asarray(theirs)


def _drawn(sums, sizes, count=None, rng=None):
    """Means of resamples of `count` families, which are given by their sums and sizes."""
    rng = rng or np.random.default_rng(1)
    drawn = rng.integers(len(sums), size=(RESAMPLES, count or len(sums)))
    return sums[drawn].sum(1) / sizes[drawn].sum(1)


def _sums(values, groups):
    return np.array([values[rows].sum() for rows in groups]), np.array([len(rows) for rows in groups])


def _of_rows(ours, theirs, families, level):
    d = _differences(ours, theirs)
    return [d.mean(), *_ends(_drawn(d, np.ones(len(d))), level)]


def _neighbours(ours, theirs, families, level):
    runs = np.cumsum([0, *(a != b for a, b in zip(families, families[1:], strict=False))])
    return reference(ours, theirs, runs.tolist(), level)


def _unpaired(ours, theirs, families, level):
    groups, rng = _groups(ours, theirs, families), np.random.default_rng(1)
    a, b = (_drawn(*_sums(np.asarray(x), groups), rng=rng) for x in (ours, theirs))
    return [_differences(ours, theirs).mean(), *_ends(a - b, level)]


def _equal_weight(ours, theirs, families, level):
    sums, sizes = _sums(_differences(ours, theirs), _groups(ours, theirs, families))
    means = sums / sizes
    return [means.mean(), *_ends(_drawn(means, np.ones(len(means))), level)]


def _rows_again(ours, theirs, families, level):
    d = _differences(ours, theirs)
    return intervals.interval(d, families, level=level, resamples=4000)


def _as_many_as_rows(ours, theirs, families, level):
    d = _differences(ours, theirs)
    return [d.mean(), *_ends(_drawn(*_sums(d, _groups(ours, theirs, families)), count=len(d)), level)]


def _without_replacement(ours, theirs, families, level):
    return [_differences(ours, theirs).mean()] * 3


def _one_sided(ours, theirs, families, level):
    return reference(ours, theirs, families, 2 * level - 1)


def _of_the_rows(ours, theirs, families, level):
    d = _differences(ours, theirs)
    return [d.mean(), *_ends(d, level)]


def _one_error(ours, theirs, families, level):
    d = _differences(ours, theirs)
    error = intervals.clustered_error(d.tolist(), families)
    return [d.mean(), d.mean() - error, d.mean() + error]


def _turned(ours, theirs, families, level):
    return reference(theirs, ours, families, level)


def _ours_alone(ours, theirs, families, level):
    return reference(ours, [0.0] * len(ours), families, level)


def _always_95(ours, theirs, families, level):
    return reference(ours, theirs, families)


def _added(ours, theirs, families, level):
    """The sum of a resample over the rows there are, not those that were drawn."""
    sums, sizes = _sums(_differences(ours, theirs), _groups(ours, theirs, families))
    return [sums.sum() / sizes.sum(), *_ends(_drawn(sums, np.full(len(sums), sizes.mean())), level)]


paired_interval = Exercise(
    name="evaluation.paired_interval",
    reference=reference,
    cases=_cases,
    mistakes=told(
        _of_rows,
        "You draw rows. Rows of one family are right or wrong together, so your interval is too narrow: draw "
        "families, and take all rows of each.",
        _unpaired,
        "You draw for each method by itself, as if they had had different rows: subtract row by row first, "
        "and draw the differences.",
        _equal_weight,
        "Every family weighs the same with you, whether of one row or of nine: add up the drawn families' "
        "differences, and divide by the number of their rows.",
        _rows_again,
        "Within a drawn family you draw rows again, which counts their scatter twice: a family comes whole.",
        _as_many_as_rows,
        "You draw as many families as there are rows: a resample is as large as the test, so draw as many "
        "families as there are families.",
        _without_replacement,
        "The interval has no width: draw with replacement, so that some families come twice and some not at "
        "all.",
        _one_sided,
        "You cut off 1 - level at either end: half of it at each, so that `level` is left between them.",
        _of_the_rows,
        "Those are quantiles of the rows' differences: they say how rows scatter, not how sure the mean is.",
        _one_error,
        "That is one standard error to either side, which covers two cases of three: take the quantiles of "
        "the resamples' means.",
        _turned,
        "The sign: a positive difference is to say that `ours` is better.",
        _ours_alone,
        "That is the interval of `ours` by itself: subtract `theirs`, row by row.",
        _always_95,
        "You always return the 95 % interval: the quantiles follow from `level`.",
        _added,
        "You divide each resample by the number of rows of the test: divide by the number of rows that were "
        "drawn, which differs from draw to draw.",
        _neighbours,
        "You take neighbours for a family: its rows may stand apart, so collect them by name.",
    ),
    hints=[
        "Subtract row by row. Then for each family: the sum of its differences, and how many rows it has.",
        "One resample: as many families as there are, with replacement (rng.integers); the sum of their sums "
        "over the sum of their sizes. 10,000 of them.",
        "drawn = rng.integers(F, size=(10_000, F)); means = sums[drawn].sum(1) / sizes[drawn].sum(1); and "
        "np.quantile(means, [(1 - level) / 2, (1 + level) / 2]).",
    ],
    minutes=20,
    difficulty=3,
    tolerance=0.016,
)
