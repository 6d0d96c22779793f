"""`lab.py tiny-base`."""

from __future__ import annotations

import argparse

HELP = "train data/tiny_base anew (minutes to an hour), or check its files"
MAINTAINERS = True


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--check", action="store_true", help="only say whether the files are those of record.json, by hash"
    )


def run(asked: argparse.Namespace) -> int:
    """1 if --check finds a file that is not as recorded."""
    from labsupport.models import tiny_base

    if not asked.check:
        from labsupport.pretraining import building

        building.build()
    problems = tiny_base.damage()
    print("\n".join(problems) or f"data/tiny_base: {len(tiny_base.FILES)} files, all as recorded")
    return 1 if problems else 0
