"""How low is the rank of a real update? Every linear layer of the model's blocks is fine-tuned in full in
float32 (embeddings and norms stay as they were) on ticket rows, and the singular values of what each matrix
has gained are kept. Three arms see the same messages in the same order: AdamW, SGD, and AdamW on answers
that were shuffled among the messages, so that there is nothing to learn but the form. For the first, every
update is also cut to its best rank-k approximation and the validation rows are scored again. One seed."""

from __future__ import annotations

import random

from labsupport.models import counting

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
    import torch

    from labsupport.core import profiles, upstream
    from labsupport.evaluation import scoring
    from labsupport.models import base_model
    from labsupport.tasks import tickets

    upstream.keep_freed_memory()
    torch.set_num_threads(profiles.current().threads)
    torch.manual_seed(0)
    model, tokenizer = base_model.load(
        dtype="float32", device="cpu"
    )  # in bfloat16 rounding would be the update
    model.train()
    before = freeze_all_but_linears(model)
    losses = train(model, tokenizer, training_rows(cell["answers"]), cell["optimizer"])
    updates = {name: (p - before[name]).detach() for name, p in model.named_parameters() if p.requires_grad}
    spectra = {name: torch.linalg.svd(update, full_matrices=False) for name, update in updates.items()}
    result = {"steps": STEPS, "batch": BATCH, "losses": losses}
    result["learning_rate"] = LEARNING_RATES[cell["optimizer"]]
    result["matrices"] = [summary(name, spectra[name].S, before[name]) for name in updates]
    result["singular_values"] = {
        f"{layer}.{module}": as_text(values.S)
        for name, values in spectra.items()
        for layer, module in [place(name)]
        if layer in LAYERS
    }
    if cell == CELLS[0]:
        rows = list({row["family"]: row for row in tickets.load("validation")}.values())
        rows = rows[:VALIDATION_FAMILIES]
        result["families"] = [row["family"] for row in rows]
        result["cut"] = {}
        for rank in CUTS:
            cut(model, before, spectra, rank)
            scores = scoring.score(model, tokenizer, rows)
            result["cut"][str(rank)] = [round(score["nll"]["all"], 4) for score in scores]
    return result


def training_rows(answers: str) -> list[dict]:
    """STEPS x BATCH rows in a fixed order; "shuffled" gives each message another one's labels."""
    from labsupport.tasks import tickets

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


def freeze_all_but_linears(model) -> dict:
    """Leave only the blocks' seven projections trainable; copies of them by name."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.split(".")[-2] in MODULES)
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def train(model, tokenizer, rows: list[dict], optimizer: str) -> list[float]:
    """STEPS steps at a constant learning rate; the loss before each."""
    import torch

    from labsupport.models import chat

    parameters = [p for p in model.parameters() if p.requires_grad]
    if optimizer == "sgd":
        update = torch.optim.SGD(parameters, lr=LEARNING_RATES["sgd"])
    else:
        update = torch.optim.AdamW(parameters, lr=LEARNING_RATES["adamw"], weight_decay=0.0, fused=True)
    losses = []
    for start in range(0, STEPS * BATCH, BATCH):
        batch = [chat.encode_example(tokenizer, row) for row in rows[start : start + BATCH]]
        ids, mask = chat.pad_left([e.ids for e in batch], tokenizer.pad_token_id)
        labels, _ = chat.pad_left([chat.labels(e.ids, e.prompt_length) for e in batch], chat.IGNORED)
        keep = max(len(e.ids) - e.prompt_length for e in batch) + 1  # the head only where it is needed
        logits = model(input_ids=ids, attention_mask=mask, logits_to_keep=keep).logits
        loss = chat.answer_loss(logits, labels[:, -keep:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        update.step()
        update.zero_grad()
        losses.append(round(loss.item(), 4))
    return losses


def place(name: str) -> tuple[int, str]:
    """Layer number and module of a parameter such as model.layers.3.mlp.up_proj.weight."""
    parts = name.split(".")
    return int(parts[parts.index("layers") + 1]), parts[-2]


def summary(name: str, values, weight) -> dict:
    """Shape, relative size, rank for 90 % of the energy and the energy in the first of RANKS."""
    from labsupport.models import lora

    layer, module = place(name)
    curve = lora.energy_curve(values)
    return {
        "layer": layer,
        "module": module,
        "shape": list(weight.shape),
        "relative_size": float(f"{values.norm().item() / weight.norm().item():.3g}"),
        "rank_90": lora.rank_for_energy(values, 0.9),
        "energy": [round(float(curve[min(rank, len(curve)) - 1]), 4) for rank in RANKS],
    }


def cut(model, before: dict, spectra: dict, rank: int) -> None:
    """Set every weight to its old value plus the best rank-`rank` approximation of its update."""
    for name, parameter in model.named_parameters():
        if name in spectra:
            U, S, V = spectra[name]
            parameter.data.copy_(before[name] + (U[:, :rank] * S[:rank]) @ V[:rank])


def as_text(values) -> str:
    """Singular values with 4 digits, apart by blanks: a list would take a line of JSON for each."""
    return " ".join(f"{value:.3e}" for value in values.tolist())


def from_text(text: str) -> list[float]:
    """What `as_text` wrote."""
    return [float(value) for value in text.split()]
