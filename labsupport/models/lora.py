"""LoRA by hand: the algebra, a layer that equals PEFT's, and the spectrum of an update.

Names and shapes are PEFT's: A is (rank, in), the down-projection; B is (out, rank), the up-projection; a
weight is (out, in), as in torch.nn.Linear; the update is (alpha / rank) · B A (Hu et al. 2021, section 4.1).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from labsupport.core.files import LabError
from labsupport.models import counting

PEFT_A = math.sqrt(5)  # the `a` that loralib and PEFT give to Kaiming's uniform initialisation


# ---------------------------------------------------------------- the algebra


def scale(alpha: float, rank: int, rslora: bool = False) -> float:
    """alpha / rank, or alpha / sqrt(rank) for rsLoRA (Kalajdzievski 2023)."""
    return alpha / math.sqrt(rank) if rslora else alpha / rank


def delta(A: torch.Tensor, B: torch.Tensor, alpha: float, rslora: bool = False) -> torch.Tensor:
    """The update of the weight, shape (out, in), for A (rank, in) and B (out, rank)."""
    return scale(alpha, A.shape[0], rslora) * (B @ A)


def uniform_bound(fan_in: int, a: float = PEFT_A) -> float:
    """The b of Kaiming's uniform distribution U(-b, b): sqrt(6 / ((1 + a²) · fan_in)) (He et al. 2015)."""
    return math.sqrt(6 / ((1 + a**2) * fan_in))


def forward(
    x: torch.Tensor,
    dropped: torch.Tensor,
    weight: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    alpha: float,
) -> torch.Tensor:
    """The layer's output (..., out). x (..., in) goes through the weight; `dropped`, x after dropout, through
    A and then B. Without dropout both are the same tensor."""
    return F.linear(x, weight) + scale(alpha, A.shape[0]) * F.linear(F.linear(dropped, A), B)


def factor_gradients(
    weight_gradient: torch.Tensor, A: torch.Tensor, B: torch.Tensor, alpha: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of A (rank, in) and B (out, rank) from G (out, in), the gradient of the full weight.

    By the chain rule on W + s·B A: dL/dA = s·Bᵀ G and dL/dB = s·G Aᵀ.
    """
    s = scale(alpha, A.shape[0])
    return s * B.T @ weight_gradient, s * weight_gradient @ A.T


# ---------------------------------------------------------------- the layer


class LoRALinear(nn.Module):
    """A frozen linear layer with an adapter: A uniform, B zero, so at first it computes what `base` does.

    rslora: alpha / sqrt(rank) instead of alpha / rank. A has the dtype and device of the base's weight.
    Raises LabError for a rank that is no whole number from 1 to the smaller side of the weight.
    """

    def __init__(
        self, base: nn.Linear, rank: int, alpha: float, dropout: float = 0.0, rslora: bool = False
    ) -> None:
        super().__init__()
        counting.check_rank(rank, base.in_features, base.out_features)
        self.base, self.alpha, self.rslora, self.merged = base.requires_grad_(False), alpha, rslora, False
        like = {"dtype": base.weight.dtype, "device": base.weight.device}
        bound = uniform_bound(base.in_features)
        self.A = nn.Parameter(torch.empty(rank, base.in_features, **like).uniform_(-bound, bound))
        self.B = nn.Parameter(torch.zeros(base.out_features, rank, **like))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.merged:
            return self.base(x)
        s = scale(self.alpha, self.A.shape[0], self.rslora)
        return self.base(x) + s * F.linear(F.linear(self.dropout(x), self.A), self.B)

    @torch.no_grad()
    def merge(self) -> None:
        """Add the update to the base's weight, once: a second call does nothing."""
        if not self.merged:
            self.base.weight += delta(self.A, self.B, self.alpha, self.rslora)
            self.merged = True

    @torch.no_grad()
    def unmerge(self) -> None:
        """Subtract it again. Rounding leaves the weight within a unit or two in its last place."""
        if self.merged:
            self.base.weight -= delta(self.A, self.B, self.alpha, self.rslora)
            self.merged = False


def linear_names(model: nn.Module) -> list[str]:
    """The last names of the model's linear layers, sorted; the output head is not one of them."""
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    linears = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear) and m is not head}
    return sorted({name.rpartition(".")[2] for name in linears})


def attach(model: nn.Module, targets: str | list[str], rank: int, alpha: float, **options) -> list[str]:
    """Freeze the model and put a LoRALinear in place of each target; returns their full names.

    targets: "all-linear" or last names such as ["q_proj", "v_proj"]. Raises LabError for a name that no
    linear layer has, listing those there are, and for a bad rank; the model is then unchanged.
    """
    valid = linear_names(model)
    wanted = valid if targets == "all-linear" else [targets] if isinstance(targets, str) else list(targets)
    unknown = [name for name in wanted if name not in valid]
    if unknown or not wanted:
        raise LabError(
            f"Unknown target module {', '.join(map(repr, unknown)) or '(none given)'}: this model's linear "
            f"layers are called {', '.join(valid)}; name some of them or give 'all-linear'."
        )
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    chosen = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not head and name.rpartition(".")[2] in wanted
    }
    for module in chosen.values():
        counting.check_rank(rank, module.in_features, module.out_features)
    model.requires_grad_(False)
    for name, module in chosen.items():
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, LoRALinear(module, rank, alpha, **options))
    return list(chosen)


# ---------------------------------------------------------------- the spectrum of an update


def energy_curve(singular_values) -> np.ndarray:
    """Share of the energy (the sum of squared singular values) in the first 1, 2, ... of them, in 0..1."""
    squares = np.sort(np.asarray(singular_values, dtype=float))[::-1] ** 2
    total = squares.sum()
    if not total > 0:
        raise LabError("All singular values are zero: an update that is zero has no spectrum.")
    return squares.cumsum() / total


def rank_for_energy(singular_values, share: float) -> int:
    """The smallest rank whose best approximation keeps at least `share` (0..1) of the energy.

    The best approximation of rank k keeps the k largest singular values (Eckart and Young 1936).
    """
    if not 0 < share <= 1:
        raise LabError(f"The share is {share!r}: give a number above 0 and at most 1, such as 0.9.")
    return int(np.searchsorted(energy_curve(singular_values), share * (1 - 1e-12))) + 1


def error_at(singular_values, rank: int) -> float:
    """Relative Frobenius error of the best approximation of that rank: sqrt(1 - energy kept)."""
    curve = energy_curve(singular_values)
    return math.sqrt(max(0.0, 1.0 - curve[min(rank, len(curve)) - 1]))


def random_spectrum(rows: int, columns: int) -> np.ndarray:
    """The expected singular values, largest first, of a rows x columns matrix of random signs.

    Quantiles of the law of Marchenko and Pastur (1967): the squared singular values divided by the longer
    side are spread over ((1 - sqrt(q))², (1 + sqrt(q))²) with q = shorter / longer.
    """
    short, long = sorted((rows, columns))
    q = short / long
    # Midpoints of a fine grid, denser towards both edges, where the density has infinite slope.
    t = (np.arange(4000) + 0.5) / 4000 * np.pi
    x = 1 + q - 2 * math.sqrt(q) * np.cos(t)
    mass = np.sin(t) ** 2 / x
    cumulative = (mass.cumsum() - mass / 2) / mass.sum()
    return np.sqrt(np.interp((np.arange(short) + 0.5) / short, cumulative, x)[::-1] * long)


# ---------------------------------------------------------------- a small problem to try rules on


def toy_updates(
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
    layer = LoRALinear(nn.Linear(64, 48, bias=False, dtype=torch.float64), rank=8, alpha=alpha)
    layer.A.data = a_factor * uniform_bound(64) * uniform
    groups = [{"params": [layer.A], "lr": lr_a}, {"params": [layer.B], "lr": lr_b}]
    if optimizer == "sgd":
        update = torch.optim.SGD(groups, lr=lr_a)
    else:
        update = torch.optim.AdamW(groups, lr=lr_a, eps=eps, weight_decay=weight_decay)
    history = [delta(layer.A, layer.B, alpha).detach()]
    for _step in range(steps):
        loss = (delta(layer.A, layer.B, alpha) - target).square().sum() / 48
        update.zero_grad()
        loss.backward()
        update.step()
        history.append(delta(layer.A, layer.B, alpha).detach())
    return history


def apart(one: list[torch.Tensor], other: list[torch.Tensor], step: int) -> float:
    """Relative distance of two runs' updates after that step: ‖one - other‖ / ‖one‖."""
    return ((one[step] - other[step]).norm() / one[step].norm()).item()


def first_step(optimizer: str, rank: int, alpha: float, rslora: bool = False) -> float:
    """How much one step of learning rate 1e-3 changes the output: rms over 8 inputs, mean of 4 draws.

    A LoRALinear on 512 x 512, float64, with random output gradients of the size 1.
    """
    changes = []
    for seed in range(4):
        torch.manual_seed(seed)
        layer = LoRALinear(nn.Linear(512, 512, bias=False, dtype=torch.float64), rank, alpha, rslora=rslora)
        x, gradient = torch.randn(2, 8, 512, dtype=torch.float64)
        kind = torch.optim.SGD if optimizer == "sgd" else torch.optim.Adam
        update = kind([layer.A, layer.B], lr=1e-3)
        before = layer(x)
        before.backward(gradient)
        update.step()
        changes.append((layer(x) - before).square().mean().sqrt().item())
    return sum(changes) / len(changes)
