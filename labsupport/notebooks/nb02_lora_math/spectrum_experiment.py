"""How low is the rank of a real update? Every linear layer of the model's blocks is fine-tuned in full in
float32 (embeddings and norms stay as they were) on ticket rows, and the singular values of what each matrix
has gained are kept. Three arms see the same messages in the same order: AdamW, SGD, and AdamW on answers
that were shuffled among the messages, so that there is nothing to learn but the form. For the first, every
update is also cut to its best rank-k approximation and the validation rows are scored again. One seed."""

from __future__ import annotations

import random

import torch

from labsupport.core import profiles, upstream
from labsupport.evaluation import scoring, spectra
from labsupport.models import base_model, chat
from labsupport.sizes import counting
from labsupport.tasks import tickets

STEPS, BATCH = 48, 4
LEARNING_RATES = {"adamw": 2e-5, "sgd": 0.3}  # both take steps of about the same length
CLIP = 1.0  # longest gradient, as trainers have it by default
MODULES = counting.ALL_LINEAR
LAYERS = (2, 15, 28)  # whose singular values are all kept
RANKS = (1, 2, 4, 8, 16, 32, 64, 128, 192, 256, 384, 576)
CUTS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 576)  # 576 is every matrix in full
VALIDATION_FAMILIES = 64
CELLS = [
    {"optimizer": "adamw", "answers": "right"},
    {"optimizer": "sgd", "answers": "right"},
    {"optimizer": "adamw", "answers": "shuffled"},
]


def run(cell: dict) -> dict:
    """`losses`, nats a token, one a step; `matrices`: each matrix's spectrum in short; `singular_values`: a
    few in full, as text; for AdamW on right answers `cut`: NLL of each validation row at each of CUTS."""
    upstream.keep_freed_memory()
    torch.set_num_threads(profiles.current().threads)
    torch.manual_seed(0)
    # In bfloat16 rounding would be the update.
    model, tokenizer = base_model.load(dtype="float32", device="cpu")
    model.train()
    before = freeze_all_but_linears(model)
    losses = train(model, tokenizer, training_rows(cell["answers"]), cell["optimizer"])
    trained = {name: p.detach() for name, p in model.named_parameters() if name in before}
    factors = {n: torch.linalg.svd(p - before[n], full_matrices=False) for n, p in trained.items()}
    result = {
        "steps": STEPS,
        "batch": BATCH,
        "losses": losses,
        "learning_rate": LEARNING_RATES[cell["optimizer"]],
        "matrices": [summary(name, factors[name].S, weight) for name, weight in before.items()],
        "singular_values": {},
    }
    for name, (_, values, _) in factors.items():
        layer, module = layer_and_module(name)
        if layer in LAYERS:
            result["singular_values"][f"{layer}.{module}"] = spectra.to_text(values)
    if cell == CELLS[0]:
        rows = tickets.one_of_each_family(tickets.load("validation"))[:VALIDATION_FAMILIES]
        result["families"] = [row["family"] for row in rows]
        result["cut"] = {str(rank): scored_at(rank, model, tokenizer, rows, before, factors) for rank in CUTS}
    return result


def training_rows(answers: str) -> list[dict]:
    """STEPS x BATCH rows in a fixed order; "shuffled" gives each message another one's labels."""
    rows = tickets.load("train")
    random.Random(0).shuffle(rows)
    rows = rows[: STEPS * BATCH]
    if answers == "right":
        return rows
    others = random.Random(1).sample(rows, len(rows))
    return [
        row | {field: other[field] for field in tickets.FIELDS}
        for row, other in zip(rows, others, strict=True)
    ]


def freeze_all_but_linears(model) -> dict[str, torch.Tensor]:
    """Leave only the blocks' seven projections trainable; copies of them by name."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.split(".")[-2] in MODULES)
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def train(model, tokenizer, rows: list[dict], optimizer: str) -> list[float]:
    """STEPS steps at a constant learning rate; the loss before each."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    if optimizer == "sgd":
        update = torch.optim.SGD(parameters, lr=LEARNING_RATES["sgd"])
    else:
        update = torch.optim.AdamW(parameters, lr=LEARNING_RATES["adamw"], weight_decay=0.0, fused=True)
    losses = []
    for start in range(0, STEPS * BATCH, BATCH):
        batch = [chat.encode_example(tokenizer, row) for row in rows[start : start + BATCH]]
        ids, mask = chat.pad_left(tokenizer, [e.ids for e in batch])
        labels = chat.pad_labels_left([chat.labels(e.ids, e.prompt_length) for e in batch])
        keep = max(len(e.ids) - e.prompt_length for e in batch) + 1  # the head only where it is needed
        logits = model(input_ids=ids, attention_mask=mask, logits_to_keep=keep).logits
        loss = chat.answer_loss(logits, labels[:, -keep:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        update.step()
        update.zero_grad()
        losses.append(round(loss.item(), 4))
    return losses


def layer_and_module(name: str) -> tuple[int, str]:
    """3 and "up_proj" of the parameter model.layers.3.mlp.up_proj.weight."""
    parts = name.split(".")
    return int(parts[parts.index("layers") + 1]), parts[-2]


def summary(name: str, values: torch.Tensor, weight: torch.Tensor) -> dict:
    """Shape, relative size, rank for 90 % of the energy and the energy in the first of RANKS."""
    layer, module = layer_and_module(name)
    curve = spectra.energy_curve(values)
    return {
        "layer": layer,
        "module": module,
        "shape": list(weight.shape),
        "relative_size": float(f"{values.norm().item() / weight.norm().item():.3g}"),
        "rank_90": spectra.rank_for_energy(values, 0.9),
        "energy": [round(float(curve[min(rank, len(curve)) - 1]), 4) for rank in RANKS],
    }


def scored_at(rank: int, model, tokenizer, rows: list[dict], before: dict, factors: dict) -> list[float]:
    """NLL of the rows with every update cut to its best approximation of that rank."""
    for name, weight in before.items():
        model.get_parameter(name).data.copy_(weight + spectra.low_rank(factors[name], rank))
    return [round(score["nll"]["all"], 4) for score in scoring.score(model, tokenizer, rows)]
