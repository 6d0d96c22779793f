"""From each master `solutions/NN_name.py` the two notebooks: worked solution and student edition.

The solution is executed; the student edition is not (a printed number would spoil the prediction),
and its solution regions are stubs. A rebuild of an unchanged master gives the same bytes.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from labsupport.core import course, schematics
from labsupport.core.files import ROOT, LabError, read_text, short, write_atomically
from labsupport.upkeep import contents, heads

SOLUTIONS = ROOT / "solutions"
NOTEBOOKS = ROOT / "notebooks"

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
STUB = "raise NotImplementedError  # your code here"

METADATA = contents.METADATA
SCHEMATIC = "attachment:schematic.png"  # how a master's text shows the notebook's opening picture
# A cell with this tag is folded away: by JupyterLab and by Colab. VS Code and GitHub know no such mark.
SET_UP, FOLDED = "setup", {"jupyter": {"source_hidden": True}, "cellView": "form"}
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
    return heads.masters(SOLUTIONS)


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
    written = []
    for name in known_names(names):
        master = SOLUTIONS / f"{name}.py"
        editions = {NOTEBOOKS / f"{name}.ipynb": student_edition(master)}
        if execute:
            editions[SOLUTIONS / f"{name}.ipynb"] = executed(master)
        written += write(editions)
    return written + write(contents_pages())


def known_names(names: list[str] | None) -> list[str]:
    """The names asked for, all for None; LabError for one without a master."""
    known = [master.stem for master in masters()]
    for name in names or ():
        if name not in known:
            raise LabError(f"Unknown notebook {name!r}. There are: {', '.join(known) or 'none'}.")
    return known if names is None else names


def rewrite_text(names: list[str] | None = None) -> list[Path]:
    """`build` for masters whose code is as it was: nothing is executed, the solution keeps its outputs.

    Raises LabError for a solution whose code cells are not the master's.
    """
    written = []
    for name in known_names(names):
        master, path = SOLUTIONS / f"{name}.py", SOLUTIONS / f"{name}.ipynb"
        wanted, built = solution_cells(master), read_notebook(path)
        old, new = code_cells(built) if built else [], code_cells(wanted)
        if [cell.source for cell in old] != [cell.source for cell in new]:
            raise LabError(f"Not the master's code: {short(path)}. Run `python3 lab.py build {name}`.")
        for cell, before in zip(new, old, strict=True):
            cell.outputs, cell.execution_count = before.outputs, before.execution_count
        written += write({NOTEBOOKS / path.name: student_edition(master), path: wanted})
    return written + write(contents_pages())


def write(notebooks: dict[Path, NotebookNode]) -> list[Path]:
    for path, notebook in notebooks.items():
        write_atomically(path, nbformat.writes(notebook) + "\n")
    return list(notebooks)


def contents_pages() -> dict[Path, NotebookNode]:
    """The contents pages of the two folders, without anyone's progress."""
    page = contents.Page([(heads.of(master), {}) for master in masters()])
    return {
        folder / contents.NAME: nbformat.from_dict(contents.notebook(folder.name, page))
        for folder in (SOLUTIONS, NOTEBOOKS)
    }


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
        cell.metadata = metadata(cell.metadata.get("tags"))
        if cell.cell_type == "code":
            cell.source = "\n".join(change(cell.source.split("\n")))
        elif SCHEMATIC in cell.source:
            cell.attachments = {"schematic.png": {"image/png": schematic(master.stem)}}
    links = [links_cell(master, place) for place in ("head", "foot")]
    cells = [links[0], *cells, links[1]]
    return nbformat.v4.new_notebook(cells=cells, metadata=METADATA, nbformat_minor=5)


def metadata(tags: list[str] | None) -> dict:
    """What is kept of a cell's metadata, and what follows from its tags."""
    return {**({"tags": tags} if tags else {}), **(FOLDED if SET_UP in (tags or ()) else {})}


def links_cell(master: Path, place: str) -> NotebookNode:
    """A line to the notebook before, the contents page and the notebook after, as far as these exist."""
    known = masters()
    here = known.index(master)
    before, after = known[max(here - 1, 0) : here], known[here + 1 : here + 2]
    links = [f"[← {heads.of(other).label}]({other.stem}.ipynb)" for other in before]
    links += [f"[Contents]({contents.NAME})"]
    links += [f"[{heads.of(other).label} →]({other.stem}.ipynb)" for other in after]
    return nbformat.v4.new_markdown_cell(" · ".join(links), id=f"{master.stem}-{place}")


def schematic(name: str) -> str:
    """The notebook's opening picture as base64, drawn by the schematic.py of its folder: inside the notebook
    it needs no file beside it. LabError if the folder has none."""
    module = course.module(f"nb{name}", "schematic")
    if module is None:
        wanted = f"labsupport/notebooks/nb{name}/schematic.py"
        raise LabError(f"solutions/{name}.py shows {SCHEMATIC}, and there is no {wanted}: write it.")
    return base64.b64encode(schematics.png(module.draw())).decode()


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


# ---------------------------------------------------------------- what is there


def read_notebook(path: Path) -> NotebookNode | None:
    """A built notebook, or None if the file is not one."""
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except Exception:  # nbformat raises half a dozen kinds, and the remedy is always to rebuild
        return None
    return notebook


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]
