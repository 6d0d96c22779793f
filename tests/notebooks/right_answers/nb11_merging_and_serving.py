"""Right answers to notebook 11's exercises, each written in another way than the reference."""

import itertools

import torch
from torch.nn import functional as F


def merge(weights, adapter, config):
    """Goes through the base's weights, and asks the adapter for each."""
    s = config["lora_alpha"] * config["r"] ** (-0.5 if config["use_rslora"] else -1)
    result = {}
    for name, weight in weights.items():
        layer = "base_model.model." + name[: -len(".weight")]
        if layer + ".lora_A.weight" not in adapter:
            result[name] = weight.clone()
            continue
        A, B = adapter[layer + ".lora_A.weight"].float(), adapter[layer + ".lora_B.weight"].float()
        full = torch.addmm(weight.float(), B, A, alpha=s)
        if config["use_dora"]:
            full = torch.diag(adapter[layer + ".lora_magnitude_vector"]) @ F.normalize(full)
        result[name] = full.to(weight.dtype)
    return result


def surviving(before, delta, stored):
    """A sum over the entries, and from it both numbers; float32 but for the sums."""
    D = stored(before + delta) - stored(before)
    both, asked, got = ((a * b).sum(dtype=torch.float64) for a, b in ((D, delta), (delta, delta), (D, D)))
    return (both / asked).item(), (both / (asked * got).sqrt()).item()


def mixed_forward(x, weight, adapters, names):
    """A row at a time."""
    y = torch.empty(len(x), len(weight))
    for i, name in enumerate(names):
        own = weight
        if name in adapters:
            A, B, scale = adapters[name]
            own = weight + scale * B @ A
        y[i] = own @ x[i]
    return y


def first_difference(ours, theirs, end):
    """Goes on until both have ended."""
    one, other = (itertools.takewhile(lambda token: token != end, ids) for ids in (ours, theirs))
    for i, (a, b) in enumerate(itertools.zip_longest(one, other)):
        if a != b:
            return i
    return None


ANSWERS = {
    "merging_and_serving.merge": merge,
    "merging_and_serving.surviving": surviving,
    "merging_and_serving.mixed_forward": mixed_forward,
    "merging_and_serving.first_difference": first_difference,
}
