"""Notebook 02's central exercise, LoRA's layer as a class: judged by what it does, not how it is written."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from labsupport.checking.exercise import Exercise, told
from labsupport.models import lora


def start_of(largest: float) -> str:
    """What the largest entry of A says, in units of the bound."""
    if largest == 0:
        return "zero"
    return "inside the bound" if 0.5 < largest <= 1 else "of another size than the bound"


def gradients_of(layer, output) -> list:
    """Of a weighted sum of the output, what arrives at A and at B; None where nothing does."""
    reached = [p if p.requires_grad else p.detach().requires_grad_() for p in (layer.A, layer.B)]
    if not output.requires_grad:
        return [None, None]
    weights = torch.arange(output.numel()).cos().view(output.shape)
    return list(torch.autograd.grad((weights * output).sum(), reached, retain_graph=True, allow_unused=True))


def use(layer_class, weight, A, B, alpha, x) -> dict:
    """What a learner's layer does from its start to unmerging, as numbers by name."""
    base = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    base.weight.data = weight.clone()
    layer = layer_class(base, A.shape[0], alpha)
    trained = sorted(name for name, parameter in layer.named_parameters() if parameter.requires_grad)
    found = {
        "trainable parameters": trained,
        "shapes of A and B": [list(layer.A.shape), list(layer.B.shape)],
        "B at the start": layer.B.detach().clone(),
        "A at the start": start_of(layer.A.detach().abs().max().item() / lora.uniform_bound(weight.shape[1])),
    }
    with torch.no_grad():
        layer.A.copy_(A)
        layer.B.copy_(B)
    found["output"] = layer(x)
    found["gradients of A and B"] = gradients_of(layer, found["output"])
    layer.merge()
    layer.merge()  # by mistake: it must not add the update again
    found["weight after merge, called twice"] = base.weight.detach().clone()
    found["output when merged"] = layer(x).detach()
    layer.unmerge()
    found["weight after unmerge"] = base.weight.detach().clone()
    return found


def _cases() -> list[tuple]:
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, generator=generator)

    sizes = (((6, 9), 4, 7, 5), ((8, 8), 2, 32.0, 3), ((7, 5), 3, 1, 2))
    return [
        (random(*shape), random(rank, shape[1]), random(shape[0], rank), alpha, random(rows, shape[1]))
        for shape, rank, alpha, rows in sizes
    ]


# Each mistake is the reference with one thing wrong.


def _scaled_as_if(other):
    """The layer whose alpha is other(alpha, rank)."""

    class Wrong(lora.LoRALinear):
        def __init__(self, base, rank, alpha):
            super().__init__(base, rank, other(alpha, rank))

    return Wrong


def _begun(change):
    """The layer to which change(layer) happens at its start."""

    class Wrong(lora.LoRALinear):
        def __init__(self, base, rank, alpha):
            super().__init__(base, rank, alpha)
            change(self)

    return Wrong


class _MergesTwice(lora.LoRALinear):
    @torch.no_grad()
    def merge(self):
        self.base.weight += lora.delta(self.A, self.B, self.alpha)
        self.merged = True


class _AddsAfterMerging(lora.LoRALinear):
    def forward(self, x):
        s = lora.scale(self.alpha, len(self.A))
        return self.base(x) + s * F.linear(F.linear(x, self.A), self.B)


class _NoUnmerge(lora.LoRALinear):
    def unmerge(self):
        self.merged = False


class _AdapterAlone(lora.LoRALinear):
    def forward(self, x):
        if self.merged:
            return self.base(x)
        return lora.scale(self.alpha, len(self.A)) * F.linear(F.linear(x, self.A), self.B)


layer = Exercise(
    name="lora_math.layer",
    reference=lora.LoRALinear,
    used=use,
    cases=_cases,
    mistakes=told(
        _scaled_as_if(lambda alpha, rank: alpha * rank),
        "The update is scaled by alpha; the factor is alpha / r.",
        _scaled_as_if(lambda alpha, rank: rank),
        "The factor alpha / r is missing, in the output and in merge.",
        _scaled_as_if(lambda alpha, rank: alpha * math.sqrt(rank)),
        "alpha / sqrt(r) is rsLoRA's factor; LoRA's is alpha / r.",
        _scaled_as_if(lambda alpha, rank: alpha // rank * rank),
        "// cuts off what follows the point: 7 / 4 is 1.75, and 7 // 4 is 1.",
        _begun(lambda layer: layer.base.requires_grad_(True)),
        "The frozen weight still trains: call base.requires_grad_(False).",
        _begun(lambda layer: nn.init.kaiming_uniform_(layer.B, a=math.sqrt(5))),
        "B starts at random: it must start at zero, so that training starts at the base model.",
        _begun(lambda layer: nn.init.zeros_(layer.A)),
        "A starts at zero. With B at zero too, no gradient would ever reach either: draw A at random.",
        _begun(lambda layer: nn.init.normal_(layer.A)),
        "A starts outside the bound: PEFT draws it from U(-b, b) with b = 1 / sqrt(in).",
        _MergesTwice,
        "merge, called twice, adds the update twice: remember that it is merged.",
        _AddsAfterMerging,
        "Once merged, forward adds the update a second time: it is in the weight already.",
        _NoUnmerge,
        "unmerge leaves the update in the weight: subtract it.",
        _AdapterAlone,
        "The frozen path is missing: forward is the base's output plus the adapter's.",
    ),
    hints=[
        "In __init__: freeze base, then two nn.Parameter: A of (rank, in), drawn from U(-b, b), and B of "
        "(out, rank), zeros. In forward: the base's output, and unless merged the adapter's.",
        "With rows as vectors every matrix is transposed: x @ A.T @ B.T, times alpha / r. merge adds "
        "alpha / r · B A to base.weight, under torch.no_grad(), and only if it has not been merged.",
        "self.A = nn.Parameter(torch.empty(rank, base.in_features).uniform_(-b, b)); "
        "self.B = nn.Parameter(torch.zeros(base.out_features, rank)); update = alpha / rank * B @ A",
    ],
    minutes=25,
    difficulty=3,
    returns="tensor",
)
