# %% [markdown]
# ⟦text-survival⟧
#
# ## Explorer: what survives
#
# ⟦text-explorer⟧

# %% tags=["core"]
merge_routes_explorer.explore()

# %% [markdown]
# ## Merge before you evaluate?
#
# > **Guide 000 says** to always merge before an evaluation, because the adapter beside the weights behaves
# > otherwise than merged.

# %% tags=["core", "nbval-ignore-output"]
plain = PeftModel.from_pretrained(base_model.load(BASE, "nf4", "cpu")[0].dequantize(), FOLDER / "adapter")
beside, _ = composing.logits(plain, tokenizer, rows)
folded, _ = composing.logits(routes.dequantised(BASE, FOLDER / "adapter"), tokenizer, rows)
halves = {}
for way, merged in (("beside", False), ("merged", True)):
    half = PeftModel.from_pretrained(base_model.load(BASE, "nf4", "cpu")[0].dequantize(), FOLDER / "adapter")
    half = half.merge_and_unload() if merged else half
    halves[way], _ = composing.logits(half.to(torch.bfloat16), tokenizer, rows)
lines = [["float32", f"{(beside - folded).abs().max():.1g}", f"{(beside - folded).abs().mean():.1g}"]]
for way, found in halves.items():
    lines.append([f"bfloat16, {way}, less float32", f"{(found - beside).abs().max():.2g}", f"{(found - beside).abs().mean():.2g}"])
Table(["logits", "farthest", "mean"], lines, "Merged and not merged: do they compute the same?")

# %% [markdown]
# ⟦text-merged⟧
#
# ## What it costs to answer

# %% tags=["core", "nbval-ignore-output"]
dora = get_peft_model(bases.tiny()[0], LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", use_dora=True))
ways = {"base": routes.dequantised(BASE, FOLDER / "adapter"), "LoRA beside": plain, "DoRA beside": dora}
ways["merged"] = routes.dequantised(BASE, FOLDER / "adapter")
lines = []
for rows_at_once, length in ((1, 1), (8, 64)):
    seconds = measuring.forward_seconds(ways, rows_at_once, length, rounds=20)
    lines.append([f"{rows_at_once} x {length}", *(f"{seconds[way] / seconds['base']:.2f}" for way in ways)])
Table(["rows x tokens", *ways], lines, "A forward pass, times the bare model's, live")

