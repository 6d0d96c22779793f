"""How low is the rank of a real update, and how low a rank would do? Every linear layer of the model's blocks
is fine-tuned in full in float32 (embeddings and norms stay as they were), and the singular values of what
each matrix has gained are kept. Four arms see the same messages in the same order. Two train on the whole
answer, with AdamW and with SGD at a learning rate that makes the median of ||dW|| / ||W|| the same within
5 % (their losses differ). Two train with AdamW on the tokens that decide the values alone: on right answers,
and on answers shuffled among the messages, so that all there is to learn is which values occur. Then updates
are cut to their best rank-k approximation and validation rows are scored, by field. One seed."""

from __future__ import annotations

import torch

from labsupport.core import profiles, upstream
from labsupport.models import base_model
from labsupport.sizes import counting
from labsupport.tasks import tickets
from labsupport.updates import full_update, spectra

STEPS, BATCH = 48, 4
LEARNING_RATES = {"adamw": 2e-5, "sgd": 0.475}
MODULES = counting.ALL_LINEAR  # asked for by earlier copies of the notebook
LAYERS = spectra.KEPT_LAYERS
RANKS = (1, 2, 4, 8, 16, 32, 64, 128, 192, 256, 384, 576)
CUTS = (0, 1, 2, 4, 8, 16, 32, 64, 576)  # 0 is the base model, 576 every matrix in full
VALIDATION_FAMILIES = 64
CELLS = [
    {"optimizer": "adamw", "answers": "right", "tokens": "values"},
    {"optimizer": "adamw", "answers": "shuffled", "tokens": "values"},
    {"optimizer": "adamw", "answers": "right", "tokens": "all"},
    {"optimizer": "sgd", "answers": "right", "tokens": "all"},
]


def run(cell: dict) -> dict:
    """`losses`, nats a trained token, one a step; `matrices`: each matrix's spectrum in short;
    `singular_values`: a few in full, as text; NLL of each validation row in nats at each rank of CUTS: `cut`
    of the whole answer, `cut_by_field` of each field's value."""
    upstream.keep_freed_memory()
    torch.set_num_threads(profiles.current().threads)
    torch.manual_seed(0)
    # In bfloat16 rounding would be the update.
    model, tokenizer = base_model.load(dtype="float32", device="cpu")
    model.train()
    before = full_update.freeze_all_but_linears(model)
    rows, rate = full_update.training_rows(STEPS * BATCH, cell["answers"]), LEARNING_RATES[cell["optimizer"]]
    losses = full_update.train(model, tokenizer, rows, BATCH, cell["optimizer"], rate, cell["tokens"])
    svds = full_update.factors(model, before)
    places = {name: full_update.layer_and_module(name) for name in before}
    rows = tickets.one_of_each_family(tickets.load("validation"))[:VALIDATION_FAMILIES]
    nll = {str(k): full_update.scored_at(k, model, tokenizer, rows, before, svds) for k in CUTS}
    return {
        "steps": STEPS,
        "batch": BATCH,
        "losses": losses,
        "learning_rate": rate,
        "matrices": [full_update.summary(n, svds[n][1], weight, RANKS) for n, weight in before.items()],
        "singular_values": {
            f"{layer}.{module}": spectra.to_text(svds[name][1])
            for name, (layer, module) in places.items()
            if layer in LAYERS
        },
        "families": [row["family"] for row in rows],
        "cut": {rank: parts.pop("all") for rank, parts in nll.items()},
        "cut_by_field": nll,
    }
