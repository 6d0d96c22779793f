"""`lab.py gpu-check`."""

from __future__ import annotations

import argparse

HELP = "hold plan and cost against this machine's CUDA card: a few steps of each setting that fits"


def arguments(parser: argparse.ArgumentParser) -> None:
    from labsupport.gpu_checks import settings

    parser.epilog = (
        "Models with random weights, nothing is fetched; each setting runs in a process of its own. What is "
        "done is kept in runs/gpu_checks, and the same command goes on from there. Written for CUDA cards, "
        "not yet run on one. Status 1: a setting failed, or ran out of memory, that by its plan fits."
    )
    parser.add_argument("--models", help=f"some of {','.join(settings.MODELS)} (default: all)")
    parser.add_argument("--methods", help=f"some of {','.join(settings.METHODS)} (default: all)")
    parser.add_argument(
        "--limit", type=float, default=15, metavar="MINUTES", help="after which none begins (default 15)"
    )
    parser.add_argument(
        "--publish", action="store_true", help="the record to data/gpu_checks, too, which plan and cost quote"
    )
    parser.add_argument("--json", action="store_true", help="the record on standard output, nothing else")


def run(asked: argparse.Namespace) -> int:
    import json
    import sys

    from labsupport.core import numbers
    from labsupport.core.files import short
    from labsupport.gpu_checks import records, running, settings

    wanted = settings.chosen(asked.models, asked.methods)
    minutes = numbers.real(asked.limit, "limit (minutes)", above=True)
    running.require_card()
    record = running.run(wanted, minutes, lambda line: print(line, file=sys.stderr, flush=True))
    rows = [record["rows"][one.key] for one in wanted if one.key in record["rows"]]
    if asked.json:
        print(json.dumps(record, indent=1))
    else:
        left = len(wanted) - len(rows)
        more = (
            [f"Not tried yet: {left} of {len(wanted)}. The same command goes on from here."] if left else []
        )
        print("\n".join([record["card"]["name"], *map(records.described, rows), *more]))
    if asked.publish:
        print(f"published: {short(records.publish(record))}", file=sys.stderr)
    return int(any(row["outcome"] in ("failed", "out of memory") for row in rows))
