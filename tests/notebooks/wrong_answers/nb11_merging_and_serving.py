"""Wrong answers to notebook 11's exercises, as learners write them: (function, words of its diagnosis)."""

import copy
import math

import torch

# ---------------------------------------------------------------- merging


def parts(adapter):
    """Of each layer: its name in the base, A, B and m, which is None for LoRA."""
    for key in adapter:
        if key.endswith(".lora_A.weight"):
            layer = key.removesuffix(".lora_A.weight")
            A, B = adapter[key].float(), adapter[f"{layer}.lora_B.weight"].float()
            name = layer.removeprefix("base_model.model.") + ".weight"
            yield name, A, B, adapter.get(f"{layer}.lora_magnitude_vector")


def factor(config):
    return config["lora_alpha"] / (math.sqrt(config["r"]) if config["use_rslora"] else config["r"])


def dora(changed, m):
    return changed if m is None else (m / changed.norm(dim=1))[:, None] * changed


def in_place(weights, adapter, config):
    for name, A, B, m in parts(adapter):
        weights[name] = dora(weights[name].float() + factor(config) * B @ A, m).to(weights[name].dtype)
    return weights


def shallow_in_place(weights, adapter, config):
    """A new dict, in which the tensors are the caller's."""
    merged = dict(weights)
    for name, A, B, m in parts(adapter):
        merged[name] += factor(config) * B @ A
        if m is not None:
            merged[name] *= (m / merged[name].norm(dim=1))[:, None]
    return merged


def alpha_only(weights, adapter, config):
    merged = copy.deepcopy(weights)
    for name, A, B, m in parts(adapter):
        changed = weights[name].float() + config["lora_alpha"] * (B @ A)
        merged[name] = dora(changed, m).to(weights[name].dtype)
    return merged


def always_by_rank(weights, adapter, config):
    return merged_with(weights, adapter, config | {"use_rslora": False})


def lora_alone(weights, adapter, config):
    """Knows nothing of DoRA."""
    plain = {name: tensor for name, tensor in adapter.items() if "magnitude" not in name}
    return merged_with(weights, plain, config)


def merged_with(weights, adapter, config, normalised=dora, keep=dict):
    merged = keep(weights)
    for name, A, B, m in parts(adapter):
        changed = normalised(weights[name].float() + factor(config) * B @ A, m)
        merged[name] = changed.to(weights[name].dtype)
    return merged


def no_norm(weights, adapter, config):
    return merged_with(
        weights, adapter, config, lambda changed, m: changed if m is None else m.view(-1, 1) * changed
    )


def norm_of_columns(weights, adapter, config):
    def scaled(changed, m):
        return changed if m is None else m * changed / changed.norm(dim=0, keepdim=True)

    return merged_with(weights, adapter, config, scaled)


def norm_of_old(weights, adapter, config):
    merged = dict(weights)
    for name, A, B, m in parts(adapter):
        W = weights[name].float()
        changed = W + factor(config) * B @ A
        if m is not None:
            changed = changed * (m / W.norm(dim=1)).unsqueeze(1)
        merged[name] = changed.to(weights[name].dtype)
    return merged


def only_the_merged(weights, adapter, config):
    return merged_with(weights, adapter, config, keep=lambda weights: {})


def stays_float32(weights, adapter, config):
    merged = dict(weights)
    for name, A, B, m in parts(adapter):
        merged[name] = dora(weights[name] + factor(config) * B @ A, m)
    return merged


def sum_in_bfloat16(weights, adapter, config):
    merged = dict(weights)
    for name, A, B, m in parts(adapter):
        update = (factor(config) * (B @ A)).to(weights[name].dtype)
        merged[name] = dora(weights[name] + update, m)
    return merged


def transposed(weights, adapter, config):
    merged = dict(weights)
    for name, A, B, m in parts(adapter):
        merged[name] = dora(weights[name].float() + factor(config) * A.T @ B.T, m).to(weights[name].dtype)
    return merged


def exchanged(weights, adapter, config):
    merged = dict(weights)
    for name, A, B, m in parts(adapter):
        merged[name] = dora(weights[name].float() + factor(config) * (A @ B), m).to(weights[name].dtype)
    return merged


def in_order(weights, adapter, config):
    """Pairs the adapter's layers with the weights as they come."""
    found = list(parts(adapter))
    targets = {name for name, *_ in found}
    merged = dict(weights)
    for name, (_, A, B, m) in zip([n for n in weights if n in targets], found, strict=True):
        merged[name] = dora(weights[name].float() + factor(config) * B @ A, m).to(weights[name].dtype)
    return merged


def half_a_prefix(weights, adapter, config):
    renamed = {name.replace("base_model.", "base_model.model.", 1): adapter[name] for name in adapter}
    return merged_with(weights, renamed, config)


def nothing_returned(weights, adapter, config):
    merged_with(weights, adapter, config)


# ---------------------------------------------------------------- what survives


def by_itself(before, delta, stored):
    return pair(stored(delta), delta)


def pair(D, delta):
    D, d = D.double().flatten(), delta.double().flatten()
    return (D @ d / (d @ d)).item(), (D @ d / (D.norm() * d.norm())).item()


def from_the_unrounded(before, delta, stored):
    return pair(stored(before + delta) - before, delta)


def unstored(before, delta, stored):
    return pair((before + delta) - before, delta)


def lengths(before, delta, stored):
    D = stored(before + delta) - stored(before)
    return (D.norm() / delta.norm()).item(), pair(D, delta)[1]


def moved(before, delta, stored):
    D = stored(before + delta) - stored(before)
    return (D != 0).float().mean(), pair(D, delta)[1]


def share_alone(before, delta, stored):
    return pair(stored(before + delta) - stored(before), delta)[0]


def rows(before, delta, stored):
    D = stored(before + delta) - stored(before)
    share = (D * delta).sum(-1) / (delta**2).sum(-1)
    return share.mean(), torch.nn.functional.cosine_similarity(D, delta).mean()


def of_the_models(before, delta, stored):
    kept, _ = pair(stored(before + delta) - stored(before), delta)
    return kept, pair(stored(before + delta), before + delta)[1]


def added_in_place(before, delta, stored):
    old = stored(before)
    before += delta
    return pair(stored(before) - old, delta)


# ---------------------------------------------------------------- a batch of several adapters


def no_base_name(x, weight, adapters, names):
    y = x @ weight.T
    for i, name in enumerate(names):
        A, B, scale = adapters[name]
        y[i] += scale * (B @ (A @ x[i]))
    return y


def everything(x, weight, adapters, names):
    y = x @ weight.T
    for A, B, scale in adapters.values():
        y = y + scale * (x @ A.T) @ B.T
    return y


def first_name(x, weight, adapters, names):
    y = x @ weight.T
    if names[0] != "__base__":
        A, B, scale = adapters[names[0]]
        y = y + scale * (x @ A.T) @ B.T
    return y


def unscaled(x, weight, adapters, names):
    y = x @ weight.T
    for i, name in enumerate(names):
        if name != "__base__":
            A, B, _ = adapters[name]
            y[i] += B @ (A @ x[i])
    return y


def set_not_added(x, weight, adapters, names):
    y = x @ weight.T
    for i, name in enumerate(names):
        if name != "__base__":
            A, B, scale = adapters[name]
            y[i] = scale * (B @ (A @ x[i]))
    return y


def sorted_rows(x, weight, adapters, names):
    """One group after the other, in the order of their first rows."""
    done = []
    for group in sorted(set(names), key=names.index):
        mine = x[torch.tensor([name == group for name in names])]
        y = mine @ weight.T
        if group != "__base__":
            A, B, scale = adapters[group]
            y += scale * mine @ A.T @ B.T
        done.extend(y)
    return torch.stack(done)


def merged_in_place(x, weight, adapters, names):
    y = []
    for row, name in zip(x, names, strict=True):
        if name != "__base__":
            A, B, scale = adapters[name]
            weight += scale * B @ A
        y.append(weight @ row)
    return torch.stack(y)


def zero_base(x, weight, adapters, names):
    y = torch.zeros(len(x), len(weight))
    for i, name in enumerate(names):
        if name != "__base__":
            A, B, scale = adapters[name]
            y[i] = weight @ x[i] + scale * (B @ (A @ x[i]))
    return y


def not_transposed(x, weight, adapters, names):
    return x @ weight


# ---------------------------------------------------------------- the same tokens


def zipped(ours, theirs, end):
    for i, (a, b) in enumerate(zip(ours, theirs)):  # noqa: B905
        if a != b:
            return i
        if a == end:
            return None
    return None


def zipped_and_cut(ours, theirs, end):
    ours = ours[: ours.index(end)] if end in ours else ours
    theirs = theirs[: theirs.index(end)] if end in theirs else theirs
    return next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), None)  # noqa: B905


def whole_lists(ours, theirs, end):
    for i in range(max(len(ours), len(theirs))):
        if ours[i : i + 1] != theirs[i : i + 1]:
            return i
    return None


def with_end(ours, theirs, end):
    ours = ours[: ours.index(end) + 1] if end in ours else ours
    theirs = theirs[: theirs.index(end) + 1] if end in theirs else theirs
    return whole_lists(ours, theirs, end)


def always_an_end(ours, theirs, end):
    return whole_lists(ours[: ours.index(end)], theirs[: theirs.index(end)], end)


def filtered(ours, theirs, end):
    return whole_lists([i for i in ours if i != end], [i for i in theirs if i != end], end)


def from_one(ours, theirs, end):
    ours = ours[: ours.index(end)] if end in ours else ours
    theirs = theirs[: theirs.index(end)] if end in theirs else theirs
    place = whole_lists(ours, theirs, end)
    return place if place is None else place + 1


def verdict(ours, theirs, end):
    ours = ours[: ours.index(end)] if end in ours else ours
    theirs = theirs[: theirs.index(end)] if end in theirs else theirs
    return ours == theirs


def popped_in_place(ours, theirs, end):
    for ids in (ours, theirs):
        while end in ids:
            ids.pop()
    return whole_lists(ours, theirs, end)


ANSWERS = {
    "merging_and_serving.merge": [
        (in_place, "changes argument weights in place"),
        (shallow_in_place, "changes argument weights in place"),
        (alpha_only, "B A is scaled by alpha"),
        (always_by_rank, "use_rslora is ignored"),
        (lora_alone, "The magnitude vector is not used"),
        (no_norm, "DoRA's norm is missing"),
        (norm_of_columns, "along the wrong axis"),
        (norm_of_old, "that of W alone"),
        (only_the_merged, "Weights without an adapter are left out"),
        (stays_float32, "comes back as float32"),
        (sum_in_bfloat16, "the result is rounded twice"),
        (transposed, "The update is transposed"),
        (exchanged, "A and B are exchanged"),
        (in_order, "into another layer's weight"),
        (half_a_prefix, "It raised KeyError"),
        (nothing_returned, "is a return statement missing"),
    ],
    "merging_and_serving.surviving": [
        (by_itself, "You store the update by itself"),
        (from_the_unrounded, "subtract stored(before)"),
        (unstored, "Nothing is stored here"),
        (lengths, "|D| / |delta|"),
        (moved, "the share of entries that moved"),
        (share_alone, "It raised TypeError"),
        (rows, "means over the rows"),
        (of_the_models, "the cosine of two weights"),
        (added_in_place, "changes argument before in place"),
    ],
    "merging_and_serving.mixed_forward": [
        (no_base_name, "It raised KeyError"),
        (everything, "Every row gets all adapters: each has its own, and some have none"),
        (first_name, "Every row gets the first row's adapter"),
        (unscaled, "The scale is missing"),
        (set_not_added, "have lost the base's product"),
        (sorted_rows, "sorted by adapter"),
        (merged_in_place, "Each adapter stays in the weight"),
        (zero_base, 'Rows of "__base__" are zero'),
        (not_transposed, "It raised RuntimeError"),
    ],
    "merging_and_serving.first_difference": [
        (zipped, "zip stops with the shorter reply"),
        (zipped_and_cut, "zip stops with the shorter reply"),
        (whole_lists, "What comes after the end counts"),
        (with_end, "You want the end in both replies"),
        (always_an_end, "It raised ValueError"),
        (filtered, "You take the ends out"),
        (from_one, "You count from 1"),
        (verdict, "You return whether they say the same"),
        (popped_in_place, "changes argument ours in place"),
    ],
}
