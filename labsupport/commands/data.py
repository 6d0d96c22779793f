"""`lab.py data`."""

from __future__ import annotations

import argparse

HELP = "write data/tickets' generated splits anew"
MAINTAINERS = True


def arguments(parser: argparse.ArgumentParser) -> None:
    """None."""


def run(asked: argparse.Namespace) -> int:
    from labsupport.tasks import tickets_generator

    tickets_generator.write()
    return 0
