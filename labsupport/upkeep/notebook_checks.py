"""Whether the notebooks are what their masters say, without executing anything: `lab.py build --check`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

from nbformat import NotebookNode

from labsupport.core.files import LabError, short
from labsupport.upkeep import contents, heads
from labsupport.upkeep import notebook_builder as builder

LONGEST_CELL = 30  # lines that are not blank


def check() -> list[str]:
    """What is wrong with masters and built notebooks, a line each; nothing is executed."""
    problems = []
    for master in builder.masters():
        remedy = f"run `python3 lab.py build {master.stem}`"
        try:
            problems += [f"{problem}; {remedy}." for problem in problems_of(master)]
        except LabError as error:
            problems.append(f"{error} Mend it, then {remedy}.")
    for path, wanted in builder.contents_pages().items():
        built = builder.read_notebook(path) if path.exists() else None
        if built != wanted:
            problems.append(f"{short(path)} is not up to date; run `python3 lab.py build --student`.")
    known = {master.stem for master in builder.masters()} | {Path(contents.NAME).stem}
    for path in sorted([*builder.SOLUTIONS.glob("*.ipynb"), *builder.NOTEBOOKS.glob("*.ipynb")]):
        if path.stem not in known:
            wanted = short(builder.SOLUTIONS / f"{path.stem}.py")
            problems.append(f"{short(path)} has no master {wanted}: delete it or restore the master.")
    return problems


def problems_of(master: Path) -> Iterator[str]:
    """The problems of one master and its two notebooks, without the remedy."""
    yield from (f"{short(master)} {fault}" for fault in heads.faults(master))
    solution, student = builder.solution_cells(master), builder.student_edition(master)
    for cell in builder.code_cells(solution):
        length = sum(bool(line.strip()) for line in cell.source.split("\n"))
        if length > LONGEST_CELL:
            yield (
                f"{short(master)}: cell {cell.id} has {length} lines, blank ones not counted; "
                f"split it (at most {LONGEST_CELL})"
            )
    for folder, wanted, fault in (
        (builder.SOLUTIONS, solution, execution_fault),
        (builder.NOTEBOOKS, student, student_fault),
    ):
        path = folder / f"{master.stem}.ipynb"
        built = builder.read_notebook(path) if path.exists() else None
        if built is None:
            yield f"{short(path)} is {'not a notebook' if path.exists() else 'missing'}"
            continue
        found = (first_difference(built, wanted), fault(built))
        yield from (f"{short(path)}: {problem}" for problem in found if problem)


def first_difference(built: NotebookNode, wanted: NotebookNode) -> str | None:
    pairs = itertools.zip_longest(map(identity, built.cells), map(identity, wanted.cells))
    for has, needs in pairs:
        if has != needs:
            return f"cell {(needs or has)['id']} differs from the master"
    return None


def identity(cell: NotebookNode) -> dict:
    """What a built cell has in common with its master."""
    return {
        "id": cell.get("id"),
        "type": cell.cell_type,
        "source": cell.source,
        "metadata": cell.metadata,
        "pictures": sorted(cell.get("attachments", {})),
    }


def execution_fault(built: NotebookNode) -> str | None:
    """nbval passes a cell without a count silently, so each must have been run, in order."""
    cells = (cell for cell in builder.code_cells(built) if cell.source.strip())
    for count, cell in enumerate(cells, start=1):
        if any(output.output_type == "error" for output in cell.outputs):
            return f"cell {cell.id} ended in an error"
        if cell.execution_count != count:
            return f"cell {cell.id} has execution count {cell.execution_count}, not {count}"
    return None


def student_fault(built: NotebookNode) -> str | None:
    for cell in built.cells:
        if any(builder.is_marker(line) for line in cell.source.split("\n")):
            return f"cell {cell.id} contains a solution marker"
        if cell.cell_type == "code" and (cell.outputs or cell.execution_count is not None):
            return f"cell {cell.id} was run: a student edition has no outputs"
    return None
