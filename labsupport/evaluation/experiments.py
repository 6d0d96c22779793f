"""Experiments: sweeps whose every cell is kept, so that they can be stopped, resumed and published.

An experiment is a file NAME_experiment.py in `labsupport/experiments/` with `CELLS` (a list of dicts, the
settings of one cell each) and `run(cell) -> dict` (its metrics). `lab.py experiment NAME` runs the
cells that have no result yet; `--publish` copies the finished record to data/experiments/.
"""

from __future__ import annotations

import datetime
import importlib
import importlib.metadata
import json
import platform
import re
import sys
from pathlib import Path

from labsupport.core import course, files
from labsupport.core.files import LabError, short, write_atomically
from labsupport.fingerprints.describing import digest

PUBLISHED = files.DATA / "experiments"


def names() -> list[str]:
    """The experiments there are."""
    return sorted(course.parts("experiment"))


def find(name: str):
    """The module of an experiment. Raises LabError listing the names."""
    if name not in names():
        raise LabError(f"Unknown experiment {name!r}. There are: {', '.join(names())}.")
    return importlib.import_module(course.parts("experiment")[name])


def run(name: str) -> Path:
    """Run the cells of an experiment that are not done; returns the folder of the results."""
    experiment, folder = find(name), files.RUNS / "experiments" / name
    for number, cell in enumerate(experiment.CELLS, start=1):
        step, known = f"[{number}/{len(experiment.CELLS)}] {cell}", read(cell_file(folder, cell))
        if known and is_current(known, experiment):
            say(f"{step}: done before")
            continue
        say(
            f"{step}: its code or a library has changed since it was done, so it runs again"
            if known
            else step
        )
        record = {
            "cell": cell,
            "metrics": experiment.run(cell),
            "stamp": stamp(),
            "code": code_of(experiment),
        }
        write_atomically(cell_file(folder, cell), json.dumps(record, indent=1))
    return folder


def say(text: str) -> None:
    """Progress goes to standard error."""
    print(text, file=sys.stderr, flush=True)


def code_of(experiment) -> str:
    """Hash of what decides a cell's metrics besides its settings: the code of `run` and of all it uses."""
    return digest(experiment.run)


def is_current(record: dict, experiment) -> bool:
    """Whether a cell was done by the code and with the libraries that are here now."""
    libraries = record.get("stamp", {}).get("libraries")
    return record.get("code") == code_of(experiment) and libraries == versions()


def publish(name: str) -> Path:
    """Copy the finished record to data/experiments/NAME.json. LabError if a cell is missing."""
    experiment, folder = find(name), files.RUNS / "experiments" / name
    cells = [read(cell_file(folder, cell)) for cell in experiment.CELLS]
    missing = sum(cell is None or not is_current(cell, experiment) for cell in cells)
    if missing:
        raise LabError(
            f"{missing} of {len(cells)} cells of {name} have no result from the present code: run "
            f"`python3 lab.py experiment {name}` first."
        )
    about = (experiment.__doc__ or "").strip()
    target = PUBLISHED / f"{name}.json"
    write_atomically(target, json.dumps({"name": name, "about": about, "cells": cells}, indent=1) + "\n")
    return target


def published(name: str) -> dict:
    """A published record: `about` and `cells` (each `cell`, `metrics`, `stamp`)."""
    file = PUBLISHED / f"{name}.json"
    record = read(file)
    if record is None:
        raise LabError(f"{short(file)} is missing or damaged: restore it with `git checkout {short(file)}`.")
    return record


def read(file: Path) -> dict | None:
    """A JSON file that holds an object with something in it, or None if it is missing or damaged."""
    record = files.read_json(file)
    return record if isinstance(record, dict) and record else None


def cell_file(folder: Path, cell: dict) -> Path:
    """Where a cell's result is kept: its settings, as far as a file name holds them, and their hash."""
    settings = "_".join(f"{key}={value}" for key, value in cell.items())
    name = re.sub(r"[^\w.=+-]+", "-", settings)[:100]
    return folder / f"{name}-{digest(cell)[:8]}.json"


def stamp() -> dict:
    """What a number must say of its origin: date, processor, threads and library versions."""
    import torch

    return {
        "date": datetime.date.today().isoformat(),
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "libraries": versions(),
    }


def versions() -> dict[str, str]:
    """The libraries on which numbers depend, with their versions."""
    from labsupport.training.fingerprint import LIBRARIES

    return {library: importlib.metadata.version(library) for library in LIBRARIES}


def processor() -> str:
    """The processor's name and the widest matrix instructions that torch can use on it."""
    import torch

    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        name = models[0].split(":", 1)[1].strip() if models else name
    amx = torch.cpu._is_amx_tile_supported()
    return f"{name}, {'AMX' if amx else torch.backends.cpu.get_cpu_capability()}"
