"""Notebook 11's central exercise: a PEFT adapter file merged into its base's weights."""

from __future__ import annotations

import math

import torch

from labsupport.checking.exercise import Exercise, told
from labsupport.models import merging

FRONT, A, B, M = merging.PREFIX, merging.A, merging.B, merging.MAGNITUDE


def use(fn, weights, adapter, config) -> dict | None:
    """What fn returns: by name and dtype its numbers in float32, as tolerances go by the dtype."""
    merged = fn(weights, adapter, config)
    if merged is None:
        return None
    return {name: {str(own.dtype).removeprefix("torch."): own.float()} for name, own in merged.items()}


# ---------------------------------------------------------------- bases and adapters


def _q(number: int) -> str:
    return f"model.layers.{number}.self_attn.q_proj"


def _mlp(number: int, name: str) -> str:
    return f"model.layers.{number}.mlp.{name}"


def _case(shapes: dict, layers: list[str], draw, base=torch.float32, file=torch.float32, **settings) -> tuple:
    """weights of `shapes`, an adapter for `layers` in that order, and its configuration."""
    config = {"r": 2, "lora_alpha": 8, "use_rslora": False, "use_dora": False} | settings
    weights = {f"{layer}.weight": draw(*shape).to(base) for layer, shape in shapes.items()}
    weights["model.norm.weight"] = draw(6).to(base)
    adapter = {}
    for layer in layers:
        out, inputs = shapes[layer]
        adapter[FRONT + layer + A] = draw(config["r"], inputs).to(file)
        adapter[FRONT + layer + B] = draw(out, config["r"]).to(file)
        if config["use_dora"]:
            adapter[FRONT + layer + M] = 1 + draw(out).abs()
    return weights, adapter, config


def _cases() -> list[tuple]:
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, generator=generator)

    def sixteenths(*shape):
        """So that in float32 every sum of products is exact, and all who round it round the same number."""
        return torch.randint(-32, 33, shape, generator=generator) / 16

    two = {_q(0): (6, 6), _q(1): (6, 6)}
    square = two | {_q(2): (6, 6)}
    up, down = _mlp(0, "up_proj"), _mlp(0, "down_proj")
    mlp = {up: (10, 6), down: (6, 10)}
    half = torch.bfloat16
    return [
        _case({up: (4, 3)}, [up], random),
        _case(two, [_q(1), _q(0)], random),
        _case(mlp, [down, up], random, file=half, r=4, lora_alpha=6, use_rslora=True),
        _case(mlp | square, [up, _q(1)], sixteenths, base=half, r=4, lora_alpha=2),
        _case(square, [_q(1), _q(0)], random, r=3, lora_alpha=2, use_dora=True),
        _case(mlp, [up], random, r=4, lora_alpha=3, use_dora=True, use_rslora=True),
    ]


# ---------------------------------------------------------------- what people write


def _scale(config):
    r = config["r"]
    return config["lora_alpha"] / (math.sqrt(r) if config["use_rslora"] else r)


def _rows(weight):
    return weight.norm(dim=1, keepdim=True)


def _dora(weight, update, m):
    return m[:, None] * (weight + update) / _rows(weight + update)


def _by_name(weights, layers):
    """Each layer of the adapter with the weight of its name."""
    return [(f"{layer.removeprefix(FRONT)}.weight", layer) for layer in layers]


def _with(
    scale=_scale,
    product=lambda A, B: B.float() @ A.float(),
    added=lambda weight, update: weight.float() + update,
    dora=_dora,
    stored=lambda changed, weight: changed.to(weight.dtype),
    start=dict,
    pairs=_by_name,
    name=lambda name, layer: name,
):
    """A right one of parts, each of which a mistake can replace."""

    def answer(weights, adapter, config):
        merged = start(weights)
        layers = [key.removesuffix(A) for key in adapter if key.endswith(A)]
        for target, layer in pairs(weights, layers):
            weight = weights[target]
            update = scale(config) * product(adapter[layer + A], adapter[layer + B])
            m = adapter.get(layer + M)
            changed = added(weight, update) if m is None else dora(weight, update, m)
            merged[name(target, layer)] = stored(changed, weight)
        return merged

    return answer


def _in_order(weights, layers):
    own = [weight for weight, _ in _by_name(weights, layers)]
    return list(zip([name for name in weights if name in own], layers, strict=True))


def _by_kind(weights, layers):
    """Any layer's q_proj with the first adapter of a q_proj."""
    kinds = {layer.rpartition(".")[2]: layer for layer in reversed(layers)}
    return [(name, kinds[name.split(".")[-2]]) for name in weights if name.split(".")[-2] in kinds]


def _unscaled_norm(weights, adapter, config):
    scale = _scale(config)
    wrong = _with(dora=lambda W, D, m: m[:, None] * (W + D) / _rows(W + D / scale))
    return wrong(weights, adapter, config)


merge = Exercise(
    name="merging_and_serving.merge",
    reference=merging.merge,
    used=use,
    cases=_cases,
    mistakes=told(
        _with(scale=lambda config: config["lora_alpha"]),
        "B A is scaled by alpha: the factor is alpha / r, and alpha / sqrt(r) with use_rslora.",
        _with(scale=lambda config: 1),
        "B A is added as it is: it must be scaled by alpha / r, and by alpha / sqrt(r) with use_rslora.",
        _with(scale=lambda config: config["lora_alpha"] / config["r"]),
        "use_rslora is ignored: where it is set, the factor is alpha / sqrt(r).",
        _with(scale=lambda config: config["lora_alpha"] / math.sqrt(config["r"])),
        "The factor is alpha / sqrt(r) only where use_rslora is set; elsewhere it is alpha / r.",
        _with(scale=lambda config: 1 if config["use_dora"] else _scale(config)),
        "DoRA's B A is not scaled. The paper's formula has no factor, but PEFT scales it as LoRA's.",
        _with(product=lambda A, B: A.float() @ B.float()),
        "A and B are exchanged: A is (r, in) and B (out, r), so the update is B @ A.",
        _with(product=lambda A, B: (B.float() @ A.float()).T),
        "The update is transposed, which only a square weight takes: B @ A is (out, in), as the weight is.",
        _with(dora=lambda W, D, m: W + D),
        "The magnitude vector is not used: with use_dora, each row of W + s·B A gets the length in m.",
        _with(dora=lambda W, D, m: m[:, None] * (W + D)),
        "DoRA's norm is missing: divide each row of W + s·B A by its length before m scales it.",
        _with(dora=lambda W, D, m: (W + D) / _rows(W + D)),
        "Every row of DoRA's weight has the length 1: multiply it with its entry of m.",
        (
            _with(dora=lambda W, D, m: (m / (W + D).norm(dim=0))[:, None] * (W + D)),
            _with(dora=lambda W, D, m: m * (W + D) / (W + D).norm(dim=0)),
        ),
        "DoRA's norm is along the wrong axis, which only a square weight takes: one for each row, dim=1, and "
        "m[:, None] goes with rows.",
        _with(dora=lambda W, D, m: m * (W + D) / _rows(W + D)),
        "m goes with the columns, which only a square weight takes: m[:, None] goes with rows.",
        _with(dora=lambda W, D, m: m[:, None] * (W + D) / _rows(W)),
        "DoRA's norm is that of W alone: take that of W + s·B A, of what it divides.",
        _with(dora=lambda W, D, m: m[:, None] * (W + D) / (W + D).norm()),
        "DoRA's norm is that of the whole matrix: each row has its own, dim=1.",
        _unscaled_norm,
        "alpha / r is missing in DoRA's norm: it is the norm of W + s·B A, of what it divides.",
        _with(dora=lambda W, D, m: m[:, None] * W / _rows(W) + D),
        "DoRA's update is added after the lengths are set: add it to W first, then normalise, then scale "
        "with m.",
        _with(added=lambda weight, update: weight + update.to(weight.dtype)),
        "The update is rounded to the weight's bfloat16 before the sum, so the result is rounded twice: add "
        "in float32, weight.float() + update, and round the sum.",
        _with(product=lambda A, B: B @ A),
        "B @ A is computed in the file's bfloat16: make both float32 first, .float().",
        _with(stored=lambda changed, weight: changed),
        "A bfloat16 weight comes back as float32, so the model would need twice the memory: put the sum back "
        "into the weight's own dtype, .to(weight.dtype).",
        _with(start=lambda weights: {}),
        "Weights without an adapter are left out: a model needs all of them. Begin with dict(weights).",
        _with(pairs=_in_order),
        "An adapter is merged into another layer's weight: the file has its own order, so go by the names.",
        _with(pairs=_by_kind),
        "Every layer of a kind gets the same adapter: of a name, model.layers.2 matters too.",
        _with(pairs=lambda *given: _by_name(*given)[:1]),
        "Only the first adapter is merged: does a return stand in the loop?",
        _with(name=lambda name, layer: f"{layer}.weight"),
        "The merged weights have PEFT's names beside the base's, which are unchanged: leave out "
        "base_model.model. at the beginning.",
    ),
    hints=[
        "Begin with a dict of all weights. For each key of the adapter that ends in .lora_A.weight, find the "
        "keys of B and m, and the name in the base: no base_model.model. before it, and .weight at its end.",
        "s is alpha / r, or alpha / sqrt(r). changed = W.float() + s · B.float() @ A.float(); with use_dora, "
        "each row is divided by its own norm and multiplied with its entry of m.",
        'layer = key.removesuffix(".lora_A.weight"); name = layer.removeprefix("base_model.model.") + '
        '".weight"; for DoRA (m / changed.norm(dim=1))[:, None] * changed; at last .to(weight.dtype).',
    ],
    minutes=25,
    difficulty=2,
    returns="tensor",
)
