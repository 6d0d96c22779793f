# %% [markdown]
# Now on the real adapter, beside PEFT. The base is what it was trained on: NF4 unpacked to plain numbers.

# %% tags=["core"]
plain = base_model.load(BASE, "nf4", "cpu")[0].dequantize()
by_hand = merged_weights(plain.state_dict(), adapter, config)
by_peft = routes.dequantised(BASE, FOLDER / "adapter").state_dict()
apart = max((by_hand[name] - by_peft[name]).abs().max().item() for name in by_peft)
assert set(by_hand) == set(by_peft) and apart < 1e-6
print(len(by_peft), "tensors; farthest from merge_and_unload: below 1e-6")

# %% [markdown]
# ## Six routes to a merged model
#
# That was one route: into the base that the adapter was trained on. The guides take others:
#
# > **Guides 001 and 004 say** that one "cannot" merge into a 4-bit base, and load the base in 16 bits instead.
# > Guide 003's summary calls `merge_and_unload()` on the 4-bit model.
#
# > **Predict.** The adapter knows all 400 symbols. How many does each merged model know: merged into the
# > bfloat16 base? And merged in place, in NF4?

# %% tags=["core"]
guess_bfloat16 = None  # symbols of 400
guess_in_place = None

# %% tags=["core", "nbval-ignore-output"]
lines, known = [], {}
for route, merge_by in {"not merged": routes.unmerged, **routes.MERGED}.items():
    merged = merge_by(BASE, FOLDER / "adapter")
    bits, known[route] = composing.stored(merged, tokenizer, rows)
    lines.append([route, known[route], f"{bits:,.0f}"])
predictions.compare(guess_bfloat16, known["bfloat16 base"], "symbols")
predictions.compare(guess_in_place, known["in place"], "symbols")
expect("merged into the dequantised base nothing is lost", known["dequantised"] == known["not merged"])
Table(["route", "symbols right, of 400", "bits"], lines, "One QLoRA adapter, merged six ways")

# %% [markdown]
# One can merge into a 4-bit base; PEFT does. Here it even keeps most. Do not take that home yet: this adapter
# is *strong*. How large is its update beside the weights, and what of it survives each route? For that we need
# a number.

