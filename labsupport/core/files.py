"""Where things are, and writing that leaves nothing half-done."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import os
import shutil
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "data"
STATE = Path(os.environ.get("LAB_CACHE", ROOT / ".lab"))
RUNS = Path(os.environ.get("LAB_RUNS", ROOT / "runs"))


class LabError(Exception):
    """Bad input or a state the user can mend: one line that says what, where and how."""


def nearest_first(wanted: str, known) -> str:
    """The known names in one line, those most like the wanted one in front."""
    return ", ".join(difflib.get_close_matches(wanted, known, n=len(known), cutoff=0))


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def short(path: Path) -> str:
    """The path relative to the repository where it lies inside it."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def cannot_write(path: Path, error: OSError) -> LabError:
    """The one sentence for a full, read-only or forbidden disk."""
    return LabError(
        f"Cannot write {short(path)}: {error.strerror or error}. Nothing was changed. "
        "Free some disk or fix the folder's rights, then do it again."
    )


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace a file in one step: readers see the old bytes or the new ones, never a part.

    Raises LabError, with the old file untouched, when the disk is full or read-only.
    """
    content = content.encode() if isinstance(content, str) else content
    scratch = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        scratch = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        scratch.chmod(0o644)
        scratch.replace(path)
    except OSError as error:
        if scratch is not None:
            scratch.unlink(missing_ok=True)
        raise cannot_write(path, error) from error


@contextlib.contextmanager
def folder_atomically(path: Path):
    """Yield a scratch folder that becomes `path` when the block ends well, and vanishes otherwise."""
    scratch = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        scratch.chmod(0o755)
        yield scratch
        if path.exists():
            shutil.rmtree(path)
        scratch.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
