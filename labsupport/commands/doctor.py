"""`lab.py doctor`."""

from __future__ import annotations

import argparse
import json

HELP = "is this machine ready, and how fast is it?"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    parser.add_argument("--calibrate", action="store_true", help="measure the speed anew: 20 seconds")


def run(asked: argparse.Namespace) -> int:
    """1 if something is not as it should be."""
    from labsupport.upkeep import doctor

    result = doctor.examine(calibrate=asked.calibrate)
    print(json.dumps(result, indent=1) if asked.json else doctor.report(result))
    return 0 if result["ok"] else 1
