"""Which checkpoint a killed run goes on from."""

from __future__ import annotations

from pathlib import Path


def newest_complete(folder: Path) -> Path | None:
    """Of a trainer's folders checkpoint-N in `folder`, the complete one of the most steps; None if none is.

    Complete: its manifest.json is there, and every file that this names has the SHA-256 that it says. What
    has another name is passed over, and nothing is deleted.
    """
    from labsupport.training import checkpoints

    steps = {path: path.name.removeprefix("checkpoint-") for path in Path(folder).glob("checkpoint-*")}
    whole = [path for path, step in steps.items() if step.isdecimal() and checkpoints.is_whole(path)]
    return max(whole, key=lambda path: int(steps[path]), default=None)
