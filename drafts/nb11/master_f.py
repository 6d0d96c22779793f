# %% [markdown]
# PEFT does the same with `adapter_names`, which notebook 10 has tried on a whole model. And a *hot swap* puts
# another adapter's numbers into the tensors of the one that is there, so that nothing has to be built or
# compiled anew:

# %% tags=["core", "nbval-ignore-output"]
adapters.scaled(FOLDER / "adapter", FOLDER / "weak", 0.5)  # another adapter of the same shapes
serving = PeftModel.from_pretrained(base_model.load(BASE, "float32", "cpu")[0], FOLDER / "adapter")
fresh = PeftModel.from_pretrained(base_model.load(BASE, "float32", "cpu")[0], FOLDER / "weak")
hotswap_adapter(serving, str(FOLDER / "weak"), adapter_name="default", torch_device="cpu")
swapped, _ = composing.logits(serving, tokenizer, rows)
loaded, _ = composing.logits(fresh, tokenizer, rows)
print("a swapped adapter answers as one that was loaded:", torch.equal(swapped, loaded))
assert torch.equal(swapped, loaded)

# %% [markdown]
# ## Save, and read it back
#
# A merged model is a whole model. It is saved in pieces (*shards*), so that no file is larger than what a
# file system or a download can take, with an index that says which tensor is where.

# %% tags=["core", "nbval-ignore-output"]
merged = routes.dequantised(BASE, FOLDER / "adapter")
shutil.rmtree(FOLDER / "merged", ignore_errors=True)
merged.save_pretrained(FOLDER / "merged", max_shard_size="4MB")  # tiny, to see the pieces
tokenizer.save_pretrained(FOLDER / "merged")
again = AutoModelForCausalLM.from_pretrained(FOLDER / "merged")
same, _ = composing.logits(again, tokenizer, rows)
lines = [[f.name, f"{f.stat().st_size:,}"] for f in sorted((FOLDER / "merged").glob("*.safetensors*"))]
lines.append(["the adapter", f"{(FOLDER / 'adapter' / 'adapter_model.safetensors').stat().st_size:,}"])
assert torch.equal(same, composing.logits(merged, tokenizer, rows)[0])
Table(["file", "bytes"], lines, "The merged model on disk, and its adapter")

# %% [markdown]
# ## Serve it
#
# Now the other side. `transformers serve` is a server that speaks OpenAI's protocol, on a processor, too. It
# takes a model by the name of its folder. Three folders: the base, the base with the adapter beside it, and the
# merged model.

# %% tags=["core", "nbval-ignore-output"]
place = FOLDER / "served"
shutil.rmtree(place, ignore_errors=True)
base_folder = base_model.path(BASE)
folders.lay_out(place / "base", base_folder)
folders.lay_out(place / "adapter", base_folder, FOLDER / "adapter")
folders.lay_out(place / "merged", FOLDER / "merged")
print(sorted(folder.name for folder in place.iterdir()))

