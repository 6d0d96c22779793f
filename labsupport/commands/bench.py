"""`lab.py bench`."""

from __future__ import annotations

import argparse
import json

HELP = "how fast explorers redraw, what sharing the prompt saves in training, how fast preflight is"
MAINTAINERS = True


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")


def run(asked: argparse.Namespace) -> int:
    from labsupport.upkeep import bench

    result = bench.measure()
    print(json.dumps(result, indent=1) if asked.json else report(result))
    return 0


def report(result: dict) -> str:
    """The measurements as text."""
    lines = [f"{'explorer':22s} {'as it opens':>12s} {'slowest corner':>15s} {'plain figure':>13s}"]
    lines += [
        f"{row['explorer']:22s} {row['opens_ms']:9.0f} ms {row['slowest_corner_ms']:12.0f} ms "
        f"{row['figure_ms']:10.0f} ms  x {row['opens_ms'] / row['figure_ms']:.1f} the figure"
        for row in result["explorers"]
    ]
    steps = result["training"]
    looked = [
        f"preflight of {one['rows']:,} rows: {one['rows'] / one['all_seconds']:,.0f} rows a second, "
        f"x {one['all_seconds'] / one['plain_seconds']:.0f} of plain json.loads; reading alone "
        f"x {one['reading_seconds'] / one['plain_seconds']:.1f}"
        for one in result["preflight"]
    ]
    return "\n".join(
        [
            *lines,
            f"A redraw of up to {result['budget_ms']} ms seems to follow the knob.",
            f"24 training rows: {steps['padded_tokens']} tokens in {steps['padded_seconds']:.1f} s padded, "
            f"{steps['shared_tokens']} in {steps['shared_seconds']:.1f} s with a shared prompt: "
            f"{steps['shared_seconds'] / steps['padded_seconds']:.2f} of the time",
            *looked,
        ]
    )
