"""The beginning of a notebook: master, folder and tests that pass as they stand, to be written over."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from labsupport import bare_kernel
from labsupport.core.course import FOLDERS, notebooks
from labsupport.core.files import ROOT, LabError, short, write_atomically
from labsupport.upkeep import notebook_builder

SKELETON = Path(__file__).parent / "skeleton"
NAME = re.compile(r"(\d\d)_([a-z][a-z0-9]*(?:_[a-z0-9]+)*)")


def begin(name: str) -> list[Path]:
    """Write the skeleton of notebook `name`, such as 06_chat_templates, and build it; the paths written.

    LabError for a name of another form, for a number that is taken, and before any file would be overwritten.
    """
    match = NAME.fullmatch(name)
    if not match:
        raise LabError(f"{name!r} is no notebook's name: two digits and words, such as 06_chat_templates.")
    number, topic = match.groups()
    taken = [other for other in notebooks() if other.startswith(number)]
    if taken:
        raise LabError(f"Notebook {number} is there: {taken[0]}. Choose another number.")
    texts = {path: filled(template, name, number, topic) for path, template in places(name).items()}
    there = [path for path in texts if path.exists()]
    if there:
        raise LabError(f"{short(there[0])} is there already: delete it or choose another name.")
    for path, text in texts.items():
        write_atomically(path, text)
    return [*texts, *notebook_builder.build([name]), *link_neighbours(name)]


def link_neighbours(name: str) -> list[Path]:
    """Give the notebooks before and after their link to this one; the paths written.

    A neighbour whose code was changed since its last build gets it with its next one.
    """
    names = [master.stem for master in notebook_builder.masters()]
    here, written = names.index(name), []
    for neighbour in names[max(here - 1, 0) : here] + names[here + 1 : here + 2]:
        with contextlib.suppress(LabError):
            written += notebook_builder.rewrite_text([neighbour])
    return list(dict.fromkeys(written))


def places(name: str) -> dict[Path, str]:
    """Where each part of the skeleton goes."""
    folder = FOLDERS / f"nb{name}"
    return {
        folder / "__init__.py": "package",
        folder / "exercises.py": "exercises",
        folder / "questions.py": "questions",
        ROOT / "tests" / "notebooks" / "right_answers" / f"nb{name}.py": "right_answers",
        ROOT / "tests" / "notebooks" / "wrong_answers" / f"nb{name}.py": "wrong_answers",
        notebook_builder.SOLUTIONS / f"{name}.py": "master",
    }


def filled(template: str, name: str, number: str, topic: str) -> str:
    """A part of the skeleton with its blanks filled."""
    text = (SKELETON / f"{template}.txt").read_text(encoding="utf-8")
    blanks = {
        "name": name,
        "folder": f"nb{name}",
        "number": number,
        "topic": topic,
        "title": topic.replace("_", " ").capitalize(),
        "first_cell": bare_kernel.CELL,
    }
    for blank, word in blanks.items():
        text = text.replace("{{" + blank + "}}", word)
    return text
