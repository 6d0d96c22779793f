"""torch.autocast for tensors on the meta device, for which torch itself has none.

Only what costs memory: the casts of a matrix product's inputs to bfloat16, that the cast of a trainable
float32 weight is kept until the forward pass ends, and the operations that a GPU's autocast runs in float32
(ATen, autocast_mode.cpp and .h). For those most models ask for float32 themselves; LayerNorm in GPT-2 and
Falcon, the cube in GPT-2's GELU and the sums of experts' outputs do not.
"""

from __future__ import annotations

import contextlib

import torch

_kept: dict[int, tuple[torch.Tensor, torch.Tensor]] | None = None  # None: off. A weight's id: it and its cast


def is_on() -> bool:
    """Whether products on meta get 16-bit inputs."""
    return _kept is not None


@contextlib.contextmanager
def of_step(device: str, wanted: bool):
    """Around forward and backward: on meta, what checkpointing computes again needs it backwards, too."""
    global _kept
    _kept = {} if wanted and device == "meta" else None
    try:
        yield
    finally:
        _kept = None


@contextlib.contextmanager
def of_forward(device: str, wanted: bool):
    """Around the forward pass: torch's own autocast, where there is one."""
    if device == "meta" or not wanted:
        yield
        if is_on():
            _kept.clear()
        return
    with torch.autocast(device, dtype=torch.bfloat16):
        yield


def layer_was_computed_again() -> None:
    """Checkpointing enters autocast anew for each layer, and what it kept goes with it."""
    if is_on() and torch._C._current_graph_task_id() != -1:
        _kept.clear()


def stand_ins(as_on_gpu: bool) -> list[tuple]:
    """(owner, name, stand-in) of the operations that a transformer calls, and of questions about autocast
    that torch refuses to answer for meta. as_on_gpu: with what a GPU runs in float32, a processor not."""
    enabled, dtype = torch.is_autocast_enabled, torch.get_autocast_dtype
    functional = torch.nn.functional
    products = [(functional, "linear"), (torch, "matmul"), (torch, "bmm"), (torch, "addmm")]
    products.append((torch.Tensor, "__matmul__"))
    wide = [(functional, "layer_norm"), (torch, "pow"), (torch.Tensor, "pow")] if as_on_gpu else []
    set_dtype = [(functional, "softmax"), (torch.Tensor, "sum"), (torch, "sum")] if as_on_gpu else []
    # Without a device the question is about CUDA, for which meta stands: PEFT's Linear4bit asks so.
    meant = ((), ("meta",)) if as_on_gpu else (("meta",),)
    return [
        (torch, "is_autocast_enabled", lambda *on: (on in meant and is_on()) or _answered(enabled, on)),
        (torch, "get_autocast_dtype", lambda on: torch.bfloat16 if on == "meta" else dtype(on)),
        *((owner, name, in_16_bits(getattr(owner, name))) for owner, name in products),
        *((owner, name, in_32_bits(getattr(owner, name))) for owner, name in wide),
        *((owner, name, into_32_bits(getattr(owner, name))) for owner, name in set_dtype),
    ]


def _answered(enabled, on: tuple) -> bool:
    return on != ("meta",) and enabled(*on)


def in_16_bits(product):
    """The product of inputs cast to bfloat16, while the stand-in is on and they are on meta."""

    def cast_first(*args, **options):
        if is_on():
            args = tuple(map(cast, args))
            options = {name: cast(value) for name, value in options.items()}
        return product(*args, **options)

    return cast_first


def in_32_bits(operation):
    """The operation on inputs of 16 bits cast to float32, while the stand-in is on and they are on meta."""

    def cast_first(*args, **options):
        if is_on():
            args = tuple(widened(value) for value in args)
            options = {name: widened(value) for name, value in options.items()}
        return operation(*args, **options)

    return cast_first


def into_32_bits(operation):
    """The operation with a float32 result, if no other was asked for, while the stand-in is on."""

    def with_dtype(tensor, *args, **options):
        if is_on() and has_16_bits(tensor) and options.get("dtype") is None:
            options["dtype"] = torch.float32
        return operation(tensor, *args, **options)

    return with_dtype


def has_16_bits(value) -> bool:
    """Whether it is a tensor on meta of bfloat16 or float16."""
    if not isinstance(value, torch.Tensor) or value.device.type != "meta":
        return False
    return value.dtype in (torch.bfloat16, torch.float16)


def widened(value):
    """A tensor on meta of 16 bits as one in float32; everything else as it is."""
    return value.float() if has_16_bits(value) else value


def cast(value):
    """A float32 tensor on meta as one of 16 bits; everything else as it is."""
    if not isinstance(value, torch.Tensor) or value.dtype != torch.float32 or value.device.type != "meta":
        return value
    if not (value.is_leaf and value.requires_grad):
        return value.to(torch.bfloat16)
    if id(value) not in _kept:
        _kept[id(value)] = (value, value.to(torch.bfloat16))
    return _kept[id(value)][1]
