"""The record of a card: what was predicted and what was measured there; and what a published one covers."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

from labsupport.configs import model_configs
from labsupport.core import files, text
from labsupport.core.files import LabError
from labsupport.gpu_checks import settings
from labsupport.gpu_checks.settings import Setting
from labsupport.setups.setup import Setup, checked
from labsupport.sizes import gpus

OWN = files.RUNS / "gpu_checks"
PUBLISHED = files.DATA / "gpu_checks"
ABOUT = (
    "Random weights, a short step and full ones, each setting in a process of its own. Memory: "
    "torch.cuda.max_memory_allocated and max_memory_reserved over all steps, the building left out. Tokens, "
    "padding among them, a second: over the last steps. Ratios: planned over measured."
)
LONGEST = 300  # characters of an error that are kept
TRIED = ("done", "out of memory")  # what tells something of the plan; other failures, of the machine
# What makes a run another one than the one that was measured. Rows and tokens do not: the line names them.
VARIES = ("config", "batch", "length", "double_quantization", "autocast", "adapters")
SHAPE = (*model_configs.SIZES, "model_type", "head_dim", "tie_word_embeddings")


# ---------------------------------------------------------------- writing one


def slug(name: str) -> str:
    """A card's name as a file's: "NVIDIA A100-SXM4-80GB" is nvidia-a100-sxm4-80gb."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def begun(card: dict) -> dict:
    """The record of this card in runs/ if it was made with the present libraries, else an empty one."""
    from labsupport.evaluation import experiments

    stamp, known = experiments.stamp(), files.read_json(OWN / f"{slug(card['name'])}.json")
    rows = {}
    if isinstance(known, dict) and known.get("stamp", {}).get("libraries") == stamp["libraries"]:
        rows = known.get("rows", {})
    return {"card": card, "about": ABOUT, "stamp": stamp, "rows": rows}


def row(setting: Setting, setup: Setup, planned: dict, answer: dict) -> dict:
    """A setting's line of the record: its run, what was predicted, what came of it, and the ratios."""
    run = {name: value for name, value in dataclasses.asdict(setup).items() if name != "config"}
    measured = answer.get("measured", {})
    ratios = {
        name: planned[f"{name}_gib"] / measured[f"{name}_gib"]
        for name in ("allocated", "reserved")
        if answer["outcome"] == "done" and measured.get(f"{name}_gib")
    }
    where = {"model": setting.model, "setting": setting.key, "setup": run}
    return {**where, "planned": planned, "ratios": ratios, **answer}


def save(record: dict, folder: Path | None = None) -> Path:
    """Write the record, into runs/ if no folder is given. LabError for a disk that cannot be written."""
    file = (folder or OWN) / f"{slug(record['card']['name'])}.json"
    files.write_atomically(file, json.dumps(record, indent=1) + "\n")
    return file


def publish(record: dict) -> Path:
    """Write the record where `plan` and `cost` look for it. LabError if nothing was measured."""
    if not any(found["outcome"] == "done" for found in record["rows"].values()):
        raise LabError("No setting has been measured yet, so there is nothing to publish: run more of them.")
    return save(record, PUBLISHED)


def without_folders(said: str) -> str:
    """An error's line with its paths cut to their last part: a record goes to other people."""
    return re.sub(r"(?:[A-Za-z]:)?(?:[/\\][\w.+-]+)+[/\\]", "", said)[:LONGEST]


# ---------------------------------------------------------------- in words


def described(found: dict) -> str:
    """A row in a line."""
    planned, measured = found["planned"], found.get("measured", {})
    if found["outcome"] == "not run":
        return f"{found['setting']}: not run: plan says {text.size(planned['reserved_gib'])} GiB"
    if found["outcome"] != "done":
        return f"{found['setting']}: {found['outcome'].upper()}: {found['said']}"
    parts = [
        f"{name} {text.size(measured[f'{name}_gib'])} GiB, plan {text.size(planned[f'{name}_gib'])}, "
        f"ratio {ratio:.3f}"
        for name, ratio in found["ratios"].items()
    ]
    speed = f"{text.rough(measured['tokens_a_second'])} tokens a second"
    if planned["tokens_a_second"]:
        speed += f", cost model {text.span(planned['tokens_a_second'])}: {of_range(found)}"
    return "; ".join([f"{found['setting']}: trained in {' and '.join(found['trained_in'])}", *parts, speed])


def of_range(found: dict) -> str:
    """Where the measured speed lies: inside the cost model's range, or by how much outside."""
    least, most = found["planned"]["tokens_a_second"]
    speed = found["measured"]["tokens_a_second"]
    if least <= speed <= most:
        return "inside"
    end, word = (least, "slower") if speed < least else (most, "faster")
    return f"off by {speed / end - 1:+.0%}, {word} than the range"


# ---------------------------------------------------------------- what a published one covers


def published() -> list[dict]:
    """The records in data/gpu_checks; none if there is no such folder."""
    found = map(files.read_json, sorted(PUBLISHED.glob("*.json")))
    return [record for record in found if isinstance(record, dict) and "rows" in record]


def covering(setup: Setup, card: gpus.Card | None) -> list[tuple[str, dict]]:
    """(card's full name, row) of each published row that was tried on this card with this run, its rows and
    their length apart. None is found for no card, or one that is a number of GiB."""
    if card is None:
        return []
    return [
        (record["card"]["name"], found)
        for record in published()
        if is_of(record, card)
        for found in record["rows"].values()
        if found["outcome"] in TRIED and same(run_of(found), setup)
    ]


def is_of(record: dict, card: gpus.Card) -> bool:
    """Whether the record was made on this card of the course's table."""
    known = settings.known_card(record["card"]["name"], record["card"]["memory_gib"])
    return known is not None and known.name == card.name


def run_of(found: dict) -> Setup:
    """The run of a row, checked."""
    config = model_configs.find(settings.MODELS[found["model"]])
    return checked(Setup(config, **found["setup"]))


def same(one: Setup, other: Setup) -> bool:
    """Whether two checked runs are of one shape and trained alike, rows and their length apart."""

    def told(setup: Setup) -> tuple:
        kept = [value for name, value in vars(setup).items() if name not in VARIES]
        shape = (setup.config.get(name) for name in SHAPE)
        return *kept, setup.doubly_quantized, setup.autocasts, setup.adapters_in, *shape

    return told(one) == told(other)


def said_of_memory(setup: Setup, card: gpus.Card | None) -> list[str]:
    """What published checks say of this run's memory, a line for each row that was tried."""
    return [f"{_begins(*pair)}: {_memory(pair[1])}." for pair in covering(setup, card)]


def _memory(found: dict) -> str:
    if found["outcome"] != "done":
        return f"{found['outcome']}, where {text.size(found['planned']['reserved_gib'])} GiB were planned"
    parts = [f"{name} off by {100 * (ratio - 1):+.1f} %" for name, ratio in found["ratios"].items()]
    return f"{', '.join(parts)} (planned against measured)"


def said_of_speed(setup: Setup, card: gpus.Card) -> list[str]:
    """What published checks say of this run's speed."""
    return [
        f"{_begins(name, found)}: {text.rough(found['measured']['tokens_a_second'])} tokens a second, "
        f"{text.span(found['planned']['tokens_a_second'])} predicted: {of_range(found)}."
        for name, found in covering(setup, card)
        if found["outcome"] == "done" and found["planned"]["tokens_a_second"]
    ]


def _begins(name: str, found: dict) -> str:
    return f"checked on {name} with {found['setup']['batch']} x {found['setup']['length']:,} tokens"
