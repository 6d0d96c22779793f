"""One base model in three forms: as it is, rounded to NF4, and with noise as large as that rounding.

The rounded weights are what bitsandbytes' layer multiplies by, held as a plain matrix: the same numbers at
the speed of plain layers. All linear layers are changed but the head, as BitsAndBytesConfig does by default.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from labsupport.models import nf4

BLOCK = 64
FORMS = ("full", "nf4", "noise")


def linear_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """Name -> layer of every linear layer whose weight bitsandbytes would pack; none of the adapters'."""
    return {
        name.replace(".base_layer", ""): module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and "lora_" not in name and not name.endswith("lm_head")
    }


def rounded(weight: Tensor) -> Tensor:
    """The weight through NF4 with double quantisation and back, in its own format and shape."""
    return nf4.dequantize(nf4.quantize(weight, BLOCK, double=True)).to(weight.dtype).reshape(weight.shape)


def disturbed(weight: Tensor, generator: torch.Generator) -> Tensor:
    """The weight with Gaussian noise that has in each block of 64 the root mean square of NF4's error."""
    error = (rounded(weight).float() - weight.float()).reshape(-1, BLOCK)
    size = error.square().mean(1, keepdim=True).sqrt()
    noise = torch.randn(error.shape, generator=generator) * size
    return (weight.float() + noise.reshape(weight.shape)).to(weight.dtype)


def weights(model: nn.Module, form: str, seed: int = 0) -> dict[str, Tensor]:
    """Name -> weight of every linear layer in a form of FORMS; copies. seed: of the noise.

    ValueError for another form. `model` is as it was loaded.
    """
    if form not in FORMS:
        raise ValueError(f"form is {form!r}: give one of {', '.join(FORMS)}.")
    generator = torch.Generator().manual_seed(seed)
    result = {}
    for name, layer in linear_layers(model).items():
        weight = layer.weight.detach()
        if form == "full":
            result[name] = weight.clone()
        else:
            result[name] = rounded(weight) if form == "nf4" else disturbed(weight, generator)
    return result


@torch.no_grad()
def put(model: nn.Module, new: dict[str, Tensor]) -> None:
    """Write `weights` of the same model into it, in place; adapters on it stay as they are."""
    for name, layer in linear_layers(model).items():
        layer.weight.copy_(new[name])
