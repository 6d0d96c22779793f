# %% [markdown]
# Start it, and ask it as any program would that talks to OpenAI: the `openai` client with another address.
# The server is a process of its own, listens on 127.0.0.1 alone, and is gone at the end of the `with` block,
# also when you interrupt it or kill the kernel.

# %% tags=["core", "nbval-ignore-output"]
question = facts.prompt(rows[0]["key"])
with server.running(place) as api:
    client = api.client()  # openai.OpenAI(base_url=api.url, api_key="none"), past any proxy
    reply = client.chat.completions.create(model="merged", messages=question, temperature=0, max_tokens=16)
    print("in one piece:", reply.choices[0].message.content)
    stream = client.chat.completions.create(
        model="adapter", messages=question, temperature=0, max_tokens=16, stream=True
    )
    print("streamed:", *[chunk.choices[0].delta.content for chunk in stream if chunk.choices[0].delta.content])
expect("the server gives the code that was trained", reply.choices[0].message.content == rows[0]["value"])

# %% [markdown]
# Always say `temperature=0` and `max_tokens`. Without the first, the folder's `generation_config.json`
# decides whether it samples; a repetition penalty in that file applies even at temperature 0; and without the
# second a client that has gone away keeps the server busy to the end of 1,024 tokens.
#
# ### The same tokens?
#
# "It looks right" is not a proof. Greedy decoding is: each token is the likeliest, and one that differs shows
# that something computes otherwise. So compare ids, from four places: the trained model, the merged one, and
# the server with each.

