"""Notebook 08's exercise on resuming: the newest checkpoint that is complete, on folders made for it."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path

from labsupport.checking.exercise import Exercise, told
from labsupport.qlora_runs import resuming

FILES = ("adapter_model.safetensors", "optimizer.pt", "trainer_state.json")
# What is wrong with a folder, in the words of the cases.
COMPLETE, KILLED = "complete", "no manifest"
MISSING, CHANGED, CUT = "a file missing", "a file changed", "a file cut off"


def _write(folder: Path, state: str) -> None:
    """A checkpoint's files and the manifest that was true once; then what happened to it."""
    folder.mkdir()
    for name in FILES:
        (folder / name).write_bytes(f"{name} of {folder.name}".encode())
    hashes = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES}
    if state != KILLED:
        (folder / "manifest.json").write_text(json.dumps(hashes, indent=1))
    first, last = folder / FILES[0], folder / FILES[-1]
    if state == MISSING:
        last.unlink()
    elif state == CHANGED:
        first.write_bytes(first.read_bytes().swapcase())  # of the same size
    elif state == CUT:
        last.write_bytes(last.read_bytes()[:-3])


def use(fn, checkpoints: dict[str, str]):
    """The name of what fn(folder) returns, or None. checkpoints: name -> what became of it, in the order in
    which they were written, which is that of their times; "logs" is a folder with something else."""
    with tempfile.TemporaryDirectory() as folder:
        for minutes, (name, state) in enumerate(checkpoints.items()):
            path = Path(folder) / name
            _write(path, state)
            os.utime(path, (1_700_000_000 + 60 * minutes,) * 2)
        found = fn(Path(folder))
    if found is None or not isinstance(found, (str, os.PathLike)):
        return found
    return Path(found).name


CASES = [
    ({"checkpoint-8": COMPLETE, "checkpoint-16": COMPLETE},),
    ({"checkpoint-8": COMPLETE, "checkpoint-16": COMPLETE, "checkpoint-24": KILLED},),
    ({"checkpoint-16": COMPLETE, "checkpoint-100": COMPLETE, "checkpoint-24": COMPLETE},),
    ({"checkpoint-30": COMPLETE, "checkpoint-40": MISSING},),
    ({"checkpoint-5": COMPLETE, "checkpoint-10": COMPLETE, "checkpoint-15": CHANGED},),
    ({"checkpoint-50": COMPLETE, "checkpoint-60": CUT, "logs": KILLED},),
    ({"checkpoint-2": KILLED, "checkpoint-4": MISSING},),
    ({"logs": KILLED},),
]

# ---------------------------------------------------------------- what people write


def _step(path: Path) -> int:
    return int(path.name.partition("-")[2])


def _hashes(path: Path) -> dict[str, str]:
    return json.loads((path / "manifest.json").read_text())


def _sealed(path: Path) -> bool:
    return (path / "manifest.json").exists()


def _all_there(path: Path) -> bool:
    return _sealed(path) and all((path / name).exists() for name in _hashes(path))


def _as_hashed(path: Path, last: int | None = None) -> bool:
    """Whether the files of the manifest, or the first few of them, have its hashes."""
    hashes = list(_hashes(path).items())[:last] if _sealed(path) else []
    return bool(hashes) and all(
        (path / name).exists() and hashlib.sha256((path / name).read_bytes()).hexdigest() == value
        for name, value in hashes
    )


def _largest(key=_step, good=_as_hashed, best=max):
    """The best by that key of the checkpoints that are good."""
    return lambda folder: best(filter(good, folder.glob("checkpoint-*")), key=key, default=None)


def _newest_or_none(folder):
    newest = max(folder.glob("checkpoint-*"), key=_step, default=None)
    return newest if newest and _as_hashed(newest) else None


def _never(path: Path) -> bool:
    """digest() gives bytes, which equal no text."""
    return _all_there(path) and all(
        hashlib.sha256((path / name).read_bytes()).digest() == value for name, value in _hashes(path).items()
    )


newest_complete = Exercise(
    name="qlora_training.newest_complete",
    reference=resuming.newest_complete,
    used=use,
    cases=CASES,
    mistakes=told(
        _largest(key=lambda path: path.name),
        'As text "checkpoint-8" comes after "checkpoint-16": compare the numbers of steps as ints.',
        _largest(key=lambda path: path.stat().st_mtime),
        "You go by the time of the folder. Whoever copies checkpoints gives them new times, in any order: "
        "the number of steps is in the name.",
        _largest(good=_sealed),
        "That a manifest is there says that all files were written once. Their hashes say whether "
        "they still are as they were.",
        _largest(good=_all_there),
        "All files are there, but one may be cut off or changed: compute each one's SHA-256 and compare.",
        _largest(good=lambda path: _as_hashed(path, 1)),
        "The first file decides for you: all have to be right. Does a return True stand in the loop?",
        _largest(good=lambda path: True),
        "That is the newest, complete or not.",
        _largest(best=min),
        "That is the oldest that is complete, so the most work would be done again.",
        _newest_or_none,
        "If the newest is not complete you give up: one before it may be.",
        _largest(good=_never),
        "You find none complete. Is it hexdigest() of the file's bytes that you compare with the manifest's "
        "text?",
    ),
    hints=[
        'folder.glob("checkpoint-*") gives the folders. Sort them by int(path.name.split("-")[1]), the '
        "largest first, and return the first that is complete.",
        "A small function of its own for one folder: no manifest, not complete; a file that is missing or "
        "has another hash, not complete.",
        'json.loads((path / "manifest.json").read_text()) is the dict; hashlib.sha256(file.read_bytes())'
        ".hexdigest() is a file's hash.",
    ],
    minutes=15,
    difficulty=2,
)
