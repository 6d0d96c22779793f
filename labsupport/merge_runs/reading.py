"""The record of the experiment `merge_routes`, read: every route beside the model that was trained."""

from __future__ import annotations

import math
import statistics

from labsupport.core.tables import Table
from labsupport.evaluation import intervals
from labsupport.merge_runs import rounding

SETS = {"test_lookalike": "lookalike", "test_production": "production"}
TRAINED, BASE = "unmerged", "base"
NAMES = {
    "unmerged": "not merged: what was trained",
    "base": "NF4 base, no adapter",
    "dequantised": "into the dequantised base, float32",
    "dequantised, bfloat16": "the same, saved in bfloat16",
    "float32 base": "into the float32 base",
    "bfloat16 base": "into the bfloat16 base",
    "re-quantised": "into the float32 base, then NF4",
    "in place": "in place, in NF4",
    "unmerged, bfloat16 products": "not merged, bfloat16 products",
    "merged, bfloat16 products": "into the dequantised base, bfloat16 products",
}
STEPS = 32  # the training that was also taken at other strengths


# ---------------------------------------------------------------- what the record holds


def at(record: dict, steps: int = STEPS, scale: float = 1) -> dict[int, dict]:
    """Seed -> what was measured of the adapter of so many steps at that strength. ValueError if nothing."""
    found = {
        c["cell"]["seed"]: c["metrics"]["scales"][f"{scale:g}"]
        for c in record["cells"]
        if c["cell"]["steps"] == steps and f"{scale:g}" in c["metrics"]["scales"]
    }
    if not found:
        raise ValueError(f"the record has nothing of {steps} steps at strength {scale:g}")
    return found


def ways(record: dict, steps: int = STEPS, scale: float = 1) -> dict[str, str]:
    """The ways that were measured there, with their names."""
    there = next(iter(at(record, steps, scale).values()))["scores"]
    return {way: name for way, name in NAMES.items() if way in there}


def conditions(record: dict) -> list[tuple[int, float]]:
    """(steps, strength) of all adapters that are some, the smallest update first."""
    found = {
        (c["cell"]["steps"], float(scale))
        for c in record["cells"]
        for scale in c["metrics"]["scales"]
        if float(scale)
    }
    return sorted(found, key=lambda condition: relative(record, *condition))


def columns(record: dict, way: str, split: str, steps: int, scale: float) -> dict[int, dict[str, list]]:
    """Seed -> the columns of one way on a test set, with the `id` of each row, a family of its own here."""
    return {
        seed: found["scores"][way][split] | {"id": found["id"][split]}
        for seed, found in at(record, steps, scale).items()
    }


def over_rows(found: dict[int, dict[str, list]], values: str, sizes: str | None = None):
    """Of columns by seed: the mean of one (or the ratio of the sums of two), and its interval over seeds and
    rows."""
    flat, names, seeds, parts = [], [], [], []
    for seed, own in found.items():
        flat += own[values]
        names += own["id"]
        seeds += [seed] * len(own["id"])
        parts += own[sizes] if sizes else []
    return intervals.interval(flat, names, seeds, sizes=parts or None)


# ---------------------------------------------------------------- distances from the trained model


def divergence(record: dict, way: str, split: str, steps: int = STEPS, scale: float = 1):
    """KL(trained ‖ way) in nats a token of right answers: mean and interval."""
    return over_rows(columns(record, way, split, steps, scale), "kl", "tokens")


def same_choice(record: dict, way: str, split: str, steps: int = STEPS, scale: float = 1):
    """Share of the tokens of right answers at which both have the same first choice: mean and interval."""
    return over_rows(columns(record, way, split, steps, scale), "same", "tokens")


def level(record: dict, way: str, split: str, measure: str, steps: int = STEPS, scale: float = 1):
    """A way's own "nll" (nats an answer) or "exact" (share): mean and interval."""
    return over_rows(columns(record, way, split, steps, scale), measure)


def differences(record: dict, way: str, split: str, measure: str, steps: int, scale: float):
    """Seed -> `less`: row by row a way's "nll" or "exact" less the trained model's; `id`."""
    ours, theirs = (columns(record, name, split, steps, scale) for name in (way, TRAINED))
    return {
        seed: {
            "id": own["id"],
            "less": [a - b for a, b in zip(own[measure], theirs[seed][measure], strict=True)],
        }
        for seed, own in ours.items()
    }


def gap(record: dict, way: str, split: str, measure: str, steps: int = STEPS, scale: float = 1):
    """A way's "nll" (nats an answer) or "exact" (share) less the trained model's: mean, paired interval."""
    return over_rows(differences(record, way, split, measure, steps, scale), "less")


def detectable(record: dict, way: str, split: str, steps: int = STEPS, scale: float = 1) -> float:
    """The smallest difference in nats an answer that these rows would show in four cases of five, as far as
    rows decide it: averaged over seeds first."""
    found = list(differences(record, way, split, "nll", steps, scale).values())
    means = [statistics.fmean(row) for row in zip(*(own["less"] for own in found), strict=True)]
    return intervals.detectable(means, found[0]["id"])


def gain_kept(record: dict, way: str, split: str, steps: int = STEPS, scale: float = 1):
    """Of the nats an answer that the adapter gains on the NF4 base, the share that a way keeps, with its
    interval: 1 is the trained model, 0 the base without an adapter."""
    base, ours, whole = (columns(record, name, split, steps, scale) for name in (BASE, way, TRAINED))
    gains = {}
    for seed, own in base.items():
        before = own["nll"]
        gains[seed] = {
            "id": own["id"],
            "kept": [b - x for b, x in zip(before, ours[seed]["nll"], strict=True)],
            "gained": [b - x for b, x in zip(before, whole[seed]["nll"], strict=True)],
        }
    return over_rows(gains, "kept", "gained")


def replies_alike(record: dict, way: str, steps: int = STEPS) -> tuple[int, int]:
    """How many replies of all seeds have the ids that the trained model writes, and of how many."""
    found = [value for own in at(record, steps).values() for value in own["alike"][way]]
    return sum(found), len(found)


# ---------------------------------------------------------------- what is left of the update


def survival(
    record: dict, route: str, steps: int = STEPS, scale: float = 1, kind: str = "survived"
) -> dict[str, float]:
    """The means over seeds of `rounding.Survived`'s values; kind "control": of the shuffled update."""
    found = [own[kind][route] for own in at(record, steps, scale).values()]
    undefined = math.nan  # where there was no update, and of a cosine where nothing changed
    return {
        name: statistics.fmean(undefined if own[name] is None else own[name] for own in found)
        for name in rounding.Survived._fields
    }


def relative(record: dict, steps: int = STEPS, scale: float = 1) -> float:
    """|dW| / |W| of an adapter, W the dequantised base: mean over seeds."""
    return survival(record, "dequantised", steps, scale)["relative"]


# ---------------------------------------------------------------- shown


def routes_table(record: dict, split: str = "test_lookalike", steps: int = STEPS, scale: float = 1) -> Table:
    """Every way: nats an answer, exact answers, what it costs beside the trained model, KL, same choices, and
    where it was measured the greedy replies that are the trained model's, token by token."""
    lines = []
    written = "alike" in next(iter(at(record, steps, scale).values()))
    for way, name in ways(record, steps, scale).items():
        nll, exact = (level(record, way, split, measure, steps, scale)[0] for measure in ("nll", "exact"))
        line = [name, f"{nll:.2f}", f"{100 * exact:.0f}"]
        if way == TRAINED:
            lines.append(line + ["–"] * (5 if written else 4))
            continue
        line.append(intervals.shown(gap(record, way, split, "nll", steps, scale), "+.3f"))
        line.append(f"{detectable(record, way, split, steps, scale):.2g}")
        line.append(intervals.shown(divergence(record, way, split, steps, scale), ".2g"))
        line.append(f"{100 * same_choice(record, way, split, steps, scale)[0]:.1f}")
        if written:
            same, asked = replies_alike(record, way, steps)
            line.append(f"{same} of {asked}")
        lines.append(line)
    headings = ["way", "nats an answer", "exact (%)", "more nats than trained [95 %]"]
    headings += ["would be seen", "KL, nats a token [95 %]", "same first choice (%)"]
    headings += ["same replies"] if written else []
    seeds = len(at(record, steps, scale))
    about = f"{SETS[split]}, {steps} steps, strength {scale:g}, {seeds} seeds: intervals over seeds and rows"
    return Table(headings, lines, about)


def survival_table(record: dict, steps: int = STEPS, scale: float = 1) -> Table:
    """Every route: what of dW is left, and the same for the shuffled dW."""
    lines = []
    for route, (start, end) in rounding.ROUTES.items():
        own, control = (survival(record, route, steps, scale, kind) for kind in ("survived", "control"))
        line = [NAMES[route], start, end, f"{100 * own['kept']:.1f}", f"{own['cosine']:.3f}"]
        lines.append(
            [*line, f"{own['size']:.2f}", f"{100 * own['moved']:.1f}", f"{100 * control['kept']:.1f}"]
        )
    headings = ["route", "added to", "kept in", "dW kept (%)", "cosine", "|D| / |dW|"]
    headings += ["codes changed (%)", "kept of shuffled dW (%)"]
    size = 100 * relative(record, steps, scale)
    return Table(headings, lines, f"What is left of dW: |dW| is {size:.2f} % of |W|")


def sizes_table(record: dict, route: str = "in place", split: str = "test_lookalike") -> Table:
    """One route by the size of dW: what is left of it, and what the merged model lost."""
    lines = []
    for steps, scale in conditions(record):
        own = survival(record, route, steps, scale)
        lines.append(
            [
                f"{steps} steps" + (f", times {scale:g}" if scale != 1 else ""),
                f"{100 * relative(record, steps, scale):.2f}",
                f"{100 * own['kept']:.1f}",
                f"{own['cosine']:.3f}",
                intervals.shown(divergence(record, route, split, steps, scale), ".2g"),
                intervals.shown(gap(record, route, split, "nll", steps, scale), "+.2f"),
            ]
        )
    headings = ["adapter", "|dW| / |W| (%)", "dW kept (%)", "cosine", "KL, nats a token [95 %]"]
    return Table([*headings, "more nats than trained [95 %]"], lines, f"{NAMES[route]}: {SETS[split]}")
