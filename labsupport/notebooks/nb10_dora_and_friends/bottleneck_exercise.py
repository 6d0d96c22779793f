"""Notebook 10's exercise on Houlsby's bottleneck adapter, as a class: its size, its start and its output."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from labsupport.checking.exercise import Exercise, told
from labsupport.models.bottleneck import BottleneckAdapter as Reference


def _parameters(adapter) -> dict[str, torch.Tensor]:
    """Those of its two layers; a layer without a bias has one less."""
    layers = {"down": adapter.down, "up": adapter.up}
    return {f"{n}.{kind}": p for n, layer in layers.items() for kind, p in layer.named_parameters()}


def _reached(adapter, x) -> list[str]:
    """The parameters that a first step would change."""
    output = adapter(x)
    weights = torch.arange(output.numel()).cos().view(output.shape)
    named = _parameters(adapter)
    found = torch.autograd.grad((weights * output).sum(), list(named.values()), allow_unused=True)
    return sorted(n for n, g in zip(named, found, strict=True) if g is not None and g.any())


def _start(adapter, x) -> dict[str, str]:
    """In words, for another answer draws other random numbers."""
    named = {
        "down's weight": adapter.down.weight,
        "up's weight": adapter.up.weight,
        "up's bias": adapter.up.bias,
    }
    said = {n: "none" if p is None else "not zero" if p.any() else "zero" for n, p in named.items()}
    output = adapter(x)
    said["output"] = "x" if torch.equal(output, x) else "something else" if output.any() else "zeros"
    return said


def use(adapter_class, hidden: int, width: int, x) -> dict:
    """Facts of a learner's adapter as it is made, and its output with weights of ours."""
    adapter = adapter_class(hidden, width)
    found = {
        "parameters": sum(p.numel() for p in adapter.parameters()),
        "shapes of down and up": [list(adapter.down.weight.shape), list(adapter.up.weight.shape)],
        "at the start": _start(adapter, x),
        "a first step changes": _reached(adapter, x),
    }
    for number, parameter in enumerate(_parameters(adapter).values(), start=1):
        parameter.data.copy_(torch.arange(parameter.numel()).add(number).cos().view(parameter.shape))
    return found | {"output with other weights": adapter(x).detach()}


def _cases() -> list[tuple]:
    generator = torch.Generator().manual_seed(0)
    sizes = ((6, 2, 3), (9, 4, 2), (5, 1, 4))
    return [(hidden, width, torch.randn(n, hidden, generator=generator)) for hidden, width, n in sizes]


# ---------------------------------------------------------------- what people write


def _with(forward=None, begin=None):
    """The reference with another forward(adapter, x), or after begin(adapter)."""

    class Wrong(Reference):
        def __init__(self, hidden, width):
            super().__init__(hidden, width)
            if begin:
                begin(self)

    if forward:
        Wrong.forward = forward
    return Wrong


def _without_biases(adapter):
    adapter.down.bias = adapter.up.bias = None


bottleneck = Exercise(
    name="dora_and_friends.bottleneck",
    reference=Reference,
    used=use,
    cases=_cases,
    mistakes=told(
        _with(lambda self, x: self.up(F.gelu(self.down(x)))),
        "The residual is missing: add x to what comes out of up. Without it nothing of x gets through at the "
        "start.",
        _with(lambda self, x: x + self.up(self.down(x))),
        "Nothing is between down and up, so both together are one matrix of low rank, as in LoRA: put a GELU "
        "there.",
        _with(lambda self, x: x + F.gelu(self.up(self.down(x)))),
        "The GELU comes after up: it goes between down and up, where the layer is narrow.",
        _with(lambda self, x: x + self.up(self.down(F.gelu(x)))),
        "The GELU comes before down: it goes between down and up, where the layer is narrow.",
        _with(lambda self, x: F.gelu(x + self.up(self.down(x)))),
        "The GELU acts on the sum, so the adapter is no identity at the start: it goes between down and up.",
        _with(lambda self, x: x + self.up(F.relu(self.down(x)))),
        "That is a ReLU: take a GELU.",
        _with(lambda self, x: x + self.up(F.gelu(self.down(x), approximate="tanh"))),
        "That is GELU's approximation by tanh: take the exact one, F.gelu(...) without more.",
        _with(begin=lambda adapter: adapter.up.reset_parameters()),
        "up starts at random, so the adapter changes what the model computes before anything is learned: set "
        "its weight and its bias to zero.",
        _with(begin=lambda adapter: nn.init.constant_(adapter.up.bias, 0.1)),
        "up's weight starts at zero, but its bias does not: set both to zero.",
        _with(begin=lambda adapter: (nn.init.zeros_(adapter.down.weight), nn.init.zeros_(adapter.down.bias))),
        "down starts at zero, too. Then its output is zero, no gradient reaches up's weight, and down gets "
        "none either: only up's bias would ever be trained. Leave down at random.",
        _with(begin=_without_biases),
        "The biases are missing: both layers have one, so there are hidden + width more parameters.",
        _with(begin=lambda adapter: setattr(adapter.down, "bias", None)),
        "down has no bias: both layers have one.",
        _with(begin=lambda adapter: setattr(adapter.up, "bias", None)),
        "up has no bias: both layers have one.",
    ),
    hints=[
        "Two nn.Linear, down from hidden to width and up back. In forward: down, GELU, up, and x added.",
        "It must return x at the start: what makes up(...) zero whatever goes in?",
        "nn.init.zeros_(self.up.weight); nn.init.zeros_(self.up.bias); "
        "return x + self.up(F.gelu(self.down(x))).",
    ],
    minutes=10,
    difficulty=1,
    returns="tensor",
)
