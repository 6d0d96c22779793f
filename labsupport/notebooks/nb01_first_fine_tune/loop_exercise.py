"""Notebook 01's exercise of the training loop, tried on models small enough to train in milliseconds."""

from __future__ import annotations

from types import SimpleNamespace
from unittest import mock

import torch
from torch.nn import utils
from torch.optim import AdamW

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

# Each mistake is the reference with one thing wrong.


class _KeepsGradients(AdamW):
    def zero_grad(self):
        pass


class _ClearsBeforeStep(AdamW):
    def step(self):
        self.zero_grad()
        super().step()


class _Forgets(AdamW):
    def step(self):
        super().step()
        self.state.clear()


def _adamw(**changes):
    """AdamW that takes these options for those it is given."""
    return lambda parameters, **options: AdamW(parameters, **options | changes)


def _with(module, **parts):
    """The reference while these parts of a module of torch are replaced."""

    def wrong(*arguments):
        with mock.patch.multiple(module, **parts):
            return loop.train(*arguments)

    return wrong


def _losses_after(model, batches, *others):
    losses, left = [], iter(batches)

    class Noting(AdamW):
        def step(self):
            super().step()
            batch = next(left)
            logits = model(batch["input_ids"], batch["attention_mask"]).logits
            losses.append(chat.answer_loss(logits, batch["labels"]).item())

    _with(torch.optim, AdamW=Noting)(model, batches, *others)
    return losses


def _all_tokens(model, batches, *others):
    return loop.train(model, [batch | {"labels": batch["input_ids"]} for batch in batches], *others)


train = Exercise(
    name="first_fine_tune.train",
    reference=loop.train,
    cases=_cases,
    mistakes=told(
        _with(torch.optim, AdamW=_KeepsGradients),
        "backward() adds to the gradients of earlier batches: clear them after each step.",
        _with(torch.optim, AdamW=_ClearsBeforeStep),
        "The losses are those of a model that learns nothing: are the gradients cleared before the step?",
        _with(utils, clip_grad_norm_=lambda parameters, longest: None),
        "The gradients are not clipped: bring their common norm down to 1, between backward and step.",
        _with(utils, clip_grad_norm_=utils.clip_grad_value_),
        "You clip each entry of a gradient; what is clipped is the norm of all gradients together.",
        _with(torch.optim, AdamW=_adamw(weight_decay=0.01)),
        "torch's AdamW shrinks the weights by default: the trainer does not, so weight_decay=0.",
        _with(torch.optim, AdamW=_adamw(betas=(0.9, 0.999))),
        "These are AdamW's default betas, not the ones that were given.",
        lambda model, batches, rates, betas: loop.train(model, batches, [rates[-1]] * len(rates), betas),
        "Every step has the last learning rate: set optimizer.param_groups[0]['lr'] anew for each.",
        lambda model, batches, rates, betas: loop.train(model, batches, [rates[0]] * len(rates), betas),
        "Every step has the first learning rate: set optimizer.param_groups[0]['lr'] anew for each.",
        _with(torch.optim, AdamW=_Forgets),
        "A new optimizer for each step remembers nothing: Adam's running means begin again each time.",
        _with(torch.optim, AdamW=lambda parameters, **options: torch.optim.SGD(parameters)),
        "That is plain gradient descent: the steps are to be AdamW's.",
        lambda model, *others: loop.train(model.requires_grad_(True), *others),
        "You train the frozen weights too: leave requires_grad as it is.",
        _all_tokens,
        "You train on every token: the loss counts those whose label is not -100.",
        _losses_after,
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
)
