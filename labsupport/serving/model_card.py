"""A model card for an adapter, filled in from its settings and from measured numbers.

PEFT writes a README.md too: a form with nothing filled in, and the base model as it was loaded, which may be
a path on this machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from labsupport.core.files import LabError, short
from labsupport.models import hub
from labsupport.run_folders.run_folder import ADAPTER, CONFIG, json_object

SETTINGS = ("peft_type", "r", "lora_alpha", "lora_dropout", "use_dora", "use_rslora", "target_modules")
KINDS = {"LORA": "LoRA"}  # how people write what PEFT calls it
PROSE = """---
{{ card_data }}
---

# {{ name }}

A {{ kind }} adapter for `{{ base }}`, trained on {{ dataset }}.

## Measured

| measure | value | on |
|---|---|---|
{% for row in measured %}| {{ row }} |
{% endfor %}
## Settings

| setting | value |
|---|---|
{% for row in settings %}| {{ row }} |
{% endfor %}
## Limits

{% for limit in limits %}- {{ limit }}
{% endfor %}"""


def write(
    folder: Path | str,
    *,
    base: str,
    dataset: str,
    results: Mapping[str, float],
    limits: Sequence[str],
    license: str,
    split: str = "test",
) -> Path:
    """Write README.md into an adapter's folder and return its path; PEFT's form there is replaced.

    base: the base model's name on the hub. dataset: a name. results: measure -> value, computed on `split`.
    limits: what the adapter cannot or was not tested to do, a sentence each. license: the hub's name, such as
    "apache-2.0". LabError for a folder without an adapter, a base that is a path, no results and no limits.
    """
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    folder = Path(folder)
    config = _settings(folder)
    if not hub.is_name(base) or Path(base).exists():
        raise LabError(f"base {base!r} is no name on the hub: give owner/name, not a folder.")
    if not results or not limits:
        raise LabError("A card needs results that were measured, and at least one limit.")
    scores = [
        EvalResult("text-generation", dataset, dataset, name, value, dataset_split=split)
        for name, value in results.items()
    ]
    data = ModelCardData(
        base_model=base, library_name="peft", license=license, pipeline_tag="text-generation",
        model_name=folder.name, eval_results=scores, tags=["lora", f"base_model:adapter:{base}"],
    )  # fmt: skip
    settings = {name: config[name] for name in SETTINGS if config.get(name) not in (None, False)}
    kind = KINDS.get(config["peft_type"], config["peft_type"])
    card = ModelCard.from_template(
        data, template_str=PROSE, name=folder.name, kind=kind, base=base, dataset=dataset,
        measured=[f"{name} | {value:.4g} | {dataset}, {split}" for name, value in results.items()],
        settings=[f"{name} | {_plain(value)}" for name, value in settings.items()], limits=list(limits),
    )  # fmt: skip
    card.save(folder / "README.md")
    return folder / "README.md"


def _settings(folder: Path) -> dict:
    if missing := [name for name in (ADAPTER, CONFIG) if not (folder / name).is_file()]:
        raise LabError(f"{short(folder)} lacks {', '.join(missing)}: give the folder of an adapter.")
    return json_object(folder / CONFIG)


def _plain(value) -> str:
    return ", ".join(sorted(value)) if isinstance(value, list) else str(value)


def to_be_pushed(folder: Path | str) -> list[tuple[str, int]]:
    """Name and bytes of every file that `HfApi().upload_folder(folder_path=folder, ...)` would send."""
    from huggingface_hub.utils import DEFAULT_IGNORE_PATTERNS, filter_repo_objects

    folder = Path(folder)
    names = [place.relative_to(folder).as_posix() for place in sorted(folder.rglob("*")) if place.is_file()]
    sent = filter_repo_objects(names, ignore_patterns=DEFAULT_IGNORE_PATTERNS)  # git's files, say, are not
    return [(name, (folder / name).stat().st_size) for name in sent]


def name_base(folder: Path | str, base: str) -> None:
    """Put the hub's name of the base model into adapter_config.json, in place of a path on this machine."""
    import json

    from labsupport.core import files

    config = _settings(Path(folder)) | {"base_model_name_or_path": base}
    files.write_atomically(Path(folder) / CONFIG, json.dumps(config, indent=2))
