"""How long a training step takes, for setups side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def interleaved(steps: Mapping[str, Callable[[], object]], rounds: int = 5) -> dict[str, float]:
    """Median seconds of each step; they take turns, so that a busy machine slows all alike. The first round
    is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(taken[1:]) for name, taken in seconds.items()}
