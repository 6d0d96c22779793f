"""`lab.py leaderboard`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

HELP = "who named the causes of the clinic's broken runs for the least money"


def arguments(parser: argparse.ArgumentParser) -> None:
    said = "clinic_NAME.json of a learner, or a folder of them"
    parser.add_argument("files", nargs="+", metavar="FILE", type=Path, help=said)
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")


def run(asked: argparse.Namespace) -> int:
    """Print the table; a line on standard error for each file that is not in it, and status 2 then."""
    from labsupport.clinic import game, leaderboard
    from labsupport.core.files import LabError

    edition = game.edition()
    entries, refused = [], []
    for file in found(asked.files):
        try:
            entries.append(leaderboard.read(file, edition))
        except LabError as error:
            refused.append({"file": str(file), "problem": str(error)})
    rows = leaderboard.ranking(entries)
    if asked.json:
        document = {"edition": edition, "rows": rows, "refused": refused}
        print(json.dumps(document, indent=1, ensure_ascii=False))
    elif rows:
        print(report(rows))
    for each in refused:
        print(each["problem"], file=sys.stderr)
    return 2 if refused else 0


def found(files: list[Path]) -> list[Path]:
    """The files in the order given, each once, a folder's in place of the folder. LabError for a folder
    without any."""
    from labsupport.core.files import LabError

    all_of_them: list[Path] = []
    for file in files:
        if file.is_dir():  # a Windows shell leaves *.json as it is
            inside = sorted(file.glob("clinic_*.json"))
            if not inside:
                raise LabError(f"There is no clinic_NAME.json in {file}: name the folder that has them.")
            all_of_them += inside
        else:
            all_of_them.append(file)
    return list(dict.fromkeys(all_of_them))


def report(rows: list[dict]) -> str:
    """The table; a name that stands twice is followed by its file."""
    from labsupport.clinic.leaderboard import dollars
    from labsupport.core.tables import Table

    names = [row["name"] for row in rows]
    lines = [
        [
            str(row["place"]),
            row["name"] + (f" ({row['file']})" if names.count(row["name"]) > 1 else ""),
            f"{row['right']} of {row['of']}",
            dollars(row["cents"]),
            str(row["wrong"]),
            str(row["probes"]),
            row["date"],
        ]
        for row in rows
    ]
    return repr(Table(["place", "name", "causes named", "spent", "named wrong", "probes", "date"], lines))
