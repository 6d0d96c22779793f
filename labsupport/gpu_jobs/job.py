"""What a job is. No process and no torch: whoever chooses among jobs needs neither."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Job:
    """One process of the hour. The jobs of a batch stand in the order of their value.

    command: arguments after `python -m`. seconds: (fast, slow) it may take, loading included. memory_gib:
    what it needs of the card by the planner; None where it plans that itself. after: jobs that must be done
    first.
    """

    name: str
    question: str
    command: tuple[str, ...]
    seconds: tuple[float, float]
    memory_gib: float | None = None
    after: tuple[str, ...] = ()
