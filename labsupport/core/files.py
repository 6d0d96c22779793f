"""Where things are, and writing that leaves nothing half-done."""

from __future__ import annotations

import contextlib
import difflib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "data"


def folder_from(variable: str, default: Path) -> Path:
    """The path that an environment variable gives, the default where it is unset or empty.

    "~" is expanded. A relative path counts from the repository: kernels start in other folders than lab.py.
    """
    text = os.environ.get(variable)
    if not text:
        return default
    with contextlib.suppress(RuntimeError):  # "~nobody": a folder of that name, then
        return ROOT / Path(text).expanduser()
    return ROOT / text


STATE = folder_from("LAB_CACHE", ROOT / ".lab")
RUNS = folder_from("LAB_RUNS", ROOT / "runs")


class LabError(Exception):
    """Bad input or a state the user can mend: one line that says what, where and how."""


def nearest_first(wanted: str, known) -> str:
    """The known names in one line, those most like the wanted one in front."""
    return ", ".join(difflib.get_close_matches(wanted[:100], known, n=len(known), cutoff=0))


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def short(path: Path) -> str:
    """The path relative to the repository where it lies inside it."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, without a byte-order mark, which some editors put first. LabError for a file
    that cannot be read or is no such text."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise LabError(f"Cannot read {short(path)}: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise LabError(f"{short(path)} is not UTF-8 text (byte {error.start}).") from error


def read_json(path: Path) -> dict | list | None:
    """The object or list in a JSON file; None for whatever is wrong with it.

    That is: missing, unreadable, not UTF-8, not JSON, too deeply nested, or a bare value such as 7.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, (dict, list)) else None


# ---------------------------------------------------------------- a disk that cannot be written

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
FORBIDDEN = {errno.EROFS, errno.EACCES, errno.EPERM}
IN_THE_WAY = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR}
DISK_TROUBLE = {*FULL, *FORBIDDEN, errno.EIO, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ESTALE}

# Rust's libraries (safetensors, tokenizers) end their message with the operating system's number.
RUST = re.compile(r"\(os error (\d+)\)")
RUST_NUMBERS = {*DISK_TROUBLE, *({5, 19, 39, 112} if os.name == "nt" else ())}  # Windows has its own
# torch 2.13 says these of a disk that fills up while it writes a zip file ("iostream error": at the first
# byte), and names the reason where it cannot open the file or writes the older format.
TORCH = re.compile(
    r"inline_container\.cc.*(unexpected pos \d+ vs \d+|file write failed)|^basic_ios::clear: iostream error|"
    rf"failed with (strerror: )?({'|'.join(re.escape(os.strerror(number)) for number in DISK_TROUBLE)})"
)


def is_disk_trouble(error: BaseException) -> bool:
    """True for an error of a full, forbidden or failing disk, as Python, torch or safetensors raise it.

    Not for just any OSError: transformers and the hub's client raise those for what is missing or offline.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in DISK_TROUBLE
    number = RUST.search(str(error))
    if number:
        return int(number[1]) in RUST_NUMBERS
    return isinstance(error, RuntimeError) and bool(TORCH.search(str(error)))


def cannot_write(path: Path, error: BaseException) -> LabError:
    """The one sentence for a full, read-only or forbidden disk, or a name that is taken."""
    number = getattr(error, "errno", None)
    if number in IN_THE_WAY:
        fix = "Rename the file or folder that is in its way"
    elif number in FORBIDDEN:
        fix = "Fix the folder's rights"
    else:
        fix = "Free some disk or fix the folder's rights"
    said = getattr(error, "strerror", None) or first_line(error)
    return LabError(f"Cannot write {short(path)}: {said}. Nothing was changed. {fix}, then do it again.")


def first_line(error: BaseException) -> str:
    """An error's message without a full stop and without the C++ stack that torch adds to it."""
    return str(error).strip().split("\n")[0].removesuffix(".")


# ---------------------------------------------------------------- writing


def check_output(path: Path, option: str, inputs: Iterable[Path] = ()) -> None:
    """LabError for a place that `option` names and where no file can be written: one that is a folder or lies
    in none, and one of `inputs`, which are read."""
    try:
        if path.is_dir():
            raise LabError(f"{short(path)} is a folder: give {option} the name of a file.")
        if not path.parent.is_dir():
            raise LabError(f"There is no folder {short(path.parent)}: make it, or correct {option}.")
        for kept in inputs:
            if path.resolve() == kept.resolve() or (path.exists() and kept.exists() and path.samefile(kept)):
                raise LabError(f"{option} would write over {short(kept)}, which is read: give another name.")
    except OSError as error:  # a name that is too long, say
        raise cannot_write(path, error) from error


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace a file in one step: readers see the old bytes or the new ones, never a part.

    Raises LabError, with the old file untouched, when the disk is full or read-only.
    """
    content = content.encode() if isinstance(content, str) else content
    scratch = unused_beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with scratch.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)


def unused_beside(path: Path) -> Path:
    """A hidden name in the path's folder that nothing else will have. Known before anything is made under it,
    so that Ctrl-C at any moment finds what to remove; `tempfile` tells a name when the file is there."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}")


@contextlib.contextmanager
def folder_atomically(path: Path):
    """Yield a scratch folder that becomes `path` when the block ends well, and vanishes otherwise.

    The old folder is moved aside before the new one takes its place: `bring_back` after a kill in between.
    Two processes must not do this to the same folder at once: hold a lock.
    """
    scratch = unused_beside(path)
    try:
        try:
            bring_back(path)
            path.parent.mkdir(parents=True, exist_ok=True)
            scratch.mkdir()
        except OSError as error:
            raise cannot_write(path, error) from error
        try:
            yield scratch
        except Exception as error:
            # The block may fail for any reason: only what cannot be written here is reported as that.
            if is_disk_trouble(error) and not is_about_another_folder(error, path.parent):
                raise cannot_write(path, error) from error
            raise
        try:
            if path.exists():
                path.replace(aside(path))
            scratch.replace(path)
        except OSError as error:
            raise cannot_write(path, error) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        with contextlib.suppress(OSError):
            bring_back(path)


def is_about_another_folder(error: BaseException, folder: Path) -> bool:
    name = getattr(error, "filename", None)
    return isinstance(name, (str, os.PathLike)) and not Path(name).is_relative_to(folder)


def aside(path: Path) -> Path:
    """Where the old folder waits while a new one takes its place."""
    return path.with_name(f".{path.name}.old")


def bring_back(path: Path) -> None:
    """Put the old folder back if a kill left it aside. Call it under the lock of those who write it."""
    if path.exists():
        shutil.rmtree(aside(path), ignore_errors=True)
    elif aside(path).exists():
        aside(path).replace(path)
