"""The small base model of the course, `data/tiny_base`: trained here, for sweeps of hundreds of runs.

`labsupport/pretraining` made it; its card, data/tiny_base/README.md, says of what, and what it cannot do.
"""

from __future__ import annotations

from pathlib import Path

from labsupport.core import files
from labsupport.core.files import DATA, LabError

FOLDER = DATA / "tiny_base"
# What its record gives a hash of.
FILES = (
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
)
RECORD = "record.json"


def load(folder: Path = FOLDER):
    """Model and tokenizer: a LlamaForCausalLM in float32 on the CPU, in evaluation mode, and its tokenizer.

    A new model at every call. LabError if a file is missing or cannot be read.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from labsupport.core import upstream

    upstream.quiet_known_noise()
    if missing := [name for name in FILES if not (folder / name).is_file()]:
        raise LabError(
            f"{files.short(folder)} lacks {', '.join(missing)}: get the folder from the repository again."
        )
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False, local_files_only=True
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, SafetensorError) as error:
        raise LabError(
            f"The model in {files.short(folder)} cannot be loaded ({files.first_line(error)}): get the "
            "folder from the repository again."
        ) from error
    return model.eval(), tokenizer


def damage(folder: Path = FOLDER) -> list[str]:
    """What is not as the folder's record says, a sentence each; LabError if there is no record."""
    record = files.read_json(folder / RECORD)
    hashes = record.get("sha256") if isinstance(record, dict) else None
    if not isinstance(hashes, dict):
        raise LabError(
            f"{files.short(folder / RECORD)} is missing or has no hashes: get it from the repository."
        )
    found = []
    for name in FILES:
        path = folder / name
        if not path.is_file():
            found.append(f"{files.short(path)} is missing.")
        elif name not in hashes:
            found.append(f"{RECORD} has no hash of {name}.")
        elif files.sha256(path) != hashes[name]:
            found.append(f"{files.short(path)} is not the file of the record: its hash is wrong.")
    return found
