"""torch.autocast for tensors on the meta device, for which torch itself has none.

Only what costs memory: the casts of a matrix product's inputs to bfloat16, and that the cast of a trainable
float32 weight is kept until the forward pass ends (ATen, autocast_mode.cpp). The operations that autocast
runs in float32 are in float32 anyway in the models planned here: norms, rotations and softmax ask for it.
"""

from __future__ import annotations

import contextlib

import torch

_kept: dict[int, tuple[torch.Tensor, torch.Tensor]] | None = None  # None: off. A weight's id: it and its cast


def is_on() -> bool:
    """Whether products on meta get 16-bit inputs."""
    return _kept is not None


@contextlib.contextmanager
def of_step(device: str):
    """Around forward and backward: on meta, what checkpointing computes again needs it backwards, too."""
    global _kept
    _kept = {} if device == "meta" else None
    try:
        yield
    finally:
        _kept = None


@contextlib.contextmanager
def of_forward(device: str):
    """Around the forward pass: torch's own autocast, where there is one."""
    if device == "meta":
        yield
        _kept.clear()
        return
    with torch.autocast(device, dtype=torch.bfloat16):
        yield


def layer_was_computed_again() -> None:
    """Checkpointing enters autocast anew for each layer, and what it kept goes with it."""
    if is_on() and torch._C._current_graph_task_id() != -1:
        _kept.clear()


def stand_ins() -> list[tuple]:
    """(owner, name, stand-in) of the products that a transformer calls, and of questions about autocast that
    torch refuses to answer for meta."""
    enabled, dtype = torch.is_autocast_enabled, torch.get_autocast_dtype
    products = [
        (torch.nn.functional, "linear"),
        (torch, "matmul"),
        (torch, "bmm"),
        (torch.Tensor, "__matmul__"),
    ]
    return [
        (torch, "is_autocast_enabled", lambda *on: is_on() if on == ("meta",) else enabled(*on)),
        (torch, "get_autocast_dtype", lambda on: torch.bfloat16 if on == "meta" else dtype(on)),
        *((owner, name, in_16_bits(getattr(owner, name))) for owner, name in products),
    ]


def in_16_bits(product):
    """The product of inputs cast to bfloat16, while the stand-in is on and they are on meta."""

    def cast_first(*args, **options):
        if is_on():
            args = tuple(map(cast, args))
            options = {name: cast(value) for name, value in options.items()}
        return product(*args, **options)

    return cast_first


def cast(value):
    """A float32 tensor on meta as one of 16 bits; everything else as it is."""
    if not isinstance(value, torch.Tensor) or value.dtype != torch.float32 or value.device.type != "meta":
        return value
    if not (value.is_leaf and value.requires_grad):
        return value.to(torch.bfloat16)
    if id(value) not in _kept:
        _kept[id(value)] = (value, value.to(torch.bfloat16))
    return _kept[id(value)][1]
