"""`lab.py bench`: how fast the explorers redraw, beside a plain figure drawn in the same minute, what sharing
the prompt saves in training, and how long preflight takes beside plain reading. Speed is never asserted by a
test: machines differ and are busy.
"""

from __future__ import annotations

import importlib
import itertools
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from labsupport.core.files import LabError

BUDGET_MS = 150  # up to here a redraw seems to follow the knob
ROWS = (2_000, 20_000)  # of preflight: all of them are looked at token by token


def milliseconds(action: Callable[[], object], times: int = 5) -> float:
    """Median wall time of an action in milliseconds, after one run to warm up."""
    action()
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        action()
        taken.append(time.perf_counter() - began)
    return 1000 * statistics.median(taken)


def plain_figure() -> str:
    """The yardstick of a redraw: a figure with one line, as an image."""
    from labsupport.core import plots

    fig, axes = plots.figure()
    axes.plot([0, 1], [0, 1])
    return plots.show(fig, "A line.").data


def extremes(control) -> list:
    """The values at the two ends of a control, or all it has to say of a check box."""
    if hasattr(control, "options"):
        offered = control.options  # {label: value}, pairs of label and value, or values
        values = list(offered.values() if isinstance(offered, dict) else offered)
        return [end[1] if isinstance(end, tuple) else end for end in (values[0], values[-1])]
    if hasattr(control, "min"):
        return [control.min, control.max]
    return [False, True] if isinstance(control.value, bool) else [control.value]


def explorers(corners: int = 16) -> list[dict]:
    """For each explorer the milliseconds of a redraw as it opens and in the slowest of some corners.

    A corner sets each control to one of its ends or as it opens, by lot, and is one that has a view. Buttons
    are not pressed: what they start may take its time.
    """
    from labsupport.core import course
    from labsupport.teaching import explorer_shell

    rows = []
    for name, module in course.parts("explorer").items():
        explorer = importlib.import_module(module).explore()
        knobs = {knob: c for knob, c in explorer.controls.items() if knob not in explorer.presses}
        ends = {knob: [*extremes(c), c.value] for knob, c in knobs.items()}
        lots = random.Random(0)
        settings = (
            explorer.presses | {knob: lots.choice(values) for knob, values in ends.items()}
            for _ in range(1000)
        )
        found = itertools.islice((values for values in settings if has_view(explorer, values)), corners)
        yardstick = milliseconds(plain_figure)
        start = milliseconds(explorer.redraw)
        slowest = max(
            milliseconds(lambda e=explorer, v=values: explorer_shell.as_html(e.render(**v)))
            for values in found
        )
        times = {"opens_ms": start, "slowest_corner_ms": slowest, "figure_ms": yardstick}
        rows.append({"explorer": name} | times)
    return rows


def has_view(explorer, values: dict) -> bool:
    """Whether a corner is a setting at all, and not one that is answered with a sentence."""
    try:
        explorer.render(**values)
    except LabError:
        return False
    return True


def training_steps(rounds: int = 3) -> dict:
    """Median seconds of notebook 01's training on 24 rows, forwards and backwards, by turns with padded rows
    and with a shared prompt (prefixes.py); and the tokens that each way runs."""
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    from labsupport.training import prefixes, recipe

    trainer = recipe.trainer()
    prefixes.share(trainer)
    size = trainer.args.per_device_train_batch_size
    rows = [trainer.train_dataset[i] for i in range(24)]
    groups = [rows[i : i + size] for i in range(0, len(rows), size)]
    ways = {
        "padded": DataCollatorForLanguageModeling(trainer.processing_class.pad_token_id),
        "shared": prefixes.collate,
    }

    def train(batches: list[dict]) -> float:
        began = time.perf_counter()
        for batch in batches:
            trainer.accelerator.backward(trainer.compute_loss(trainer.model, dict(batch)))
            trainer.model.zero_grad()
        return time.perf_counter() - began

    device = trainer.model.device
    batches = {
        way: [{name: tensor.to(device) for name, tensor in collate(group).items()} for group in groups]
        for way, collate in ways.items()
    }
    train(batches["padded"][:2])  # to warm up
    taken = {way: [] for way in ways}
    for _ in range(rounds):
        for way in ways:
            taken[way].append(train(batches[way]))
    return {f"{way}_seconds": statistics.median(times) for way, times in taken.items()} | {
        f"{way}_tokens": sum(batch["input_ids"].numel() for batch in batches[way]) for way in ways
    }


def preflight(sizes: tuple[int, ...] = ROWS) -> list[dict]:
    """For each number of rows: seconds of all of preflight, of reading the file as preflight does, and of a
    plain json.loads for each line, the yardstick."""
    from labsupport.preflight import session
    from labsupport.training_data.reading import Rows

    found = []
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "rows.jsonl"
        for rows in sizes:
            data.write_text("".join(map(made_row, range(rows))))
            if not found:
                session.look(data)  # to warm up
            taken = {}
            for what, action in (
                ("plain", lambda: sum(1 for line in data.open(encoding="utf-8") if json.loads(line))),
                ("reading", lambda: sum(1 for _ in Rows(data))),
                ("all", lambda: session.look(data)),
            ):
                began = time.perf_counter()
                action()
                taken[f"{what}_seconds"] = time.perf_counter() - began
            found.append({"rows": rows} | taken)
    return found


def made_row(number: int) -> str:
    """A line with a row, unlike the others."""
    lots = random.Random(number)
    asked, answered = (
        " ".join(
            f"{lots.choice('bdfgklmnprst')}{lots.choice('aeiou')}{lots.randrange(1000)}" for _ in range(n)
        )
        for n in (12, 30)
    )
    turns = [{"role": "user", "content": asked}], [{"role": "assistant", "content": answered}]
    return json.dumps(dict(zip(("prompt", "completion"), turns, strict=True))) + "\n"


def measure() -> dict:
    """All of it, with as many threads as the profile has: what `lab.py bench` reports."""
    import torch

    from labsupport.core import profiles

    torch.set_num_threads(profiles.current().threads)
    return {
        "budget_ms": BUDGET_MS,
        "explorers": explorers(),
        "training": training_steps(),
        "preflight": preflight(),
    }
