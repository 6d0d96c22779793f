"""Notebook 07's exercises about what a test can see: how many rows it has, and how many it needs."""

from __future__ import annotations

import math
from statistics import NormalDist

from labsupport.checking.exercise import Exercise, told
from labsupport.evaluation import power as planning
from labsupport.evaluation.intervals import clustered_error

# ---------------------------------------------------------------- effective rows


def _ratio(values, families):
    """The error as if rows were independent over the one with families."""
    return clustered_error(values, range(len(values))) / clustered_error(values, families)


def _of_family_means(values, families):
    groups: dict = {}
    for value, family in zip(values, families, strict=True):
        groups.setdefault(family, []).append(value)
    means = [sum(group) / len(group) for group in groups.values()]
    return len(values) * (_alone(values) / _alone(means)) ** 2


def _alone(values):
    return clustered_error(values, range(len(values)))


def _unshifted(values, families):
    sums: dict = {}
    for value, family in zip(values, families, strict=True):
        sums[family] = sums.get(family, 0) + value
    return len(values) * sum(v * v for v in values) / sum(s * s for s in sums.values())


effective_rows = Exercise(
    name="evaluation.effective_rows",
    reference=planning.effective_rows,
    cases=[
        ([1.0, 1.0, 0.0, 0.0, 0.0, 1.0], ["a", "a", "b", "b", "c", "c"]),
        ([1.0, 1.0, 0.0, 0.0], ["a", "a", "b", "b"]),
        ([0.0, 1.0, 1.0, -1.0, 0.0, 0.0, 1.0], ["p", "q", "q", "p", "p", "r", "s"]),
        ([0.3, 0.1, -0.4, 0.9], ["t", "u", "v", "w"]),
    ],
    mistakes=told(
        lambda values, families: float(len(set(families))),
        "That is the number of families, right only where the rows of a family are alike: compare errors.",
        lambda values, families: float(len(values)),
        "That is the number of rows, right only if the rows of a family have nothing in common.",
        lambda values, families: len(values) * _ratio(values, families),
        "An error falls with the root of the rows, so square the ratio of the two errors.",
        lambda values, families: _ratio(values, families) ** -2,
        "That is the design effect, by how much families blow the variance up: divide the rows by it.",
        lambda values, families: len(values) * _ratio(values, families) ** -2,
        "The ratio is upside down: families that err together are worth fewer rows, not more.",
        lambda values, families: _ratio(values, families) ** 2,
        "That is the share of a row that a row is worth: multiply by the number of rows.",
        lambda values, families: (
            len(values) * _ratio(values, families) ** 2 * len(values) / (len(values) - 1)
        ),
        "One error is with n - 1 and the other with n: statistics.stdev divides by n - 1, clustered_error by "
        "n. With every row a family of its own, the result must be the number of rows.",
        _of_family_means,
        "You compare with the scatter of the families' means, in which a family of one row weighs as much as "
        "one of nine: use clustered_error.",
        _unshifted,
        "You square values, not deviations: subtract the mean first, or use clustered_error.",
    ),
    hints=[
        "Two standard errors of the same mean: clustered_error with the families, and without them.",
        "Without them means every row a family of its own: clustered_error(values, range(len(values))).",
        "A standard error falls with the root of the rows, so n times the square of their ratio.",
    ],
    minutes=10,
    difficulty=2,
)

# ---------------------------------------------------------------- how many rows


def _z(share):
    return NormalDist().inv_cdf(share)


def _rows(distance=lambda power, level: _z(1 - level / 2) + _z(power), variance=None, divisor=None):
    """An answer that has another distance in standard errors, variance of a row, or divisor."""
    variance = variance or (lambda discordant, difference: discordant - difference**2)
    divisor = divisor or (lambda difference: difference**2)

    def needed(discordant, difference, power, level):
        spread = variance(discordant, difference)
        return math.ceil(distance(power, level) ** 2 * spread / divisor(difference))

    return needed


def _rounded(how):
    def needed(discordant, difference, power, level):
        distance = _z(1 - level / 2) + _z(power)
        return how(distance**2 * (discordant - difference**2) / difference**2)

    return needed


def _two_squares(discordant, difference, power, level):
    squares = _z(1 - level / 2) ** 2 + _z(power) ** 2
    return math.ceil(squares * (discordant - difference**2) / difference**2)


def _root(discordant, difference, power, level):
    distance = _z(1 - level / 2) + _z(power)
    return math.ceil(distance * math.sqrt(discordant - difference**2) / difference)


rows_needed = Exercise(
    name="evaluation.rows_needed",
    reference=planning.rows_needed,
    cases=[
        (0.25, 0.05, 0.8, 0.05),
        (0.4, 0.2, 0.9, 0.05),
        (0.1, 0.03, 0.8, 0.01),
        (0.6, 0.35, 0.7, 0.1),
        (0.3, 0.1, 0.95, 0.02),
    ],
    mistakes=told(
        _rows(variance=lambda discordant, difference: 0.5),
        "That is for two separate test sets, of half right each: on the same rows only those count on which "
        "the two methods disagree.",
        _rows(variance=lambda discordant, difference: 2 * (discordant - difference**2)),
        "The 2 is of two separate test sets, whose errors add up: here there is one difference a row.",
        _rows(distance=lambda power, level: _z(1 - level) + _z(power)),
        "Your z is of a one-sided test: a difference may go either way, so z(1 - level / 2).",
        _rows(distance=lambda power, level: _z(1 - level / 2)),
        "The z of the power is missing: so you would find the difference in half of such tests.",
        _rows(distance=lambda power, level: _z(1 - level / 2) - _z(power)),
        "The z of the power has the wrong sign: more power takes more rows.",
        _rows(divisor=lambda difference: difference),
        "You divide by the difference: by its square, for half the difference takes four times the rows.",
        _rows(divisor=lambda difference: (100 * difference) ** 2),
        "Difference in points and discordant as a share: both are shares of 1 here.",
        _rows(variance=lambda discordant, difference: discordant),
        "You take discordant for the variance of a row's difference. It is the mean of the squares; the "
        "square of the mean is still to be taken off.",
        _rows(variance=lambda discordant, difference: discordant * (1 - discordant)),
        "That is the variance of whether the methods disagree. A row's difference is +1, -1 or 0: its "
        "variance is discordant - difference².",
        _two_squares,
        "You square the two z and add: add them first, then square.",
        _root,
        "That is the root of it: an error falls with the root of the rows, so square all of it.",
        _rounded(lambda rows: rows),
        "Rows are whole: round up, with math.ceil.",
        _rounded(math.floor),
        "You round down, and would be just short: round up, with math.ceil.",
    ),
    hints=[
        "A row's difference is +1, -1 or 0. The mean of its squares is discordant, its mean is difference.",
        "So the standard error of n rows is the root of (discordant - difference²) / n. The difference must "
        "be z(1 - level / 2) + z(power) of these.",
        "Solve for n: (z(1 - level / 2) + z(power))² · (discordant - difference²) / difference², rounded up. "
        "scipy.stats.norm.ppf is z.",
    ],
    minutes=15,
    difficulty=2,
)
