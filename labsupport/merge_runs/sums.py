"""Sums of adapters: a base with any weighted combination of several updates in its weights.

Everything is done layer by layer and in float32, in the weights themselves, so that every combination is one
plain model of the base's size: a sum of LoRA updates, but also what is no adapter, such as TIES.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from labsupport.merge_runs import adapters
from labsupport.models import lora
from labsupport.run_folders.base_of_run import PREFIX

Update = Callable[[str], Tensor]  # name of a layer, as in the bare model -> what is added to it, (out, in)


# ---------------------------------------------------------------- updates


def of(folder: Path | str) -> Update:
    """A saved LoRA adapter's update, (alpha / rank) B A, multiplied out when it is asked for: its factors are
    kept, which are 40 times smaller. LabError as `adapters.plain`."""
    tensors, config = adapters.plain(folder)

    def update(layer: str) -> Tensor:
        A, B = (tensors[f"{PREFIX}{layer}.lora_{side}.weight"].float() for side in "AB")
        return lora.delta(A, B, config["lora_alpha"])

    return update


def weighted(weights: dict[str, float], updates: dict[str, Update]) -> Update:
    """Σ weight · update, by name; a negative weight subtracts. PEFT's `add_weighted_adapter` makes the same
    of them with combination_type="cat"."""
    return lambda layer: torch.stack([w * updates[name](layer) for name, w in weights.items()]).sum(0)


def tied(updates: Sequence[Update], density: float) -> Update:
    """TIES (Yadav et al. 2023) by PEFT's own function: of each update's entries in a matrix the largest share
    `density` stays, their sum elects a sign for each place, and those of that sign are averaged."""
    from peft.utils.merge_utils import ties

    return lambda layer: ties([update(layer) for update in updates], torch.ones(len(updates)), density)


def tied_factors(base: str, folders: dict[str, Path], density: float, target: Path) -> Update:
    """What PEFT's `add_weighted_adapter` calls "ties": done to A and B apart, whose product is another thing.

    base: as `base_model.load` takes it; folders: adapters by name; target: a folder for the result.
    """
    from peft import PeftModel

    from labsupport.models import base_model

    model, _ = base_model.load(base, "float32", "cpu")
    (first, folder), *others = folders.items()
    model = PeftModel.from_pretrained(model, str(folder), adapter_name=first)
    for name, folder in others:
        model.load_adapter(str(folder), adapter_name=name)
    weights = [1.0] * len(folders)
    model.add_weighted_adapter(list(folders), weights, "tied", combination_type="ties", density=density)
    model.save_pretrained(target, selected_adapters=["tied"], save_embedding_layers=False)
    return of(Path(target) / "tied")


def misplaced(update: Update, seed: int = 0) -> Update:
    """The same update for other inputs and outputs: rows and columns of every matrix in a random order.

    It has the same entries, norm, rank and singular values, and nobody trained it. (`adapters.shuffled` also
    has the entries, but is of full rank, so that no direction of it is strong.)
    """

    def other(layer: str) -> Tensor:
        delta = update(layer)
        # Every layer has orders of its own, the same at every call.
        generator = torch.Generator().manual_seed(seed + zlib.crc32(layer.encode()))
        rows, columns = (torch.randperm(side, generator=generator) for side in delta.shape)
        return delta[rows][:, columns]

    return other


def held(update: Update, layers: Iterable[str]) -> Update:
    """The update made once for all these layers and kept: for one that takes long, such as TIES. As large as
    the weights."""
    return {layer: update(layer) for layer in layers}.__getitem__


# ---------------------------------------------------------------- in a model


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the weights of all linear layers but the head: name -> (out, in)."""
    return {name: layer.weight.detach().clone() for name, layer in lora.linear_layers(model).items()}


@torch.no_grad()
def put(model: nn.Module, first: dict[str, Tensor], update: Update | None = None) -> None:
    """Set the weights to `first`, `weights_of` the bare model, plus an update; changes the model."""
    for name, layer in lora.linear_layers(model).items():
        layer.weight.copy_(first[name] if update is None else first[name] + update(name))


@torch.no_grad()
def products(first: dict[str, Tensor], updates: dict[str, Update]) -> dict:
    """Scalar products of the updates of all layers together, and of the weights with themselves.

    `names` of the updates; `products`, a matrix in their order; `weights`, W·W. All that lengths and cosines
    need.
    """
    total = torch.zeros(len(updates), len(updates), dtype=torch.float64)
    for layer in first:
        rows = torch.stack([update(layer).flatten() for update in updates.values()])
        total += (rows @ rows.T).double()
    found = [[float(f"{value:.6g}") for value in row] for row in total.tolist()]
    whole = sum(float(weight.square().sum()) for weight in first.values())
    return {"names": list(updates), "products": found, "weights": float(f"{whole:.6g}")}


def product(found: dict, one: str | dict[str, float], other: str | dict[str, float]) -> float:
    """The scalar product of two updates, from `products`; of a name, or of a sum given by its weights."""
    sides = [side if isinstance(side, dict) else {side: 1.0} for side in (one, other)]
    place = found["names"].index
    return sum(
        v * w * found["products"][place(a)][place(b)]
        for a, v in sides[0].items()
        for b, w in sides[1].items()
    )


def cosine(found: dict, one: str | dict[str, float], other: str | dict[str, float]) -> float:
    """The cosine of two updates as `product` takes them, all their entries as one vector. NaN if one is
    zero."""
    lengths = math.sqrt(product(found, one, one) * product(found, other, other))
    return product(found, one, other) / lengths if lengths else math.nan


def relative(found: dict, update: str | dict[str, float]) -> float:
    """|dW| / |W| of an update as `product` takes it, over all layers."""
    return math.sqrt(product(found, update, update) / found["weights"])
