"""`lab.py lock`."""

from __future__ import annotations

import argparse

HELP = "make requirements.lock and environment.yml from pyproject.toml (needs uv)"
MAINTAINERS = True


def arguments(parser: argparse.ArgumentParser) -> None:
    """None."""


def run(asked: argparse.Namespace) -> int:
    from labsupport.upkeep import lock

    lock.write()
    return 0
