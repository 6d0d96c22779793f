"""bitsandbytes' paged optimizers, whose states are in CUDA's unified memory.

Such a state is no memory of torch's: bitsandbytes 0.50 asks CUDA for managed memory (functional.get_paged,
for parameters of 100,000 numbers and more; smaller ones have usual states) and wraps it as a tensor that
torch takes for the processor's. torch counts none of it, neither allocated nor reserved. Before each
parameter's update its states are fetched to the card; the driver moves them out to the host when others need
the room. So the peak is the one without them: they take what is free while the optimizer steps, and time on
the bus if nothing is.
"""

from __future__ import annotations

import torch


def stand_ins(functional) -> list[tuple]:
    """(owner, name, stand-in) of what asks CUDA: no memory is taken for a parameter on the meta device."""
    get, fill, prefetch = functional.get_paged, functional.fill, functional.prefetch_tensor

    def get_paged(*shape, dtype=torch.float32, device=None):
        if device.type != "meta":
            return get(*shape, dtype=dtype, device=device)
        state = torch.zeros(1, dtype=dtype).expand(shape)  # as on a GPU, on the processor for torch
        state.is_paged, state.page_deviceid, state.without_data = True, None, True
        return state

    def fill_paged(state, value, *options, **others):
        if not hasattr(state, "without_data"):
            fill(state, value, *options, **others)

    def prefetch_paged(state, to_cpu=False):
        if not hasattr(state, "without_data"):
            prefetch(state, to_cpu)

    return [
        (functional, "get_paged", get_paged),
        (functional, "fill", fill_paged),
        (functional, "prefetch_tensor", prefetch_paged),
    ]
