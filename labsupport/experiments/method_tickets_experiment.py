"""The methods on the ticket task with the 135M model: do they stand to each other as on the small one?

256 rows, 32 steps of 8, weights in float32, products in bfloat16, Adam's betas (0.6, 0.95), cosine with a
warm-up of a tenth. Sizes as in `method_comparison`, computed for this model. Rates are not tuned here: each
method has the course's rate for LoRA times what its best rate on data/tiny_base is to LoRA's there
(`method_rates`). So a difference may be one of rates that do not carry over from one model to the other; read
it with that in mind.

Scored teacher-forced on one row of each family of test_lookalike (144) and on every third row of
test_production (67): NLL in nats by field, and whether every token was the first choice. General text (every
third of 96 passages): a token's NLL and KL(before ‖ after) in nats. `moves`: the mean change of magnitude and
direction of every projection after the last step (not of bottleneck adapters). Two seeds, paired. One thread.
"""

from __future__ import annotations

METHODS = ("lora", "dora", "rslora", "pissa", "ia3", "bottleneck", "full")
SEEDS = range(2)
EVERY = 3  # of the passages of general text
CELLS = [{"method": method, "seed": seed} for seed in SEEDS for method in METHODS]


def run(cell: dict) -> dict:
    """Train at the carried-over rate and measure. LabError if the tuning was not published."""
    import torch

    from labsupport.core import profiles, upstream
    from labsupport.evaluation import general_text
    from labsupport.method_runs import bases, measuring, methods, movement, training, tuned

    upstream.keep_freed_memory()
    torch.set_num_threads(1)
    method = cell["method"]
    rate = profiles.current().learning_rate * tuned.rate(method) / tuned.rate("lora")
    base, tokenizer = bases.large()
    passages, first = measuring.passages(EVERY), movement.weights(base)
    with general_text.mixed_precision():
        before = general_text.logits(base, tokenizer, passages)
    trainer = training.on_tickets(method, base, tokenizer, rate, cell["seed"])
    result = {"rate": rate} | training.train(trainer)
    model = trainer.accelerator.unwrap_model(trainer.model)
    result["scores"] = measuring.tickets_scored(model, tokenizer)
    with general_text.mixed_precision():
        result["general"] = measuring.forgotten(model, tokenizer, passages, before)
    if method == "full" or methods.METHODS[method].merges:
        found = movement.changes(first, movement.weights(model))
        last = {name: [float(f"{value:.4g}") for value in pair] for name, pair in found.items()}
        result["moves"] = {str(result["steps"]): last}
    return result | {"parameters": measuring.parameters(model), "file_bytes": measuring.file_bytes(model)}
