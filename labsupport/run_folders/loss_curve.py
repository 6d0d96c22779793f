"""The training loss of a log, read so that its noise is not taken for a movement."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

FEWEST = 4  # lines from which on the log has a course


@dataclass(frozen=True)
class Curve:
    """steps, losses: a value a log line, in nats a token, as far as they are finite numbers. moved: the sum
    of the learning rates up to each line: how far Adam could have moved a weight. broken: lines whose loss is
    NaN or infinite."""

    steps: list[int]
    losses: list[float]
    moved: list[float]
    broken: int

    @property
    def begin(self) -> float:
        """The loss of the first line or, of many, the mean of the first twentieth."""
        return statistics.fmean(self.losses[: max(1, len(self.losses) // 20)])

    @property
    def end(self) -> float:
        """The mean of the last fifth."""
        return statistics.fmean(self.losses[-max(1, len(self.losses) // 5) :])

    @property
    def noise(self) -> float:
        """How much one line differs from the next by chance (a standard deviation, robust)."""
        steps = [abs(b - a) for a, b in zip(self.losses, self.losses[1:], strict=False)]
        return 1.4826 * statistics.median(steps) / math.sqrt(2) if steps else 0.0

    @property
    def doubt(self) -> float:
        """By how much `begin` and `end` may differ by chance (twice the standard error)."""
        first, last = max(1, len(self.losses) // 20), max(1, len(self.losses) // 5)
        return 2 * self.noise * math.sqrt(1 / first + 1 / last)

    @property
    def fall(self) -> float:
        """By what share of its beginning the loss fell; below 0 where it rose."""
        return 1 - self.end / self.begin if self.begin > 0 else 0.0

    @property
    def rises(self) -> bool:
        """Whether the second half of the lines lies above the first."""
        half = len(self.losses) // 2
        return half > 0 and statistics.fmean(self.losses[half:]) > statistics.fmean(self.losses[:half])

    @property
    def window(self) -> int:
        """Lines of which `peak` takes means: three or, of many, a twentieth."""
        return max(3, len(self.losses) // 20)

    @property
    def peak(self) -> float:
        """The highest mean of a window of lines in a row after the first line."""
        places = range(1, len(self.losses) - self.window + 1)
        means = [statistics.fmean(self.losses[i : i + self.window]) for i in places]
        return max(means, default=max(self.losses))

    @property
    def peak_doubt(self) -> float:
        """By how much `peak` may lie above `begin` by chance (four standard errors: it is the highest)."""
        return 4 * self.noise * math.sqrt(1 / max(1, len(self.losses) // 20) + 1 / self.window)

    @property
    def bend(self) -> float | None:
        """How fast the loss still fell in the last half of the way, as a share of how fast in the first half:
        1 for a straight line, near 0 for a run that has learned what it could. None where it cannot be told.

        The way is the sum of the learning rates. Adam's steps are about as long as the rate, so to first
        order the loss falls in a straight line over it; only a run that never went far shows that to its end.
        """
        if len(self.losses) < 2 * FEWEST or self.moved[-1] <= self.moved[0]:
            return None
        middle = (self.moved[0] + self.moved[-1]) / 2
        halves = [i for i, way in enumerate(self.moved) if way <= middle]
        cut = halves[-1] + 1
        if cut < FEWEST or len(self.losses) - cut < FEWEST:
            return None
        early = slope(self.moved[:cut], self.losses[:cut])
        late = slope(self.moved[cut:], self.losses[cut:])
        return late / early if early < 0 else None


def slope(x: list[float], y: list[float]) -> float:
    """The slope of the straight line of least squares; 0 where x does not vary."""
    if max(x) == min(x):
        return 0.0
    return statistics.linear_regression(x, y).slope


def curve_of(run) -> Curve | None:
    """The curve of a run's log; None without a training loss. Lines of a part that was trained twice, after a
    resume, count once."""
    lines = {}
    for line in run.log:
        if isinstance(line.get("loss"), (int, float)):
            lines[line.get("step", len(lines))] = line
    steps = sorted(lines)
    sound = [step for step in steps if math.isfinite(lines[step]["loss"])]
    moved, way, before = {}, 0.0, 0
    for step in steps:
        rate = lines[step].get("learning_rate", run.arguments.get("learning_rate"))
        way += (rate if isinstance(rate, (int, float)) else 0.0) * (step - before)
        moved[step], before = way, step
    if not steps:
        return None
    losses = [float(lines[step]["loss"]) for step in sound]
    return Curve(sound, losses, [moved[step] for step in sound], len(steps) - len(sound))


def finite(lines: list[dict], name: str) -> list[float]:
    """The finite numbers of a field of the log, in its order."""
    values = [line.get(name) for line in lines]
    return [float(v) for v in values if isinstance(v, (int, float)) and math.isfinite(v)]
