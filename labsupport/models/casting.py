"""The number format of what is trained, changed after the model was built."""

from __future__ import annotations

import torch


def cast_trained(model, dtype: torch.dtype, but: str | None = None) -> None:
    """Give every parameter that is trained this dtype, in place; leave frozen ones, and those with `but` in
    their names. To be done before the first step: optimizers keep states in the dtype that they find."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and (but is None or but not in name):
            parameter.data = parameter.data.to(dtype)
