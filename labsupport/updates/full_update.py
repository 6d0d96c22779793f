"""A short fine-tune of every linear layer in full, and what is left of it when each update is cut to a rank.

Only the blocks' seven projections are trained; embeddings and norms stay as they were.
"""

from __future__ import annotations

import random

import torch

from labsupport.evaluation import scoring
from labsupport.models import chat
from labsupport.sizes import counting
from labsupport.tasks import tickets
from labsupport.updates import spectra

CLIP = 1.0  # longest gradient, as trainers have it by default


def training_rows(count: int, answers: str = "right") -> list[dict]:
    """`count` ticket rows in a fixed order; "shuffled" gives each message the labels of another one."""
    rows = tickets.load("train")
    random.Random(0).shuffle(rows)
    rows = rows[:count]
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
        parameter.requires_grad_(name.split(".")[-2] in counting.ALL_LINEAR)
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def trained_labels(example: chat.Example, tokens: str) -> list[int]:
    """Training labels, one a token of the example, that ignore the prompt; with tokens="values" all but the
    tokens that decide a field's value are ignored too: keys, brackets and the end of the turn."""
    labels = chat.labels(example.ids, example.prompt_length)
    if tokens == "all":
        return labels
    fields = scoring.field_of_tokens(example.answer, example.answer_offsets)
    decides = [False] * example.prompt_length + [field is not None for field in fields]
    decides += [False] * (len(labels) - len(decides))
    return [label if wanted else chat.IGNORED for label, wanted in zip(labels, decides, strict=True)]


def train(
    model, tokenizer, rows: list[dict], batch: int, optimizer: str, learning_rate: float, tokens: str
) -> list[float]:
    """One pass over the rows at a constant learning rate; the loss before each step, in nats a trained token.

    optimizer: "adamw" (without weight decay) or "sgd". tokens: "all" of the answer, or its "values".
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if optimizer == "sgd":
        update = torch.optim.SGD(parameters, lr=learning_rate)
    else:
        update = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.0, fused=True)
    losses = []
    for start in range(0, len(rows), batch):
        examples = [chat.encode_example(tokenizer, row) for row in rows[start : start + batch]]
        ids, mask = chat.pad_left(tokenizer, [e.ids for e in examples])
        labels = chat.pad_labels_left([trained_labels(e, tokens) for e in examples])
        keep = max(len(e.targets) for e in examples) + 1  # the head only where it is needed
        logits = model(input_ids=ids, attention_mask=mask, logits_to_keep=keep).logits
        loss = chat.answer_loss(logits, labels[:, -keep:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        update.step()
        update.zero_grad()
        losses.append(round(loss.item(), 4))
    return losses


def factors(model, before: dict[str, torch.Tensor]) -> dict[str, tuple]:
    """The thin SVD (U, S, V) of what each of the matrices has gained since `before`, by name."""
    return {
        name: torch.linalg.svd(model.get_parameter(name).detach() - weight, full_matrices=False)
        for name, weight in before.items()
    }


def scored_at(rank: int, model, tokenizer, rows: list[dict], before: dict, svds: dict) -> dict[str, list]:
    """Each row's NLL in nats with every update cut to its best approximation of that rank: lists for "all"
    (the whole answer) and for each field's value. Rank 0 is the model of before. Changes the weights."""
    for name, weight in before.items():
        model.get_parameter(name).data.copy_(weight + spectra.low_rank(svds[name], rank))
    scores = scoring.score(model, tokenizer, rows)
    return {part: [round(score["nll"][part], 4) for score in scores] for part in ("all", *tickets.FIELDS)}


def summary(name: str, values: torch.Tensor, weight: torch.Tensor, ranks: tuple[int, ...]) -> dict:
    """Of an update with these singular values: layer, module, shape, size relative to the weight, rank for
    90 % of the energy, and the energy (0..1) in the first of `ranks`."""
    layer, module = layer_and_module(name)
    curve = spectra.energy_curve(values)
    return {
        "layer": layer,
        "module": module,
        "shape": list(weight.shape),
        "relative_size": float(f"{values.norm().item() / weight.norm().item():.3g}"),
        "rank_90": spectra.rank_for_energy(values, 0.9),
        "energy": [round(float(curve[min(rank, len(curve)) - 1]), 4) for rank in ranks],
    }


def layer_and_module(name: str) -> tuple[int, str]:
    """3 and "up_proj" of the parameter model.layers.3.mlp.up_proj.weight."""
    parts = name.split(".")
    return int(parts[parts.index("layers") + 1]), parts[-2]
