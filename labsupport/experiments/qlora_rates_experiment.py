"""Rates and lengths of a run on a base in float32 and in NF4: where is the best rate, who needs more steps?

data/tiny_base learns 100 facts by heart: nothing of a code can be guessed, so the loss says how much of them
is stored. LoRA rank 16, alpha 32, all linear layers, adapters in float32, 8 rows a step, cosine with a
warm-up of a tenth, the same first adapters and order of rows for both bases of a seed. Unlike the larger
base, this one was trained in float32 and never rounded before, so "full" is a true full precision here.

Kept: the loss of every step, and after training the NLL (nats) of each fact's code, on the base trained on
and, for NF4, on the full one. One thread.
"""

from __future__ import annotations

FACTS = 100
FORMS = ("full", "nf4")
RATES = (1e-3, 2e-3, 4e-3, 8e-3)
EPOCHS = (10, 20)
SEEDS = range(6)
CELLS = [
    {"arm": form, "rate": rate, "epochs": epochs, "seed": seed}
    for seed in SEEDS
    for epochs in EPOCHS
    for rate in RATES
    for form in FORMS
]


def run(cell: dict) -> dict:
    """The losses and what is stored in the end."""
    import torch

    from labsupport.core import upstream
    from labsupport.qlora_runs import base_arms, facts_training

    upstream.keep_freed_memory()
    torch.set_num_threads(1)
    trainer = facts_training.trainer(FACTS, cell["rate"], cell["epochs"], cell["seed"])
    full = base_arms.weights(trainer.model, "full")
    base_arms.put(trainer.model, base_arms.weights(trainer.model, cell["arm"]))
    trainer.train()
    losses = [round(float(entry["loss"]), 4) for entry in trainer.state.log_history if "loss" in entry]
    result = {"losses": losses, "own": facts_training.nats(trainer, FACTS)}
    if cell["arm"] == "nf4":
        base_arms.put(trainer.model, full)
        result["other"] = facts_training.nats(trainer, FACTS)
    return result
