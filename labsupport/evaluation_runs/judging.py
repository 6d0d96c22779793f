"""The records of `judge`, `refusals` and `one_process`, read."""

from __future__ import annotations

from labsupport.core.tables import Table
from labsupport.evaluation import intervals
from labsupport.tasks import policy, tickets

# ---------------------------------------------------------------- a model as judge

PAIRS = {
    "wrong": "right against a wrong answer",
    "refusal": "right against a refusal",
    "longer": "right against the same, longer",
    "same": "an answer against itself",
}


def preferences(record: dict, pair: str) -> list[dict]:
    """For each question the log-odds (nats) that the judge gave to the first place and to the answer.

    place: mean of the two orders' log-odds of A, in which the answers cancel; answer: half their difference,
    in which the places cancel, positive for the right (or shorter) answer; both: which places it chose when
    the right answer stood first and second, "AA" if it chose the first place twice.
    """
    rows = next(cell["metrics"]["rows"] for cell in record["cells"] if cell["cell"]["pair"] == pair)
    return [
        {
            "id": row["id"],
            "place": (row["right_first"] + row["right_second"]) / 2,
            "answer": (row["right_first"] - row["right_second"]) / 2,
            "both": "".join("A" if row[key] > 0 else "B" for key in ("right_first", "right_second")),
        }
        for row in rows
    ]


def judge_table(record: dict) -> Table:
    """What the judge preferred in each kind of pair."""
    family_of = {row["id"]: row["family"] for row in policy.load("test")}
    lines = []
    for pair, name in PAIRS.items():
        found = preferences(record, pair)
        families = [family_of[row["id"]] for row in found]
        place = intervals.interval([row["place"] for row in found], families)
        answer = intervals.interval([row["answer"] for row in found], families)
        kept = sum(row["both"] in ("AB", "BA") for row in found)
        right = sum(row["both"] == "AB" for row in found)
        nats = [intervals.shown(odds, "+.2f") for odds in (place, answer)]
        lines.append([name, len(found), *nats, f"{right} of {kept}"])
    headings = ["pair", "questions", "for the first place (nats)", "for the right answer (nats)"]
    headings += ["right where the order did not matter"]
    return Table(headings, lines, "Log-odds of the judge, with 95 % intervals over families")


# ---------------------------------------------------------------- refusals

ARMS = {"untuned": "not tuned", "with_refusals": "refusals in training", "answers_only": "answers only"}


def refusal_shares(record: dict, arm: str) -> dict[str, tuple[float, float, float]]:
    """Shares of 1 with their intervals over policies and seeds: `answered` right where the policy says it,
    `refused` where it does not, `invented` something where it does not, `refused_wrongly` where it does."""
    row_of = {row["id"]: row for row in policy.load("test")}
    judged = [
        (row_of[found["id"]], found, cell["cell"]["seed"])
        for cell in record["cells"]
        if cell["cell"]["arm"] == arm
        for found in cell["metrics"]["test"]
    ]
    asked = {
        "answered": (True, "right"),
        "refused": (False, "right"),
        "invented": (False, "invented"),
        "refused_wrongly": (True, "refused"),
    }
    result = {}
    for name, (answerable, key) in asked.items():
        chosen = [one for one in judged if one[0]["answerable"] == answerable]
        values = [float(found[key]) for _, found, _ in chosen]
        families = [row["family"] for row, _, _ in chosen]
        result[name] = intervals.interval(values, families, [seed for _, _, seed in chosen])
    return result


def refusals_table(record: dict) -> Table:
    """Each arm on questions that the policy answers, and on those that it does not."""
    lines = []
    for arm, name in ARMS.items():
        shares = refusal_shares(record, arm)
        percents = [[100 * value for value in share] for share in shares.values()]
        lines.append([name, *(intervals.shown(share, ".0f") for share in percents)])
    headings = ["model", "right, where the policy says it (%)", "refused, where it does not (%)"]
    headings += ["invented, where it does not (%)", "refused, where it says it (%)"]
    return Table(headings, lines, "Replies to test questions, with 95 % intervals over policies and seeds")


# ---------------------------------------------------------------- one process for training and test


def process_nats(faulty: dict, clean: dict, split: str = "test_lookalike") -> dict[str, dict[str, tuple]]:
    """Nats that the right intent costs, with intervals over rows and seeds: of `all` messages and of those
    that are an `exchange` by the right labels. The model of the faulty labels is judged by labels of the same
    process and by the right ones; the model of the right labels, by the right ones.

    faulty, clean: the records of `one_process` and of `chat_formats`.
    """
    exchanges = {row["id"] for row in tickets.load(split) if row["intent"] == "exchange"}
    cells = [(cell["cell"]["seed"], cell["metrics"]) for cell in faulty["cells"]]
    judged = {
        "faulty labels, judged by the same labels": [(s, m[f"{split}, same"]) for s, m in cells],
        "faulty labels, judged by right ones": [(s, m[f"{split}, right"]) for s, m in cells],
        "right labels, judged by right ones": [
            (cell["cell"]["seed"], cell["metrics"]["template"][split])
            for cell in clean["cells"]
            if cell["cell"]["arm"] == "template"
        ],
    }
    return {
        name: {"all": _intent(found), "exchange": _intent(found, exchanges)} for name, found in judged.items()
    }


def _intent(found: list[tuple[int, dict]], wanted: set[str] | None = None) -> tuple[float, float, float]:
    rows = [
        (value, name, seed)
        for seed, columns in found
        for value, name in zip(columns["intent"], columns["id"], strict=True)
        if wanted is None or name in wanted
    ]
    values, names, seeds = zip(*rows, strict=True)
    return intervals.interval(list(values), list(names), list(seeds))


def process_table(faulty: dict, clean: dict) -> Table:
    """`process_nats` of lookalike messages."""
    lines = [
        [name, *(intervals.shown(nats, ".2f") for nats in found.values())]
        for name, found in process_nats(faulty, clean).items()
    ]
    headings = ["trained on, judged by", "intent, all messages (nats)", "exchanges only (nats)"]
    return Table(
        headings, lines, "256 rows, 32 steps, two seeds; 144 lookalike messages, 18 of them exchanges"
    )
