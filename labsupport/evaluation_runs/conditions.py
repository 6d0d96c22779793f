"""The record of the experiment `evaluation_conditions`: one fine-tune, asked in many ways."""

from __future__ import annotations

from labsupport.core import plots
from labsupport.core.tables import Table
from labsupport.evaluation import intervals, metrics
from labsupport.tasks import tickets

SETS = {"test_lookalike": "lookalike", "test_production": "production"}
REFERENCE = "bfloat16, batch 8, left"
GREEDY = "bfloat16, batch 1"


def part(record: dict, name: str) -> dict:
    """The metrics of one part."""
    return next(cell["metrics"] for cell in record["cells"] if cell["cell"]["part"] == name)


def ways_of_scoring(record: dict) -> list[str]:
    """The ways in which the right answers were scored."""
    return [name for name in part(record, "scoring") if isinstance(part(record, "scoring")[name], dict)]


def scoring_table(record: dict) -> Table:
    """Each way of scoring against the reference: nats, how many verdicts differ, and exact match, paired."""
    found, lines = part(record, "scoring"), []
    for way in ways_of_scoring(record):
        ours, base = (both_sets(found[name]) for name in (way, REFERENCE))
        moved = [abs(a - b) for a, b in zip(ours["nll"], base["nll"], strict=True)]
        flips = sum(a != b for a, b in zip(ours["exact"], base["exact"], strict=True))
        lines.append(
            [
                way,
                f"{sum(ours['nll']) / len(moved):.3f}",
                f"{max(moved):.2f}",
                f"{flips} of {len(moved)}",
                intervals.shown(difference(found, way, REFERENCE), "+.1f"),
            ]
        )
    headings = [
        "scored in",
        "nats an answer",
        "largest change",
        "verdicts that differ",
        "exact, points [95 %]",
    ]
    return Table(headings, lines, f"Both test sets together, compared to: {REFERENCE}")


def both_sets(of_way: dict) -> dict[str, list]:
    """The columns of both sets, one behind the other."""
    return {key: [value for split in SETS for value in of_way[split][key]] for key in ("nll", "exact")}


def difference(found: dict, one: str, other: str) -> tuple[float, float, float]:
    """Exact match of one way of scoring less that of another, in points, paired by row."""
    pairs = zip(both_sets(found[one])["exact"], both_sets(found[other])["exact"], strict=True)
    values = [100 * (a - b) for a, b in pairs]
    return intervals.interval(values, [str(i) for i in range(len(values))])


# ---------------------------------------------------------------- what was written


def judged(record: dict, way: str, split: str) -> dict[str, list[float]]:
    """Of the replies written in a way: `right` and `valid`, 1 or 0 each."""
    written = part(record, "writing")
    return _judged(written["ids"][split], split, written[way][split])


def _judged(ids: list[str], split: str, replies: list[str]) -> dict[str, list[float]]:
    row_of = {row["id"]: row for row in tickets.load(split)}
    rows = [row_of[i] for i in ids]
    return {
        "right": metrics.exact_match(rows, replies).tolist(),
        "valid": metrics.valid_json(replies).tolist(),
    }


def writing_table(record: dict) -> Table:
    """Each way of writing: same words as one by one, valid, right, on both sets."""
    written, lines = part(record, "writing"), []
    for way in [name for name in written if name != "ids"]:
        same = [a == b for s in SETS for a, b in zip(written[way][s], written[GREEDY][s], strict=True)]
        results = {split: judged(record, way, split) for split in SETS}
        lines.append(
            [
                way,
                f"{sum(same)} of {len(same)}",
                *(share(results[split]["valid"]) for split in SETS),
                *(share(results[split]["right"]) for split in SETS),
            ]
        )
    headings = ["written with", "same text as one by one", "valid, lookalike (%)", "valid, production (%)"]
    headings += ["right, lookalike (%)", "right, production (%)"]
    return Table(headings, lines, "Greedy replies, and replies under a grammar")


def share(values: list[float]) -> str:
    """In percent with Wilson's interval: "33 [21, 47]"."""
    found = intervals.wilson(int(sum(values)), len(values))
    return intervals.shown([100 * x for x in found], ".0f")


def sampled(record: dict) -> dict[str, list[dict[str, list[float]]]]:
    """Temperature -> for each sample of the production rows `right` and `valid`."""
    found = part(record, "sampling")
    return {
        temperature: [_judged(found["ids"], "test_production", replies) for replies in samples]
        for temperature, samples in found.items()
        if temperature != "ids"
    }


def sampling_table(record: dict) -> Table:
    """Greedy beside sampled replies to the same production rows: each draw, and all draws of a temperature
    with an interval over rows."""
    draws = {"greedy": [judged(record, GREEDY, "test_production")]}
    draws |= {f"temperature {temperature}": some for temperature, some in sampled(record).items()}
    lines = []
    for name, some in draws.items():
        rights = [one["right"] for one in some]
        each = [f"{100 * sum(right) / len(right):.0f}" for right in rights]
        valid = [f"{100 * sum(one['valid']) / len(one['valid']):.0f}" for one in some]
        of_row = [sum(row) / len(row) for row in zip(*rights, strict=True)]
        mean = intervals.interval([100 * share for share in of_row], list(range(len(of_row))))
        apart = sum(0 < share < 1 for share in of_row) if len(some) > 1 else "—"
        lines.append([name, ", ".join(valid), ", ".join(each), intervals.shown(mean, ".0f"), apart])
    headings = ["decoding", "valid JSON, each draw (%)", "right, each draw (%)", "right, all draws (%)"]
    headings += ["rows right in some draws only"]
    return Table(headings, lines, f"Replies to {len(rights[0])} production messages")


# ---------------------------------------------------------------- how near the test is to the training rows


def nearness(record: dict) -> dict[str, dict[str, tuple[float, float, float]]]:
    """Exact match in percent and nats an answer, each with its interval, from the rows that were trained on
    to production."""
    leakage, found = part(record, "leakage"), part(record, "scoring")[REFERENCE]
    groups = {
        "rows it was trained on": (leakage["trained rows"], leakage["trained rows"]["family"]),
        "new rows of the same families": (leakage["siblings"], leakage["siblings"]["family"]),
    }
    for split, name in (("test_lookalike", "new families"), ("test_production", "production")):
        groups[name] = (found[split], [str(i) for i in range(len(found[split]["nll"]))])
    return {
        name: {
            "exact": intervals.interval([100 * x for x in columns["exact"]], families),
            "nll": intervals.interval(columns["nll"], families),
        }
        for name, (columns, families) in groups.items()
    }


def nearness_figure(record: dict, title: str):
    """Exact match by how near the test rows are to those of training. Returns the figure."""
    fig, axes = plots.figure(height=2.6)
    for place, (_name, found) in enumerate(nearness(record).items()):
        mean, low, high = found["exact"]
        axes.plot([low, high], [place, place], color=plots.BLUE, linewidth=2)
        axes.plot(mean, place, "o", color=plots.BLUE)
        axes.annotate(f"{mean:.0f} %", (mean, place), textcoords="offset points", xytext=(0, 7), ha="center")
    names = list(nearness(record))
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="right, forced (%), with 95 % interval", xlim=(0, 103), title=title)
    axes.set_ylim(len(names) - 0.4, -0.8)
    return fig


# ---------------------------------------------------------------- when the message is no ticket


def looks_like_a_ticket(reply: str) -> bool:
    """Whether a reply begins as the answers of the ticket task do."""
    return reply.lstrip().startswith('{"intent"')


def elsewhere(record: dict) -> dict[str, tuple[int, int, int]]:
    """Kind of prompt -> (prompts, ticket-like replies of the untuned model, of the tuned one)."""
    return {
        kind: (
            len(rows),
            sum(looks_like_a_ticket(row["untuned"]) for row in rows),
            sum(looks_like_a_ticket(row["tuned"]) for row in rows),
        )
        for kind, rows in part(record, "elsewhere").items()
    }


def elsewhere_table(record: dict) -> Table:
    """`elsewhere` with names."""
    names = {"chat": "chat openings", "canary": "questions of the canary", "policy": "policy questions"}
    lines = [[names[kind], *counts] for kind, counts in elsewhere(record).items()]
    headings = ["asked", "prompts", "answered as a ticket, untuned", "tuned on tickets"]
    return Table(headings, lines, "Greedy replies to what is no ticket, without the ticket prompt")
