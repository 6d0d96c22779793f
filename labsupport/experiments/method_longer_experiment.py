"""The methods of `method_comparison` in runs three times as long: was it how fast they learn, or how much?

130 steps end while most methods are still learning, so that `method_comparison` measures who learns in fewer
steps. Here 390 steps (thirty epochs) at the rates tuned for 130, three seeds, the rest as there. Kept: the
loss of every step, the NLL (nats) of each fact's code (null if the run left the range of numbers), and over
96 passages of general text a token's NLL and KL(before ‖ after) in nats. One thread.
"""

from __future__ import annotations

from labsupport.method_runs import methods

SEEDS = range(3)
TIMES = 3
CELLS = [{"method": method, "budget": "steps", "seed": seed} for seed in SEEDS for method in methods.METHODS]


def run(cell: dict) -> dict:
    """Train at the tuned rate and measure. LabError if the tuning was not published."""
    import torch

    from labsupport.core import upstream
    from labsupport.evaluation import general_text
    from labsupport.method_runs import bases, measuring, training, tuned

    upstream.keep_freed_memory()
    torch.set_num_threads(1)
    rate = tuned.rate(cell["method"])
    base, tokenizer = bases.tiny()
    passages = measuring.passages()
    before = general_text.logits(base, tokenizer, passages)
    trainer = training.on_facts(cell["method"], rate, cell["seed"], TIMES * training.FACTS_STEPS)
    result = {"rate": rate} | training.train(trainer)
    model = trainer.accelerator.unwrap_model(trainer.model)
    result["nats"] = measuring.stored(trainer)
    result["general"] = measuring.forgotten(model, tokenizer, passages, before)
    return result | {"parameters": measuring.parameters(model)}
