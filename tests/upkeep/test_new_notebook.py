"""What `lab.py new` writes passes the tests as it stands, and nothing is overwritten."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from labsupport.core.files import ROOT, LabError
from labsupport.upkeep import new_notebook

NAME = "77_a_sample"
COPIED = ("labsupport", "solutions", "notebooks", "tests", "data", "pyproject.toml", "lab.py")
COPIED += ("README.md", "glossary.md", "guides.md")


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    places = {"PYTHONPATH": str(folder), "LAB_CACHE": str(ROOT / ".lab"), "LAB_RUNS": str(folder / "runs")}
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, **places})


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A copy of the course in which the notebook was begun."""
    folder = tmp_path_factory.mktemp("course")
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    done = run(folder, "labsupport.cli", "new", NAME)
    assert done.returncode == 0, done.stderr
    assert f"labsupport/notebooks/nb{NAME}/exercises.py" in done.stdout
    return folder


@pytest.mark.slow
def test_a_new_notebook_matches_its_master_and_passes_the_tests_as_it_stands(clone):
    from labsupport.upkeep import notebook_builder

    done = run(clone, "labsupport.cli", "build", "--check")
    assert not [line for line in done.stdout.splitlines() if NAME in line]
    tests = ["tests/notebooks/test_notebooks.py", "tests/notebooks/test_exercises.py"]
    tests += ["tests/teaching/test_quiz.py", "tests/core/test_course.py", "tests/test_bare_kernel.py"]
    chosen = "(a_sample or nb77) and not recipe"
    done = run(clone, "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen, "-m", "not network", *tests)
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(done.stdout.split(" passed")[0].split()[-1]) >= 12
    assert notebook_builder.SOLUTIONS == ROOT / "solutions"  # of this course, not of the copy


@pytest.mark.slow
def test_its_solution_gives_the_same_again_and_ruff_finds_nothing(clone):
    notebook = f"solutions/{NAME}.ipynb"
    done = run(clone, "pytest", "-q", "-p", "no:cacheprovider", "--nbval", notebook)
    assert done.returncode == 0, done.stdout[-3000:]
    files = [
        f"labsupport/notebooks/nb{NAME}",
        f"tests/notebooks/right_answers/nb{NAME}.py",
        f"tests/notebooks/wrong_answers/nb{NAME}.py",
        f"solutions/{NAME}.py",
    ]
    assert run(clone, "ruff", "check", *files).returncode == 0
    assert run(clone, "ruff", "format", "--check", *files).returncode == 0


@pytest.mark.slow
def test_a_number_that_is_taken_is_one_line(clone):
    done = run(clone, "labsupport.cli", "new", "77_another")
    assert done.returncode == 2 and done.stderr == f"Notebook 77 is there: {NAME}. Choose another number.\n"


@pytest.mark.parametrize(
    "name", ["chat", "6_chat", "06-chat", "06_Chat", "06_", "06_chat.py", "../06_chat", ""]
)
def test_a_bad_name_is_one_line(name):
    with pytest.raises(LabError, match="is no notebook's name: two digits"):
        new_notebook.begin(name)


def test_nothing_is_overwritten(tmp_path, monkeypatch):
    monkeypatch.setattr(new_notebook, "FOLDERS", tmp_path)
    mine = tmp_path / f"nb{NAME}" / "questions.py"
    mine.parent.mkdir()
    mine.write_text("mine")
    with pytest.raises(LabError, match="is there already"):
        new_notebook.begin(NAME)
    assert mine.read_text() == "mine" and [path.name for path in mine.parent.iterdir()] == ["questions.py"]
