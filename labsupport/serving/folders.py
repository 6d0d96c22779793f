"""Folders that `transformers serve` takes for models: one a model, the adapter beside its base."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from safetensors import safe_open

from labsupport.core import files
from labsupport.core.files import LabError
from labsupport.run_folders import base_of_run
from labsupport.run_folders.run_folder import reading

OF_A_MODEL = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt")
OF_AN_ADAPTER = ("adapter_config.json", "adapter_model.safetensors", "tokenizer*", "*.jinja")


def lay_out(target: Path | str, base: Path | str, adapter: Path | str | None = None) -> Path:
    """Make the folder `target`, to be served under its name: a model, or a base with an adapter on it.

    An adapter's folder alone cannot be served: the server looks for a config.json. With the base's files
    beside it, transformers loads the base from there and puts the adapter on it, unmerged. Tokenizer and chat
    template are the adapter's where it has any, since it was trained with those. The files are hard links
    where the disk has them, so nothing is copied twice: do not edit them. Returns `target`. LabError for a
    folder that lacks something, damaged weights, and an adapter of another base: the server would tell a
    client "Internal Server Error" and no more.
    """
    target, base = Path(target), Path(base)
    taken = _found(base, OF_A_MODEL, ("config.json",), "a model")
    if adapter is not None:
        taken |= _found(Path(adapter), OF_AN_ADAPTER, OF_AN_ADAPTER[:2], "an adapter")
        base_of_run.check_adapter_of(Path(adapter), base, "lay it beside its own base")
    for file in taken.values():
        _check_whole(file)
    try:
        target.mkdir(parents=True)
        for name, file in taken.items():
            _link(file, target / name)
    except OSError as error:
        raise files.cannot_write(target, error) from error
    return target


def _found(folder: Path, patterns: tuple[str, ...], needed: tuple[str, ...], what: str) -> dict[str, Path]:
    """Name to path of the files that match."""
    for name in needed:
        if not (folder / name).is_file():
            raise LabError(f"{files.short(folder)} has no {name}: give the folder of {what}.")
    return {file.name: file.resolve() for pattern in patterns for file in folder.glob(pattern)}


def _check_whole(file: Path) -> None:
    """LabError for safetensors that end too early or begin with what is no header."""
    if file.suffix == ".safetensors":
        with reading(file), safe_open(file, "pt"):
            pass


def _link(file: Path, to: Path) -> None:
    try:
        os.link(file, to)
    except OSError:  # another disk, or one without links
        shutil.copyfile(file, to)
