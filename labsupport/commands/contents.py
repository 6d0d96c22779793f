"""`lab.py contents`."""

from __future__ import annotations

import argparse

HELP = "write the contents page, my_work/contents.ipynb, with your progress; `start` calls this"
MAINTAINERS = True


def arguments(parser: argparse.ArgumentParser) -> None:
    """None."""


def run(asked: argparse.Namespace) -> int:
    from labsupport.core.files import short
    from labsupport.upkeep import contents

    print(short(contents.write()))
    return 0
