"""A job's results: one JSON file, written after each step, so that a kill loses at most one step."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from labsupport.core import files, profiles
from labsupport.core.files import write_atomically


class Record:
    """The results of one job, in FOLDER/results/NAME.json.

    The document has `stamp`, `card`, `rehearsal`, `base_model`, `profile`, `steps` (name -> what was found),
    `seconds` (name -> how long it took) and `finished`.
    """

    def __init__(self, folder: Path, name: str):
        self.file = Path(folder) / "results" / f"{name}.json"
        self.document = self._begun() or self._new()

    def _new(self) -> dict:
        return origin() | {"finished": False, "steps": {}, "seconds": {}}

    def _begun(self) -> dict | None:
        """What a process that was killed has left, if it was about the same model and profile."""
        found = files.read_json(self.file)
        if not isinstance(found, dict) or not isinstance(found.get("steps"), dict) or found.get("finished"):
            return None
        alike = ("base_model", "profile", "rehearsal")
        new = self._new()
        return found if all(found.get(key) == new[key] for key in alike) and "seconds" in found else None

    def step(self, name: str, compute: Callable):
        """What `compute()` returns, kept; what a process before this one has kept is not computed again."""
        steps = self.document["steps"]
        if name in steps:
            print(f"{name}: done before", flush=True)
            return steps[name]
        began = time.monotonic()
        steps[name] = compute()
        self.document["seconds"][name] = round(time.monotonic() - began, 1)
        self._write()
        print(f"{name}: {self.document['seconds'][name]} s", flush=True)
        return steps[name]

    def finish(self) -> None:
        self.document["finished"] = True
        self._write()

    def _write(self) -> None:
        write_atomically(self.file, json.dumps(self.document, indent=1, default=float))


def origin() -> dict:
    """What a number must say of where it comes from."""
    from labsupport.core import upstream

    upstream.quiet_known_noise()
    from labsupport.evaluation import experiments  # after that: it imports what makes the noise

    profile = profiles.current()
    return {
        "stamp": experiments.stamp(),
        "card": card(),
        "rehearsal": profile.use_cpu,
        "base_model": profile.base_model,
        "profile": profile.name,
    }


def card() -> dict | None:
    """Name, memory (GiB), driver and compute capability of the CUDA card; None without one."""
    found = profiles.gpu()
    if found is None:
        return None
    import torch

    return {
        "name": found["name"],
        "memory_gib": round(found["memory_gib"], 2),
        "driver": profiles.nvidia_driver(),
        "capability": list(torch.cuda.get_device_capability(0)),
    }


def reset_peak() -> None:
    """Peak memory is counted from here."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_gib() -> dict | None:
    """Most memory since `reset_peak`, GiB allocated and reserved; None without a card."""
    import torch

    if not torch.cuda.is_available():
        return None
    return {
        "allocated": round(torch.cuda.max_memory_allocated() / 2**30, 3),
        "reserved": round(torch.cuda.max_memory_reserved() / 2**30, 3),
    }
