"""`lab.py build`."""

from __future__ import annotations

import argparse

HELP = "make the notebooks from their masters"
MAINTAINERS = True


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help="such as 01_first_fine_tune; default: all")
    parser.add_argument("--check", action="store_true", help="compare with the masters, build nothing")
    parser.add_argument("--text", action="store_true", help="where no code changed: keep the outputs")
    parser.add_argument("--student", action="store_true", help="only the student edition: no execution")


def run(asked: argparse.Namespace) -> int:
    """1 if a notebook is not its master's."""
    from labsupport.upkeep import notebook_builder, notebook_checks

    if asked.check:
        problems = notebook_checks.check()
        print("\n".join(problems) or "notebooks match their masters")
        return 1 if problems else 0
    if asked.text:
        written = notebook_builder.rewrite_text(asked.names or None)
    else:
        written = notebook_builder.build(asked.names or None, execute=not asked.student)
    for path in written:
        print(path.name)
    return 0
