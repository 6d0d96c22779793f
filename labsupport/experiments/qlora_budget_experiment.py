"""Does NF4 want a lower learning rate, and twice the steps? Half the rate, for one epoch and for two.

The fine-tune of the experiment `qlora` (256 ticket rows, rank 16, alpha 32, all linear layers, adapters in
float32) on the base as it is and on the base through NF4, at half the profile's learning rate, for one epoch
(32 steps) and for two (64) over the same rows. The schedule is the same curve stretched to the run's length.
The whole rate for one epoch is in the record `qlora`, with the same seeds.

Scored as there: teacher-forced on one row of each family of test_lookalike and every third row of
test_production, on the base that the adapters were trained on. One thread.
"""

from __future__ import annotations

ROWS = 256
FORMS = ("full", "nf4")
RECIPES = ((0.5, 1), (0.5, 2))  # multiple of the profile's rate, epochs
SEEDS = (0, 1)
CELLS = [
    {"arm": form, "rate": rate, "epochs": epochs, "seed": seed}
    for seed in SEEDS
    for rate, epochs in RECIPES
    for form in FORMS
]


def run(cell: dict) -> dict:
    """The log and the scores."""
    import torch

    from labsupport.core import profiles, upstream
    from labsupport.experiments import qlora_experiment
    from labsupport.format_runs import format_training
    from labsupport.qlora_runs import base_arms
    from labsupport.tasks import tickets

    upstream.keep_freed_memory()
    torch.set_num_threads(1)
    rows = tickets.load("train")[:ROWS]
    trainer = format_training.trainer("template", rows, cell["seed"], cell["epochs"])
    base_arms.put(trainer.model, base_arms.weights(trainer.model, cell["arm"]))
    trainer.args.learning_rate *= cell["rate"]
    trainer.args.logging_steps = 1
    trainer.train()
    losses = [round(float(entry["loss"]), 4) for entry in trainer.state.log_history if "loss" in entry]
    return {
        "dtype": profiles.current().dtype,
        "learning_rate": trainer.args.learning_rate,
        "losses": losses,
        "own": qlora_experiment.scored(trainer),
    }
