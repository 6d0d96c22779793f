"""The base models, as every method gets them."""

from __future__ import annotations

import torch
from torch import nn

from labsupport.models import lora

SIZE = 1e-6


@torch.no_grad()
def fill_zero_rows(model: nn.Module, size: float = SIZE) -> dict[str, int]:
    """Write Gaussian noise of this standard deviation into rows of linear layers that are exactly zero, in
    place; name -> how many, of the layers that had some. The same noise at every call.

    Layer 1 of data/tiny_base has such rows: 72 of q_proj and the 24 of k_proj that they are multiplied by,
    which began and stayed at zero. DoRA divides by a row's length, so that they give it NaN. The noise leaves
    the logits as they are to rounding. It does let training wake them (product of two zeros, its gradient is
    zero), which is why all methods get it and not DoRA alone.
    """
    generator, filled = torch.Generator().manual_seed(0), {}
    for name, layer in lora.linear_layers(model).items():
        empty = (layer.weight == 0).all(1)
        if count := int(empty.sum()):
            noise = torch.randn(count, layer.in_features, generator=generator)
            layer.weight[empty] = (size * noise).to(layer.weight.dtype)
            filled[name] = count
    return filled


def large():
    """The profile's base in float32, its zero rows filled, and its tokenizer."""
    from labsupport.models import base_model

    model, tokenizer = base_model.load(dtype="float32")
    fill_zero_rows(model)
    return model, tokenizer


def tiny():
    """data/tiny_base in float32 on the processor, its zero rows filled, and its tokenizer."""
    from labsupport.models import tiny_base

    model, tokenizer = tiny_base.load()
    fill_zero_rows(model)
    return model, tokenizer
