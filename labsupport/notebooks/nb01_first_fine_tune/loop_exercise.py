"""Notebook 01's exercise of the training loop, tried on models small enough to train in milliseconds."""

from __future__ import annotations

from types import SimpleNamespace

import torch
import torch.nn.functional as F

from labsupport.checking.exercise import Exercise, told
from labsupport.models import chat
from labsupport.training import loop

# ---------------------------------------------------------------- models and batches


class Bigram(torch.nn.Module):
    """Predicts a token from the one before it, with an update that is trained beside what is frozen."""

    def __init__(self, vocabulary: int, seed: int):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.frozen = torch.nn.Parameter(torch.randn(vocabulary, vocabulary, generator=generator))
        self.update = torch.nn.Parameter(torch.randn(vocabulary, vocabulary, generator=generator))
        self.scale = torch.nn.Parameter(torch.full((vocabulary,), 2.0))
        self.frozen.requires_grad_(False)

    def forward(self, input_ids, attention_mask):
        seen = (self.frozen + self.update)[input_ids] * self.scale
        return SimpleNamespace(logits=seen * attention_mask[..., None])


class Cumulative(Bigram):
    """The same of all tokens so far; masked ones are not seen."""

    def forward(self, input_ids, attention_mask):
        logits = super().forward(input_ids, attention_mask).logits
        return SimpleNamespace(logits=logits.cumsum(1))


def _batch(rows: int, length: int, vocabulary: int, seed: int) -> dict:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(vocabulary, (rows, length), generator=generator)
    mask, labels = torch.ones_like(ids), ids.clone()
    labels[:, : 1 + seed % 2] = chat.IGNORED
    mask[0, 1], mask[0, -1], labels[0, -1] = 0, 0, chat.IGNORED
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def _cases() -> list[tuple]:
    return [
        (Bigram(5, 1), [_batch(2, 6, 5, seed) for seed in range(5)], [0.3, 0.1, 0.4, 0.2, 0.1], (0.6, 0.95)),
        (Cumulative(7, 2), [_batch(3, 5, 7, seed) for seed in range(4)], [0.0, 0.5, 0.2, 0.3], (0.9, 0.5)),
    ]


# ---------------------------------------------------------------- what goes wrong


def _variant(**changes):
    """The loop with some of its parts replaced: where is "new" (an optimizer a step), and so on."""
    how = SimpleNamespace(
        **({"decay": 0.0, "clip": True, "zero": "end", "rate": True, "kind": "adam"} | changes)
    )

    def optimizer_for(trained, betas):
        if how.kind == "sgd":
            return torch.optim.SGD(trained, lr=1e-3)
        betas = (0.9, 0.999) if how.kind == "default betas" else betas
        return torch.optim.AdamW(trained, betas=betas, weight_decay=how.decay)

    def wrong(model, batches, rates, betas):
        if how.kind == "thaws":
            model.requires_grad_(True)
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer, losses = optimizer_for(trained, betas), []
        for batch, rate in zip(batches, rates, strict=True):
            if how.kind == "forgets":
                optimizer = optimizer_for(trained, betas)
            optimizer.param_groups[0]["lr"] = rate if how.rate else rates[-1]
            logits = model(batch["input_ids"], batch["attention_mask"]).logits
            loss = chat.answer_loss(logits, batch["labels"])
            if how.kind == "all tokens":
                loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), batch["input_ids"][:, 1:].flatten())
            loss.backward()
            if how.zero == "before":
                optimizer.zero_grad()
            if how.clip:
                torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            if how.zero == "end":
                optimizer.zero_grad()
            if how.kind == "after":
                loss = chat.answer_loss(
                    model(batch["input_ids"], batch["attention_mask"]).logits, batch["labels"]
                )
            losses.append(loss.item())
        return losses

    return wrong


def _clipped_values(model, batches, rates, betas):
    clip = torch.nn.utils.clip_grad_norm_
    torch.nn.utils.clip_grad_norm_ = torch.nn.utils.clip_grad_value_
    try:
        return loop.train(model, batches, rates, betas)
    finally:
        torch.nn.utils.clip_grad_norm_ = clip


train = Exercise(
    name="first_fine_tune.train",
    reference=loop.train,
    cases=_cases,
    mistakes=told(
        _variant(zero="never"),
        "backward() adds to the gradients of earlier batches: clear them after each step.",
        _variant(zero="before"),
        "The losses are those of a model that learns nothing: are the gradients cleared before the step?",
        _variant(clip=False),
        "The gradients are not clipped: bring their common norm down to 1, between backward and step.",
        _clipped_values,
        "You clip each entry of a gradient; what is clipped is the norm of all gradients together.",
        _variant(decay=0.01),
        "torch's AdamW shrinks the weights by default: the trainer does not, so weight_decay=0.",
        _variant(kind="default betas"),
        "These are AdamW's default betas, not the ones that were given.",
        _variant(rate=False),
        "Every step has the last learning rate: set optimizer.param_groups[0]['lr'] anew for each.",
        lambda model, batches, rates, betas: loop.train(model, batches, [rates[0]] * len(rates), betas),
        "Every step has the first learning rate: set optimizer.param_groups[0]['lr'] anew for each.",
        _variant(kind="forgets"),
        "A new optimizer for each step remembers nothing: Adam's running means begin again each time.",
        _variant(kind="sgd"),
        "That is plain gradient descent: the steps are to be AdamW's.",
        _variant(kind="thaws"),
        "You train the frozen weights too: leave requires_grad as it is.",
        _variant(kind="all tokens"),
        "You train on every token: the loss counts those whose label is not -100.",
        _variant(kind="after"),
        "These are the losses after each step: give that of the forward pass before it.",
    ),
    hints=[
        "Once: the parameters with requires_grad, and torch.optim.AdamW(…, betas=betas, weight_decay=0.0). "
        "For each batch: set the rate, forward, loss, backward, clip, step, zero_grad.",
        "The rate: for group in optimizer.param_groups: group['lr'] = rate. The loss: your loss_of of the "
        "logits and batch['labels'].",
        "torch.nn.utils.clip_grad_norm_(parameters, 1.0) clips in place; loss.item() is for the list only.",
    ],
    minutes=20,
    difficulty=2,
    tolerance=1e-4,
    returns="list",
    solution="solutions/01_first_fine_tune.ipynb",
)
