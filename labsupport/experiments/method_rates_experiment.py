"""The learning rate of each method, tuned: how many bits of 100 facts data/tiny_base stores at each rate.

Every method has a grid of its own of four rates, laid around the best of two or three in single runs that
are not kept, and four seeds that the comparison does not use; a grid got two rates more where its best was at
an edge. Ten epochs, 130 steps of 8 rows, cosine with a warm-up of a tenth, AdamW, float32, one thread.
`method_comparison` takes the rate with the most bits stored in the mean over these seeds.

Sizes: LoRA, rsLoRA, LoRA+ and PiSSA have rank 16 on all linear layers; DoRA, bottleneck adapters and prefix
tuning the largest width with which they train no more parameters than LoRA. The scale alpha / rank is 2; it
is 8 in rsLoRA (32 / sqrt(16)) and in the second DoRA, 1 in PiSSA. VeRA (rank 256), IA3 and prompt tuning (20
tokens) train fewer parameters, full fine-tuning all.

Kept: the loss of every step, and the NLL (nats) of each fact's code, null if the run left the range of
numbers.
"""

from __future__ import annotations

from labsupport.method_runs import methods

SEEDS = (100, 101, 102, 103)
CELLS = [
    {"method": method, "rate": rate, "seed": seed}
    for seed in SEEDS
    for method, rates in methods.RATES.items()
    for rate in rates
]


def run(cell: dict) -> dict:
    """The losses and what is stored in the end."""
    import torch

    from labsupport.core import upstream
    from labsupport.method_runs import measuring, training

    upstream.keep_freed_memory()
    torch.set_num_threads(1)
    trainer = training.on_facts(cell["method"], cell["rate"], cell["seed"])
    return training.train(trainer) | {"nats": measuring.stored(trainer)}
