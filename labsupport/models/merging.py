"""From a saved adapter to what answers: merged into the weights, or beside them for some rows of a batch; and
what shows whether both answer alike.

Names and shapes are those of `lora` and `dora`. An adapter's tensors are called as PEFT 0.21.2 saves them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from labsupport.core.files import LabError
from labsupport.models import dora, lora

PREFIX = "base_model.model."
A, B, MAGNITUDE = ".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector"
NO_ADAPTER = "__base__"  # as in PEFT's adapter_names
# Settings by which a layer's update is more than alpha, rank and use_rslora say.
BEYOND = ("rank_pattern", "alpha_pattern", "fan_in_fan_out", "lora_bias", "use_bdlora", "use_qalora")


# ---------------------------------------------------------------- merging


@torch.no_grad()
def merge(weights: Mapping[str, Tensor], adapter: Mapping[str, Tensor], config: Mapping) -> dict[str, Tensor]:
    """All weights by name, those that the adapter has a part for merged with it: PEFT's merge_and_unload.

    weights: a model's, as in its state_dict; X.weight is (out, in). adapter: of each layer X that it changes,
    base_model.model.X with .lora_A.weight (rank, in), .lora_B.weight (out, rank) and for DoRA
    .lora_magnitude_vector (out,). config: of adapter_config.json `r` and `lora_alpha`, and if they are set
    `use_rslora` and `use_dora`. Computes in float32 and returns each weight in its own dtype; changes nothing
    that it is given. LabError for an adapter that holds or asks for more, or does not fit the weights.
    """
    if beyond := [name for name in BEYOND if config.get(name)]:
        raise LabError(f"The adapter has {', '.join(beyond)}: merge it with PEFT's merge_and_unload.")
    merged, left = dict(weights), set(adapter)
    ends = (A, B, MAGNITUDE) if config.get("use_dora") else (A, B)
    for layer in [name.removesuffix(A) for name in adapter if name.endswith(A)]:
        parts = [layer + end for end in ends]
        if missing := [name for name in parts if name not in adapter]:
            raise LabError(f"The adapter lacks {missing[0]}: load all of adapter_model.safetensors.")
        name = f"{layer.removeprefix(PREFIX)}.weight"
        if name not in weights:
            raise LabError(f"There is no {name}, which the adapter changes: give the weights of its base.")
        merged[name] = _merged(name, weights[name], [adapter[part] for part in parts], config)
        left -= set(parts)
    if left:
        raise LabError(
            f"The configuration says nothing of {min(left)}: merge it with PEFT's merge_and_unload."
        )
    return merged


def _merged(name: str, weight: Tensor, parts: list[Tensor], config: Mapping) -> Tensor:
    """One weight (out, in) and its adapter's A, B and, of DoRA, m; in the weight's dtype."""
    A, B, *m = (part.float() for part in parts)
    fitting = [(config["r"], weight.shape[1]), (weight.shape[0], config["r"])]
    if [A.shape, B.shape] != fitting:
        raise LabError(
            f"{name} is {tuple(weight.shape)} and r is {config['r']}, but A is {tuple(A.shape)} and B "
            f"{tuple(B.shape)}: give the weights of the adapter's base, and its own configuration."
        )
    changed = weight.float() + lora.delta(A, B, config["lora_alpha"], bool(config.get("use_rslora")))
    if m:
        changed = (m[0] / dora.row_norms(changed))[:, None] * changed
    return changed.to(weight.dtype)


def surviving(before: Tensor, delta: Tensor, stored: Callable[[Tensor], Tensor]) -> tuple[float, float]:
    """What storing leaves of an update: (kept, cosine), both in float64.

    before (out, in): the weight that the update `delta` is added to; stored: gives the numbers that a weight
    stands for once it is stored, as rounding to bfloat16 does. D = stored(before + delta) - stored(before) is
    what the update changes. kept = D·delta / delta·delta: 1 if all of delta is in D, whatever else is. cosine
    of D and delta: 1 if nothing else is; NaN if nothing changes. LabError for a delta of zeros.
    """
    if not delta.any():
        raise LabError("The update is zero everywhere, so no share of it can be left: give another one.")
    change = (stored(before + delta).double() - stored(before).double()).flatten()
    asked = delta.double().flatten()
    both, length = float(change @ asked), float(asked @ asked)
    lengths = math.sqrt(float(change @ change) * length)
    return both / length, both / lengths if lengths else math.nan


# ---------------------------------------------------------------- serving


def mixed_forward(
    x: Tensor, weight: Tensor, adapters: Mapping[str, tuple[Tensor, Tensor, float]], names: Sequence[str]
) -> Tensor:
    """The layer's output (rows, out) for x (rows, in), each row with the adapter of its name in `names`.

    weight (out, in); adapters: name -> A (rank, in), B (out, rank) and the scale, such as alpha / rank;
    "__base__" is none of them. One product with the weight for all rows, then two small ones for each adapter
    that is named: PEFT's forward with adapter_names. LabError for a name that is not there, and unless each
    row has one.
    """
    if len(names) != len(x):
        raise LabError(f"{len(names)} names for {len(x)} rows: give each row one.")
    if unknown := sorted(set(names) - {NO_ADAPTER, *adapters}):
        raise LabError(
            f"No adapter is called {unknown[0]!r}; there are {', '.join([NO_ADAPTER, *adapters])}."
        )
    output = F.linear(x, weight)
    for name in sorted(set(names) - {NO_ADAPTER}):
        rows = torch.tensor([i for i, own in enumerate(names) if own == name], device=x.device)
        A, B, scale = adapters[name]
        output = output.index_add(0, rows, scale * F.linear(F.linear(x[rows], A), B))
    return output


def first_difference(ours: Sequence[int], theirs: Sequence[int], end: int) -> int | None:
    """The place, from 0, of the first token in which two replies differ; None if they say the same.

    A reply is the ids before the first `end`, or all where there is none: `generate` pads what is after it,
    and a server leaves it out. Where one reply is the beginning of the other, they differ where it stops.
    """
    ours, theirs = _said(ours, end), _said(theirs, end)
    both = enumerate(zip(ours, theirs, strict=False))
    shorter = min(len(ours), len(theirs))
    place = next((i for i, (one, other) in both if one != other), shorter)
    return None if place == len(ours) == len(theirs) else place


def _said(ids: Sequence[int], end: int) -> list[int]:
    ids = list(ids)
    return ids[: ids.index(end)] if end in ids else ids
