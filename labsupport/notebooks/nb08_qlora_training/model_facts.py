"""What a model of QLoRA's is and does, as plain facts: its base, its adapters, and its first step."""

from __future__ import annotations

import contextlib

from labsupport.notebooks.nb08_qlora_training import tiny_models


def _short(dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _distinct(values) -> list[str]:
    return sorted(set(map(str, values)))


def _base_layers(model) -> list:
    """The linear layers as the base has them, without their adapters."""
    named = model.named_modules()
    found = [module for name, module in named if name.rpartition(".")[2] in tiny_models.PROJECTIONS]
    return [getattr(module, "base_layer", module) for module in found]


def _format(weight) -> str:
    """ "nf4" or "fp4" of a packed weight, else its dtype."""
    state = getattr(weight, "quant_state", None)
    return _short(weight.dtype) if state is None else state.quant_type


def _scales(state) -> str:
    if state is None:
        return "none"
    return "quantised again" if state.nested else _short(state.absmax.dtype)


def _part(name: str) -> str:
    """Of a parameter's name, the part that says what it is."""
    parts = [part for part in name.split(".") if part not in ("weight", "default", "base_layer")]
    return next((part for part in parts if part.startswith("lora_")), parts[-1])


def of_base(model) -> dict:
    """How the base is stored and computed with."""
    layers = _base_layers(model)
    states = [getattr(layer.weight, "quant_state", None) for layer in layers]
    rest = [p for n, p in model.named_parameters() if "lora_" not in n and p.is_floating_point() and p.ndim]
    return {
        "linear layers": _distinct(_format(layer.weight) for layer in layers),
        "scales": _distinct(_scales(state) for state in states),
        "computes in": _distinct(_short(getattr(layer, "compute_dtype", None)) for layer in layers),
        "embeddings, norms and head": _distinct(_short(p.dtype) for p in rest),
    }


def of_adapters(model) -> dict:
    """Where adapters are, how large, how scaled, and what is trained."""
    with_one = {name: module for name, module in model.named_modules() if hasattr(module, "lora_A")}
    ranks = [a.weight.shape[0] for module in with_one.values() for a in module.lora_A.values()]
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    return {
        "returns": type(model).__name__.removesuffix("ForCausalLM"),
        "adapters on": _distinct(name.rpartition(".")[2] for name in with_one),
        "rank": _distinct(ranks),
        "alpha / r": _distinct(round(s, 3) for module in with_one.values() for s in module.scaling.values()),
        "trained": _distinct(map(_part, trained)),
        "trained in": _distinct(_short(p.dtype) for p in trained.values()),
    }


def of_first_step(model) -> dict:
    """What it computes at the start, and how many adapters the first gradient arrives at."""
    import torch

    ids = torch.arange(3, 27, device=model.get_input_embeddings().weight.device)[None]
    model.eval()
    with torch.no_grad():
        start = model(input_ids=ids).logits
        with getattr(model, "disable_adapter", contextlib.nullcontext)():
            base = model(input_ids=ids).logits
    loss = model.train()(input_ids=ids, labels=ids).loss
    if loss.requires_grad:
        loss.backward()
    Bs = [p for name, p in model.named_parameters() if "lora_B" in name]
    reached = sum(p.grad is not None and bool(p.grad.any()) for p in Bs)
    same = "the same" if torch.equal(start, base) else "something else"
    return {"computes at first, beside the base": same, "adapters that a gradient reaches": reached}
