# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 11 · Merging and serving: is it still the model you trained?
#
# **In one sentence**: you merge an adapter by hand and by six routes, measure how far each result is from the
# model that was trained, and then serve it and prove that the server writes the same tokens.
#
# **Minutes**: 110 to read and do, 4 to run all cells.
#
# ![Left, two bases, the NF4 one that was trained on and the one before rounding; the update s times B A is
# added to either, and the sum is stored in 16 bits or in NF4, whose steps are larger than the update: four
# models and not one. Right, a batch with rows for adapters a and b and for nobody: W x is computed for all
# rows at once, each row's adapter adds its own, and the replies come out row by row.](attachment:schematic.png)
#
# Training is over, the evaluation was good, and now somebody is to use it. Between the model that you
# evaluated and the one that answers lie a merge, a number format, a template, a server with defaults of its
# own. Each of them can change what comes out, and none of them says so. This notebook makes each step
# prove that it changed nothing, or say how much.
#
# After this notebook you will be able to
#
# - merge LoRA and DoRA adapters from their files, as `merge_and_unload` does;
# - choose a route from a QLoRA adapter to a merged model, knowing what each keeps;
# - run many adapters on one base in one batch;
# - start an OpenAI-compatible server, call it, and prove that it writes the tokens that training ended with;
# - check an adapter before it is served: `lab.py serve-check`.
#
# **Needs** notebooks [02](02_lora_math.ipynb) (LoRA), [04](04_nf4_quantization.ipynb) (NF4),
# [06](06_chat_templates.ipynb) (templates) and [08](08_qlora_training.ipynb) (QLoRA).

# %% tags=["core", "setup"]
# Does nothing after `lab.py start`. In a bare kernel, such as Colab's, it installs the course's packages.
import importlib.util, pathlib, runpy, sys

if importlib.util.find_spec("labsupport") is None:
    here = pathlib.Path.cwd()
    folders = [here, *here.parents, *here.glob("*/")]
    found = [f for p in folders if (f := p / "labsupport" / "bare_kernel.py").exists()]
    if not found:
        sys.exit(f"No folder labsupport/ in, above or below {here}: clone the course's repository there.")
    runpy.run_path(str(found[0]), run_name="__main__")

# %% [markdown]
# The next cells set up; loading torch and its relatives takes about 10 seconds.

# %% tags=["core", "setup"]
from labsupport.core import upstream

upstream.quiet_known_noise()  # messages about this stack that you can do nothing about
upstream.guard_4bit_on_cpu()  # notebook 08's fault of bitsandbytes on some processors
upstream.keep_freed_memory()  # a faster allocator setting for training on a CPU
upstream.score_only_labels()  # TRL on a CPU would compute logits that the loss then ignores

# %% tags=["core", "setup"]
import json
import math
import shutil
from collections.abc import Callable

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file

# %% tags=["core", "setup"]
from labsupport.core import files, plots
from labsupport.core.tables import Table
from labsupport.explorers import merge_routes_explorer
from labsupport.merge_runs import adapters, rounding, routes
from labsupport.method_runs import bases, composing, measuring, training
from labsupport.models import base_model
from labsupport.notebooks.nb11_merging_and_serving import exercises
from labsupport.serve_checks import commands, lint
from labsupport.serving import folders, load, replies, server
from labsupport.tasks import facts
from labsupport.teaching import predictions, quiz
from labsupport.teaching.claims import expect
from labsupport.training import recipe

# %% tags=["core", "setup"]
torch.set_num_threads(1)  # the model here is small: a second thread would only wait
BASE, FOLDER = "data/tiny_base", files.RUNS / "merging"

# %% [markdown]
# ## An adapter to work with
#
# First something to merge. The course's tiny base in NF4, and adapters beside it that learn fifty facts by
# heart, each a key and a code of eight symbols: a QLoRA run of ten seconds. Nothing about a code can be
# guessed, so whatever a merged model still knows has survived the merge.

# %% tags=["core", "nbval-ignore-output"]
rows = facts.load(100)[:50]
model, tokenizer = base_model.load(BASE, "nf4", "cpu")
torch.manual_seed(0)
model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"))
examples = facts.as_prompt_completion(rows)
trainer = training.of_model(model, tokenizer, examples, 4e-3, seed=0, steps=140, betas=(0.9, 0.999))
recipe.adapters_in_float32(trainer.model)  # notebook 08: TRL makes them bfloat16 on a quantised base
training.train(trainer)
model.save_pretrained(FOLDER / "adapter", save_embedding_layers=False)
bits, right = composing.stored(model, tokenizer, rows)
print(f"{right} of 400 symbols right, {bits:,.0f} of 2,000 bits stored")
expect("the adapter knows its facts", right > 380)

# %% [markdown]
# Two files came out. One holds A and B of every layer, the other how to use them:

# %% tags=["core"]
adapter = load_file(FOLDER / "adapter" / "adapter_model.safetensors")
config = json.loads((FOLDER / "adapter" / "adapter_config.json").read_text())
name = "base_model.model.model.layers.0.self_attn.q_proj"
for part in (".lora_A.weight", ".lora_B.weight"):
    print(name + part, tuple(adapter[name + part].shape))
print({key: config[key] for key in ("r", "lora_alpha", "use_rslora", "use_dora")})

# %% [markdown]
# ## Merge it by hand
#
# To merge means: compute $W + \frac{\alpha}{r} B A$ once, and keep that. The adapter is gone then, and with it
# what it cost at every token. Nothing in it needs a library:

