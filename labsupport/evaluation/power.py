"""What a comparison can see, said before it is run: how many rows, in which families, how many seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

from labsupport.core.files import LabError
from labsupport.evaluation import intervals


def rows_needed(discordant: float, difference: float, power: float = 0.8, level: float = 0.05) -> int:
    """How many independent rows show a difference in paired exact match.

    discordant: the share of rows on which only one of the two methods is right; difference: the difference of
    their shares of right rows, of either sign; both as shares of 1. power: in how many of such tests it is to
    be found; level: of the two-sided test.

    A row's difference is +1, -1 or 0, with variance discordant - difference². The mean of n rows is to lie
    z(1 - level / 2) standard errors away from 0, and z(power) more so that bad luck does not hide it:
    n = (z(1 - level/2) + z(power))² · (discordant - difference²) / difference², rounded up. (Connor 1987,
    Biometrics 43, puts √discordant beside the first z and asks for a few rows more. McNemar's exact test
    needs 6 % more where this says 778, and a fifth more where it says 71.) For rows in families, times the
    design effect: rows / `effective_rows`.
    Raises LabError for shares that cannot be.
    """
    _check(discordant, power, level)
    if not 0 < abs(difference) <= discordant:
        raise LabError(
            f"difference is {difference}: give a share above 0 and up to discordant, {discordant} "
            "(two methods cannot differ by more rows than those on which they disagree)."
        )
    return math.ceil(_distance(power, level) ** 2 * (discordant - difference**2) / difference**2)


def detectable_difference(discordant: float, rows: float, power: float = 0.8, level: float = 0.05) -> float:
    """The smallest difference in paired exact match that so many independent rows show: `rows_needed`
    solved for the difference, a share of 1.

    Raises LabError for shares that cannot be, and for no rows. What it returns may be above `discordant`:
    then these rows cannot show any difference with that power.
    """
    _check(discordant, power, level)
    if not rows > 0:
        raise LabError(f"rows is {rows}: give a number above 0.")
    return _distance(power, level) * math.sqrt(discordant / (rows + _distance(power, level) ** 2))


def effective_rows(values: Sequence[float], families: Sequence) -> float:
    """How many independent rows would know the mean of `values` as well as these rows in families do.

    n · (error as if rows were independent / clustered error)²: as many as there are rows where the rows of a
    family have nothing in common, as many as there are families of equal size where they are all alike, and
    more than rows where they make up for each other. n divided by it is the design effect (Kish 1965), for
    families of m rows about 1 + (m - 1) · their correlation.
    Raises LabError if the values, or the families' sums, do not vary: then nothing can be said.
    """
    clustered = intervals.clustered_error(list(values), list(families))
    alone = intervals.clustered_error(list(values), list(range(len(values))))
    if not clustered or not alone:
        raise LabError("The families do not differ at all, so their scatter is unknown: give more rows.")
    return len(values) * (alone / clustered) ** 2


def seeds_needed(level: float = 0.05) -> int:
    """The fewest paired seeds with which a two-sided sign test can come out below `level`.

    If all n seeds favour one method, its p is 2 · 0.5^n, and no result has a smaller one. Raises LabError for
    a level outside of 0 to 1.
    """
    _check(1.0, 0.8, level)
    return math.floor(1 - math.log2(level)) + 1


def _distance(power: float, level: float) -> float:
    """How many standard errors off zero the true difference must be."""
    z = NormalDist().inv_cdf
    return z(1 - level / 2) + z(power)


def _check(discordant: float, power: float, level: float) -> None:
    if not 0 < discordant <= 1:
        raise LabError(f"discordant is {discordant}: give a share of the rows, above 0 and up to 1.")
    if not (0 < level < 1 and level < power < 1):
        raise LabError(f"power {power} and level {level}: give shares of 1, the power above the level.")
