"""`lab.py validate`."""

from __future__ import annotations

import argparse
from pathlib import Path

from labsupport.core.files import LabError

HELP = "check files of ticket rows"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="JSON Lines of ticket rows")


def run(asked: argparse.Namespace) -> int:
    """1 if a file has a broken row; the others are checked all the same."""
    from labsupport.tasks import tickets

    problems = 0
    for path in asked.files:
        try:
            print(f"{path}: {len(tickets.load('', path))} rows, all good")
        except LabError as error:
            print(error)
            problems += 1
    return 1 if problems else 0
