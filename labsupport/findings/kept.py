"""Hits that are held back until the whole has been seen."""

from __future__ import annotations

from labsupport.findings.finding import SHOWN, Hit


class Kept:
    """The first few hits and the count of all: what a finding shows of them, in no more memory than that."""

    def __init__(self):
        self.first: list[Hit] = []
        self.count = 0

    def add(self, hit: Hit) -> None:
        """Keep a hit, or count it."""
        self.count += 1
        if len(self.first) < SHOWN:
            self.first.append(hit)

    def __iter__(self):
        """As many hits as were added, for Check.end to return; beyond the first SHOWN they only count."""
        yield from self.first
        for _ in range(self.count - len(self.first)):
            yield self.first[-1]
