# %% tags=["core", "nbval-ignore-output"]
here = {
    "adapter": PeftModel.from_pretrained(base_model.load(BASE, "float32", "cpu")[0], FOLDER / "adapter"),
    "merged": AutoModelForCausalLM.from_pretrained(FOLDER / "merged"),
}
end, lines = tokenizer.eos_token_id, []
with server.running(place) as api:
    client = api.client()
    for name, model in here.items():
        for row in rows[:5]:
            messages = facts.prompt(row["key"])
            ours = replies.generated(model, tokenizer, messages, 16)
            theirs = replies.served(client, name, tokenizer, messages, 16)
            place_of = differs_at(list(ours.ids), list(theirs.ids), end)
            lines.append([name, row["key"], ours.text, theirs.text, "none" if place_of is None else place_of])
expect("the server writes the tokens of this process", all(line[-1] == "none" for line in lines))
Table(["model", "key", "in this process", "served", "first difference"], lines, "Greedy, in float32")

# %% [markdown]
# Exact, in float32. In bfloat16 do not expect it of every reply: two tokens that are nearly as likely change
# places by rounding, and transformers loads an adapter in bfloat16 where PEFT keeps float32. What to look for
# then is *where* replies part, and how near the two tokens were. That is what `lab.py serve-check --url` does,
# against any OpenAI-compatible server.
#
# ### Many at once

# %% tags=["core", "nbval-ignore-output"]
asked = [facts.prompt(row["key"]) for row in rows[:16]]
with server.running(place) as api:
    levels = load.sweep(api.client(), "merged", asked, clients=(1, 2, 4, 8), max_tokens=16)
lines = [[x.clients, f"{x.tokens_per_second:.0f}", f"{x.latency:.2f}", len(x.failed)] for x in levels]
expect("no reply is lost", all(not level.failed for level in levels))
Table(["clients at once", "tokens a second", "seconds a reply", "lost"], lines, "transformers serve, live")

# %% [markdown]
# ⟦text-load⟧
#
# ## Before somebody else serves it
#
# On a card one takes vLLM. Its command can be written from the adapter's own settings:

# %% tags=["core"]
print(commands.vllm_serve(FOLDER / "adapter", base="Qwen/Qwen2.5-7B-Instruct", name="support"))

# %% [markdown]
# (Written for vLLM 0.33.0 by its source, not run here.) The rank it allows is a choice from a list, the
# template is your adapter's own, and DoRA, whole modules or changed bases it refuses. Whether yours is one of
# those, `lab.py serve-check` says before you rent anything:

# %% tags=["core", "nbval-ignore-output"]
lint.lint(adapter_folder.opened(FOLDER / "adapter", BASE))

