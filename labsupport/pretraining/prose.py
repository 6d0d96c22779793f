"""English prose that is on every learner's disk: docstrings of packages that the lock pins.

Nothing is imported or downloaded: the files of the installed packages are parsed, and paragraphs that read
like prose are kept. The order is that of the sorted file names, so the same versions give the same text.
"""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

from labsupport.core.files import LabError

# Import name and licence. Only packages that the lock pins to one version on every platform and Python
# (numpy and scipy have two), and only those under BSD, Apache or Python's own kind of licence.
PACKAGES = {
    "accelerate": "Apache-2.0",
    "datasets": "Apache-2.0",
    "matplotlib": "Matplotlib's, of the kind of Python's (PSF)",
    "pandas": "BSD-3-Clause",
    "peft": "Apache-2.0",
    "sklearn": "BSD-3-Clause",
    "sympy": "BSD-3-Clause",
    "torch": "BSD-3-Clause",
    "transformers": "Apache-2.0",
    "trl": "Apache-2.0",
}
DISTRIBUTIONS = {"sklearn": "scikit-learn"}  # where the name on the registry is another
SHORTEST, LONGEST = 80, 1200  # characters of a paragraph
NOT_PROSE = re.compile(r"[^A-Za-z ,.;:'\"()!?-]")
TABLE = re.compile(
    r"--|==|>>>|^(Args|Parameters|Returns|Arguments|Attributes|Yields|Raises|Notes?|Examples?)\b:?"
)
ALLOWED = 0.04  # of a paragraph's characters may be digits, signs and the like


def documents() -> list[str]:
    """The prose of each docstring that has any: its paragraphs, with a blank line between them.

    A paragraph that came before, in whichever package, is left out. LabError for a package that is missing.
    """
    seen, result = set(), []
    for package in PACKAGES:
        for docstring in docstrings(package):
            new = [text for text in paragraphs(docstring) if text not in seen]
            seen.update(new)
            if new:
                result.append("\n\n".join(dict.fromkeys(new)))
    return result


def versions() -> dict[str, str]:
    """The installed version of each package, without the build ("+cpu")."""
    return {
        name: importlib.metadata.version(DISTRIBUTIONS.get(name, name)).split("+")[0] for name in PACKAGES
    }


def docstrings(package: str) -> Iterator[str]:
    """All docstrings of an installed package's source files, tests left out."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise LabError(f"The package {package} is not installed: run `python3 lab.py start` first.")
    root = Path(next(iter(spec.submodule_search_locations)))
    for path in sorted(root.rglob("*.py"), key=lambda path: path.relative_to(root).as_posix()):
        if not {"test", "tests", "testing", "_testing"} & set(path.relative_to(root).parts):
            yield from docstrings_of(path)


def docstrings_of(path: Path) -> Iterator[str]:
    """The docstrings of one file: module, classes and functions, as `ast.walk` meets them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a library's invalid escapes
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):  # a template of code, or another Python's syntax
            return
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and (
            docstring := ast.get_docstring(node)
        ):
            yield docstring


def paragraphs(docstring: str) -> list[str]:
    """The paragraphs that read like prose, each in one line, without the marks of reStructuredText."""
    found = []
    for block in re.split(r"\n\s*\n", docstring):
        text = re.sub(r":[\w:]+:`~?([^`<]*)(<[^`]*>)?`", r"\1", " ".join(block.split()))
        text = re.sub(r"[`*]", "", text)
        if is_prose(text):
            found.append(text)
    return found


def is_prose(text: str) -> bool:
    """Whether a paragraph begins and ends like a sentence, has a fair length and few signs of code in it."""
    return (
        SHORTEST <= len(text) <= LONGEST
        and text.isascii()
        and text[0].isupper()
        and text[-1] in ".!?"
        and not TABLE.search(text)
        and len(NOT_PROSE.findall(text)) <= ALLOWED * len(text)
    )
