"""`lab.py setup`."""

from __future__ import annotations

import argparse
import os

HELP = "fetch the base model and measure the speed; `start` and `test` call this"
MAINTAINERS = True


def arguments(parser: argparse.ArgumentParser) -> None:
    """None."""


def run(asked: argparse.Namespace) -> int:
    os.environ["TQDM_DISABLE"] = "1"  # read when a library is imported; lab.py shows the progress
    from labsupport.upkeep import doctor

    doctor.set_up()
    return 0
