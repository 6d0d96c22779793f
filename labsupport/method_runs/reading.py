"""The record `method_comparison` read: what a run gave, paired differences from LoRA, what could be seen."""

from __future__ import annotations

import math
import statistics

from labsupport.core.tables import Table
from labsupport.evaluation import intervals
from labsupport.method_runs import methods, movement
from labsupport.qlora_runs import rates
from labsupport.tasks import facts

BASE = "lora"  # what every method is compared with
BUDGETS = {"steps": "equal steps", "flops": "equal operations"}
# What is measured of a run -> how it is called, and its number format.
MEASURES = {
    "bits": ("bits stored", ",.0f"),
    "kl": ("KL to the base, nats a token", ".3f"),
    "nll": ("nats a token of general text", ".3f"),
    "seconds_a_step": ("seconds a step", ".3f"),
}


# ---------------------------------------------------------------- of one run


def bits(metrics: dict) -> float:
    """Bits stored after a run; minus infinity if it left the range of numbers."""
    nats = metrics["nats"]
    return -math.inf if nats is None else facts.bits_learned(sum(nats), len(nats))


def of_run(metrics: dict, measure: str) -> float:
    """One of MEASURES of a run."""
    if measure == "bits":
        return bits(metrics)
    return metrics["general"][measure] if measure in ("kl", "nll") else metrics[measure]


def values(record: dict, measure: str, **cell) -> dict[int, float]:
    """Seed -> measure of the runs whose cell has these settings."""
    return {
        c["cell"]["seed"]: of_run(c["metrics"], measure)
        for c in record["cells"]
        if all(c["cell"].get(key) == value for key, value in cell.items())
    }


# ---------------------------------------------------------------- the comparison


def versus(
    record: dict, measure: str, method: str, budget: str = "steps", base: str = BASE
) -> tuple[float, float, float]:
    """A measure of a method less that of another, of LoRA if none is named (at equal steps), paired by seed:
    mean and 95 % interval by Student's t."""
    ours = values(record, measure, method=method, budget=with_budget(method, budget))
    return rates.paired(ours, values(record, measure, method=base, budget="steps"))


def with_budget(method: str, budget: str) -> str:
    """Under which budget a method's runs stand: at equal steps, too, where a step costs what LoRA's does."""
    return "steps" if methods.METHODS[method].lora_flops else budget


def detectable(record: dict, measure: str, method: str, budget: str = "steps", base: str = BASE) -> float:
    """The smallest mean difference, from LoRA or another, that these seeds would show in four cases of five.

    (t at 97.5 % + t at 80 %) standard errors of the paired differences, with Student's t for so many seeds.
    """
    from scipy import stats

    mean, _, high = versus(record, measure, method, budget, base)
    ours = values(record, measure, method=method, budget=with_budget(method, budget))
    freedom = len(set(ours) & set(values(record, measure, method=base, budget="steps"))) - 1
    t = stats.t.ppf(0.975, freedom)
    return float((high - mean) / t * (t + stats.t.ppf(0.8, freedom)))


def verdict(record: dict, measure: str, method: str, budget: str = "steps") -> str:
    """ "no detectable difference, 12 would be seen", or which of the two has more."""
    _, low, high = versus(record, measure, method, budget)
    form = MEASURES[measure][1]
    if low <= 0 <= high:
        seen = format(detectable(record, measure, method, budget), form)
        return f"no detectable difference ({seen} would be seen)"
    return f"{'more' if low > 0 else 'less'} than LoRA"


def comparison_table(record: dict, measure: str, budget: str = "steps") -> Table:
    """Every method: trained parameters, the measure, its difference from LoRA with its interval, and the
    verdict; the methods of equal size first."""
    name, form = MEASURES[measure]
    lines = []
    for method, kind in methods.METHODS.items():
        found = values(record, measure, method=method, budget=with_budget(method, budget))
        if not found:
            continue
        line = [kind.title, f"{of_any(record, method, 'parameters'):,}"]
        line.append(format(statistics.fmean(found.values()), form))
        if method == BASE:
            lines.append([*line, "—", "—"])
            continue
        gap = versus(record, measure, method, budget)
        lines.append([*line, intervals.shown(gap, f"+{form}"), verdict(record, measure, method, budget)])
    headings = ["method", "trained parameters", name, "less LoRA's [95 %]", "verdict"]
    seeds = len(values(record, measure, method=BASE, budget="steps"))
    return Table(headings, lines, f"tiny_base on 100 facts, {BUDGETS[budget]}, {seeds} paired seeds")


def of_any(record: dict, method: str, name: str):
    """What is the same in all of a method's runs at equal steps: its parameters, its file's bytes, ..."""
    return at_steps(record, method)[0][name]


def at_steps(record: dict, method: str) -> list[dict]:
    """The metrics of a method's runs at equal steps, where costs were measured; in the order of seeds."""
    return [
        c["metrics"]
        for c in record["cells"]
        if (c["cell"]["method"], c["cell"]["budget"]) == (method, "steps")
    ]


def costs_table(record: dict) -> Table:
    """What each method costs: parameters, file, operations and time of a step, time of a forward pass with
    the adapter beside the weights and folded into them. Times as ratios: to LoRA's, and to the bare
    base's."""
    lines = []
    loras = of_any(record, BASE, "flops_a_step")
    for method, kind in methods.METHODS.items():
        runs = at_steps(record, method)
        if not runs:
            continue
        ratio = median_ratio(record, method)
        passes = [forward_ratio(record, method, way) for way in ("unmerged", "merged")]
        line = [kind.title, f"{runs[0]['parameters']:,}", f"{runs[0]['file_bytes']:,}"]
        line += [f"{of_any(record, method, 'flops_a_step') / loras:.2f}", f"{ratio:.2f}"]
        lines.append([*line, *("—" if value is None else f"{value:.2f}" for value in passes)])
    headings = ["method", "trained parameters", "bytes of the file", "operations / LoRA's"]
    headings += ["time of a step / LoRA's", "forward / base's, beside", "folded in"]
    return Table(headings, lines, "What a method costs on tiny_base, one thread")


def forward_ratio(record: dict, method: str, way: str) -> float | None:
    """Time of a forward pass over the bare base's, "unmerged" or "merged": the median over seeds. None for a
    method that does not merge."""
    passes = [run["forward"] for run in at_steps(record, method)]
    if way not in passes[0]:
        return None
    return statistics.median(taken[way] / taken["base"] for taken in passes)


def median_ratio(record: dict, method: str) -> float:
    """Time of a step over LoRA's with the same seed: the median over seeds."""
    ours = values(record, "seconds_a_step", method=method, budget="steps")
    theirs = values(record, "seconds_a_step", method=BASE, budget="steps")
    return statistics.median(ours[seed] / theirs[seed] for seed in set(ours) & set(theirs))


# ---------------------------------------------------------------- magnitudes and directions


def moves(record: dict, method: str, part: str) -> list[list[tuple[float, float]]]:
    """For each seed the (magnitude, direction) changes of matrices whose name holds `part` ("q_proj"), over
    layers and moments; of a method that leaves them alone, as IA3 does some, none."""
    found = []
    for c in record["cells"]:
        if c["cell"]["method"] == method and c["cell"].get("budget", "steps") == "steps":
            moments = c["metrics"].get("moves", {}).values()
            found.append([tuple(pair) for now in moments for name, pair in now.items() if part in name])
    return [points for points in found if any(any(pair) for pair in points)]


def correlation_table(record: dict, model: str = "tiny_base") -> Table:
    """The correlation of magnitude and direction by method and matrix: mean over seeds, least and most.

    model: what the record's runs were of, for the caption.
    """
    lines = []
    for method, kind in methods.METHODS.items():
        for part in ("q_proj", "v_proj"):
            if runs := moves(record, method, part):
                found = [movement.correlation(points) for points in runs]
                spread = (statistics.fmean(found), min(found), max(found))
                lines.append([kind.title, part, len(runs[0]), intervals.shown(spread, "+.2f")])
    headings = ["method", "matrices", "points a seed", "correlation [least, most]"]
    return Table(headings, lines, f"Do magnitudes and directions change together? {model}")
