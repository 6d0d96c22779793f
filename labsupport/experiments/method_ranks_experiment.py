"""LoRA and DoRA over rank and rate: does DoRA help at a low rank, or at a rate that LoRA cannot bear?

The DoRA paper's Table 15 has one rate for all ranks, and LoRA's accuracy falls from 74.7 at rank 32 to 39.5
at rank 4. Here both are trained at every rate, so that the table can be read along one rate, as there, and at
each rank's best.

data/tiny_base, 100 facts, all linear layers, alpha twice the rank, ten epochs, 130 steps, as in
`method_rates`, three seeds. At one rank DoRA has its magnitudes more. Kept: the loss of every step, and the
NLL (nats) of each fact's code, null if the run left the range of numbers. One thread.
"""

from __future__ import annotations

RANKS = (2, 4, 8, 16)
RATES = (2e-3, 4e-3, 8e-3, 1.6e-2)
SEEDS = range(3)
CELLS = [
    {"method": method, "rank": rank, "rate": rate, "seed": seed}
    for seed in SEEDS
    for rank in RANKS
    for rate in RATES
    for method in ("lora", "dora")
]


def run(cell: dict) -> dict:
    """The losses and what is stored in the end."""
    import torch

    from labsupport.core import upstream
    from labsupport.method_runs import bases, measuring, methods, training
    from labsupport.tasks import facts

    upstream.keep_freed_memory()
    torch.set_num_threads(1)
    model, tokenizer = bases.tiny()
    torch.manual_seed(cell["seed"])
    settings = {"r": cell["rank"], "lora_alpha": 2 * cell["rank"], "use_dora": cell["method"] == "dora"}
    adapted = methods.on_linears(model.requires_grad_(False), {}, **settings)
    rows = facts.as_prompt_completion(facts.load(training.FACTS))
    rate, seed, steps = cell["rate"], cell["seed"], training.FACTS_STEPS
    trainer = training.of_model(adapted, tokenizer, rows, rate, seed, steps, betas=(0.9, 0.999))
    return training.train(trainer) | {"nats": measuring.stored(trainer)}
