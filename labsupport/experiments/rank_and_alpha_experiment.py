"""Which rule for alpha keeps a step as large at every rank? A layer of random numbers is trained with LoRA by
three rules (alpha fixed, alpha = 2r, rsLoRA), and the change of its output is measured after 1 and after 50
steps, on the rows that made the newest gradient and on fresh ones: over batch size, width and the mean cosine
of the rows, under Adam and SGD, four seeds each. The exponent p of the growth with the rank r (change ~ r^p)
stands beside the one that the alignment of rows and gradient lets expect. Learning rates are so small that
little of what the loss asks for is reached; three settings break that, to see what it changes. The last cell
takes gradients and inputs from the course's model: of ticket rows, of other ticket rows, of other text."""

from __future__ import annotations

import statistics

import torch

from labsupport.evaluation import canary_scoring
from labsupport.models import base_model, chat, lora
from labsupport.tasks import canary, tickets
from labsupport.updates import first_steps, full_update
from labsupport.updates.toy_training import RULES, output_changes

RANKS, SEEDS, STEPS = (4, 16, 64, 256), range(4), 50
PLACES = ("seen 1", "fresh 1", f"seen {STEPS}", f"fresh {STEPS}")
SETTINGS = [
    *({"batch": batch, "width": 256, "row_cosine": 0.0} for batch in (1, 8, 64, 512)),
    *({"batch": 8, "width": width, "row_cosine": 0.0} for width in (64, 1024)),
    *({"batch": 8, "width": 256, "row_cosine": cosine} for cosine in (0.1, 0.3, 0.7)),
    {"batch": 512, "width": 256, "row_cosine": 0.3},
]
ALIKE = {"optimizer": "adam", "batch": 8, "width": 256}
CELLS = [
    *({"optimizer": optimizer, **setting} for optimizer in ("adam", "sgd") for setting in SETTINGS),
    ALIKE | {"row_cosine": 0.3, "lr": 1e-3},  # reaches much of the target
    *(ALIKE | {"row_cosine": cosine, "lr": 1e-3, "target": 100.0} for cosine in (0.0, 0.3)),  # A moves too
    {"model": "smollm2-135m-instruct", "batch": 8},
]


def run(cell: dict) -> dict:
    """Toy layers: for each rule and place (rows and steps) the `exponent` of each seed and the mean `change`
    at each rank; the mean `alignment` for each place; how far A `moved` at most. For the model see below."""
    torch.set_num_threads(1)
    if "model" in cell:
        return real_layers(cell["batch"])
    ranks = [rank for rank in RANKS if rank <= cell["width"]]
    runs = {
        (rule, rank, seed): output_changes(**cell, rule=rule, rank=rank, steps=STEPS, seed=seed)
        for rule in RULES
        for rank in ranks
        for seed in SEEDS
    }
    exponents, changes = {}, {}
    for rule in RULES:
        for place in PLACES:
            table = [[runs[rule, rank, seed][place] for rank in ranks] for seed in SEEDS]
            exponents.setdefault(rule, {})[place] = [
                round(first_steps.exponent(ranks, row), 3) for row in table
            ]
            means = [statistics.geometric_mean(column) for column in zip(*table, strict=True)]
            changes.setdefault(rule, {})[place] = [float(f"{mean:.3g}") for mean in means]
    every = list(runs.values())
    alignments = {p: round(statistics.mean(r[f"{p} alignment"] for r in every), 4) for p in PLACES}
    moved = round(max(r["moved A"] for r in every), 3)
    return {"ranks": ranks, "exponent": exponents, "change": changes, "alignment": alignments, "moved": moved}


def real_layers(batch: int) -> dict:
    """`layers`, see first_steps.by_layer: every linear layer of the base model with the gradient of `batch`
    ticket rows, and the inputs that made it, those of other families, and those of general questions."""
    model, tokenizer = base_model.load(dtype="float32", device="cpu")
    examples = [chat.encode_example(tokenizer, row) for row in full_update.training_rows(batch)]
    labels = [chat.labels(e.ids, e.prompt_length) for e in examples]
    kinds = {"seen": first_steps.layer_inputs(model, tokenizer, [e.ids for e in examples], labels)}
    others = tickets.one_of_each_family(tickets.load("validation"))[:batch]
    texts = [canary_scoring.prompt(row["question"]) for row in canary.load()[:batch]]
    fresh = [chat.encode_example(tokenizer, row).ids for row in others]
    kinds["fresh"] = first_steps.layer_inputs(model, tokenizer, fresh)
    kinds["other text"] = first_steps.layer_inputs(
        model, tokenizer, [tokenizer(t)["input_ids"] for t in texts]
    )
    ranks = [4, 16, 64, 192]  # k and v have no higher
    gradients = {name: layer.weight.grad for name, layer in lora.linear_layers(model).items()}
    return {"ranks": ranks, "layers": first_steps.by_layer(gradients, kinds, ranks)}
