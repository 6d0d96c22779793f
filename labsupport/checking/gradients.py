"""Which gradients a result gives to the arguments: a loss with the right value may train nothing."""

from __future__ import annotations

import sys
from typing import Any

from labsupport.checking.running import Outcome
from labsupport.differences.comparing import CUT_OFF, mismatches, plain

TOLERANCE = 1e-3  # relative and absolute: another order of sums is fine, a missing path is not


def reaching(result: Any, arguments: tuple) -> dict[int, Any]:
    """For each argument that is a tensor with requires_grad: its gradient in plain form, None if none comes.

    The gradient is that of a weighted sum of everything in the result. Empty where nothing is differentiable.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return {}
    wanted = {i: a for i, a in enumerate(arguments) if isinstance(a, torch.Tensor) and a.requires_grad}
    if not wanted:
        return {}
    with torch.enable_grad():
        # Weights that differ by place, so that no two errors cancel.
        parts = torch.cat([torch.zeros(1), *_flat(result, torch)])
        total = (parts * torch.arange(1, len(parts) + 1).cos()).sum()
        try:
            found = torch.autograd.grad(total, list(wanted.values()), allow_unused=True)
        except RuntimeError:  # a graph that is freed, or changed in place
            return dict.fromkeys(wanted)
    return {i: None if g is None else plain(g) for i, g in zip(wanted, found, strict=True)}


def problem(expected: Outcome, got: Outcome, names: list[str]) -> str | None:
    """A sentence if the gradients that reach the arguments are not the reference's, else None."""
    wanted = {i: g for i, g in reaching(expected.result, expected.own).items() if g is not None}
    found = reaching(got.result, got.own) if wanted else {}
    for i, gradient in wanted.items():
        if found[i] is None:
            return f"Its values are right, but no gradient reaches {names[i]}: {CUT_OFF}."
        if mismatches(gradient, found[i], TOLERANCE):
            return (
                f"Its values are right, but the gradient that reaches {names[i]} is not: a path is cut off."
            )
    return None


def _flat(value, torch) -> list:
    """Everything in a result as float64 vectors, one after the other; what is no number counts as one 0."""
    if isinstance(value, (dict, list, tuple)):
        items = value.values() if isinstance(value, dict) else value
        return [vector for item in items for vector in _flat(item, torch)]
    if hasattr(value, "shape"):
        return [torch.as_tensor(value).double().flatten().cpu()]
    return [torch.zeros(1, dtype=torch.float64)]
