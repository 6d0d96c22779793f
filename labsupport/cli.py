"""The verbs behind `lab.py` and the console script `lab`. Exit status: 0 done, 1 the check found
problems, 2 wrong usage or bad input (one line on standard error).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from labsupport.core.files import LabError

HELP = """\
start        set up everything, then open JupyterLab on the course  (--no-browser, --port)
test         set up everything, then run every test  (--fast)
doctor       is this machine ready, and how fast is it?  (--json, --calibrate)
progress     which checkpoint questions you have answered  (--json)
claims       what the guides say and what was measured  (--verdict, --notebook, --guide, --json)
plan         how much GPU memory a fine-tune needs, and does it fit  (--model, --gpu, --json, ...)
cost         how long a fine-tune takes on a rented GPU, and what it costs  (--rate, --json, ...)
validate     check files of ticket rows: FILE...

`lab.py VERB --help` tells more. Maintainers' verbs: `lab.py help all`."""

MAINTAINERS = """
build        make the notebooks from their masters: [NAME...]  (--check, --student)
bench        how fast explorers redraw, what sharing the prompt saves  (--json)
data         write data/tickets' generated splits anew
experiment   run or go on with an experiment: NAME  (--publish, --list)
lock         make requirements.lock and environment.yml from pyproject.toml (needs uv)"""


def doctor(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="lab.py doctor")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    parser.add_argument("--calibrate", action="store_true", help="measure the speed anew: 20 seconds")
    asked = parser.parse_args(arguments)
    from labsupport.upkeep import doctor as examination

    result = examination.examine(calibrate=asked.calibrate)
    print(json.dumps(result, indent=1) if asked.json else examination.report(result))
    return 0 if result["ok"] else 1


def set_up(arguments: list[str]) -> int:
    argparse.ArgumentParser(prog="lab.py setup").parse_args(arguments)
    os.environ["TQDM_DISABLE"] = "1"  # read when a library is imported; lab.py shows the progress
    from labsupport.upkeep import doctor as examination

    examination.set_up()
    return 0


def validate(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="lab.py validate")
    parser.add_argument("files", nargs="+", type=Path, help="JSON Lines files of ticket rows")
    asked = parser.parse_args(arguments)
    from labsupport.tasks import tickets

    problems = 0
    for path in asked.files:
        try:
            print(f"{path}: {len(tickets.load('', path))} rows, all good")
        except LabError as error:
            print(error)
            problems += 1
    return 1 if problems else 0


def build(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="lab.py build")
    parser.add_argument("names", nargs="*", help="for example 01_first_fine_tune; default: all")
    parser.add_argument("--check", action="store_true", help="compare with the masters, build nothing")
    parser.add_argument("--student", action="store_true", help="only the student edition: no execution")
    asked = parser.parse_args(arguments)
    from labsupport.upkeep import notebook_builder

    if asked.check:
        problems = notebook_builder.check()
        print("\n".join(problems) or "notebooks match their masters")
        return 1 if problems else 0
    for path in notebook_builder.build(asked.names or None, execute=not asked.student):
        print(path.name)
    return 0


def bench(arguments: list[str]) -> int:
    from labsupport.upkeep import bench as benchmark

    return benchmark.main(arguments)


def data(arguments: list[str]) -> int:
    argparse.ArgumentParser(prog="lab.py data").parse_args(arguments)
    from labsupport.tasks import tickets_generator

    tickets_generator.write()
    return 0


def experiment(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="lab.py experiment")
    parser.add_argument("name", nargs="?")
    parser.add_argument("--publish", action="store_true", help="copy the record to data/experiments")
    parser.add_argument("--list", action="store_true", help="name the experiments")
    asked = parser.parse_args(arguments)
    from labsupport.evaluation import experiments

    if asked.list or not asked.name:
        print("\n".join(experiments.names()))
        return 0 if asked.list else 2
    experiments.find(asked.name)
    print(experiments.publish(asked.name) if asked.publish else experiments.run(asked.name))
    return 0


def lock(arguments: list[str]) -> int:
    argparse.ArgumentParser(prog="lab.py lock").parse_args(arguments)
    from labsupport.upkeep import lock as locking

    locking.write()
    return 0


def progress(arguments: list[str]) -> int:
    from labsupport.teaching import progress as answered

    return answered.main(arguments)


def claims(arguments: list[str]) -> int:
    from labsupport.teaching import claims as ledger

    return ledger.main(arguments)


def plan(arguments: list[str]) -> int:
    from labsupport.memory import planner

    return planner.main(arguments)


def cost(arguments: list[str]) -> int:
    from labsupport.memory import cost as estimator

    return estimator.main(arguments)


VERBS = {
    "doctor": doctor,
    "progress": progress,
    "claims": claims,
    "plan": plan,
    "cost": cost,
    "setup": set_up,
    "validate": validate,
    "build": build,
    "bench": bench,
    "data": data,
    "experiment": experiment,
    "lock": lock,
}


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; LabErrors become one line and status 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    verb, rest = (arguments[0], arguments[1:]) if arguments else ("help", [])
    if verb in ("help", "-h", "--help"):
        print(HELP + (MAINTAINERS if "all" in rest else ""))
        return 0
    if verb not in VERBS:
        print(f"Unknown verb {verb!r}. There are: start, test, {', '.join(VERBS)}.", file=sys.stderr)
        return 2
    try:
        return VERBS[verb](rest)
    except LabError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
