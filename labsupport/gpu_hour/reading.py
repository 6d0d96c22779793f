"""An hour's folder, opened at home: its results by name, and the learner's guesses beside them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from labsupport.core import files
from labsupport.core.files import LabError, short
from labsupport.teaching import predictions

REHEARSED = "computed by a rehearsal on a processor: it says nothing about a card"


def opened(folder: str | Path | None = None) -> dict[str, dict]:
    """Job -> its document, of every result in the folder (runs/gpu_hour by default); stopped jobs have
    "finished": False. LabError, naming the file, where there is none or one is damaged."""
    folder = files.RUNS / "gpu_hour" if folder is None else Path(folder)
    found = sorted((folder / "results").glob("*.json"))
    if not found:
        raise LabError(
            f"{short(folder)} holds no results: copy the folder of the rented machine there, or rehearse by "
            "`python3 lab.py gpu-hour --budget 2 --rate 0.80 --dry-run`."
        )
    results = {}
    for file in found:
        document = files.read_json(file)
        if not isinstance(document, dict) or not isinstance(document.get("steps"), dict):
            raise LabError(f"{short(file)} is damaged: copy it from the rented machine again.")
        results[file.stem] = document
    return results


# What a guess can be about: name -> (job, step, path in it, unit).
FIGURES = {
    "peak allocated": ("qlora", "training", ("peak_gib", "allocated"), "GiB"),
    "peak reserved": ("qlora", "training", ("peak_gib", "reserved"), "GiB"),
    "training": ("qlora", "training", ("seconds",), "s"),
    "speed": ("qlora", "training", ("tokens_a_second",), "tokens/s"),
    "lookalike, tuned": ("qlora", "tuned, test_lookalike", ("exact_share", 0), ""),
    "production, tuned": ("qlora", "tuned, test_production", ("exact_share", 0), ""),
    "production, few-shot": ("qlora", "few_shot, test_production", ("exact_share", 0), ""),
    "KL on general text": ("qlora", "general text", ("kl_a_token",), "nats a token"),
}


def figure(results: Mapping[str, dict], name: str):
    """One of FIGURES from `opened`'s results; None where the hour did not come to it. LabError for others."""
    if name not in FIGURES:
        raise LabError(f"There is no figure {name!r}. There are: {', '.join(FIGURES)}.")
    job, step, path, _ = FIGURES[name]
    value = results.get(job, {}).get("steps", {}).get(step)
    for key in path:
        if value is None:
            return None
        value = value[key]
    return value


def compare(results: Mapping[str, dict], guesses: Mapping[str, float | None]) -> None:
    """Print each sealed guess beside what was measured. guesses: names of FIGURES -> a number or None."""
    for name, guess in guesses.items():
        value = figure(results, name)
        if value is None:
            print(f"{name}: the hour did not come to it")
            continue
        rehearsed = results[FIGURES[name][0]].get("rehearsal")
        print(f"{name}{f' ({REHEARSED})' if rehearsed else ''}: ", end="")
        predictions.compare(guess, value, FIGURES[name][3])
