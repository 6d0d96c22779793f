"""What `lab.py diagnose` says of runs that it was not written on: every kind of the clinic, with other seeds.

Each cell makes a run of tiny_base with labsupport.broken_runs.making and hands its folder to the diagnosis,
which knows nothing but the files in it. The diagnosis was written while looking at seeds 0 and 1; these are
others, looked at once it was done. `causes`: [id, "proves" or "suggests"] of what it names, the likeliest
first, [] where it finds nothing wrong. `following`: ids that it takes for consequences of these. One
processor, one thread.
"""

from __future__ import annotations

from labsupport.broken_runs import kinds

SEEDS = (100, 101)
CELLS = [{"kind": kind, "seed": seed} for seed in SEEDS for kind in kinds.KINDS]


def run(cell: dict) -> dict:
    """The causes that are named, and what follows from them."""
    import tempfile
    from pathlib import Path

    import torch

    from labsupport.broken_runs import making
    from labsupport.core import upstream
    from labsupport.diagnosis import verdict
    from labsupport.run_folders.run_folder import opened

    upstream.keep_freed_memory()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="lab-") as scratch:
        folder = Path(scratch) / "run"
        making.make(cell["kind"], cell["seed"], folder)
        found = verdict.diagnosed(opened(folder))
    return {
        "causes": [[one.cause.id, one.strength] for one in found.found],
        "following": [one.cause.id for one, _ in found.following],
    }
