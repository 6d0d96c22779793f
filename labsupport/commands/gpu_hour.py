"""`lab.py gpu-hour`."""

from __future__ import annotations

import argparse

HELP = "one planned hour on a rented GPU: what is worth its money, run unattended, brought home in one folder"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Jobs run in the order of their value while the money lasts; what was spent is kept in "
        "runs/gpu_hour, so that the same command goes on after a stop. A dropped connection does not end it. "
        "Status 0: all that was begun is done; 1: a job failed or was stopped at the limit; 2: nothing could "
        "begin, in one line. "
        "Written for 16, 24 and 80 GB cards, not yet run there."
    )
    parser.add_argument("--budget", type=float, required=True, help="money in all, in the rate's currency")
    parser.add_argument("--rate", type=float, required=True, help="money an hour of this machine")
    parser.add_argument("--gpu", default="l4", help="the card to plan for where none is found (default l4)")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="rehearse all of it on the processor with a tiny model: a few minutes",
    )


def run(asked: argparse.Namespace) -> int:
    """1 if a job failed or was stopped."""
    from labsupport.gpu_hour import hour

    prepared = hour.prepare(hour.Asked(asked.budget, asked.rate, asked.gpu, asked.dry_run))
    _, told = hour.plan(prepared)
    print(told, flush=True)
    return hour.run(prepared)
