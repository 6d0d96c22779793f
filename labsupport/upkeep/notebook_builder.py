"""From each master `solutions/NN_name.py` the two notebooks: worked solution and student edition.

The solution is executed; the student edition is not (a printed number would spoil the prediction),
and its solution regions are stubs. A rebuild of an unchanged master gives the same bytes.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from labsupport.core.files import ROOT, LabError, short, write_atomically

SOLUTIONS = ROOT / "solutions"
NOTEBOOKS = ROOT / "notebooks"

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
STUB = "raise NotImplementedError  # your code here"
LONGEST_CELL = 30  # lines that are not blank

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
FALLBACKS = ("text/html", "text/plain")

# A cell id is the stem, a dash and three digits, and nbformat allows 64 of these characters.
MASTER_NAME = re.compile(r"[A-Za-z0-9_-]{1,60}")
# A mistyped marker would print the solution in the student edition, so look for more than the two.
LIKE_A_MARKER = re.compile(r"#\s*(BEGIN|END)\s+SOLUTION", re.IGNORECASE)
CELL_START = re.compile(r"\s*#\s*(%%|<codecell>|In\[)")  # whatever jupytext may take for one
TEXT_CELL = re.compile(r"\[(markdown|md|raw)\]")


def masters() -> list[Path]:
    """The masters in course order."""
    return sorted(SOLUTIONS.glob("[0-9][0-9]_*.py"))


def solution_cells(master: Path) -> NotebookNode:
    """The full edition, not executed. Raises LabError naming master and line of a bad marker."""
    return edition(master, without_markers)


def student_edition(master: Path) -> NotebookNode:
    """The edition with a stub for every solution region. Raises LabError as `solution_cells`."""
    return edition(master, with_stubs)


def build(names: list[str] | None = None, execute: bool = True) -> list[Path]:
    """Write both notebooks of the named masters (default: all); the paths written.

    `execute=False` writes the student editions only. Raises LabError for an unknown name, a bad
    marker or a cell that fails; that master's notebooks are then left as they were.
    """
    known = {master.stem: master for master in masters()}
    names = list(known) if names is None else names
    for name in names:
        if name not in known:
            raise LabError(f"Unknown notebook {name!r}. There are: {', '.join(known) or 'none'}.")
    written = []
    for name in names:
        editions = {NOTEBOOKS / f"{name}.ipynb": student_edition(known[name])}
        if execute:
            editions[SOLUTIONS / f"{name}.ipynb"] = executed(known[name])
        for path, notebook in editions.items():
            write_atomically(path, nbformat.writes(notebook) + "\n")
            written.append(path)
    return written


def check() -> list[str]:
    """What is wrong with masters and built notebooks, a line each; nothing is executed."""
    problems = []
    for master in masters():
        remedy = f"run `python3 lab.py build {master.stem}`"
        try:
            problems += [f"{problem}; {remedy}." for problem in problems_of(master)]
        except LabError as error:
            problems.append(f"{error} Mend it, then {remedy}.")
    known = {master.stem for master in masters()}
    for path in sorted([*SOLUTIONS.glob("*.ipynb"), *NOTEBOOKS.glob("*.ipynb")]):
        if path.stem not in known:
            wanted = short(SOLUTIONS / f"{path.stem}.py")
            problems.append(f"{short(path)} has no master {wanted}: delete it or restore the master.")
    return problems


# ---------------------------------------------------------------- from the master to cells


def edition(master: Path, change) -> NotebookNode:
    """The master as a notebook, `change` applied to the lines of each code cell."""
    if not MASTER_NAME.fullmatch(master.stem):
        raise LabError(
            f"{short(master)}: a master's name has at most 60 letters, digits, dashes and "
            "underscores, because the cell ids begin with it."
        )
    text = read_text(master)
    check_markers(text, short(master))
    cells = jupytext.reads(text, fmt="py:percent").cells
    for number, cell in enumerate(cells, start=1):
        cell.id = f"{master.stem}-{number:03d}"
        cell.metadata = {key: cell.metadata[key] for key in ("tags",) if key in cell.metadata}
        if cell.cell_type == "code":
            cell.source = "\n".join(change(cell.source.split("\n")))
    return nbformat.v4.new_notebook(cells=cells, metadata=METADATA, nbformat_minor=5)


def read_text(master: Path) -> str:
    try:
        return master.read_text(encoding="utf-8")
    except OSError as error:
        raise LabError(f"Cannot read {short(master)}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise LabError(f"{short(master)} is not UTF-8 text (byte {error.start}).") from error


def check_markers(text: str, where: str) -> None:
    """Raise LabError, naming the line, unless every region opens and closes in one code cell."""
    opened, in_code = None, True
    for number, line in enumerate([*text.split("\n"), "# %%"], start=1):
        problem = None
        if CELL_START.match(line):
            if opened:
                number, problem = opened, f"{BEGIN} has no {END} in its cell"
            in_code = not TEXT_CELL.search(line)
        elif LIKE_A_MARKER.search(line):
            marker = line.strip()
            if marker not in (BEGIN, END):
                problem = f"a marker stands alone on its line, as {BEGIN} or {END}"
            elif not in_code:
                problem = f"{marker} outside a code cell"
            elif marker == BEGIN and opened:
                problem = f"{BEGIN} inside the region that begins on line {opened}"
            elif marker == END and not opened:
                problem = f"{END} without {BEGIN} in its cell"
            opened = number if marker == BEGIN else None
        if problem:
            raise LabError(f"{where}, line {number}: {problem}.")


def without_markers(lines: list[str]) -> Iterator[str]:
    return (line for line in lines if not is_marker(line))


def with_stubs(lines: list[str]) -> Iterator[str]:
    inside = False
    for line in lines:
        if is_marker(line):
            inside = line.strip() == BEGIN
            if inside:
                yield line.replace(BEGIN, STUB).rstrip()
        elif not inside:
            yield line


def is_marker(line: str) -> bool:
    return line.strip() in (BEGIN, END)


# ---------------------------------------------------------------- executing


def executed(master: Path) -> NotebookNode:
    """The full edition with its outputs. Raises LabError naming the cell that failed."""
    notebook, begun = solution_cells(master), []
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        resources={"metadata": {"path": str(SOLUTIONS)}},
        timeout=None,
        record_timing=False,
        coalesce_streams=True,
        store_widget_state=False,
        force_raise_errors=True,  # even where tagged raises-exception: a notebook has no red
        # By default, prints that arrive 4 s after their cell ended are lost without an error.
        iopub_timeout=60,
        raise_on_iopub_timeout=True,
        on_cell_execute=lambda cell, cell_index: begun.append(cell.id),
    )
    try:
        client.execute()
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        raise LabError(f"{short(master)}, cell {begun[-1]}: {first_line(error)}") from error
    notebook.metadata = nbformat.from_dict(METADATA)  # the kernel added its version and the like
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            drop_widget_view(output.get("data", {}))
    return notebook


def first_line(error: Exception) -> str:
    raised = isinstance(error, CellExecutionError)
    text = f"{error.ename}: {error.evalue}" if raised else str(error)
    return text.splitlines()[0].removesuffix(": ")


def drop_widget_view(data: dict) -> None:
    """Without a kernel the view is an error message: show the fallback, where there is one."""
    if any(kind in data for kind in FALLBACKS):
        data.pop(WIDGET_VIEW, None)


# ---------------------------------------------------------------- checking what was built


def problems_of(master: Path) -> Iterator[str]:
    """The problems of one master and its two notebooks, without the remedy."""
    solution, student = solution_cells(master), student_edition(master)
    for cell in code_cells(solution):
        length = sum(bool(line.strip()) for line in cell.source.split("\n"))
        if length > LONGEST_CELL:
            yield (
                f"{short(master)}: cell {cell.id} has {length} lines, blank ones not counted; "
                f"split it (at most {LONGEST_CELL})"
            )
    for folder, wanted, fault in (
        (SOLUTIONS, solution, execution_fault),
        (NOTEBOOKS, student, student_fault),
    ):
        path = folder / f"{master.stem}.ipynb"
        built = read_notebook(path) if path.exists() else None
        if built is None:
            yield f"{short(path)} is {'not a notebook' if path.exists() else 'missing'}"
            continue
        found = (first_difference(built, wanted), fault(built))
        yield from (f"{short(path)}: {problem}" for problem in found if problem)


def read_notebook(path: Path) -> NotebookNode | None:
    """A built notebook, or None if the file is not one."""
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except Exception:  # nbformat raises half a dozen kinds, and the remedy is always to rebuild
        return None
    return notebook


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
        "tags": cell.metadata.get("tags", []),
    }


def execution_fault(built: NotebookNode) -> str | None:
    """nbval passes a cell without a count silently, so each must have been run, in order."""
    cells = (cell for cell in code_cells(built) if cell.source.strip())
    for count, cell in enumerate(cells, start=1):
        if any(output.output_type == "error" for output in cell.outputs):
            return f"cell {cell.id} ended in an error"
        if cell.execution_count != count:
            return f"cell {cell.id} has execution count {cell.execution_count}, not {count}"
    return None


def student_fault(built: NotebookNode) -> str | None:
    for cell in built.cells:
        if any(is_marker(line) for line in cell.source.split("\n")):
            return f"cell {cell.id} contains a solution marker"
        if cell.cell_type == "code" and (cell.outputs or cell.execution_count is not None):
            return f"cell {cell.id} was run: a student edition has no outputs"
    return None


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]
