"""What a method takes of memory in training beside the weights, on tiny_base: counted, nothing is timed."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import torch

from labsupport.core.tables import Table
from labsupport.memory import watching
from labsupport.method_runs import bases, measuring, methods

ROWS, LENGTH = 8, 64
BYTES = 12  # a trained number's gradient and Adam's two moments, in float32


class Held:
    """A tensor that a node of the graph has saved; it goes when the node goes."""

    def __init__(self, tensor: torch.Tensor):
        self.tensor = tensor


def kept(forward: Callable[[], torch.Tensor]) -> dict[int, int]:
    """Address and bytes of all memory that is saved for the backward pass when forward() has returned. What
    is saved on the way and freed before, as DoRA's B A is, does not count: nothing is held by looking."""
    saved: weakref.WeakSet[Held] = weakref.WeakSet()

    def save(tensor: torch.Tensor) -> Held:
        saved.add(one := Held(tensor.detach()))  # without the node, or each would hold the other
        return one

    with torch.autograd.graph.saved_tensors_hooks(save, lambda one: one.tensor):
        loss = forward()
    sizes = {
        one.tensor.untyped_storage()._cdata: one.tensor.untyped_storage().nbytes() for one in list(saved)
    }
    del loss  # until here it has kept the graph
    return sizes


def held(method: str) -> dict[str, int]:
    """Of a method on tiny_base in float32: `trained` numbers, `optimizer`, the bytes of their gradients and
    moments, and `kept`, the bytes that autograd keeps of a forward pass of 8 rows of 64 tokens for the
    backward pass, weights apart. LabError for an unknown method."""
    base, _ = bases.tiny()
    model = methods.put(method, base, seed=0).train()
    ids = torch.arange(ROWS * LENGTH).reshape(ROWS, LENGTH) % 1000
    weights = set(watching.held_bytes(model))
    sizes = kept(lambda: model(input_ids=ids, labels=ids, use_cache=False).loss)
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
