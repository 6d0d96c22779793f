"""What machine this is, asked in a process of its own: CUDA's context would stay in the loop for an hour.

    python -m labsupport.gpu_hour.machine

prints one JSON document: `profile`, `card` (None without one), `config` (the folder or name by which the base
model's sizes are found) and `base_model`. A LabError becomes one line on standard error and status 2.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import subprocess
import sys

from labsupport.core.files import ROOT, LabError


def ask(environment: dict[str, str]) -> dict:
    """The document of a fresh process. LabError with its one line."""
    command = [sys.executable, "-m", "labsupport.gpu_hour.machine"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    lines = done.stderr.strip().splitlines() or ["it said nothing"]
    if done.returncode == 2:
        raise LabError(lines[-1])
    raise LabError(
        f"The machine could not be looked at ({lines[-1]}): run `python3 lab.py doctor` to see what is wrong."
    )


def look() -> dict:
    """Profile, card and base model of this process. LabError for a driver without a usable CUDA, a GPU
    profile without a card, a model that cannot be reached."""
    from labsupport.core import profiles
    from labsupport.gpu_jobs import results

    profile = profiles.current()
    card = None if profile.use_cpu else results.card()
    # Without a card nothing will be fetched: the plan needs the sizes alone.
    config = reachable(profile.base_model) if card else profile.base_model
    return {
        "profile": dataclasses.asdict(profile),
        "card": card,
        "config": config,
        "base_model": profile.base_model,
    }


def reachable(name: str) -> str:
    """Where the model's configuration is; LabError, at once, if the model could not be fetched later.

    What the cache holds whole needs no hub. Otherwise config.json is asked for: a gated model denies its
    files, though not its description, to whoever has no token.
    """
    from huggingface_hub import hf_hub_download, snapshot_download

    from labsupport.models import base_model, hub

    if name == base_model.BUNDLED:
        return name
    full = hub.ON_THE_HUB.get(name, name)
    if name not in hub.ON_THE_HUB and (folder := base_model.own_folder(name)):
        return str(folder)
    if not hub.is_name(full):
        return base_model.path(name)  # which says what names there are
    repository, _, revision = full.partition("@")
    revision = revision or None
    ask_for = functools.partial(snapshot_download, repository, revision=revision, allow_patterns=hub.FETCHED)
    if folder := hub.cached(ask_for):
        return str(folder)
    try:
        return hf_hub_download(repository, "config.json", revision=revision)
    except Exception as error:  # the hub's client lets pass what three libraries raise
        raise LabError(hub.explained(full, error)) from error


def main() -> int:
    try:
        print(json.dumps(look()))
    except LabError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
