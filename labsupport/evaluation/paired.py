"""Two methods on the same rows: their difference, with an interval that draws whole families."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from labsupport.core.files import LabError


def paired_interval(
    ours: Sequence[float],
    theirs: Sequence[float],
    families: Sequence,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Mean difference over rows and its percentile bootstrap interval: (mean, low, high), ours minus theirs.

    ours, theirs: one score a row, of the same rows in the same order, so that what makes a row hard for both
    drops out; families: the family of each row. A resample draws as many families as there are, with
    replacement, and takes all rows of each (the cluster bootstrap: Davison & Hinkley 1997, section 3.8, their
    first strategy; Cameron & Miller 2015). `intervals.interval` draws rows again inside each family, their
    second strategy, and comes out somewhat wider. The ends are the quantiles (1 - level) / 2 and
    (1 + level) / 2 of the resamples' means.
    Raises LabError if the three differ in length, or with fewer than two families.
    """
    if not len(ours) == len(theirs) == len(families):
        raise LabError(
            f"{len(ours)} and {len(theirs)} scores for {len(families)} families: give one of each a row."
        )
    names, family = np.unique(np.asarray(families), return_inverse=True)
    if len(names) < 2:
        raise LabError(f"{len(names)} families: an interval over families needs at least two.")
    differences = np.asarray(ours, dtype=float) - np.asarray(theirs, dtype=float)
    sums, sizes = np.bincount(family, differences), np.bincount(family)
    drawn = np.random.default_rng(seed).integers(len(sums), size=(resamples, len(sums)))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(differences.mean()), float(low), float(high)
