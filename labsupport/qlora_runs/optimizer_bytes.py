"""The bytes that an optimizer keeps, counted on real tensors, and how many of them could be paged."""

from __future__ import annotations

import warnings

import torch

from labsupport.sizes import counting

PAGED_FROM = (
    100_000  # numbers of a parameter: bitsandbytes 0.50 pages no smaller one's state (get_state_buffer)
)


def optimizers() -> dict[str, type]:
    """SFTConfig's name -> the class that the trainer makes of it."""
    import bitsandbytes.optim as eight_bit

    return {
        "adamw_torch": torch.optim.AdamW,
        "adamw_8bit": eight_bit.AdamW8bit,
        "paged_adamw_8bit": eight_bit.PagedAdamW8bit,
        "paged_adamw_32bit": eight_bit.PagedAdamW32bit,
    }


def state_bytes(kind: type, shapes: list[tuple[int, ...]]) -> tuple[int, list[str]]:
    """Bytes of an optimizer's state after one step on float32 parameters of these shapes, on the processor;
    and what it warned of."""
    parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in shapes]
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        optimizer = kind(parameters, lr=1e-4)
        optimizer.step()
    held = {}
    for state in optimizer.state.values():
        for value in state.values():
            if isinstance(value, torch.Tensor):  # the 8-bit code is one tensor that all states share
                held[value.untyped_storage().data_ptr()] = value.nbytes
    return sum(held.values()), sorted({str(warning.message).split(". ")[0] for warning in heard})


def adapter_shapes(config: dict, rank: int) -> list[tuple[int, int]]:
    """Shapes of A and B of every linear layer of a model with LoRA on all of them."""
    block = counting.block_shapes(config)
    pairs = [shape for d_in, d_out in block.values() for shape in ((rank, d_in), (d_out, rank))]
    return pairs * config["num_hidden_layers"]


def pageable(config: dict, rank: int) -> float:
    """The share of the adapters' numbers whose optimizer state a paged optimizer would page."""
    sizes = [rows * columns for rows, columns in adapter_shapes(config, rank)]
    return sum(size for size in sizes if size >= PAGED_FROM) / sum(sizes)
