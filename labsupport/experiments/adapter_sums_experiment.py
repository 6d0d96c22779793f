"""Two adapters with two skills added up and subtracted: what is left of each, against one trained on both.

The skills are as different as this course has them: 256 support tickets read into JSON (each seen once, 32
steps of 8), and 40 random facts learned by heart (a key -> 8 symbols, 40 bits; each seen 12 times, 60 steps).
Their system prompts differ, too, so the two never have to answer the same question. Five adapters are trained
on the 135M base (LoRA of rank 16, alpha 32, all linear layers, weights in float32, products in bfloat16, the
course's rate and cosine; a new adapter's first weights have a seed of their own):

    tickets, facts                  one skill each
    both                            the batches of both in one shuffled order: as many steps as the two took
    one after the other             `tickets` trained on with the batches of `facts`
    other facts                     the next 40 facts: as large and made in the same way; never asked

Each is scored, and combinations of their updates dW, written into the base's weights in float32
(labsupport/merge_runs/sums.py): sums with weights (1, 1), (.5, .5), (.7, .3), (.3, .7); each alone at half
its strength, since a mean of two also halves each; TIES at density 0.5 of dW, as published, and of the
factors A and B apart, which is what PEFT's "ties" does; and task arithmetic's negations (Ilharco et al. 2022,
arXiv 2212.04089): `both` and `tickets` less `facts`, `both` also less half of it. Controls, added or taken
away in its place: `other facts`, and `misplaced`, which is `facts` with rows and columns of every matrix in a
random order: same entries, norm, rank, singular values.

Teacher-forced, products in bfloat16, for every model: `tickets` on every third family of test_lookalike, a
row each (48): NLL in nats by field and of the end token, `exact` (every token of the answer the first
choice), `stops`; `facts`: NLL of each code and how many of its 8 symbols are `right`; `general`: every eighth
of 96 passages, NLL and KL(base ‖ model) in nats over their tokens. `updates`: scalar products of all updates
dW, which give cosines and |dW| beside |W|. `losses`: of every training step, nats a token; those of `other
facts` show that it knows its own. Seeds decide first weights and order; tickets and facts are the same. One
thread.
"""

from __future__ import annotations

SEEDS = (0, 1, 2)
DENSITY = 0.5
# Name -> weight of each update.
MODELS: dict[str, dict[str, float]] = {
    "base": {},
    "tickets": {"tickets": 1},
    "facts": {"facts": 1},
    "both": {"both": 1},
    "one after the other": {"one after the other": 1},
    "tickets + facts": {"tickets": 1, "facts": 1},
    "0.7 tickets + 0.3 facts": {"tickets": 0.7, "facts": 0.3},
    "0.5 tickets + 0.5 facts": {"tickets": 0.5, "facts": 0.5},
    "0.3 tickets + 0.7 facts": {"tickets": 0.3, "facts": 0.7},
    "0.5 tickets": {"tickets": 0.5},
    "0.5 facts": {"facts": 0.5},
    "TIES": {"TIES": 1},
    "TIES of the factors": {"TIES of the factors": 1},
    "tickets + other facts": {"tickets": 1, "other facts": 1},
    "tickets + misplaced": {"tickets": 1, "misplaced": 1},
    "tickets − facts": {"tickets": 1, "facts": -1},
    "tickets − other facts": {"tickets": 1, "other facts": -1},
    "both − facts": {"both": 1, "facts": -1},
    "both − 0.5 facts": {"both": 1, "facts": -0.5},
    "both − other facts": {"both": 1, "other facts": -1},
}
CELLS = [{"seed": seed} for seed in SEEDS]


def run(cell: dict) -> dict:
    """`losses`: adapter -> one a step; `scores`: model -> `skills.scored`; `updates`: `sums.products`."""
    import tempfile
    from pathlib import Path

    import torch

    from labsupport.core import profiles, upstream
    from labsupport.evaluation import general_text
    from labsupport.merge_runs import skills, sums
    from labsupport.models import base_model

    upstream.keep_freed_memory()
    torch.set_num_threads(1)
    base = profiles.current().base_model
    with tempfile.TemporaryDirectory() as scratch:
        folders, losses = skills.train_all(cell["seed"], Path(scratch))
        updates = {name: sums.of(folder) for name, folder in folders.items()}
        pair = {name: folders[name] for name in ("tickets", "facts")}
        updates["TIES of the factors"] = sums.tied_factors(base, pair, DENSITY, Path(scratch))
    model, tokenizer = base_model.load(base, "float32", "cpu")
    first, messages, texts = sums.weights_of(model), skills.asked(), skills.passages()
    updates["TIES"] = sums.held(sums.tied([updates[name] for name in pair], DENSITY), first)
    updates["misplaced"] = sums.misplaced(updates["facts"], cell["seed"])
    with general_text.mixed_precision():
        before = general_text.logits(model, tokenizer, texts)
    scores = {}
    for name, weights in MODELS.items():
        sums.put(model, first, sums.weighted(weights, updates) if weights else None)
        scores[name] = skills.scored(model, tokenizer, messages, texts, before)
    return {"losses": losses, "scores": scores, "updates": sums.products(first, updates)}
