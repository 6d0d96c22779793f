"""The base model of a run: where it lies, its tokenizer, and whether the adapter fits it."""

from __future__ import annotations

import json
import re
from pathlib import Path

from labsupport.core.files import ROOT, LabError, first_line, read_json, short
from labsupport.run_folders.run_folder import ADAPTER, reading

NOT_PLAIN = {"U8", "I8", "I32"}  # quantized weights, whose stored shape is not the matrix's
PREFIX = "base_model.model."


def tokenizer_of(run):
    """The run's tokenizer, else its base model's. None, with a note, where neither can be had."""
    from labsupport.core import upstream
    from labsupport.preflight import tokenizers

    upstream.quiet_known_noise()
    places = [place for place in (run.folder, run.place, run.checkpoint) if place is not None]
    places = [place for place in places if (place / "tokenizer.json").is_file()]
    said = ""
    for place in [*places, folder_of_base(run)]:
        if place is None:
            continue
        try:
            return tokenizers.loaded(str(place))
        except Exception as error:  # whatever transformers or a damaged file says
            said = f" ({short(place)}: {first_line(error)[:150]})"
    fix = "give --model, the base model's folder"
    run.notes.append(f"Not checked: the rows as tokens, because there is no tokenizer{said}: {fix}.")
    return None


def folder_of_base(run) -> Path | None:
    """Where the base model lies on this machine; None if it does not. What --model names may be fetched; what
    only the adapter names may not."""
    if run.base is None:
        return None
    from labsupport.models import base_model, hub

    for place in (Path.cwd(), ROOT):
        if (place / run.base / "config.json").is_file():
            return place / run.base
    fetched = cached_folder(run.base) if hub.is_name(run.base) else None
    if fetched is None and last_part(run.base) == base_model.BUNDLED:
        return Path(base_model.path(base_model.BUNDLED))
    return fetched


def last_part(name: str) -> str:
    """The last part of a path or a hub's name, in lower case."""
    return name.replace("\\", "/").rstrip("/").rpartition("/")[2].lower()


def cached_folder(name: str) -> Path | None:
    """The folder of a hub's model that was fetched before; nothing is fetched."""
    import functools

    from huggingface_hub import snapshot_download

    from labsupport.models import hub

    repository, _, revision = name.partition("@")
    ask = functools.partial(
        snapshot_download, repository, revision=revision or None, allow_patterns=hub.FETCHED
    )
    return hub.cached(ask)


# ---------------------------------------------------------------- does the adapter fit?


def check_fits(run, named: bool) -> None:
    """LabError where the adapter's matrices do not fit the base model's, or where a `named` base model is no
    folder of one. Without adapter or base model nothing is checked."""
    folder = folder_of_base(run)
    if named and folder is None:
        raise LabError(f"--model {run.base}: there is no model's folder of that name, with a config.json.")
    if folder is None or run.place is None:
        return
    check_adapter_of(run.place, folder, "give its own base with --model")


def check_adapter_of(place: Path, folder: Path, fix: str) -> None:
    """LabError, which ends with the fix, where the adapter in `place` does not fit the base model in `folder`
    or is damaged. A base of which no plain weights are here is not compared."""
    base = base_shapes(folder)
    adapter = adapter_shapes(place)
    if not base or not adapter:
        return
    check_matrices(place, adapter, base, fix)
    if any(name in base for name in adapter):
        return
    names = stored(folder)
    if not any(is_stored(name, names) for name in adapter):
        raise of_another_base(place, f"modules such as {next(iter(adapter))} are not in {short(folder)}", fix)


def check_matrices(place: Path, adapter: dict, base: dict, fix: str) -> None:
    """LabError for the first module of both that the adapter has another matrix for; each is module ->
    (outputs, inputs), in either order."""
    for name, mine in adapter.items():
        theirs = base.get(name, mine)
        if sorted(mine) != sorted(theirs):
            sizes = [f"{rows} x {columns}" for rows, columns in (mine, theirs)]
            raise of_another_base(place, f"its {name} is made for {sizes[0]}, the base's is {sizes[1]}", fix)


def of_another_base(place: Path, said: str, fix: str) -> LabError:
    """The error for an adapter in `place`; said: how that is seen."""
    return LabError(f"{short(place)} is an adapter of another base model ({said}): {fix}.")


def adapter_shapes(place: Path) -> dict[str, tuple[int, int]]:
    """`matrices` of the adapter in a folder, by its header alone. LabError for a damaged file."""
    from safetensors import safe_open

    with reading(place / ADAPTER), safe_open(place / ADAPTER, "pt") as file:
        return matrices({name: file.get_slice(name).get_shape() for name in file.keys()})  # noqa: SIM118


def matrices(shapes: dict) -> dict[str, tuple[int, int]]:
    """Module -> (outputs, inputs) of the matrix that its pair of A and B is made for.

    shapes: name -> shape of an adapter's tensors.
    """
    found = {}
    for name, inputs in shapes.items():
        outputs = shapes.get(name.replace(".lora_A.", ".lora_B."))
        if ".lora_A." in name and outputs is not None and len(inputs) == len(outputs) == 2:
            found[name.partition(".lora_A.")[0].removeprefix(PREFIX)] = (outputs[0], inputs[1])
    return found


def base_shapes(folder: Path) -> dict[str, tuple[int, int]]:
    """Module -> shape of its weight, read from the headers of the safetensors; {} where there are none."""
    index = read_json(folder / "model.safetensors.index.json")
    files = (
        {"model.safetensors"} if not isinstance(index, dict) else set(index.get("weight_map", {}).values())
    )
    shapes = {}
    for file in files:
        if not (folder / str(file)).is_file():
            continue
        for name, entry in header(folder / str(file)).items():
            shape = entry.get("shape", [])
            if name.endswith(".weight") and len(shape) == 2 and entry.get("dtype") not in NOT_PLAIN:
                shapes[name.removesuffix(".weight")] = tuple(shape)
    return shapes


def stored(folder: Path) -> set[str]:
    """`tail` of each module of the model's files, in whatever format its numbers are."""
    files = sorted(folder.glob("model*.safetensors"))
    return {tail(name.rpartition(".")[0]) for file in files for name in header(file)}


def tail(module: str) -> str:
    """A module's name from its layer's number on: files name what is before it otherwise than modules, those
    of GPT-2 and of models that see pictures, for two."""
    return re.sub(r"^\D*(?=\d+\.)", "", module)


def is_stored(module: str, names: set[str]) -> bool:
    """Whether `stored` has a module or parts of it."""
    return tail(module) in names or any(one.startswith(f"{tail(module)}.") for one in names)


def header(path: Path) -> dict:
    """The header of a safetensors file: tensor -> dtype and shape. LabError for a damaged one."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if size > 100 * 2**20:
                raise ValueError("its header is too long")
            found = json.loads(file.read(size))
    except (OSError, ValueError) as error:
        raise LabError(f"{short(path)} is damaged ({first_line(error)}): copy the model anew.") from error
    return {name: entry for name, entry in found.items() if name != "__metadata__"}
