"""Figures and tables of the two published records of notebook 06."""

from __future__ import annotations

import statistics

from labsupport.core import plots
from labsupport.core.tables import Table
from labsupport.evaluation import intervals

PARTS = (
    "intent",
    "product",
    "order_id",
    "urgency",
    "rest",
)  # of an answer: its values, and keys and brackets
SETS = {"test_lookalike": "lookalike", "test_production": "production"}
RIGHT = ("template", "template")
# (arm, the form in which it is asked) -> in words. First what was trained otherwise, then asked otherwise.
TRAINED = {
    ("hand_rolled", "hand_rolled"): "roles written by hand",
    ("alpaca", "alpaca"): "Alpaca's form",
    ("full_row_loss", "template"): "loss on the prompt too",
    ("prerendered", "template"): "rendered too early",
    ("prerendered_bos", "one_bos"): "BOS twice in training",
    ("collator_pad_is_eos", "template"): "end marks masked",
    ("bfd_batch1", "template"): "packed, as many steps",
    ("wrapped", "template"): "packed, rows see each other",
    ("bfd_batch8", "template"): "packed, an eighth of the steps",
    ("alpaca_dropped", "alpaca"): "input dropped in training",
    ("untrained_specials", "template"): "untrained marks",
    ("untrained_specials_trained", "template"): "untrained marks, trained too",
}
ASKED = {
    ("template", "two_bos"): "asked with BOS twice",
    ("template", "hand_rolled"): "asked with roles by hand",
    ("template", "llama3_strings"): "asked with Llama's marks",
    ("template", "no_system"): "asked without the system turn",
}


def scores(cells: list[dict], way: tuple[str, str]) -> dict[int, dict]:
    """What an arm reached in a form, by seed."""
    arm, form = way
    return {c["cell"]["seed"]: c["metrics"][form] for c in cells if c["cell"]["arm"] == arm}


def right(cells: list[dict], way: tuple[str, str]) -> float:
    """The share of right answers on both test sets, all seeds together: each token was the first choice."""
    found = scores(cells, way).values()
    return statistics.fmean(exact for seed in found for part in SETS for exact in seed[part]["exact"])


def nll(seed_scores: dict, part: str = "test_lookalike") -> list[float]:
    """Negative log-likelihood of the right answer, in nats, row by row of a test set."""
    rows = seed_scores[part]
    return [sum(parts) for parts in zip(*(rows[part] for part in PARTS), strict=True)]


def against_the_template(cells: list[dict], way: tuple[str, str]) -> tuple[float, float, float]:
    """Nats more an answer costs than in the right way: mean and 95 % interval, paired by row and seed."""
    return paired(scores(cells, RIGHT), scores(cells, way), "test_lookalike")


def paired(one: dict, other: dict, part: str) -> tuple[float, float, float]:
    """How many nats an answer of `other` costs more than one of `one`, over the seeds that both have."""
    values, rows, seeds = [], [], []
    for seed in sorted(one.keys() & other.keys()):
        values += [b - a for a, b in zip(nll(one[seed], part), nll(other[seed], part), strict=True)]
        rows += one[seed][part]["id"]  # one row of each family
        seeds += [seed] * len(one[seed][part]["id"])
    return intervals.interval(values, rows, seeds)


def what_it_costs(cells: list[dict], title: str):
    """Nats more than in the right way, a line a mistake: trained otherwise blue, asked otherwise orange."""
    ways = TRAINED | ASKED
    fig, axes = plots.figure(height=4.6)
    for place, way in enumerate(ways):
        mean, low, high = against_the_template(cells, way)
        colour, mark = (plots.BLUE, "o") if way in TRAINED else (plots.ORANGE, "s")
        axes.errorbar(mean, place, xerr=[[mean - low], [high - mean]], fmt=mark, color=colour, capsize=3)
    axes.axvline(0, color=plots.GREY, linewidth=1)
    axes.set_yticks(range(len(ways)), ways.values())
    axes.set_xscale("symlog", linthresh=1)
    axes.set(xlabel="nats an answer more than with the model's template, both times", xlim=(-1, 40))
    fig.suptitle(title, x=0.02, ha="left")
    axes.set_xticks([-1, -0.5, 0, 0.5, 1, 3, 10, 30], ["-1", "-0.5", "0", "0.5", "1", "3", "10", "30"])
    axes.invert_yaxis()
    return fig


def table_of_formats(cells: list[dict]) -> Table:
    """Exact match, stopping and valid JSON of each way, both seeds beside each other."""
    lines = []
    untuned = {("untuned", "template"): "not tuned, asked with the template"}
    for way, name in {RIGHT: "the model's template", **TRAINED, **ASKED, **untuned}.items():
        found = [both for _, both in sorted(scores(cells, way).items())]
        exact, stops = (seeds(found, "test_lookalike", key) for key in ("exact", "stops"))
        lines.append([name, exact, stops, seeds(found, "written", "valid")])
    headings = ["what", "right, forced (%)", "then stops (%)", "valid JSON written (%)"]
    return Table(headings, lines, "Lookalike messages; where an arm has two seeds, both")


def seeds(found: list[dict], part: str, key: str) -> str:
    """A share in percent, seed by seed."""
    return " and ".join(f"{100 * statistics.fmean(scores[part][key]):.0f}" for scores in found)


# ---------------------------------------------------------------- how many rows, how varied, how clean

CURVE = {"rows32": 32, "rows64": 64, "rows128": 128, "rows256": 256}


def curve_of(cells: list[dict], arm: str, part: str = "test_lookalike") -> list[float]:
    """Mean nats an answer of an arm of the learning curve, seed by seed."""
    found = sorted((c["cell"]["seed"], c["metrics"]) for c in cells if c["cell"]["arm"] == arm)
    return [statistics.fmean(nll(metrics, part)) for _, metrics in found]


def learning(cells: list[dict], title: str):
    """Nats an answer over different rows, at equal steps; fewer families and wrong labels beside it."""
    fig, panels = plots.figure(columns=2, sharey=True)
    beside = {"few_families": (128, "128 rows, 43 families", "s"), "noisy256": (256, "8 % wrong labels", "D")}
    for axes, (part, name) in zip(panels, SETS.items(), strict=True):
        means = [statistics.fmean(curve_of(cells, arm, part)) for arm in CURVE]
        axes.plot(list(CURVE.values()), means, "-", color=plots.BLUE)
        for arm, rows in CURVE.items():
            label = "each row of its own family" if rows == 32 else None
            found = curve_of(cells, arm, part)
            axes.plot([rows] * len(found), found, "o", color=plots.BLUE, label=label)
        for arm, (rows, label, mark) in beside.items():
            found = curve_of(cells, arm, part)
            axes.plot(
                [rows] * len(found), found, mark, color=plots.ORANGE, markerfacecolor="none", label=label
            )
        axes.set_xscale("log", base=2)
        axes.set_xticks(list(CURVE.values()), map(str, CURVE.values()))
        axes.set(xlabel="different rows (256 visits in all)", title=name)
    panels[0].set_ylim(0, 1.1 * panels[0].get_ylim()[1])
    panels[0].set_ylabel("nats a right answer")
    panels[1].legend(loc="lower left", fontsize=9)
    fig.suptitle(title, x=0.02, ha="left")
    return fig


def table_of_rows(cells: list[dict]) -> Table:
    """Each arm of the learning curve beside 256 rows: the difference in nats an answer, paired by row."""
    names = {
        "rows32": "32 rows, 8 times",
        "rows64": "64 rows, 4 times",
        "rows128": "128 rows, twice",
        "few_families": "128 rows of 43 families, twice",
        "noisy256": "256 rows, 8 % with a wrong value",
    }
    lines = [[name, *differences(cells, "rows256", arm)] for arm, name in names.items()]
    lines.append(
        ["the same, against 128 rows of 128 families", *differences(cells, "rows128", "few_families")]
    )
    headings = ["trained on", *(f"{name} (nats)" for name in SETS.values())]
    return Table(
        headings, lines, "An answer costs so many nats more than after 256 different rows, once each"
    )


def differences(cells: list[dict], one: str, other: str) -> list[str]:
    """How many nats an answer of an arm costs more than one of another, with its interval, set by set."""
    by_arm = {
        arm: {c["cell"]["seed"]: c["metrics"] for c in cells if c["cell"]["arm"] == arm}
        for arm in (one, other)
    }
    found = [paired(by_arm[one], by_arm[other], part) for part in SETS]
    return [f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]" for mean, low, high in found]
