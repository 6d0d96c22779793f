"""`lab.py validate`."""

from __future__ import annotations

import argparse
from pathlib import Path

from labsupport.core.files import LabError

HELP = "check files of rows made like the course's data"
TASKS = ("tickets", "canary", "facts", "policy", "general")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="JSON Lines")
    parser.add_argument(
        "--task",
        choices=TASKS,
        help="which data the rows are made like (default: as the file's folder is called, else tickets)",
    )


def run(asked: argparse.Namespace) -> int:
    """1 if a file has a broken row; the others are checked all the same."""
    problems = 0
    for path in asked.files:
        try:
            print(f"{path}: {len(rows_of(path, asked.task))} rows, all good")
        except LabError as error:
            print(error)
            problems += 1
    return 1 if problems else 0


def rows_of(path: Path, task: str | None) -> list[dict]:
    """The rows of a file, checked as the task's loader checks them."""
    from labsupport.tasks import canary, facts, general, policy, tickets

    folder = path.resolve().parent.name
    task = task or (folder if folder in TASKS else "tickets")
    if task in ("canary", "general"):
        return {"canary": canary, "general": general}[task].load(path)
    if task == "facts":
        return facts.load(path=path)
    return {"tickets": tickets, "policy": policy}[task].load("", path)
