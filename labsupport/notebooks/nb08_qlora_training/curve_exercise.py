"""Notebook 08's exercise on how bumpy a loss curve is."""

from __future__ import annotations

import math
import statistics

from labsupport.checking.exercise import Exercise, told
from labsupport.qlora_runs.reading import bumpiness as reference

FALL = [3.1, 2.4, 1.9, 1.6]  # the first steps of a run
CASES = [
    ([*FALL, 1.0, 1.2, 1.1, 1.5, 1.4], 4),
    ([2.0, 1.0, 1.5, 1.0], 1),
    ([*FALL, *(1.3 - 0.1 * step + 0.05 * (step % 3) for step in range(12))], 6),
    ([0.9, 0.7, 0.8, 0.75, 0.5], 0),
]


def _changes(losses, calm):
    later = losses[calm:]
    return [b - a for a, b in zip(later, later[1:], strict=False)]


def _root_mean_square(values):
    return math.sqrt(statistics.fmean(value * value for value in values))


def _one_too_few(losses, calm):
    """Counts changes from the first step that is left in, so one change of the fall stays."""
    return _root_mean_square(_changes(losses, max(calm - 1, 0)))


bumpiness = Exercise(
    name="qlora_training.bumpiness",
    reference=reference,
    cases=CASES,
    mistakes=told(
        lambda losses, calm: statistics.pstdev(losses[calm:]),
        "That is the standard deviation of the losses: a curve that falls smoothly has a large one, too. "
        "Take the changes from step to step.",
        lambda losses, calm: statistics.pstdev(_changes(losses, calm)),
        "That is the standard deviation of the changes, so their mean is taken off: square them as they are.",
        lambda losses, calm: statistics.fmean(map(abs, _changes(losses, calm))),
        "That is the mean of the changes without their signs: square them, take the mean, then the root.",
        lambda losses, calm: statistics.fmean(_changes(losses, calm)),
        "The mean of the changes with their signs is the last loss less the first, over their number; bumps "
        "up and down cancel. Square the changes first.",
        lambda losses, calm: statistics.fmean(x * x for x in _changes(losses, calm)),
        "The root is missing: what you have is in nats squared.",
        lambda losses, calm: _root_mean_square(_changes(losses, 0)),
        "The first `calm` losses are in it: they fall steeply, and that is no bump.",
        _one_too_few,
        "One change too many at the beginning, that from the last of the first `calm` losses: leave out "
        "those losses, then take the changes.",
        lambda losses, calm: _root_mean_square(_changes(losses, calm + 1)),
        "One change too few at the beginning: losses[calm] is the first that counts.",
        lambda losses, calm: math.sqrt(sum(x * x for x in _changes(losses, calm)) / len(losses[calm:])),
        "You divide by the number of losses: there is one change fewer.",
        lambda losses, calm: math.sqrt(sum(x * x for x in _changes(losses, calm))),
        "You take the sum of the squares, so a longer run looks bumpier: take their mean.",
        lambda losses, calm: _root_mean_square(losses[calm:]),
        "Those are squares of the losses: of their changes, losses[i + 1] - losses[i].",
    ),
    hints=[
        "Leave out the first `calm` losses, then subtract each of the rest from the one after it.",
        "Root mean square, read from behind: square each change, take the mean, take the root.",
        "later = losses[calm:]; changes = [b - a for a, b in zip(later, later[1:])].",
    ],
    minutes=8,
    difficulty=2,
)
