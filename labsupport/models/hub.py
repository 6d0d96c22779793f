"""Models of the Hugging Face hub: a fixed revision, safetensors only, fetched once into the hub's cache."""

from __future__ import annotations

import contextlib
import functools
import re
import sys
from pathlib import Path

from labsupport.core import files
from labsupport.core.files import LabError

# The newest commits known to the public repositories named here: the hub itself was out of reach.
ON_THE_HUB = {
    # tenseleyFlow/DocumentLanguageModel, src/dlm/base_models/registry.py; the 135M also in
    # swiss-ai/model-launch, pull request 220
    "smollm2-135m-instruct-original": (
        "HuggingFaceTB/SmolLM2-135M-Instruct@12fd25f77366fa6b3b4b768ec3050bf629380bac"
    ),
    "smollm2-360m-instruct": "HuggingFaceTB/SmolLM2-360M-Instruct@a10cc1512eabd3dde888204e902eca88bddb4951",
    "smollm2-1.7b-instruct": "HuggingFaceTB/SmolLM2-1.7B-Instruct@31b70e2e869a7173562077fd711b654946d38674",
    "qwen2.5-1.5b-instruct": "Qwen/Qwen2.5-1.5B-Instruct@989aa7980e4cf806f80c7fef2b1adb7bc71aa306",
    # shadenc/SemaFailBench, scripts/gen_f4_no_gen_prompt_template.py
    "qwen2.5-7b-instruct": "Qwen/Qwen2.5-7B-Instruct@a09a35458c702b33eeacc393d103063234e8bc28",
    # gut-puncture/The-Shape-of-Wisdom, STATE.md
    "llama-3.1-8b-instruct": "meta-llama/Llama-3.1-8B-Instruct@0e9e39f249a16976918f6564b8830bc894c89659",
}

COMMIT = re.compile(r"[0-9a-f]{40}")
# No pickled weights and no code: what is not fetched cannot be loaded.
FETCHED = ["*.json", "model*.safetensors", "*.txt", "*.model", "*.jinja"]
OF_TOKENIZER = [
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.jinja",
    "config.json",
    "generation_config.json",  # where the model stops, which may be more than the tokenizer's EOS
]


def is_name(text: str) -> bool:
    """Whether a text is a model's name on the hub, "owner/name", or that with a revision, "owner/name@v1"."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    repository, at, revision = text.partition("@")
    if repository.count("/") != 1 or (at and not re.fullmatch(r"\w[\w./-]*", revision)):
        return False
    try:
        validate_repo_id(repository)
    except HFValidationError:
        return False
    return True


def fetch(name: str) -> Path:
    """The folder of "owner/name" or "owner/name@revision" in the hub's cache, fetched if it is not there.

    What is in the cache serves without a request. Without a commit as the revision, one line says which
    commit it is and how to keep to it. LabError says why a model cannot be fetched.
    """
    from huggingface_hub import snapshot_download

    repository, _, revision = name.partition("@")
    ask = functools.partial(snapshot_download, repository, revision=revision or None, allow_patterns=FETCHED)
    folder = cached(ask)
    if folder is None:
        print(f"Fetching {name} from the hub (once)", file=sys.stderr, flush=True)
        try:
            folder = Path(ask())
        except Exception as error:  # the hub's client lets pass what three libraries raise
            raise LabError(explained(name, error)) from error
        if missing := lacking(folder):
            raise LabError(
                f"{name} on the hub lacks {', '.join(missing)}: the course loads safetensors only. Choose a "
                "model that has them."
            )
    if not COMMIT.fullmatch(revision):
        print(
            f"{repository} is not pinned; this is its commit {folder.name}. To keep to it, set "
            f"LAB_BASE_MODEL={repository}@{folder.name}",
            file=sys.stderr,
            flush=True,
        )
    return folder


def fetch_tokenizer(name: str) -> Path:
    """The folder of the tokenizer's files of "owner/name" or "owner/name@revision", without the weights; what
    is in the hub's cache serves without a request. LabError says why there are none."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    repository, _, revision = name.partition("@")
    ask = functools.partial(
        snapshot_download, repository, revision=revision or None, allow_patterns=OF_TOKENIZER
    )
    with contextlib.suppress(LocalEntryNotFoundError):
        if has_tokenizer(folder := Path(ask(local_files_only=True))):
            return folder
    try:
        return Path(ask())
    except Exception as error:  # the hub's client lets pass what three libraries raise
        raise LabError(explained(name, error)) from error


def has_tokenizer(folder: Path) -> bool:
    """Whether a tokenizer's vocabulary lies in the folder."""
    return "tokenizer.json" not in lacking(folder)


def cached(ask) -> Path | None:
    """The model's folder if all of it is in the cache."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(ask(local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    return None if lacking(folder) else folder


def explained(name: str, error: Exception) -> str:
    """One line: which model, why it could not be fetched, what to do."""
    from huggingface_hub import constants, errors

    repository, _, revision = name.partition("@")
    if files.is_disk_trouble(error):
        return str(files.cannot_write(Path(constants.HF_HUB_CACHE), error))
    if isinstance(error, errors.GatedRepoError):
        return (
            f"{repository} is gated: accept its licence at https://huggingface.co/{repository}, log in with "
            "`hf auth login`, then run this again."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{repository} has no revision {revision!r} on the hub: give a commit, branch or tag it has."
    if isinstance(error, errors.RepositoryNotFoundError):
        why, fix = "there is none of that name, or it is private", "Correct the name"
    elif isinstance(error.__cause__, errors.OfflineModeIsEnabled):
        why, fix = "HF_HUB_OFFLINE is set and it is not in the cache", "Unset HF_HUB_OFFLINE"
    else:
        why, fix = files.first_line(error).removeprefix("Got: "), "Check the network connection"
    if name in ON_THE_HUB.values():
        return f"{repository} could not be fetched from the hub ({why}). {fix}, then run this again."
    return (
        f"There is no folder {repository} here, and no model {repository} could be fetched from the hub "
        f"({why}). {fix}, or give the folder's whole path, then run this again."
    )


def lacking(folder: Path) -> list[str]:
    """The files that a folder would need for its model to be loaded: none if it is whole."""
    missing = [] if (folder / "config.json").is_file() else ["config.json"]
    if not (folder / "model.safetensors").is_file():
        index = files.read_json(folder / "model.safetensors.index.json")
        shards = index.get("weight_map") if isinstance(index, dict) else None
        wanted = (
            sorted(set(shards.values())) if isinstance(shards, dict) and shards else ["model.safetensors"]
        )
        missing += [name for name in wanted if not (folder / str(name)).is_file()]
    if not any(path for pattern in ("tokenizer.*", "vocab.*") for path in folder.glob(pattern)):
        missing.append("tokenizer.json")
    return missing
