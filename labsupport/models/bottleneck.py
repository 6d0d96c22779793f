"""Houlsby's bottleneck adapter, which PEFT does not have: two small layers in a row, after a frozen one."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from labsupport.core.files import LabError

PLACES = ("o_proj", "down_proj")  # the end of attention and of the MLP, before what skips them is added


class BottleneckAdapter(nn.Module):
    """x + up(GELU(down(x))), for x (..., hidden): Houlsby et al. 2019 (arXiv 1902.00751), section 2.1.

    Its middle is not linear, so it cannot be merged into the layers around it. The paper begins near the
    identity, with weights of the size 0.01; here up is zero, so it begins exactly there. The paper leaves the
    nonlinearity open; GELU is that of BERT, the model it adapts. It trains the layer norms as well, and these
    functions do not. LabError unless the width is a whole number, at least 1.
    """

    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        if isinstance(width, bool) or not isinstance(width, int) or width < 1:
            raise LabError(f"The bottleneck is {width!r} wide: give a whole number, at least 1.")
        self.down, self.up = nn.Linear(hidden, width), nn.Linear(width, hidden)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.up(F.gelu(self.down(x)))


def attach(model: nn.Module, width: int) -> list[str]:
    """Freeze a Llama-like model and put an adapter after each o_proj and down_proj; returns the names.

    There are as many parameters to train then as `counting.bottleneck_adapters(..., biases=True)` says. They
    have the dtype and device of the layer before them. LabError for a bad width and a model without such
    layers.
    """
    found = [name for name, _ in model.named_modules() if name.rpartition(".")[2] in PLACES]
    if not found:
        raise LabError(f"The model has no layer called {' or '.join(PLACES)} to put adapters after.")
    adapters = {}
    for name in found:
        weight = model.get_submodule(name).weight
        adapters[name] = BottleneckAdapter(weight.shape[0], width).to(weight.device, weight.dtype)
    model.requires_grad_(False)
    for name, adapter in adapters.items():
        parent, _, last = name.rpartition(".")
        layer = model.get_submodule(name)
        setattr(model.get_submodule(parent), last, nn.Sequential(layer, adapter))
    return found
