"""What a method takes of memory in training beside the weights, on tiny_base: counted, nothing is timed."""

from __future__ import annotations

import torch

from labsupport.core.tables import Table
from labsupport.memory import watching
from labsupport.method_runs import bases, measuring, methods

ROWS, LENGTH = 8, 64
BYTES = 12  # a trained number's gradient and Adam's two moments, in float32


def held(method: str) -> dict[str, int]:
    """Of a method on tiny_base in float32: `trained` numbers, `optimizer`, the bytes of their gradients and
    moments, and `kept`, the bytes that autograd keeps of a forward pass of 8 rows of 64 tokens for the
    backward pass, weights apart. LabError for an unknown method."""
    base, _ = bases.tiny()
    model = methods.put(method, base, seed=0).train()
    ids = torch.arange(ROWS * LENGTH).reshape(ROWS, LENGTH) % 1000
    weights = set(watching.held_bytes(model))
    kept = watching.kept(lambda: model(input_ids=ids, labels=ids, use_cache=False).loss)
    sizes = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in kept}
    trained = measuring.parameters(model)
    return {
        "trained": trained,
        "optimizer": BYTES * trained,
        "kept": sum(size for place, size in sizes.items() if place not in weights),
    }


def table() -> Table:
    """Every method of the comparison, in MB."""
    lines = []
    for method, kind in methods.METHODS.items():
        found = held(method)
        sizes = [found["optimizer"], found["kept"], found["optimizer"] + found["kept"]]
        lines.append([kind.title, *(f"{size / 1e6:.1f}" for size in sizes)])
    headings = ["method", "gradients and moments, MB", "kept for backward, MB", "together, MB"]
    return Table(headings, lines, f"tiny_base in training, {ROWS} rows of {LENGTH} tokens, float32")
