"""LoRA by hand: the algebra, and a layer that equals PEFT's.

Names and shapes are PEFT's: A is (rank, in), the down-projection; B is (out, rank), the up-projection; a
weight is (out, in), as in torch.nn.Linear; the update is (alpha / rank) · B A (Hu et al. 2021, section 4.1).
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from labsupport.core.files import LabError
from labsupport.sizes import counting

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


def linear_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """The model's linear layers by full name; the output head is not one of them."""
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    return {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear) and m is not head}


def linear_names(model: nn.Module) -> list[str]:
    """Their last names, each once, sorted."""
    return sorted({name.rpartition(".")[2] for name in linear_layers(model)})


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
    chosen = {n: layer for n, layer in linear_layers(model).items() if n.rpartition(".")[2] in wanted}
    for layer in chosen.values():
        counting.check_rank(rank, layer.in_features, layer.out_features)
    model.requires_grad_(False)
    for name, layer in chosen.items():
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, LoRALinear(layer, rank, alpha, **options))
    return list(chosen)
