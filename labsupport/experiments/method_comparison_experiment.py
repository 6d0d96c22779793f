"""LoRA and its relatives at tuned rates: what data/tiny_base stores of 100 facts, and what it forgets.

Each method of `method_rates` at the rate that was best there, with six seeds that were not used there.
Paired: the same rows in the same order, and the same first adapters where two methods draw alike. Two
budgets:
- steps: 130 steps of 8 rows, ten epochs, as in the tuning;
- flops: as many steps as have the operations of 130 of LoRA's, counted by torch on one step of each. LoRA,
  rsLoRA, LoRA+ and PiSSA have the same operations a step, so that their runs at equal steps are these, too.

Kept: the rate; the loss of every step; the NLL (nats) of each fact's code (null if the run left the range of
numbers); `general`: over 96 passages that no task is about, a token's NLL and KL(before ‖ after) in nats. At
equal steps also what a method costs: trained parameters, bytes of its file, operations a step, seconds of
processor time a step and a forward pass of 8 x 64 tokens (on the bare base, with the adapter beside the
weights, folded into them). Of what can be folded in, and of full fine-tuning: `moves`, the mean change of
magnitude and direction of every projection after 26, 52, ... steps (DoRA, section 3.2, one magnitude a row).
One thread.
"""

from __future__ import annotations

from labsupport.method_runs import methods

SEEDS = range(6)
WATCHED = 26  # steps between two looks at the weights: two epochs
CELLS = [
    {"method": method, "budget": budget, "seed": seed}
    for seed in SEEDS
    for method, kind in methods.METHODS.items()
    for budget in ("steps", "flops")
    if budget == "steps" or not kind.lora_flops
]


def run(cell: dict) -> dict:
    """Train at the tuned rate and measure. LabError if the tuning was not published."""
    import torch

    from labsupport.core import upstream
    from labsupport.evaluation import general_text
    from labsupport.method_runs import bases, measuring, movement, training, tuned

    upstream.keep_freed_memory()
    torch.set_num_threads(1)
    method, at_steps = cell["method"], cell["budget"] == "steps"
    rate = tuned.rate(method)
    steps = training.FACTS_STEPS if at_steps else training.steps_at_equal_flops(method)
    base, tokenizer = bases.tiny()
    passages = measuring.passages()
    before = general_text.logits(base, tokenizer, passages)
    trainer = training.on_facts(method, rate, cell["seed"], steps)
    result, watching = {"rate": rate}, []
    if at_steps:
        result |= {"flops_a_step": training.flops_of_step(trainer), "moves": {}}
        if method == "full" or methods.METHODS[method].merges:
            watching = [movement.watched(movement.weights(base), WATCHED, result["moves"])]
    result |= training.train(trainer, *watching)
    model = trainer.accelerator.unwrap_model(trainer.model)
    result["nats"] = measuring.stored(trainer)
    result["general"] = measuring.forgotten(model, tokenizer, passages, before)
    if at_steps:
        result |= measuring.costs(model, base, methods.METHODS[method].merges)
    return result
