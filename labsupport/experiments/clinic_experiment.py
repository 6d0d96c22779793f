"""The runs of the clinic: two healthy runs and fourteen kinds of broken ones, with all that a
learner may ask of them.

Each cell is a run of tiny_base made by labsupport.broken_runs.making: one processor, one thread. `view` is
what a practitioner has in front of them: the trainer's logs, the main settings, five replies and the figures
of the evaluation. `probes` holds the answer to every probe of labsupport.broken_runs.probing.PROBES: of what
the files tell, of the same evaluation on other rows or asked in another way (32 rows), and of retrainings
with one thing changed, evaluated as before ({"unchanged": true} where the run already was as the change would
have it). Figures of an evaluation: shares of `exact` replies, of right `parts` (of a ticket its four fields,
of a fact its eight symbols), of `valid` ones and of those that `ended` by themselves; `loss`, nats a token of
the right answers.
"""

from __future__ import annotations

from labsupport.broken_runs import kinds

# Each has a seed of its own, or the same loss curve would tell who is like whom.
CELLS = [
    {"kind": "healthy", "seed": 2},
    {"kind": "healthy", "seed": 3},
    *({"kind": kind, "seed": seed} for seed, kind in enumerate(list(kinds.KINDS)[1:], start=4)),
]


def run(cell: dict) -> dict:
    """The `view` of a run, the answers to all `probes`, and the `case`: what decided the run."""
    import tempfile
    from pathlib import Path

    import torch

    from labsupport.broken_runs import making, probing
    from labsupport.core import upstream

    upstream.keep_freed_memory()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="lab-") as scratch:
        folder = Path(scratch) / "run"
        case = making.make(cell["kind"], cell["seed"], folder)
        probes = {name: probing.probe(name, case, folder) for name in probing.PROBES}
        return {"case": case, "view": probing.view(case, folder), "probes": probes}
