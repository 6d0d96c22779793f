"""LoRA on a base in full precision and in NF4: what the rounding costs, before and after training.

The same fine-tune in four arms with paired seeds (the same first adapters, rows and order): 256 ticket rows,
32 steps of 8, rank 16, alpha 32, all linear layers, the profile's learning rate.
- full: the base's weights as they are. (The bundled base was itself made from 4-bit integers, Q4_1: that is
  where "full precision" begins here.)
- nf4: its linear layers through NF4 with double quantisation and back. These are the numbers that
  bitsandbytes multiplies by in QLoRA, held as plain weights.
- noise: Gaussian noise with the root mean square of NF4's error in every block of 64, another draw for each
  seed. Is NF4 more than noise of its size?
- nf4, adapters in bfloat16: as TRL makes them of a quantised model; in the other arms they are in float32.

Scored teacher-forced on one row of each family of test_lookalike (144) and on every third row of
test_production (67): NLL in nats by field, and whether every token was the first choice. `before`: the base
of the arm without training (seed 0 only). `own`: after training, on the base it was trained on. `other`: the
same adapters on the other base, full for nf4 and nf4 for full. The loss of every step is kept. One thread.
"""

from __future__ import annotations

ROWS = 256
ARMS = {"full": "full", "nf4": "nf4", "noise": "noise", "nf4, adapters in bfloat16": "nf4"}
OTHER = {"full": "nf4", "nf4": "full"}
SEEDS = range(6)
CELLS = [{"arm": arm, "seed": seed} for seed in SEEDS for arm in ARMS]


def run(cell: dict) -> dict:
    """The log and the scores."""
    import torch

    from labsupport.core import profiles, upstream
    from labsupport.format_runs import format_training
    from labsupport.qlora_runs import base_arms
    from labsupport.tasks import tickets

    upstream.keep_freed_memory()
    torch.set_num_threads(1)
    arm, seed = cell["arm"], cell["seed"]
    trainer = format_training.trainer("template", tickets.load("train")[:ROWS], seed)
    own = base_arms.weights(trainer.model, ARMS[arm], seed)
    other = base_arms.weights(trainer.model, OTHER[arm]) if arm in OTHER else None
    base_arms.put(trainer.model, own)
    result: dict = {"dtype": profiles.current().dtype}
    if seed == 0:
        result["before"] = scored(trainer)
    if "bfloat16" in arm:
        for parameter in trainer.model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.to(torch.bfloat16)
    trainer.args.logging_steps = 1
    trainer.train()
    log = {entry["step"]: entry for entry in trainer.state.log_history if "loss" in entry}
    result["losses"] = [round(float(entry["loss"]), 4) for entry in log.values()]
    result["grad_norms"] = [round(float(entry["grad_norm"]), 4) for entry in log.values()]
    result["own"] = scored(trainer)
    if other is not None:
        base_arms.put(trainer.model, other)
        result["other"] = scored(trainer)
    return result


def scored(trainer) -> dict[str, dict]:
    """Both test sets, scored."""
    from labsupport.format_runs import prompt_formats

    model, tokenizer = trainer.accelerator.unwrap_model(trainer.model), trainer.processing_class
    return {
        split: prompt_formats.scored(model, tokenizer, "template", rows)
        for split, rows in prompt_formats.test_sets().items()
    }
