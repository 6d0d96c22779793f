"""`lab.py claims`."""

from __future__ import annotations

import argparse
import json
from collections import Counter

HELP = "what the guides claim, and what was measured"
WIDTHS = {"id": 4, "guides": 8, "nb": 2, "verdict": 12, "claim": 31, "measured": 33}  # 100 with the gaps


def arguments(parser: argparse.ArgumentParser) -> None:
    from labsupport.teaching import claims

    for option, field, told in (
        ("--verdict", "verdict", "one of: %(choices)s"),
        ("--notebook", "notebook", "the notebook that settles it, 00 to 13"),
        ("--guide", "guides", "who says it, 000 to 004"),
    ):
        name = option[2:].upper()
        parser.add_argument(option, metavar=name, choices=claims.choices(field), help=told)
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")


def run(asked: argparse.Namespace) -> int:
    """Print the claims, or those that the filters leave, and how many there are of each verdict."""
    from labsupport.teaching import claims

    rows = [row for row in claims.load() if matches(row, asked)]
    counts = Counter(row["verdict"] for row in rows)
    by_verdict = {verdict: counts[verdict] for verdict in claims.choices("verdict") if counts[verdict]}
    if asked.json:
        print(json.dumps({"rows": rows, "counts": by_verdict}, indent=1, ensure_ascii=False))
    elif not rows:
        print("No claim fits these filters.")
    else:
        print(table(rows))
        print(f"\n{summary(len(rows), by_verdict)}")
    return 0


def summary(count: int, by_verdict: dict[str, int]) -> str:
    """How many claims there are of each verdict, in lines of at most 100 columns."""
    import textwrap

    parts = ", ".join(f"{n} {verdict}" for verdict, n in by_verdict.items())
    return textwrap.fill(f"{count} {'claim' if count == 1 else 'claims'}: {parts}", 100)


def matches(row: dict, asked: argparse.Namespace) -> bool:
    """Does the row pass all filters? None lets everything through."""
    return (
        asked.verdict in (None, row["verdict"])
        and asked.notebook in (None, row["notebook"])
        and (asked.guide is None or asked.guide in row["guides"])
    )


def table(rows: list[dict]) -> str:
    """The rows as text of at most 100 columns; long cells go on in the next line."""
    import textwrap

    lines = [aligned(WIDTHS), aligned(["-" * width for width in WIDTHS.values()])]
    for row in rows:
        cells = {**row, "guides": " ".join(row["guides"]) or "no guide", "nb": row["notebook"]}
        wrapped = [textwrap.wrap(cells[column], width) for column, width in WIDTHS.items()]
        for k in range(max(map(len, wrapped))):
            lines.append(aligned([cell[k] if k < len(cell) else "" for cell in wrapped]))
    return "\n".join(lines)


def aligned(cells) -> str:
    """One line of the table."""
    return "  ".join(text.ljust(width) for text, width in zip(cells, WIDTHS.values(), strict=True)).rstrip()
