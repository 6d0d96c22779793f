"""LoRA on problems of milliseconds: what alpha, learning rate, rank and optimizer do to an update."""

from __future__ import annotations

import math

import torch
from torch import nn

from labsupport.models import lora
from labsupport.updates import first_steps

RULES = ("alpha fixed", "alpha = 2r", "rsLoRA")


def updates(
    optimizer: str,
    alpha: float,
    lr_a: float,
    lr_b: float,
    a_factor: float = 1.0,
    weight_decay: float = 0.0,
    eps: float = 1e-30,
    steps: int = 200,
    seed: int = 0,
) -> list[torch.Tensor]:
    """The update after 0, 1, ..., `steps` steps of a rank-8 LoRALinear (48 x 64, float64, full batch).

    The loss is the squared distance to a target of rank 4 plus noise (a regression on white inputs).
    optimizer: "sgd" or "adam" (decoupled weight decay); A starts as PEFT's, times `a_factor`. With eps near
    0 Adam ignores the scale of gradients.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    target = normal(48, 4) @ normal(4, 64) / 8 + 0.05 * normal(48, 64)
    uniform = 2 * torch.rand(8, 64, generator=generator, dtype=torch.float64) - 1
    layer = lora.LoRALinear(nn.Linear(64, 48, bias=False, dtype=torch.float64), rank=8, alpha=alpha)
    layer.A.data = a_factor * lora.uniform_bound(64) * uniform
    groups = [{"params": [layer.A], "lr": lr_a}, {"params": [layer.B], "lr": lr_b}]
    if optimizer == "sgd":
        update = torch.optim.SGD(groups, lr=lr_a)
    else:
        update = torch.optim.AdamW(groups, lr=lr_a, eps=eps, weight_decay=weight_decay)
    history = [lora.delta(layer.A, layer.B, alpha).detach()]
    for _step in range(steps):
        loss = (lora.delta(layer.A, layer.B, alpha) - target).square().sum() / 48
        update.zero_grad()
        loss.backward()
        update.step()
        history.append(lora.delta(layer.A, layer.B, alpha).detach())
    return history


def distance(one: list[torch.Tensor], other: list[torch.Tensor], step: int) -> float:
    """Relative distance of two runs' updates after that step: ‖one - other‖ / ‖one‖."""
    return ((one[step] - other[step]).norm() / one[step].norm()).item()


def first_step_change(optimizer: str, rank: int, alpha: float, rslora: bool = False) -> float:
    """How much one step of learning rate 1e-3 changes the output: rms over 8 inputs, mean of 4 draws.

    A LoRALinear on 512 x 512, float64, with random output gradients of the size 1.
    """
    changes = []
    for seed in range(4):
        torch.manual_seed(seed)
        layer = lora.LoRALinear(
            nn.Linear(512, 512, bias=False, dtype=torch.float64), rank, alpha, rslora=rslora
        )
        x, gradient = torch.randn(2, 8, 512, dtype=torch.float64)
        kind = torch.optim.SGD if optimizer == "sgd" else torch.optim.Adam
        update = kind([layer.A, layer.B], lr=1e-3)
        before = layer(x)
        before.backward(gradient)
        update.step()
        changes.append((layer(x) - before).square().mean().sqrt().item())
    return sum(changes) / len(changes)


def factor(rule: str, rank: int) -> float:
    """The factor before BA by one of RULES: alpha / r with alpha 32 or 2r, or alpha / sqrt(r) with alpha 8.
    At rank 16 all are 2."""
    alphas = {"alpha fixed": 32, "alpha = 2r": 2 * rank, "rsLoRA": 8}
    return lora.scale(alphas[rule], rank, rslora=rule == "rsLoRA")


def output_changes(
    optimizer: str,
    rule: str,
    rank: int,
    batch: int = 8,
    width: int = 256,
    row_cosine: float = 0.0,
    steps: int = 50,
    lr: float = 1e-5,
    target: float = 1.0,
    seed: int = 0,
) -> dict[str, float]:
    """How far LoRA has moved a width x width layer's output after 1 and after `steps` steps, float32.

    Every step sees `batch` new rows of length sqrt(width) whose mean cosine is `row_cosine`; the loss asks
    for a random linear change of the output, of rms `target`. optimizer: "adam" (epsilon near 0) or "sgd".
    Returns the rms of the change on the rows that made the newest gradient ("seen 1", "seen 50") and on 64
    others ("fresh 1", "fresh 50"); each again with " alignment", the rms cosine with the rows of the summed
    gradients; and "moved A", the relative distance of A from its start.
    """
    generator = torch.Generator().manual_seed(seed)
    common, wanted = torch.randn(width, generator=generator), torch.randn(width, width, generator=generator)
    wanted *= target / math.sqrt(width)

    def rows(count):
        own = torch.randn(count, width, generator=generator)
        return math.sqrt(row_cosine) * common + math.sqrt(1 - row_cosine) * own

    # A higher rank adds rows to A; those of lower ranks and everything else are drawn alike.
    start = lora.uniform_bound(width) * (2 * torch.rand(width, width, generator=generator)[:rank] - 1)
    s = factor(rule, rank)
    A, B = nn.Parameter(start.clone()), nn.Parameter(torch.zeros(width, rank))
    update = torch.optim.SGD([A, B], lr) if optimizer == "sgd" else torch.optim.Adam([A, B], lr, eps=1e-30)
    fresh, gradients, found = rows(64), torch.zeros(width, width), {}
    for step in range(1, steps + 1):
        x = rows(batch)
        wrong = s * x @ A.T @ B.T - x @ wanted.T
        update.zero_grad()
        (wrong.square().sum() / (2 * batch)).backward()
        update.step()
        gradients += wrong.detach().T @ x / batch
        if step in (1, steps):
            for name, inputs in (("seen", x), ("fresh", fresh)):
                change = (s * inputs @ A.T @ B.T).detach()
                found[f"{name} {step}"] = change.square().mean().sqrt().item()
                found[f"{name} {step} alignment"] = first_steps.alignment(gradients, inputs)
    return found | {"moved A": ((A.detach() - start).norm() / start.norm()).item()}
