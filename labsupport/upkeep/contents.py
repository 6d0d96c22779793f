"""The contents page: what each notebook gives, its minutes, and how far the learner has come.

`contents.ipynb` stands beside the notebooks. In `notebooks/` and `solutions/` the builder writes it, without
progress; `lab.py start` writes the learner's own anew each time, so it is up to date before anything is run.
"""

from __future__ import annotations

import json
from pathlib import Path

from labsupport.core.files import ROOT, write_atomically
from labsupport.teaching import progress
from labsupport.upkeep import heads

NAME = "contents.ipynb"
WORK = ROOT / "my_work"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
REFRESH = """# To bring your progress up to date, run this cell: Shift+Enter.
from labsupport.upkeep import contents

contents.page()"""
INTRODUCTION = """# LoRA Lab

A course on fine-tuning language models, in which you measure every claim instead of reading it. Work through
the notebooks in order: each uses what those before it taught. A cell is run with Shift+Enter. {place}

[Glossary](../glossary.md): every term, in a sentence or two · [The five guides](../guides.md) that the course
grew from · [README](../README.md): what else `lab.py` can do"""
PLACES = {
    "my_work": "These copies are yours to change; `python3 lab.py start` never writes over one, and writes "
    "only this page anew.",
    "notebooks": "Do not work in this folder: `python3 lab.py start` makes copies of your own in `my_work/`.",
    "solutions": "Worked solutions are here; [your own copies](../my_work/contents.ipynb) in `my_work/`.",
}
SIGNS = """## How to read a notebook

> **20 minutes · ●●○**
>
> An exercise, with about the minutes it takes. ●○○ is easy, ●●○ takes thought, ●●● is worth an evening.
> Write the function, run the cell, and its check says what is right or wrong. Nobody is ever blocked: what
> follows runs without your answer too, and hints and a worked solution are there.

> **Predict.** Say what you expect before you measure it. A guess that was wrong teaches most.

> **Careful.** Something that goes wrong easily, or that you should not copy.

> **Optional · 10 minutes.** Nothing later needs such a section.

> **Guide 002 says**, and then the guide's own words with their scope: what the notebook goes on to measure.

JupyterLab folds away cells that only import and set up. They run like any other; a click on the
dots opens them."""


class Page:
    """The notebooks in a table; a notebook shows it rendered, a terminal as text.

    rows: each notebook's head and its row of `progress.summary`, or {} for a page without progress.
    """

    def __init__(self, rows: list[tuple[heads.Head, dict]], note: str = ""):
        self.rows, self.note = rows, note

    def _repr_markdown_(self) -> str:
        columns = ["notebook", "what it gives", "minutes", "your progress"]
        lines = [columns, [":--", ":--", "--:", ":--"]]
        lines += [
            [f"[{head.label}]({head.name}.ipynb)", sentence(head), minutes(head), so_far(done)]
            for head, done in self.rows
        ]
        shown = columns if any(done for _, done in self.rows) else columns[:-1]
        table = "\n".join(f"| {' | '.join(line[: len(shown)])} |" for line in lines)
        return f"{self.note}\n\n{table}" if self.note else table

    def __repr__(self) -> str:
        lines = [f"{head.label}: {so_far(done)}" if done else head.label for head, done in self.rows]
        return "\n".join([*filter(None, [self.note]), *lines])


def sentence(head: heads.Head) -> str:
    """What the notebook gives, as a sentence of its own."""
    return head.sentence[:1].upper() + head.sentence[1:]


def minutes(head: heads.Head) -> str:
    """To read and do, and to run; empty where the master does not say."""
    return "" if head.reading is None else f"{head.reading}, of which {head.running} to run"


def so_far(done: dict) -> str:
    """exercises 2 of 5, questions 0 of 4; empty without a row of `progress.summary`."""
    if not done:
        return ""
    exercises = f"exercises {done['passed']} of {done['exercises']}"
    return f"{exercises}, questions {done['right']} of {done['questions']}"


def page() -> Page:
    """The course with the learner's progress. LabError for a progress file that cannot be read."""
    summary = progress.summary()
    rows = {row["notebook"]: row for row in summary["notebooks"]}
    known = [heads.of(master) for master in heads.masters()]
    return Page([(head, rows.get(head.name)) for head in known], summary["note"])


def write() -> Path:
    """Write the learner's page anew; its path. LabError as `page`, and for a disk that cannot be written."""
    path = WORK / NAME
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, json.dumps(notebook("my_work", page()), indent=1, ensure_ascii=False) + "\n")
    return path


def notebook(folder: str, shown: Page) -> dict:
    """The page as a notebook's JSON, its table already shown, for "my_work", "notebooks" or "solutions".

    Made by hand: `lab.py start` would wait seconds for the import of nbformat.
    """
    table = {"text/markdown": shown._repr_markdown_(), "text/plain": repr(shown)}
    output = {"output_type": "execute_result", "execution_count": 1, "data": table, "metadata": {}}
    cells = [
        {"cell_type": "markdown", "source": INTRODUCTION.format(place=PLACES[folder])},
        {"cell_type": "code", "source": REFRESH, "execution_count": 1, "outputs": [output]},
        {"cell_type": "markdown", "source": SIGNS},
    ]
    for number, cell in enumerate(cells, start=1):
        cell |= {"id": f"contents-{number:03d}", "metadata": {}}
    return {"cells": cells, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}
