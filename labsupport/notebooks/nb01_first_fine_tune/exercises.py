"""The exercises of notebook 01, each with the mistakes people make."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from labsupport.checking.exercise import Exercise, told
from labsupport.models import chat
from labsupport.notebooks.nb01_first_fine_tune.loop_exercise import train
from labsupport.notebooks.nb01_first_fine_tune.metric_exercises import f1, is_right

__all__ = ["answer_loss", "f1", "is_right", "labels", "train"]

# ---------------------------------------------------------------- labels

labels = Exercise(
    name="first_fine_tune.labels",
    reference=chat.labels,
    cases=[([5, 6, 7, 8, 9, 2], 3), ([11, 12, 13, 2], 2), ([4, 4, 4, 4, 2], 1)],
    mistakes=told(
        lambda ids, start: list(ids),
        "You train on the prompt too: its tokens need the label -100.",
        lambda ids, start: chat.labels(ids, start - 1),
        "One label too many: the last token of the prompt is still learned.",
        lambda ids, start: chat.labels(ids, start + 1),
        "The first token of the answer is ignored: the prompt has prompt_length tokens.",
        lambda ids, start: [*chat.labels(ids, start)[:-1], chat.IGNORED],
        "The last token is the end of the turn. Without it the model never learns to stop.",
        lambda ids, start: ids[:start] + [chat.IGNORED] * (len(ids) - start),
        "The wrong way round: you ignore the answer and learn the prompt.",
        lambda ids, start: [chat.IGNORED] * len(ids),
        "You ignore everything, so nothing is learned: the answer keeps its ids.",
        lambda ids, start: [*chat.labels(ids, start)[1:], chat.IGNORED],
        "Shifted by one: each label stands at its own token, and the loss does the shifting.",
        lambda ids, start: list(ids[start:]),
        "The labels must be as long as the ids: mark the prompt with -100, do not cut it.",
        lambda ids, start: [0] * start + list(ids[start:]),
        "0 is a token of the vocabulary and would be learned; the label to ignore is -100.",
    ),
    hints=[
        "The result has one label for each id.",
        "Which labels does PyTorch's cross-entropy leave out? Look for ignore_index in its documentation.",
        "[-100] * prompt_length gives the first part; the second part is the rest of the ids, unchanged.",
    ],
    minutes=5,
    difficulty=1,
    returns="list",
)

# ---------------------------------------------------------------- loss


def _loss_cases():
    generator = torch.Generator().manual_seed(0)
    cases = []
    for batch, length, vocabulary, ignored in ((1, 6, 9, 3), (2, 8, 20, 4), (3, 5, 11, 0)):
        logits = 3 * torch.randn(batch, length, vocabulary, generator=generator)
        wanted = torch.randint(vocabulary, (batch, length), generator=generator)
        wanted[:, :ignored] = chat.IGNORED
        wanted[0, -1] = chat.IGNORED  # one row is shorter and padded
        cases.append((logits.requires_grad_(), wanted))  # what trains needs a gradient
    return cases


def _cross_entropy(logits, labels, **options):
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), **options)


def _summed(logits, labels):
    return _cross_entropy(logits[:, :-1], labels[:, 1:], reduction="sum")


def _mean_of_rows(logits, labels):
    rows = zip(logits, labels, strict=True)
    return torch.stack([chat.answer_loss(row[None], label[None]) for row, label in rows]).mean()


answer_loss = Exercise(
    name="first_fine_tune.answer_loss",
    reference=chat.answer_loss,
    cases=_loss_cases,
    mistakes=told(
        (_cross_entropy, lambda logits, labels: _cross_entropy(logits[:, :-1], labels[:, :-1])),
        "Not shifted: the logits at position t predict token t + 1, not token t.",
        lambda logits, labels: _cross_entropy(logits[:, 1:], labels[:, :-1]),
        "Shifted the wrong way: drop the last logits and the first label.",
        _summed,
        "You return the sum; the loss is the mean over the tokens that are learned.",
        lambda logits, labels: _summed(logits, labels) / labels[:, 1:].numel(),
        "You divide by all positions; divide by those whose label is not -100.",
        lambda logits, labels: chat.answer_loss(logits.softmax(-1), labels),
        "A softmax twice: cross_entropy takes the logits and does its own.",
        lambda logits, labels: F.nll_loss(logits.softmax(-1)[:, :-1].flatten(0, 1), labels[:, 1:].flatten()),
        "The logarithm is missing: that is the mean probability, with a minus.",
        lambda logits, labels: F.cross_entropy(logits.flatten(0, 1)[:-1], labels.flatten()[1:]),
        "Shift each row, then flatten: a row's last position must not predict the next row's first token.",
        lambda logits, labels: _cross_entropy(logits[:, :-1], labels[:, 1:].clamp(min=0), ignore_index=0),
        "You leave out token 0 as well; only -100 is ignored.",
        lambda logits, labels: chat.answer_loss(logits[:1], labels[:1]),
        "That is the first row alone: the mean is over all rows.",
        lambda logits, labels: chat.answer_loss(logits, labels.clamp(min=0)),
        "Positions labelled -100 are learned, as if their label were token 0.",
        lambda logits, labels: chat.answer_loss(logits, labels).exp(),
        "That is the perplexity: the loss is its logarithm.",
        _mean_of_rows,
        "You average rows first, so short answers weigh more; average over tokens.",
        lambda logits, labels: chat.answer_loss(logits, labels) / math.log(2),
        "That is in bits: the usual loss uses the natural logarithm (nats).",
        lambda logits, labels: -chat.answer_loss(logits, labels),
        "The sign: the loss is the negative log-probability.",
    ),
    hints=[
        "Which logits have a next token to predict? All but the last of each row.",
        "Pair logits[:, :-1] with labels[:, 1:].",
        "torch.nn.functional.cross_entropy wants (positions, vocabulary) and (positions): flatten both. "
        "It leaves out the label -100 and takes the mean by itself.",
    ],
    minutes=15,
    difficulty=2,
)
