# %% [markdown]
# Now every layer of the adapter by every route, and the same adapter taken weaker. A fine-tune of the 135M
# model in this course changes its weights by half a per cent.

# %% tags=["core", "nbval-ignore-output"]
deltas = adapters.deltas(FOLDER / "adapter")
layer = "model.layers.2.self_attn.v_proj"
weight = base_model.load(BASE, "float32", "cpu")[0].get_submodule(layer).weight.detach()
lines = []
for strength in (1, 0.3, 0.1, 0.03, 0.01):
    delta = strength * deltas[layer]
    line = [f"{100 * (delta.norm() / weight.norm()).item():.2g}"]
    for route in ("in place", "re-quantised", "bfloat16 base"):
        start, end = (rounding.FORMATS[name] for name in rounding.ROUTES[route])
        kept, cosine = left_of(start(weight).numbers, delta, lambda w, end=end: end(w).numbers)
        line.append(f"{100 * kept:.0f} %, {cosine:.2f}")
    lines.append(line)
headings = ["|ΔW| / |W| (%)", "in place in NF4", "float32 base, then NF4", "bfloat16 base"]
Table(headings, lines, f"Kept of ΔW, and its cosine: {layer}")

