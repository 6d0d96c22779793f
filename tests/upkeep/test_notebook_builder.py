"""The builder: what a learner sees, what is executed, and what `check` notices."""

from __future__ import annotations

import json

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError, DeadKernelError

from labsupport.core.files import LabError
from labsupport.upkeep import notebook_builder, notebook_checks

NAME = "01_small"
MASTER = """\
# ---
# jupyter:
#   kernelspec: {name: other, display_name: Other}
# ---

# %% [markdown] tags=["core"]
# # 01 · Halving – and doubling
#
# **In one sentence**: you halve a number and
# double another.
#
# **Minutes**: 30 to read and do, 1 to run all cells.

# %% A title tags=["core", "claim-B3"]
def half(x):
    ### BEGIN SOLUTION
    result = x / 2

    return result
    ### END SOLUTION


def twice(x):
    if x:
        ### BEGIN SOLUTION
        return x + x
        ### END SOLUTION
    return 0

# %%
print(twice(0))
"""

RICH = """\
# %%
import os
import sys
from pathlib import Path

print(Path.cwd().name, os.environ["LAB_TEST_WORD"], flush=True)
print("to stderr", file=sys.stderr, flush=True)
print("more")

# %% [markdown]
# Text

# %%
view = {"application/vnd.jupyter.widget-view+json": {"model_id": "a1", "version_major": 2}}
display({**view, "text/plain": "Slider", "text/html": "<table>"}, raw=True)
display(view, raw=True)

# %%
def answer():
    ### BEGIN SOLUTION
    return "é"
    ### END SOLUTION

answer()
"""


@pytest.fixture
def course(tmp_path, monkeypatch):
    """An empty course in a scratch folder; call it with name and text to add a master."""
    monkeypatch.setattr(notebook_builder, "SOLUTIONS", tmp_path / "solutions")
    monkeypatch.setattr(notebook_builder, "NOTEBOOKS", tmp_path / "notebooks")
    (tmp_path / "solutions").mkdir()

    def add(text=MASTER, name=NAME):
        path = tmp_path / "solutions" / f"{name}.py"
        path.write_text(text, encoding="utf-8")
        return path

    return add


def fake_kernel(monkeypatch, error=None):
    """Instead of a kernel: number the code cells, or raise the error in the last one."""

    class Client:
        def __init__(self, notebook, on_cell_execute, **_options):
            self.notebook, self.on_cell_execute = notebook, on_cell_execute

        def execute(self):
            cells = [cell for cell in self.notebook.cells if cell.cell_type == "code"]
            for count, cell in enumerate(cells, start=1):
                self.on_cell_execute(cell=cell, cell_index=count)
                cell.execution_count = count
            if error:
                raise error

    monkeypatch.setattr(notebook_builder, "NotebookClient", Client)


def built(folder, name=NAME):
    return getattr(notebook_builder, folder) / f"{name}.ipynb"


def edit(path, change):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    change(notebook["cells"])
    path.write_text(json.dumps(notebook), encoding="utf-8")


# ---------------------------------------------------------------- the two editions


def test_student_edition_has_stubs_and_the_solution_has_the_lines(course):
    master = course()
    student = notebook_builder.student_edition(master).cells[2].source
    solution = notebook_builder.solution_cells(master).cells[2].source
    stub = "raise NotImplementedError  # your code here"
    assert student == (
        f"def half(x):\n    {stub}\n\n\ndef twice(x):\n    if x:\n        {stub}\n    return 0"
    )
    assert solution == (
        "def half(x):\n    result = x / 2\n\n    return result\n\n\n"
        "def twice(x):\n    if x:\n        return x + x\n    return 0"
    )


@pytest.mark.parametrize("make", ["solution_cells", "student_edition"])
def test_editions_carry_stable_ids_tags_and_nothing_else(course, make):
    notebook = getattr(notebook_builder, make)(course())
    nbformat.validate(notebook)
    assert [cell.id for cell in notebook.cells] == [
        f"{NAME}-{n}" for n in ("head", "001", "002", "003", "foot")
    ]
    assert [cell.metadata for cell in notebook.cells] == [
        {},
        {"tags": ["core"]},
        {"tags": ["core", "claim-B3"]},
        {},
        {},
    ]
    assert notebook.metadata == notebook_builder.METADATA
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)


@pytest.mark.parametrize("make", ["solution_cells", "student_edition"])
def test_set_up_cells_are_folded_away_and_no_others(course, make):
    text = '# %% tags=["core", "setup"]\nimport math\n\n# %% tags=["core"]\nmath.pi\n'
    folded, shown = notebook_builder.code_cells(getattr(notebook_builder, make)(course(text)))
    assert folded.metadata == {
        "tags": ["core", "setup"],
        "jupyter": {"source_hidden": True},
        "cellView": "form",
    }
    assert shown.metadata == {"tags": ["core"]}


@pytest.mark.parametrize("make", ["solution_cells", "student_edition"])
def test_notebooks_are_linked_as_far_as_they_exist(course, make):
    paths = [course(f"# %% [markdown]\n# # {n} · Title {n}\n", f"{n}_x") for n in ("00", "03", "07")]
    first, middle, last = (getattr(notebook_builder, make)(path).cells for path in paths)
    for cells in (first, middle, last):
        assert cells[0].source == cells[-1].source and cells[0].cell_type == "markdown"
    assert first[0].source == "[Contents](contents.ipynb) · [03 Title 03 →](03_x.ipynb)"
    assert middle[0].source == (
        "[← 00 Title 00](00_x.ipynb) · [Contents](contents.ipynb) · [07 Title 07 →](07_x.ipynb)"
    )
    assert last[0].source == "[← 03 Title 03](03_x.ipynb) · [Contents](contents.ipynb)"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("# %%\n### BEGIN SOLUTION\nx = 1\n", 2, "has no ### END"),
        ("# %%\n### BEGIN SOLUTION\nx = 1\n# %%\n### END SOLUTION\n", 2, "has no ### END"),
        ("# %%\n### BEGIN SOLUTION\nx = 1\n# In[2]:\n### END SOLUTION\n", 2, "has no ### END"),
        ("# %%\nx = 1\n### END SOLUTION\n", 3, "without ### BEGIN"),
        ("# %%\n### BEGIN SOLUTION\n### BEGIN SOLUTION\n### END SOLUTION\n", 3, "on line 2"),
        ("# %%\n## BEGIN SOLUTION\nx = 1\n### END SOLUTION\n", 2, "alone on its line"),
        ("# %%\nx = 1  ### BEGIN SOLUTION\n### END SOLUTION\n", 2, "alone on its line"),
        ("# %% [markdown]\n# ### BEGIN SOLUTION\n# ### END SOLUTION\n", 2, "alone on its line"),
        ('# %% [markdown]\n"""\n### BEGIN SOLUTION\n"""\n', 3, "outside a code cell"),
    ],
)
def test_a_marker_that_would_leak_a_solution_is_refused_with_its_line(course, text, line, words):
    master = course(text)
    with pytest.raises(LabError, match=rf"{NAME}\.py, line {line}: .*{words}"):
        notebook_builder.student_edition(master)


def test_a_name_that_cannot_begin_a_cell_id_is_refused(course):
    with pytest.raises(LabError, match="at most 60"):
        notebook_builder.solution_cells(course(name="01_" + "x" * 60))


# ---------------------------------------------------------------- building


def test_real_build(course, monkeypatch):
    """The only test with a kernel."""
    monkeypatch.setenv("LAB_TEST_WORD", "inherited")
    course(RICH)
    folders = ("SOLUTIONS", "NOTEBOOKS")
    assert set(notebook_builder.build()) == {
        built(folder, name) for folder in folders for name in (NAME, "contents")
    }
    text = built("SOLUTIONS").read_text(encoding="utf-8")
    assert text.endswith("\n}\n")
    assert "é" in text
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata == notebook_builder.METADATA
    assert all(cell.metadata == {} for cell in notebook.cells)
    _, streams, _, widgets, answer, _ = notebook.cells
    assert {output.name: output.text for output in streams.outputs} == {
        "stdout": "solutions inherited\nmore\n",
        "stderr": "to stderr\n",
    }
    with_fallback, without = (output.data for output in widgets.outputs)
    assert with_fallback == {"text/plain": "Slider", "text/html": "<table>"}
    assert list(without) == [notebook_builder.WIDGET_VIEW]
    assert answer.outputs[0].data == {"text/plain": "'é'"}
    assert [problem for problem in notebook_checks.check() if "has no" not in problem] == []


def test_student_edition_is_rebuilt_to_the_same_bytes_without_touching_the_solution(course):
    course()
    pages = [built(folder, "contents") for folder in ("SOLUTIONS", "NOTEBOOKS")]
    assert notebook_builder.build([NAME], execute=False) == [built("NOTEBOOKS"), *pages]
    first = built("NOTEBOOKS").read_bytes()
    notebook_builder.build([NAME], execute=False)
    assert built("NOTEBOOKS").read_bytes() == first
    assert "–" in first.decode()
    assert not built("SOLUTIONS").exists()


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (CellExecutionError("trace", "ValueError", "too small\nby far"), "ValueError: too small"),
        (CellExecutionError("trace", "AssertionError", ""), "AssertionError"),
        (DeadKernelError("Kernel died"), "Kernel died"),
    ],
)
def test_a_failing_cell_is_named_and_both_notebooks_stay(course, monkeypatch, error, line):
    course()
    fake_kernel(monkeypatch)
    notebook_builder.build()
    before = [built(folder).read_bytes() for folder in ("SOLUTIONS", "NOTEBOOKS")]
    course(MASTER + "\nprint(1)\n")
    fake_kernel(monkeypatch, error)
    with pytest.raises(LabError, match=rf"{NAME}\.py, cell {NAME}-003: {line}$"):
        notebook_builder.build()
    assert before == [built(folder).read_bytes() for folder in ("SOLUTIONS", "NOTEBOOKS")]


def test_an_unknown_name_lists_the_masters_and_builds_none(course):
    course(name="02_b")
    course(name="01_a")
    course(name="conftest")
    with pytest.raises(LabError, match=r"'01_c'. There are: 01_a, 02_b\."):
        notebook_builder.build(["01_a", "01_c"], execute=False)
    assert not built("NOTEBOOKS", "01_a").exists()


def test_new_text_leaves_the_outputs_that_are_there(course, monkeypatch):
    course()
    fake_kernel(monkeypatch)
    notebook_builder.build()
    edit(built("SOLUTIONS"), lambda cells: cells[2].update(outputs=[PRINTED]))
    moved = MASTER.replace("# %% A title", "# %% [markdown]\n# New words\n\n# %% A title")
    course(moved.replace("Halving", "Bisecting"))
    fake_kernel(monkeypatch, AssertionError("nothing is to be executed"))
    assert built("SOLUTIONS") in notebook_builder.rewrite_text()
    assert notebook_checks.check() == []
    text = built("SOLUTIONS").read_text(encoding="utf-8")
    assert "New words" in text and "Bisecting" in text
    assert nbformat.reads(text, as_version=4).cells[3].outputs[0].text == "7"


@pytest.mark.parametrize("change", [("return 0", "return 1"), ("print(twice(0))", "")])
def test_new_text_for_other_code_is_refused(course, monkeypatch, change):
    course()
    fake_kernel(monkeypatch)
    notebook_builder.build()
    before = built("SOLUTIONS").read_bytes()
    course(MASTER.replace(*change))
    with pytest.raises(LabError, match=f"Not the master's code: .*{NAME}.ipynb. Run `python3 lab.py build"):
        notebook_builder.rewrite_text([NAME])
    assert built("SOLUTIONS").read_bytes() == before


# ---------------------------------------------------------------- checking

ERROR = {"output_type": "error", "ename": "E", "evalue": "", "traceback": []}
PRINTED = {"output_type": "stream", "name": "stdout", "text": "7"}


@pytest.mark.parametrize(
    ("folder", "change", "words"),
    [
        ("SOLUTIONS", lambda cells: cells[3].update(source="print(1)"), "003 differs"),
        ("SOLUTIONS", lambda cells: cells[2]["metadata"].clear(), "002 differs"),
        ("SOLUTIONS", lambda cells: cells[1].update(cell_type="raw"), "001 differs"),
        ("NOTEBOOKS", lambda cells: cells[2].update(id="random"), "002 differs"),
        ("NOTEBOOKS", lambda cells: cells.pop(), "foot differs"),
        ("NOTEBOOKS", lambda cells: cells.append({**cells[1], "id": "extra"}), "extra differs"),
        ("SOLUTIONS", lambda cells: cells[3].update(execution_count=None), "count None, not 2"),
        ("SOLUTIONS", lambda cells: cells[2].update(execution_count=7), "count 7, not 1"),
        ("SOLUTIONS", lambda cells: cells[3].update(outputs=[ERROR]), "003 ended in an error"),
        ("NOTEBOOKS", lambda cells: cells[3].update(outputs=[PRINTED]), "003 was run"),
        ("NOTEBOOKS", lambda cells: cells[2].update(execution_count=1), "002 was run"),
        ("NOTEBOOKS", lambda cells: cells[1].update(source="### END SOLUTION"), "001 contains a"),
        ("NOTEBOOKS", lambda cells: cells[3].pop("outputs"), "is not a notebook"),
        ("NOTEBOOKS", lambda cells: cells[0].update(source="[Contents](other.ipynb)"), "head differs"),
    ],
)
def test_check_names_the_notebook_the_cell_and_the_remedy(course, monkeypatch, folder, change, words):
    course()
    fake_kernel(monkeypatch)
    notebook_builder.build()
    assert notebook_checks.check() == []
    edit(built(folder), change)
    problems = notebook_checks.check()
    assert any(words in problem for problem in problems), problems
    for problem in problems:
        assert f"{folder.lower()}/{NAME}.ipynb" in problem
        assert problem.endswith(f"run `python3 lab.py build {NAME}`.")
        assert "\n" not in problem


def test_check_reports_missing_broken_and_orphaned_notebooks(course, monkeypatch):
    course()
    fake_kernel(monkeypatch)
    notebook_builder.build()
    built("SOLUTIONS").unlink()
    built("NOTEBOOKS").rename(built("NOTEBOOKS", "09_gone"))
    built("NOTEBOOKS").write_text("<<<<<<< HEAD\n", encoding="utf-8")
    missing, broken, orphan = notebook_checks.check()
    assert f"solutions/{NAME}.ipynb is missing" in missing
    assert f"notebooks/{NAME}.ipynb is not a notebook" in broken
    assert "notebooks/09_gone.ipynb has no master" in orphan


def test_check_goes_on_after_a_bad_master(course):
    course("# %%\n### END SOLUTION\n", name="01_bad")
    course(name="02_good")
    bad, *others = notebook_checks.check()
    assert "01_bad.py, line 2" in bad
    assert sum("02_good.ipynb is missing" in problem for problem in others) == 2
    assert sum("contents.ipynb is not up to date" in problem for problem in others) == 2
    assert len(others) == 4


def test_check_names_a_code_cell_over_thirty_lines(course, monkeypatch):
    thirty = "# %%\n" + "x = 1\n\n" * 29 + "x = 1\n"
    text = MASTER[: MASTER.index("# %% A title")] + "# word\n" * 40 + thirty + thirty + "x = 2\n"
    course(text)
    fake_kernel(monkeypatch)
    notebook_builder.build()
    (problem,) = notebook_checks.check()
    assert f"cell {NAME}-003 has 31 lines" in problem
