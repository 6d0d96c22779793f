"""`lab.py progress`."""

from __future__ import annotations

import argparse
import json

HELP = "which exercises you passed, which questions you answered, and what is open next"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")


def run(asked: argparse.Namespace) -> int:
    from labsupport.teaching import progress

    result = progress.summary()
    print(json.dumps(result, indent=1) if asked.json else report(result))
    return 0


def report(result: dict) -> str:
    """A table by notebook, and the next question in a sentence."""
    rows = result["notebooks"]
    width = max([8, *(len(row["notebook"]) for row in rows)])
    lines = [f"{'notebook':{width}}  exercises  passed  questions  answered  right  next"]
    for row in rows:
        exercises = f"{row['exercises']:9d}  {row['passed']:6d}"
        counts = f"{exercises}  {row['questions']:9d}  {row['answered']:8d}  {row['right']:5d}"
        lines.append(f"{row['notebook']:{width}}  {counts}  {row['next'] or '-'}")
    notebook = next((row["notebook"] for row in rows if row["next"]), None)
    last = f"Next: question {result['next']}, at the end of {notebook}." if notebook else "All are right."
    return "\n".join([*filter(None, [result["note"]]), *lines, last])
