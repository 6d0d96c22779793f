"""The course in a kernel that `lab.py start` did not make, such as Colab's. Standard library only.

`CELL` opens every notebook. Where `labsupport` is there it does nothing. Elsewhere it looks for a clone of
the repository and runs this file, which installs the package and its pinned packages into the running
Python. torch stays the one that is there: it fits that machine's GPU.
"""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# torch and the arrays it was built with, the kernel, and what only JupyterLab and maintainers need.
LEFT_OUT = {
    *("torch", "numpy", "scipy", "ipython", "jupyterlab", "jupytext", "nbclient", "nbconvert", "nbformat"),
    *("nbval", "playwright", "hypothesis", "pytest", "pytest-xdist", "ruff", "import-linter"),
    *("oxlint", "tinycss2", "axe-playwright-python", "jupyter-client"),
}
CELL = """\
# Does nothing after `lab.py start`. In a bare kernel, such as Colab's, it installs the course's packages.
import importlib.util, pathlib, runpy, sys

if importlib.util.find_spec("labsupport") is None:
    here = pathlib.Path.cwd()
    folders = [here, *here.parents, *here.glob("*/")]
    found = [f for p in folders if (f := p / "labsupport" / "bare_kernel.py").exists()]
    if not found:
        sys.exit(f"No folder labsupport/ in, above or below {here}: clone the course's repository there.")
    runpy.run_path(str(found[0]), run_name="__main__")"""


def pins() -> list[str]:
    """The packages that notebooks need, as pinned in pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [pin for pin in project["dependencies"] if pin.split("==")[0] not in LEFT_OUT]


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no output"]
        error = next((line for line in lines if line.startswith("ERROR")), lines[-1])
        sys.exit(f"pip could not install the course's packages: {error}")


def install() -> None:
    """Install into the running Python and make it importable at once. Exits with one line if it cannot."""
    if (ROOT / ".venv").exists():
        sys.exit(f"This kernel is not the course's: choose the Python in {ROOT / '.venv'} as the kernel.")
    print(f"Installing the course's packages into {sys.prefix} (minutes); torch stays as it is.", flush=True)
    pip(*pins())
    pip("--no-deps", "--no-build-isolation", "--editable", str(ROOT))
    sys.path.insert(0, str(ROOT))  # this kernel started before the installation
    print("Done. If an import below complains of a version, restart the kernel and run the notebook again.")


if __name__ == "__main__":
    install()
