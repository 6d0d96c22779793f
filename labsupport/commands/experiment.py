"""`lab.py experiment`."""

from __future__ import annotations

import argparse

from labsupport.core.files import LabError

HELP = "run an experiment, or go on with it"
MAINTAINERS = True


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="--list names them")
    parser.add_argument("--publish", action="store_true", help="copy the record to data/experiments")
    parser.add_argument("--list", action="store_true", help="name the experiments")


def run(asked: argparse.Namespace) -> int:
    from labsupport.evaluation import experiments

    if asked.list:
        print("\n".join(experiments.names()))
        return 0
    if asked.name is None:
        raise LabError(f"Which experiment? There are: {', '.join(experiments.names())}.")
    print(experiments.publish(asked.name) if asked.publish else experiments.run(asked.name))
    return 0
