"""DoRA by hand: a weight as a length and a direction for each output, and a layer that equals PEFT's.

Names and shapes are those of `lora`: a weight is (out, in), A (rank, in), B (out, rank). DoRA (Liu et al.
2024, arXiv 2402.09353, equation 5) trains the lengths m and, through A and B, the directions:

    W' = m · (W + s·B A) / ‖W + s·B A‖

The paper writes one norm "across each column" and m as (1, in). Its authors' code and PEFT take one norm for
each row of the (out, in) weight, so m has one entry an output; so does this module. The paper's formula has
no s = alpha / rank; both implementations have it.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from labsupport.core.files import LabError
from labsupport.models import lora


def row_norms(weight: torch.Tensor) -> torch.Tensor:
    """The length of what leads to each output: (out,) for a weight of (out, in)."""
    return torch.linalg.vector_norm(weight, dim=1)


def factors(
    weight: torch.Tensor, A: torch.Tensor, B: torch.Tensor, m: torch.Tensor, alpha: float
) -> torch.Tensor:
    """What each row of W + s·B A is multiplied with, (out,): m over the row's norm.

    No gradient goes through the norm (section 4.3 of the paper). A row that is exactly zero gives NaN or
    infinity.
    """
    return m / row_norms(weight + lora.delta(A, B, alpha)).detach()


def merged_weight(
    weight: torch.Tensor, A: torch.Tensor, B: torch.Tensor, m: torch.Tensor, alpha: float
) -> torch.Tensor:
    """The weight (out, in) that DoRA computes with: every row of W + s·B A, brought to its length in m."""
    return factors(weight, A, B, m, alpha)[:, None] * (weight + lora.delta(A, B, alpha))


class DoRALinear(nn.Module):
    """A frozen linear layer with a DoRA adapter: A uniform, B zero, m the norms of the weight's rows, so that
    at first it computes what `base` does.

    Dropout acts on what goes to the adapter, as in PEFT: while training with it, the frozen product is
    computed twice, of x and of what dropout leaves of x. The bias has no part in lengths and directions.
    Raises LabError for a rank that is no whole number from 1 to the smaller side of the weight, and for a
    weight with a row of zeros, which has no direction: there PEFT 0.21.2 returns NaN.
    """

    def __init__(self, base: nn.Linear, rank: int, alpha: float, dropout: float = 0.0) -> None:
        super().__init__()
        plain = lora.LoRALinear(base, rank, alpha)  # checks the rank, freezes the base, draws A
        self.base, self.alpha, self.merged = base, alpha, False
        self.A, self.B = plain.A, plain.B
        self.m = nn.Parameter(_norms_of_all(base.weight))
        self.dropout = nn.Dropout(dropout)

    def factors(self) -> torch.Tensor:
        """As the function, of the layer's own tensors."""
        return factors(self.base.weight, self.A, self.B, self.m, self.alpha)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.merged:
            return self.base(x)
        frozen = F.linear(x, self.base.weight)
        left, again = x, frozen
        if self.training and self.dropout.p:
            left = self.dropout(x)
            again = F.linear(left, self.base.weight)
        update = lora.scale(self.alpha, len(self.A)) * F.linear(F.linear(left, self.A), self.B)
        c = self.factors()
        out = frozen + (c - 1) * again + c * update
        return out if self.base.bias is None else out + self.base.bias

    @torch.no_grad()
    def merge(self) -> None:
        """Write the weight it computes with into the base, once: a second call does nothing."""
        if not self.merged:
            self.base.weight.copy_(merged_weight(self.base.weight, self.A, self.B, self.m, self.alpha))
            self.merged = True


def _norms_of_all(weight: torch.Tensor) -> torch.Tensor:
    norms = row_norms(weight.detach())
    zero = int((norms == 0).sum())
    if zero:
        rows = "1 row is" if zero == 1 else f"{zero} rows are"
        raise LabError(
            f"DoRA divides each row of the weight by its norm, and of the {len(norms)} here {rows} exactly "
            "zero: its output would be NaN at once. Leave this layer out, or use LoRA for it."
        )
    return norms
