"""The tuning read: bits stored over the learning rate, the chosen rates, and those at an edge of a grid."""

from __future__ import annotations

import math
import statistics

from labsupport.core.files import LabError, short
from labsupport.core.tables import Table
from labsupport.evaluation import experiments
from labsupport.method_runs import methods, reading
from labsupport.tasks import facts

RECORD = "method_rates"


def by_rate(record: dict, method: str) -> dict[float, float]:
    """Rate -> bits stored in the mean over seeds, ascending; minus infinity if a seed's run diverged."""
    tried = sorted({c["cell"]["rate"] for c in record["cells"] if c["cell"]["method"] == method})
    return {
        r: statistics.fmean(reading.values(record, "bits", method=method, rate=r).values()) for r in tried
    }


def chosen(record: dict) -> dict[str, float]:
    """Method -> the rate with the most bits stored. LabError naming a method of which every rate diverged."""
    best = {}
    for method in dict.fromkeys(c["cell"]["method"] for c in record["cells"]):
        found = by_rate(record, method)
        best[method] = max(found, key=found.get)
        if found[best[method]] == -math.inf:
            raise LabError(f"Every rate of {method} diverged: add lower ones to its grid.")
    return best


def at_edge(record: dict) -> dict[str, str]:
    """Methods whose best rate is the lowest or the highest that was tried -> "lowest" or "highest": there the
    grid has to be extended before anything is compared."""
    found = {}
    for method, rate in chosen(record).items():
        tried = list(by_rate(record, method))
        if rate in (tried[0], tried[-1]):
            found[method] = "lowest" if rate == tried[0] else "highest"
    return found


def tuning_table(record: dict) -> Table:
    """Every method's rates, ascending, with the bits stored at each, and the chosen one."""
    lines = []
    edges = at_edge(record)
    for method, rate in chosen(record).items():
        found = by_rate(record, method)
        tried = ", ".join(f"{r:g}: {value:,.0f}" for r, value in found.items())
        lines.append([methods.METHODS[method].title, tried, f"{rate:g}", edges.get(method, "")])
    headings = ["method", "learning rate: bits stored", "chosen", "at an edge"]
    return Table(headings, lines, f"Tuning on tiny_base, {facts.BITS * 100:,.0f} bits to be stored")


# ---------------------------------------------------------------- the published record


def rates() -> dict[str, float]:
    """Method -> the rate with the most bits stored, in the mean over the tuning's seeds.

    LabError if the tuning has not been recorded, or does not have every method.
    """
    file = experiments.PUBLISHED / f"{RECORD}.json"
    if not file.exists():
        raise LabError(
            f"{short(file)} is missing, and the rates are chosen from it: run "
            f"`python3 lab.py experiment {RECORD} --publish` first."
        )
    return chosen(experiments.published(RECORD))


def rate(method: str) -> float:
    """The chosen rate of a method. LabError, naming it, if the record does not have it."""
    found = rates()
    if method not in found:
        raise LabError(
            f"The record {RECORD} has no rates of {method!r}: add them to its cells and record it again."
        )
    return found[method]


def outdated(comparison: dict) -> list[str]:
    """Methods of which a run of `method_comparison` had another rate than the published tuning chooses:
    these cells have to be deleted and run again, since a cell does not know of the tuning."""
    best = rates()
    found = {
        c["cell"]["method"] for c in comparison["cells"] if c["metrics"]["rate"] != best[c["cell"]["method"]]
    }
    return sorted(found)
