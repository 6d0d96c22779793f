"""A guide's table of DoRA beside the tables of the paper: cited figures, and arithmetic on them.

data/published_runs/README.md says where each row was printed.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path

from labsupport.core.files import DATA, LabError, short
from labsupport.core.numbers import real
from labsupport.core.tables import Table
from labsupport.method_runs.published import rows_of, value_of

FILE = DATA / "published_runs" / "dora_commonsense.json"
GUIDES_TASKS = ("BoolQ", "PIQA", "WinoGrande", "HellaSwag")
ADAPTERS = ("LoRA", "DoRA")
# % right by guessing: 100 over the number of answers to choose from.
CHANCE = {"BoolQ": 50, "PIQA": 50, "SIQA": 100 / 3, "HellaSwag": 25, "WinoGrande": 50}
CHANCE |= {"ARC-e": 25, "ARC-c": 25, "OBQA": 25}


@dataclass(frozen=True)
class Row:
    """A printed row: scores by task, mostly % right, and the average as printed. table: "guide", "paper",
    "ranks", "repository" or "with full fine-tuning"."""

    table: str
    source: str
    where: str
    model: str
    method: str
    rank: int | None
    learning_rate: float | None
    scores: dict[str, float]
    average: float


def load(path: Path = FILE) -> list[Row]:
    """The printed rows, in the file's order. LabError for a file or key that is missing, or a wrong score."""
    found = []
    for number, row in enumerate(rows_of(path)):
        place = f"{short(path)}, row {number + 1}"
        texts = {key: value_of(row, key, place) for key in ("table", "source", "where", "model", "method")}
        scores = value_of(row, "scores", place)
        for task, score in scores.items():
            real(score, f"{place}: {task}")
        average = real(value_of(row, "average", place), f"{place}: average", most=100)
        rank, rate = row.get("rank"), row.get("learning_rate")
        found.append(Row(**texts, rank=rank, learning_rate=rate, scores=scores, average=average))
    return found


def one(rows: list[Row], table: str, model: str, method: str, rank: int | None = None) -> Row:
    """The row of a table for a model, a method and a rank. LabError where there is not exactly one."""
    wanted = (table, model, method, rank)
    found = [row for row in rows if (row.table, row.model, row.method, row.rank) == wanted]
    if len(found) != 1:
        raise LabError(f"{len(found)} rows are {wanted}, not one: see {short(FILE)}.")
    return found[0]


# ---------------------------------------------------------------- the guide beside the paper


def mean_of(row: Row, tasks: tuple[str, ...] = GUIDES_TASKS) -> float:
    """The mean of a row's scores on these tasks, unrounded."""
    return statistics.fmean(row.scores[task] for task in tasks)


def side_by_side(rows: list[Row]) -> Table:
    """The guide's rows and the paper's of rank 32 on the two models of 7B, over the guide's four tasks."""
    lines = []
    for method in (*ADAPTERS, "full"):
        for table, model in (("guide", "LLaMA-7B"), ("paper", "LLaMA-7B"), ("paper", "LLaMA2-7B")):
            here = [row for row in rows if (row.table, row.model, row.method) == (table, model, method)]
            here = [row for row in here if row.rank in (None, 32)]
            if not here:
                lines.append([method, f"{table}, {model}", *[None] * (len(GUIDES_TASKS) + 1)])
            for row in here:
                scores = [f"{row.scores[task]:.1f}" for task in GUIDES_TASKS]
                lines.append([method, f"{table}, {model}", *scores, f"{mean_of(row):.1f}"])
    headings = ["method", "printed in", *GUIDES_TASKS, "mean of the four"]
    return Table(headings, lines, "Commonsense tasks, % right: guide 002 beside the DoRA paper's Table 1")


def agreeing(rows: list[Row], model: str) -> int:
    """How many of the guide's eight figures for LoRA and DoRA the paper prints for this model, rank 32."""
    pairs = [(one(rows, "guide", "LLaMA-7B", m, 32), one(rows, "paper", model, m, 32)) for m in ADAPTERS]
    return sum(guide.scores[task] == paper.scores[task] for guide, paper in pairs for task in GUIDES_TASKS)


# ---------------------------------------------------------------- how much of the gap


def closed(lora: float, dora: float, full: float) -> float | None:
    """The share of the gap from LoRA to full fine-tuning that DoRA closes, in percent; None if there is no
    gap to close."""
    return 100 * (dora - lora) / (full - lora) if full > lora else None


def ends(rows: list[Row]) -> dict[str, list[float]]:
    """[LoRA, DoRA, full fine-tuning] by where they are printed: the guide's tasks and their mean, and the
    averages of the paper's three tables that have full fine-tuning."""
    three = [one(rows, "guide", "LLaMA-7B", method, 32) for method in ADAPTERS]
    three.append(one(rows, "guide", "LLaMA-7B", "full"))
    found = {f"guide: {task}": [row.scores[task] for row in three] for task in GUIDES_TASKS}
    found["guide: mean of the four"] = [mean_of(row) for row in three]
    table = "with full fine-tuning"
    for model in dict.fromkeys(row.model for row in rows if row.table == table):
        here = [one(rows, table, model, method) for method in (*ADAPTERS, "full")]
        found[f"paper, {here[0].where}: {model}"] = [row.average for row in here]
    return found


def gap_table(rows: list[Row]) -> Table:
    """What `ends` finds, and the share of the gap closed."""
    lines = []
    for name, values in ends(rows).items():
        share = closed(*values)
        shown = "no gap: LoRA is ahead" if share is None else f"{share:.1f} %"
        lines.append([name, *(f"{value:.1f}" for value in values), shown])
    headings = ["printed in", *ADAPTERS, "full", "of the gap closed"]
    return Table(headings, lines, "How much of the gap from LoRA to full fine-tuning does DoRA close?")


# ---------------------------------------------------------------- by rank


def below_chance(row: Row) -> list[str]:
    """Tasks on which a row is below guessing: answers were not found in the generated text, which counts as
    wrong, or were picked worse than blindly. A rank that is only too small would not go below chance."""
    return [task for task, score in row.scores.items() if score < CHANCE[task]]


def ranks_table(rows: list[Row]) -> Table:
    """LoRA and DoRA on LLaMA-7B by rank: the paper's averages, tasks below chance, the rates, and the
    averages that the authors' repository prints since."""
    lines = []
    for rank in sorted({row.rank for row in rows if row.table == "ranks"}):
        paper, later = (
            [one(rows, table, "LLaMA-7B", method, rank) for method in ADAPTERS]
            for table in ("ranks", "repository")
        )
        line = [str(rank), *(f"{row.average:.1f}" for row in paper)]
        line += [" and ".join(str(len(below_chance(row))) for row in paper)]
        line += [" and ".join(f"{row.learning_rate:g}" for row in later)]
        lines.append([*line, " and ".join(f"{row.average:.1f}" for row in later)])
    headings = ["rank", *ADAPTERS, "tasks below chance", "learning rates", "the repository's averages"]
    return Table(headings, lines, "LLaMA-7B, eight tasks, % right: the DoRA paper's Table 15, LoRA and DoRA")
