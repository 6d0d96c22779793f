"""A weight's change, taken apart as DoRA does it: by how much lengths changed, and by how much directions."""

from __future__ import annotations

import torch

from labsupport.core.files import LabError


def magnitude_and_direction(before: torch.Tensor, after: torch.Tensor) -> tuple[float, float]:
    """(mean |length after - length before|, mean 1 - cosine), over the rows of two (out, in) weights.

    DoRA's ΔM and ΔD (Liu et al. 2024, section 3.2), with one vector for each output, as its code and PEFT's
    have it. In float64: of a fine-tune's small change 1 - cosine is mostly rounding in float32. LabError for
    two shapes, and for a row of zeros, which has no direction.
    """
    if before.shape != after.shape or before.ndim != 2:
        raise LabError(
            f"The weights are {tuple(before.shape)} and {tuple(after.shape)}: give two of (out, in)."
        )
    old, new = before.detach().double(), after.detach().double()
    lengths, others = old.norm(dim=1), new.norm(dim=1)
    if not (lengths.all() and others.all()):
        raise LabError("A weight has a row of zeros, which has no direction: leave such rows out.")
    # 1 - cos = |u - v|² / 2 for unit vectors, which loses nothing where the angle is small.
    apart = old / lengths[:, None] - new / others[:, None]
    return (others - lengths).abs().mean().item(), apart.square().sum(1).mean().item() / 2
