"""Spectra of weight updates: how much of one a low rank keeps, and what an update of noise would look like.

The energy of an update is the sum of its squared singular values.
"""

from __future__ import annotations

import math

import numpy as np

from labsupport.core.files import LabError


def energy_curve(singular_values) -> np.ndarray:
    """Share of the energy (the sum of squared singular values) in the first 1, 2, ... of them, in 0..1."""
    squares = np.sort(np.asarray(singular_values, dtype=float))[::-1] ** 2
    total = squares.sum()
    if not total > 0:
        raise LabError("All singular values are zero: an update that is zero has no spectrum.")
    return squares.cumsum() / total


def rank_for_energy(singular_values, share: float) -> int:
    """The smallest rank whose best approximation keeps at least `share` (0..1) of the energy.

    The best approximation of rank k keeps the k largest singular values (Eckart and Young 1936).
    """
    if not 0 < share <= 1:
        raise LabError(f"The share is {share!r}: give a number above 0 and at most 1, such as 0.9.")
    return int(np.searchsorted(energy_curve(singular_values), share * (1 - 1e-12))) + 1


def error_at(singular_values, rank: int) -> float:
    """Relative Frobenius error of the best approximation of that rank: sqrt(1 - energy kept)."""
    curve = energy_curve(singular_values)
    return math.sqrt(max(0.0, 1.0 - curve[min(rank, len(curve)) - 1]))


def of_random_signs(rows: int, columns: int) -> np.ndarray:
    """The expected singular values, largest first, of a rows x columns matrix of random signs.

    Quantiles of the law of Marchenko and Pastur (1967): the squared singular values divided by the longer
    side are spread over ((1 - sqrt(q))², (1 + sqrt(q))²) with q = shorter / longer.
    """
    short, long = sorted((rows, columns))
    q = short / long
    # Midpoints of a fine grid, denser towards both edges, where the density has infinite slope.
    t = (np.arange(4000) + 0.5) / 4000 * np.pi
    x = 1 + q - 2 * math.sqrt(q) * np.cos(t)
    mass = np.sin(t) ** 2 / x
    cumulative = (mass.cumsum() - mass / 2) / mass.sum()
    return np.sqrt(np.interp((np.arange(short) + 0.5) / short, cumulative, x)[::-1] * long)


def low_rank(factors, rank: int):
    """The best approximation of that rank of a matrix, from the thin SVD that torch or numpy gives of it."""
    U, S, V = factors
    return (U[:, :rank] * S[:rank]) @ V[:rank]


# ---------------------------------------------------------------- in a published record

KEPT_LAYERS = (2, 15, 28)  # of the base model's 30: all singular values of an update of theirs are kept


def to_text(singular_values) -> str:
    """Singular values with 4 digits, apart by blanks: a list would take a line of JSON for each."""
    return " ".join(f"{float(value):.3e}" for value in singular_values)


def from_text(text: str) -> list[float]:
    """What `to_text` wrote."""
    return [float(value) for value in text.split()]
