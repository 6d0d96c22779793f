"""The figure of notebook 00: every baseline's exact match with its interval, both test sets on one axis."""

from __future__ import annotations

from labsupport.baselines import comparisons
from labsupport.baselines.forest import LOOK, exact_match


def forest(methods: dict, title: str):
    """Every method's exact match with its 95 % interval. methods: as `comparisons.methods` returns them.
    Returns the figure, to be given to plots.show."""
    shares = {}
    for split in LOOK:
        intervals = {name: comparisons.interval(each[split], split) for name, each in methods.items()}
        shares[split] = {name: tuple(100 * value for value in found) for name, found in intervals.items()}
    return exact_match(shares, title)


def in_words(methods: dict) -> str:
    """The same shares as text, for who does not see the figure."""
    shares = []
    for name, results in methods.items():
        both = [f"{100 * comparisons.interval(results[split], split)[0]:.0f}" for split in comparisons.SETS]
        shares.append(f"{name} {' and '.join(both)} %")
    return f"Exact match on lookalike and production messages, on one axis: {'; '.join(shares)}."
