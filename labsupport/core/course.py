"""The notebooks' folders, found by their names: there is no central list to keep."""

from __future__ import annotations

import importlib
from types import ModuleType

from labsupport.core.files import ROOT

FOLDERS = ROOT / "labsupport" / "notebooks"
ROOMS = {kind: ROOT / "labsupport" / f"{kind}s" for kind in ("experiment", "explorer")}
LEDGER = ROOT / "labsupport" / "ledger"  # what settles the claims page


def notebooks() -> dict[str, str]:
    """Notebook name ("02_lora_math") -> its folder's name ("nb02_lora_math"), in course order."""
    found = sorted(path.parent.name for path in FOLDERS.glob("nb[0-9][0-9]_*/__init__.py"))
    return {folder.removeprefix("nb"): folder for folder in found}


def parts(kind: str) -> dict[str, str]:
    """What the course has of a kind, by name: of "experiment" each file NAME_experiment.py of their room, as
    NAME -> "labsupport.experiments.NAME_experiment"; of "explorer" the same."""
    files = sorted(ROOMS[kind].glob(f"*_{kind}.py"))
    return {file.stem.removesuffix(f"_{kind}"): f"labsupport.{kind}s.{file.stem}" for file in files}


def module(folder: str, name: str) -> ModuleType | None:
    """A module of a notebook's folder ("nb02_lora_math", "questions"), or None if it has none."""
    if not (FOLDERS / folder / f"{name}.py").exists():
        return None
    return importlib.import_module(f"labsupport.notebooks.{folder}.{name}")
