"""Notebooks outside `lab.py start`: a bare kernel, another kernel, a renderer without widgets."""

import ast
import html
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from labsupport import bare_kernel
from labsupport.core import course, tables
from labsupport.core.files import ROOT
from labsupport.teaching import quiz

NOTEBOOKS = sorted(
    path for folder in ("notebooks", "solutions") for path in (ROOT / folder).glob("[0-9][0-9]_*.ipynb")
)
EXPLORERS = course.parts("explorer")
BARE = [getattr(sys, "_base_executable", sys.executable), "-I"]  # no packages of this environment
NOT_FOR_NOTEBOOKS = ("notebook_builder.py", "notebook_checks.py")


def run_cell(python, folder, **environment):
    """The first cell, run in `folder`: the finished process."""
    command = [*python, "-c", bare_kernel.CELL + "\nfrom labsupport.core import files\nprint(files.DATA)"]
    options = {"capture_output": True, "text": True, "env": {**os.environ, **environment}}
    return subprocess.run(command, cwd=folder, timeout=900, **options)


def clone(folder: Path) -> Path:
    """The parts of the repository that the package needs."""
    shutil.copytree(ROOT / "labsupport", folder / "labsupport", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "data", folder / "data")
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder)
    (folder / "notebooks").mkdir()
    return folder


# ---------------------------------------------------------------- the first cell


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_every_notebook_begins_with_the_cell(path):
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert cells[0].source == bare_kernel.CELL
    assert cells[0].metadata["tags"] == ["core", "setup"]


def test_cell_is_short_and_does_nothing_where_the_course_is_installed(tmp_path):
    assert len(bare_kernel.CELL.splitlines()) <= 12
    assert max(map(len, bare_kernel.CELL.splitlines())) <= 110
    done = run_cell([sys.executable], tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{ROOT / 'data'}\n", "")


def test_cell_without_the_repository_says_what_to_do(tmp_path):
    done = run_cell(BARE, tmp_path)
    assert done.returncode == 1 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "clone" in done.stderr and str(tmp_path) in done.stderr


@pytest.mark.parametrize("place", [".", "repository", "repository/notebooks"])
def test_cell_beside_the_environment_names_the_right_kernel(tmp_path, place):
    root = tmp_path / "repository"
    (root / "labsupport").mkdir(parents=True)
    (root / "notebooks").mkdir()
    (root / ".venv").mkdir()
    shutil.copy(ROOT / "labsupport" / "bare_kernel.py", root / "labsupport")
    done = run_cell(BARE, tmp_path / place)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.splitlines() == [
        f"This kernel is not the course's: choose the Python in {root / '.venv'} as the kernel."
    ]


def imported(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return plain | {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}


def test_nothing_that_a_notebook_imports_is_left_out():
    sources = [*(ROOT / "labsupport").rglob("*.py"), *(ROOT / "solutions").glob("*.py")]
    names = set().union(*(imported(path) for path in sources if path.name not in NOT_FOR_NOTEBOOKS))
    tops = {name.partition(".")[0].replace("_", "-") for name in names}
    assert "torch" in tops and "peft" in tops
    assert tops & bare_kernel.LEFT_OUT == {"torch", "numpy", "scipy"}  # which are there already
    pinned = {pin.split("==")[0] for pin in bare_kernel.pins()}
    assert {"transformers", "peft", "trl", "anywidget", "bitsandbytes"} <= pinned
    assert not pinned & bare_kernel.LEFT_OUT


@pytest.mark.slow
@pytest.mark.network
def test_cell_installs_into_a_bare_environment(tmp_path):
    """With three small pins in place of all, which would be 2 GB with what they depend on."""
    root = clone(tmp_path / "lora-lab")
    project = (root / "pyproject.toml").read_text()
    few = [pin for pin in bare_kernel.pins() if pin.startswith(("filelock=", "pyyaml=", "setuptools="))]
    listed = re.sub(
        r"dependencies = \[.*?\]",
        f"dependencies = {json.dumps(['torch==0.0.1', *few])}",
        project,
        flags=re.DOTALL,
    )
    (root / "pyproject.toml").write_text(listed)
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    done = run_cell([str(python)], root / "notebooks", PIP_NO_DEPS="1")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("Installing") and lines[-1] == str(root / "data")
    # A new kernel finds the package without the repository around it, and the cell says nothing.
    again = run_cell([str(python)], tmp_path / "venv")
    assert (again.returncode, again.stdout, again.stderr) == (0, f"{root / 'data'}\n", "")
    listed = subprocess.run(
        [str(python), "-m", "pip", "list", "--format=json"], capture_output=True, check=True
    )
    versions = {entry["name"].lower(): entry["version"] for entry in json.loads(listed.stdout)}
    assert len(few) == 3 and set(few) <= {f"{name}=={version}" for name, version in versions.items()}
    assert not versions.keys() & bare_kernel.LEFT_OUT


# ---------------------------------------------------------------- without widgets


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A notebook with every explorer and a checkpoint, executed and turned into HTML without widget
    state."""
    from nbclient import NotebookClient
    from nbconvert import HTMLExporter

    sources = [
        "from labsupport.teaching import quiz",
        'quiz.ask("01_first_fine_tune")',
        *(f"import {module} as {name}; {name}.explore()" for name, module in EXPLORERS.items()),
        *(f"{name}.view()" for name in EXPLORERS),
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    folder = tmp_path_factory.mktemp("static")
    before = dict(os.environ)
    os.environ["LAB_PROGRESS"] = str(folder / "progress.json")
    try:
        # An error is a cell of the page: each test says which explorer it is.
        options = {"store_widget_state": False, "timeout": 600, "allow_errors": True}
        client = NotebookClient(notebook, kernel_name="python3", **options)
        client.execute()
    finally:
        os.environ.clear()
        os.environ.update(before)
    assert "widgets" not in notebook.metadata
    text, _ = HTMLExporter(exclude_input=True).from_notebook_node(notebook)
    return html.unescape(text)  # nbconvert writes quotes one way, the course another


@pytest.mark.slow
def test_rendered_page_needs_no_widget(page):
    assert "application/vnd.jupyter.widget-view+json" not in page
    assert "Traceback" not in page


@pytest.mark.slow
def test_checkpoint_without_widgets_shows_questions_and_calls(page):
    for question in quiz.catalogue()["01_first_fine_tune"]:
        assert question.text[:40] in page
        assert f'quiz.answer("{question.number}"' in page


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPLORERS)
def test_explorer_without_widgets_shows_table_and_figure(page, name):
    """As `explore()` and as the plain call `view()`."""
    import importlib

    view = importlib.import_module(EXPLORERS[name]).view()
    assert view.table
    for needed in (view.heading, *([f'alt="{view.alt}"'] if view.figure else [])):
        assert page.count(needed) >= 2, needed
    values = [tables.written(value) for value in view.table[0].values()]
    while values[-1] == "":
        values.pop()
    cells = [r"<t[dh][^>]*>" + re.escape(value) for value in values]
    assert len(re.findall(r"</t[dh]>\s*".join(cells), page)) >= 2, cells


def test_widget_script_lies_where_vs_code_looks():
    """VS Code takes a widget's script from the kernel's environment before it asks a CDN."""
    script = Path(sys.prefix) / "share" / "jupyter" / "nbextensions" / "anywidget" / "index.js"
    assert re.search(r"define\(", script.read_text(encoding="utf-8"))
