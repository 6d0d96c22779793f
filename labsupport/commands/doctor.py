"""`lab.py doctor`."""

from __future__ import annotations

import argparse
import json

HELP = "is this machine ready, and how fast is it?"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--calibrate", action="store_true", help="measure the speed anew: 20 seconds")
    which.add_argument(
        "--gpu",
        action="store_true",
        help="try an NVIDIA card with all that training needs, before a model is downloaded: a minute or two",
    )


def run(asked: argparse.Namespace) -> int:
    """1 if something is not as it should be."""
    if asked.gpu:
        from labsupport.upkeep import gpu_doctor

        result = gpu_doctor.examine()
        text = gpu_doctor.report(result)
    else:
        from labsupport.upkeep import doctor

        result = doctor.examine(calibrate=asked.calibrate)
        text = doctor.report(result)
    print(json.dumps(result, indent=1) if asked.json else text)
    return 0 if result["ok"] else 1
