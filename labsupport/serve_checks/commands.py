"""The command line that serves an adapter, written from its settings."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from labsupport.core.files import LabError, read_json, short
from labsupport.serve_checks import vllm_facts
from labsupport.serve_checks.adapter_folder import TEMPLATE, Adapter, opened


def vllm_serve(folder: str | Path, base: str | None = None, name: str | None = None) -> str:
    """The `vllm serve` line for the adapter in a folder, a line an option, ready for a shell.

    base: the model that is served, by default the one that the adapter names. name: what requests call the
    adapter, by default the folder's name. LabError for what is no adapter and for a rank beyond vLLM's. It
    checks nothing else: that is what `lab.py serve-check` does.
    """
    return written(opened(folder, base), name)


def written(adapter: Adapter, name: str | None = None) -> str:
    """`vllm_serve` of an adapter that is open. It is looked up for vllm_facts.VERSION."""
    limit = vllm_facts.rank_limit(adapter.rank)
    if limit is None:
        raise LabError(
            f"{short(adapter.folder)} has rank {adapter.rank}, and vLLM's --max-lora-rank ends at "
            f"{vllm_facts.RANKS[-1]}: merge the adapter into its base model and serve that."
        )
    name = name or adapter.folder.resolve().name
    options = [["vllm", "serve", base_for(adapter)], ["--enable-lora"]]
    options += [["--lora-modules", as_module(name, str(adapter.folder.resolve()))]]
    options += [["--max-lora-rank", str(limit)]]
    if own_template(adapter):
        options.append(["--chat-template", str((adapter.folder / TEMPLATE).resolve())])
    if penalties := neutral_penalties(adapter):
        options.append(["--override-generation-config", json.dumps(penalties)])
    return " \\\n    ".join(shlex.join(words) for words in options)


def as_module(name: str, folder: str) -> str:
    """An adapter as --lora-modules takes it: name=folder, or as JSON where vLLM would cut that elsewhere, at
    the first "=", or take it for JSON, with a comma in it."""
    simple = f"{name}={folder}"
    return json.dumps({"name": name, "path": folder}) if "=" in name or "," in simple else simple


def base_for(adapter: Adapter) -> str:
    """What to call the base model: as it was named, or its folder where the name is of no use elsewhere."""
    from labsupport.serve_checks.base_checks import is_here, is_path

    if adapter.base is None:
        return "BASE_MODEL"
    if adapter.base_folder is not None and (is_path(adapter.base) or is_here(adapter.base)):
        return str(adapter.base_folder.resolve())
    return adapter.base


def own_template(adapter: Adapter) -> bool:
    """Whether the adapter brings a template that is not the base's."""
    mine = adapter.folder / TEMPLATE
    if not mine.is_file():
        return False
    theirs = None if adapter.base_folder is None else adapter.base_folder / TEMPLATE
    return theirs is None or not theirs.is_file() or mine.read_bytes() != theirs.read_bytes()


def neutral_penalties(adapter: Adapter) -> dict:
    """What takes a base's penalties for repeating back, which vLLM reads from its generation_config.json and
    applies to greedy replies as well."""
    found = read_json(adapter.base_folder / "generation_config.json") if adapter.base_folder else None
    penalty = found.get("repetition_penalty") if isinstance(found, dict) else None
    return {"repetition_penalty": 1.0} if penalty not in (None, 1, 1.0) else {}
