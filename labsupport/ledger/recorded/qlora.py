"""The claims about QLoRA's training that notebook 08 settles."""

from __future__ import annotations

from labsupport.evaluation import experiments, intervals
from labsupport.qlora_runs import rates, reading
from labsupport.teaching.claims import shows

SETS = reading.SETS


def record() -> dict:
    return experiments.published("qlora")


@shows("D13")
def bumps_and_the_other_base() -> str:
    """How bumpy the curves are beside full precision's, and what adapters trained on NF4 do on it."""
    ratio = intervals.shown(reading.bump_ratio(record(), "nf4"), ".2f")
    moved = [
        f"{name} {intervals.shown(reading.gap(record(), 'nf4', 'nf4', split, 'answer', 'other'), '+.2f')}"
        for split, name in SETS.items()
    ]
    return (
        f"{len(reading.cells(record(), 'nf4'))} paired seeds: bumps {ratio} times full precision's; adapters "
        f"of NF4 moved to the full base, nats an answer more: {', '.join(moved)}"
    )


@shows("J3")
def adapters_on_the_other_base() -> str:
    """Nats an answer more where adapters run on the base that they were not trained on, either way."""
    parts = []
    for arm, way in (("nf4", "trained on NF4, run on full precision"), ("full", "the other way round")):
        gaps = [
            f"{name} {intervals.shown(reading.gap(record(), arm, arm, split, 'answer', 'other'), '+.2f')}"
            for split, name in SETS.items()
        ]
        parts.append(f"{way}: {', '.join(gaps)}")
    return f"nats an answer more than on their own base; {'; '.join(parts)}"


@shows("H1")
def best_rate_by_base() -> str:
    """The best learning rate on either base, two lengths of run, tiny_base on facts."""
    sweep = experiments.published("qlora_rates")
    parts = []
    for epochs in sorted({c["cell"]["epochs"] for c in sweep["cells"]}):
        best = [f"{name} {rates.best_rate(sweep, form, epochs):g}" for form, name in rates.FORMS.items()]
        parts.append(f"{epochs} epochs {', '.join(best)}")
    return f"best of {', '.join(f'{rate:g}' for rate in rates.rates(sweep))}: {'; '.join(parts)}"


@shows("H2")
def twice_the_steps() -> str:
    """Bits stored in as many steps at the common best rate, and nats on tickets with the guide's recipe."""
    sweep = experiments.published("qlora_rates")
    epochs = min(c["cell"]["epochs"] for c in sweep["cells"])
    rate = rates.best_rate(sweep, "full", epochs)
    bits = [rates.values(sweep, arm=form, epochs=epochs, rate=rate) for form in ("nf4", "full")]
    stored = intervals.shown(rates.paired(*bits), "+.0f")
    records, parts = (record(), experiments.published("qlora_budget")), []
    for words, arm, recipe in (
        ("NF4 likewise", "nf4", (1.0, 1)),
        ("NF4 at half the rate and twice the steps", "nf4", (0.5, 2)),
        ("full precision at these", "full", (0.5, 2)),
    ):
        gap = rates.against_once(records, arm, *recipe, "full", "test_lookalike")
        parts.append(f"{words} {intervals.shown(gap, '+.2f')}")
    return (
        f"tiny_base, facts, rate {rate:g}, {epochs} epochs: NF4 less full {stored} bits; 135M, tickets, nats "
        f"more than full precision with the course's recipe: {'; '.join(parts)}"
    )
