"""How large the adapter became: its update beside the weights that it is added to."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from labsupport.run_folders.base_of_run import PREFIX, header

SAMPLED = 24  # matrices of the base model that are read, spread over its layers
UNTRAINED_B = (True, "gaussian", "eva", "orthogonal")  # ways of beginning with B = 0; others begin elsewhere


@dataclass(frozen=True)
class Pair:
    """One adapted matrix. norm_b: Frobenius norm of B. update: of scale * B A. outputs, inputs: its shape.
    finite: whether all its numbers are."""

    module: str
    norm_b: float
    update: float
    outputs: int
    inputs: int
    finite: bool


@dataclass(frozen=True)
class Size:
    """All pairs of an adapter. parameters: numbers that were trained. relative: the median over matrices of
    |scale * B A| / |W|, Frobenius norms; measured: whether |W| was read, else a matrix whose entries have
    variance 1 / inputs stands in."""

    pairs: list[Pair]
    parameters: int
    relative: float
    measured: bool

    @property
    def zero(self) -> list[Pair]:
        """Pairs whose B is exactly zero."""
        return [pair for pair in self.pairs if pair.norm_b == 0]

    @property
    def broken(self) -> list[Pair]:
        """Pairs that hold NaN or infinity."""
        return [pair for pair in self.pairs if not pair.finite]


def size_of(run) -> Size | None:
    """The size of the run's adapter; None without pairs of A and B. Kept in the run."""
    if not hasattr(run, "_size"):
        run._size = measured(run)
    return run._size


def measured(run) -> Size | None:
    """`size_of`."""
    weights = run.weights()
    pairs = []
    for name in sorted(weights):
        other = name.replace(".lora_A.", ".lora_B.")
        if ".lora_A." in name and other in weights and weights[name].dim() == weights[other].dim() == 2:
            pairs.append(pair_of(run, name.partition(".lora_A.")[0], weights[name], weights[other]))
    if not pairs:
        return None
    norms = base_norms(run, pairs)
    finite = [pair for pair in pairs if pair.finite]
    shares = [pair.update / norms.get(pair.module, math.sqrt(pair.outputs)) for pair in finite]
    known = [pair.update / norms[pair.module] for pair in finite if norms.get(pair.module)]
    parameters = sum(one.numel() for one in weights.values())
    relative = statistics.median(known or shares) if finite else math.nan
    return Size(pairs, parameters, relative, bool(known))


def pair_of(run, module: str, a, b) -> Pair:
    """Sizes of one pair. a: (r, inputs), b: (outputs, r); |B A| is computed from products of r x r."""
    import torch

    a, b = a.double(), b.double()
    finite = bool(torch.isfinite(a).all() and torch.isfinite(b).all())
    square = float(((b.T @ b) * (a @ a.T)).sum()) if finite else math.nan
    update = scale_of(run, module, a.shape[0]) * math.sqrt(max(square, 0.0)) if finite else math.nan
    norm = float(b.norm()) if finite else math.nan
    return Pair(module.removeprefix(PREFIX), norm, update, b.shape[0], a.shape[1], finite)


def scale_of(run, module: str, rank: int) -> float:
    """What PEFT multiplies B A by: alpha / r, or alpha / sqrt(r) with rsLoRA."""
    config = run.adapter_config
    alpha = config.get("lora_alpha") or rank
    for pattern, own in (config.get("alpha_pattern") or {}).items():
        if module.endswith(pattern):
            alpha = own
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def base_norms(run, pairs: list[Pair]) -> dict[str, float]:
    """Frobenius norms of some of the base's matrices, by module; {} where the base or its plain weights are
    not there."""
    folder = run.base_folder()
    if folder is None:
        return {}
    from safetensors import safe_open

    wanted = {pair.module for pair in pairs[:: max(1, len(pairs) // SAMPLED)]}
    norms = {}
    for path in sorted(folder.glob("model*.safetensors")):
        entries = header(path)
        with safe_open(path, "pt") as file:
            for module in wanted:
                entry = entries.get(f"{module}.weight")
                if entry and entry["dtype"] in ("F32", "F16", "BF16", "F64"):
                    norms[module] = float(file.get_tensor(f"{module}.weight").double().norm())
    return norms
