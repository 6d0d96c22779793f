"""Everything that is measured of one adapter: all routes beside the trained model, and what survives."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from labsupport.evaluation import general_text
from labsupport.format_runs import prompt_formats
from labsupport.merge_runs import adapters, distances, rounding, routes
from labsupport.models import base_model
from labsupport.qlora_runs import base_arms


class Way(NamedTuple):
    """A model made of base and adapter, and whether its products are in bfloat16; else in float32."""

    route: Callable
    bfloat16: bool = False


TRAINED, BASE = "unmerged", "base"  # what all is compared with, and its base without the adapter
MERGED = {name: Way(route) for name, route in routes.MERGED.items()}
ALL = MERGED | {
    "unmerged, bfloat16 products": Way(routes.unmerged, bfloat16=True),
    "merged, bfloat16 products": Way(routes.dequantised, bfloat16=True),
}


def sets(every: int = 1) -> dict[str, list[dict]]:
    """The test sets; of each every so many-th row."""
    return {split: rows[::every] for split, rows in prompt_formats.test_sets().items()}


@torch.no_grad()
def measured(
    base: str,
    adapter: Path,
    sets: dict[str, list[dict]],
    ways: dict[str, Way],
    asked: Sequence[dict] = (),
) -> dict:
    """Of the trained model, its base and every way of `ways`: `scores` (way -> test set ->
    `distances.compared`), and for the tickets `asked` in `alike` whether the same ids are written; `id`: the
    rows' by test set.

    base and adapter as in `routes`. Holds the trained model's logits: about 5 MB a row of the bundled model.
    """
    tokenizer = base_model.load(base, "float32", "cpu")[1]
    examples = {split: distances.examples(tokenizer, rows) for split, rows in sets.items()}
    model = routes.unmerged(base, adapter)
    trained = {split: distances.logits(model, tokenizer, rows) for split, rows in examples.items()}
    replies = distances.written(model, tokenizer, asked) if asked else []
    scores: dict[str, dict] = {}
    alike: dict[str, list[int]] = {}

    def measure(name: str, model) -> None:
        scores[name] = {
            split: distances.compared(model, tokenizer, rows, trained[split])
            for split, rows in examples.items()
        }
        if asked and name != TRAINED:
            alike[name] = distances.alike(distances.written(model, tokenizer, asked), replies)

    measure(TRAINED, model)
    with model.disable_adapter():
        measure(BASE, model)
    for name, way in ways.items():
        model = way.route(base, adapter)
        with general_text.mixed_precision() if way.bfloat16 else contextlib.nullcontext():
            measure(name, model)
    ids = {split: [row["id"] for row in rows] for split, rows in sets.items()}
    return {"id": ids, "scores": scores} | ({"alike": alike} if asked else {})


@torch.no_grad()
def survival(base: str, adapter: Path) -> dict[str, dict[str, dict]]:
    """`survived` and `control` (dW shuffled): route -> the values of `rounding.Survived` over all layers;
    None for what is not defined."""
    layers = base_arms.linear_layers(base_model.load(base, "float32", "cpu")[0])
    totals: dict[tuple, rounding.Sums] = {}
    for name, delta in adapters.deltas(adapter).items():
        updates = {"survived": delta, "control": adapters.shuffled(delta)}
        for route, formats in rounding.ROUTES.items():
            found = rounding.sums(layers[name].weight, list(updates.values()), *formats)
            for kind, own in zip(updates, found, strict=True):
                totals[kind, route] = totals.get((kind, route), rounding.NOTHING) + own
    result: dict[str, dict] = {"survived": {}, "control": {}}
    for (kind, route), total in totals.items():
        values = rounding.survived(total)._asdict()
        result[kind][route] = {
            name: None if math.isnan(value) else float(f"{value:.5g}") for name, value in values.items()
        }
    return result
