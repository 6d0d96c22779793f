"""One QLoRA adapter merged in six ways: what is left of the model that was trained?

LoRA (rank 16, alpha 32, all linear layers, the profile's learning rate) is trained on ticket rows beside the
base through NF4, in batches of 8, weights in float32, products in bfloat16: 8, 32 or 64 steps (of 256 rows,
two seeds). After 32 steps the trained adapter is also taken at 0, 0.1, 0.3 and 3 times its strength: 0 is the
base alone, and what differs there is due to the base, not to the adapter. (The bundled base was made from
4-bit integers, Q4_1: "float32 base" means those numbers.)

Every route (labsupport/merge_runs/routes.py) is the libraries' own calls and is compared, in float32
arithmetic, with the trained model: NF4 base by bitsandbytes, adapter beside it, not merged. `base` is that
model with its adapter off. Two ways more are about arithmetic alone: the trained model itself, and
"dequantised", with products in bfloat16.

Teacher-forced: `nll` of the right answer with its end token, `exact` (each token the first choice), `kl`:
KL(trained ‖ route) summed over these `tokens`, and at how many of them both have the `same` first choice. For
32 steps at strength 1 on one row of each family of test_lookalike (144) and every third row of
test_production (67), all ways; and `alike`: for 24 lookalike messages, whether both write the same token ids
greedily. For the others on every third of these rows, the six routes.

`survived`: of the update dW of all layers, by route: what rounding keeps (kept = D·dW / dW·dW, with D what
the route changes beside the same route without an update), cosine, size |D| / |dW|, share of codes changed,
|dW| / |W|. `control`: the same for dW with its entries shuffled in each matrix. One thread.
"""

from __future__ import annotations

SEEDS = (0, 1)
STEPS = (8, 32, 64)
SCALED, SCALES = 32, (0.0, 0.1, 0.3, 1.0, 3.0)  # after so many steps the adapter is taken at these strengths
THIN = 3  # every so many-th row, but for the main comparison
REPLIES = 24
CELLS = [{"steps": steps, "seed": seed} for seed in SEEDS for steps in STEPS]


def run(cell: dict) -> dict:
    """`losses`, one a step; `scales`: strength -> what `measuring.measured` and `survival` give."""
    import tempfile
    from pathlib import Path

    import torch

    from labsupport.core import profiles, upstream
    from labsupport.format_runs import prompt_formats
    from labsupport.merge_runs import adapters, measuring, training

    upstream.keep_freed_memory()
    torch.set_num_threads(1)
    base = profiles.current().base_model
    rows, thin = measuring.sets(), measuring.sets(THIN)
    asked = prompt_formats.spread(rows["test_lookalike"], REPLIES)
    with tempfile.TemporaryDirectory() as scratch:
        trained = Path(scratch) / "trained"
        losses = training.trained(cell["steps"], cell["seed"], trained)
        scales = {}
        for scale in SCALES if cell["steps"] == SCALED else (1.0,):
            adapter = adapters.scaled(trained, Path(scratch) / f"{scale:g}", scale)
            if cell["steps"] == SCALED and scale == 1:
                found = measuring.measured(base, adapter, rows, measuring.ALL, asked)
            else:
                found = measuring.measured(base, adapter, thin, measuring.MERGED)
            scales[f"{scale:g}"] = found | measuring.survival(base, adapter)
    return {"losses": losses, "scales": scales}
