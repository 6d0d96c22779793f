"""`lab.py data`."""

from __future__ import annotations

import argparse

HELP = "write the generated data anew: splits of data/tickets, and data/facts"
MAINTAINERS = True


def arguments(parser: argparse.ArgumentParser) -> None:
    """None."""


def run(asked: argparse.Namespace) -> int:
    from labsupport.tasks import facts_generator, tickets_generator

    tickets_generator.write()
    facts_generator.write()
    return 0
