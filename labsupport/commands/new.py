"""`lab.py new`."""

from __future__ import annotations

import argparse

HELP = "begin a notebook: master, folder and tests that pass as they stand"
MAINTAINERS = True


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="such as 06_chat_templates")


def run(asked: argparse.Namespace) -> int:
    from labsupport.core.files import short
    from labsupport.upkeep import new_notebook

    for path in new_notebook.begin(asked.name):
        print(short(path))
    return 0
