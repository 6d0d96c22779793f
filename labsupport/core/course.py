"""The notebooks' folders, found by their names: there is no central list to keep."""

from __future__ import annotations

import importlib
from types import ModuleType

from labsupport.core.files import ROOT

FOLDERS = ROOT / "labsupport" / "notebooks"
EXPLORERS = ROOT / "labsupport" / "explorers"
LEDGER = ROOT / "labsupport" / "ledger"  # what settles the claims page


def notebooks() -> dict[str, str]:
    """Notebook name ("02_lora_math") -> its folder's name ("nb02_lora_math"), in course order."""
    found = sorted(path.parent.name for path in FOLDERS.glob("nb[0-9][0-9]_*/__init__.py"))
    return {folder.removeprefix("nb"): folder for folder in found}


def parts(kind: str) -> dict[str, str]:
    """What the course has of a kind, by name: of "experiment" each file NAME_experiment.py of a notebook's
    folder, as NAME -> "labsupport.notebooks.FOLDER.NAME_experiment"; of "explorer" those of their room."""
    places = {f"labsupport.notebooks.{folder}": FOLDERS / folder for folder in notebooks().values()}
    if kind == "explorer":
        places = {"labsupport.explorers": EXPLORERS}
    found = {}
    for package, folder in places.items():
        for file in sorted(folder.glob(f"*_{kind}.py")):
            found[file.stem.removesuffix(f"_{kind}")] = f"{package}.{file.stem}"
    return found


def module(folder: str, name: str) -> ModuleType | None:
    """A module of a notebook's folder ("nb02_lora_math", "questions"), or None if it has none."""
    if not (FOLDERS / folder / f"{name}.py").exists():
        return None
    return importlib.import_module(f"labsupport.notebooks.{folder}.{name}")
