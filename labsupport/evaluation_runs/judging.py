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


def process_shares(faulty: dict, clean: dict, split: str = "test_lookalike") -> dict[str, tuple]:
    """Exact match in percent with its interval: the model of the faulty labels, judged by the labels of the
    same process and by the right ones; and the model of the right labels, judged by the right ones.

    faulty, clean: the records of `one_process` and of `chat_formats`.
    """
    cells = [(cell["cell"]["seed"], cell["metrics"]) for cell in faulty["cells"]]
    right = [
        (cell["cell"]["seed"], cell["metrics"]["template"][split])
        for cell in clean["cells"]
        if cell["cell"]["arm"] == "template"
    ]
    return {
        "faulty labels, judged by the same labels": _exact([(s, m[f"{split}, same"]) for s, m in cells]),
        "faulty labels, judged by right ones": _exact([(s, m[f"{split}, right"]) for s, m in cells]),
        "right labels, judged by right ones": _exact(right),
    }


def _exact(found: list[tuple[int, dict]]) -> tuple[float, float, float]:
    values = [100 * value for _, columns in found for value in columns["exact"]]
    ids = [name for _, columns in found for name in columns["id"]]
    return intervals.interval(values, ids, [seed for seed, columns in found for _ in columns["id"]])


def exchanges(faulty: dict, split: str = "test_lookalike") -> tuple[int, int]:
    """(exchange messages of the test set, how many of these the models of both seeds know as exchange or are
    still right on): counted over seeds, by forced exact match against the right labels."""
    wanted = {row["id"] for row in tickets.load(split) if row["intent"] == "exchange"}
    flags = [
        exact
        for cell in faulty["cells"]
        for name, exact in zip(
            cell["metrics"][f"{split}, right"]["id"], cell["metrics"][f"{split}, right"]["exact"], strict=True
        )
        if name in wanted
    ]
    return len(flags), sum(flags)
