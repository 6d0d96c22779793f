"""The exercises of notebook 01, each with the mistakes people make."""

from __future__ import annotations

import json
import math

import torch
import torch.nn.functional as F

from labsupport.checking.exercise import Exercise
from labsupport.evaluation import metrics
from labsupport.models import chat
from labsupport.tasks import tickets

SOLUTION = "solutions/01_first_fine_tune.ipynb"

# ---------------------------------------------------------------- labels

labels = Exercise(
    name="first_fine_tune.labels",
    reference=chat.labels,
    cases=[([5, 6, 7, 8, 9, 2], 3), ([11, 12, 13, 2], 2), ([4, 4, 4, 4, 2], 1)],
    mistakes=[  # start: where the answer does, prompt_length
        (lambda ids, start: list(ids), "You train on the prompt too: its tokens need the label -100."),
        (
            lambda ids, start: chat.labels(ids, start - 1),
            "One label too many: the last token of the prompt is still learned.",
        ),
        (
            lambda ids, start: chat.labels(ids, start + 1),
            "The first token of the answer is ignored: the prompt has prompt_length tokens.",
        ),
        (
            lambda ids, start: [*chat.labels(ids, start)[:-1], chat.IGNORED],
            "The last token is the end of the turn. Without it the model never learns to stop.",
        ),
        (
            lambda ids, start: ids[:start] + [chat.IGNORED] * (len(ids) - start),
            "The wrong way round: you ignore the answer and learn the prompt.",
        ),
        (
            lambda ids, start: list(ids[start:]),
            "The labels must be as long as the ids: mark the prompt with -100, do not cut it.",
        ),
        (
            lambda ids, start: [0] * start + list(ids[start:]),
            "0 is a token of the vocabulary and would be learned; the label to ignore is -100.",
        ),
    ],
    hints=[
        "The result has one label for each id.",
        "Which labels does PyTorch's cross-entropy leave out? Look for ignore_index in its documentation.",
        "[-100] * prompt_length gives the first part; the second part is the rest of the ids, unchanged.",
    ],
    solution=SOLUTION,
)

# ---------------------------------------------------------------- loss


def _loss_cases():
    generator = torch.Generator().manual_seed(0)
    cases = []
    for batch, length, vocabulary, ignored in ((1, 6, 9, 3), (2, 8, 20, 4), (3, 5, 11, 1)):
        logits = 3 * torch.randn(batch, length, vocabulary, generator=generator)
        wanted = torch.randint(vocabulary, (batch, length), generator=generator)
        wanted[:, :ignored] = chat.IGNORED
        wanted[0, -1] = chat.IGNORED  # one row is shorter and padded
        cases.append((logits, wanted))
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
    mistakes=[
        (_cross_entropy, "Not shifted: the logits at position t predict token t + 1, not token t."),
        (
            lambda logits, labels: _cross_entropy(logits[:, 1:], labels[:, :-1]),
            "Shifted the wrong way: drop the last logits and the first label.",
        ),
        (_summed, "You return the sum; the loss is the mean over the tokens that are learned."),
        (
            lambda logits, labels: _summed(logits, labels) / labels[:, 1:].numel(),
            "You divide by all positions; divide by those whose label is not -100.",
        ),
        (_mean_of_rows, "You average rows first, so short answers weigh more; average over tokens."),
        (
            lambda logits, labels: chat.answer_loss(logits, labels) / math.log(2),
            "That is in bits: the usual loss uses the natural logarithm (nats).",
        ),
        (
            lambda logits, labels: -chat.answer_loss(logits, labels),
            "The sign: the loss is the negative log-probability.",
        ),
    ],
    hints=[
        "Which logits have a next token to predict? All but the last of each row.",
        "Pair logits[:, :-1] with labels[:, 1:].",
        "torch.nn.functional.cross_entropy wants (positions, vocabulary) and (positions): flatten both. "
        "It leaves out the label -100 and takes the mean by itself.",
    ],
    solution=SOLUTION,
)

# ---------------------------------------------------------------- exact match

_ROW = {
    "text": "The zip of my Kestrel tent broke, RL-48213.",
    "intent": "defect",
    "product": "Kestrel tent",
    "order_id": "RL-48213",
    "urgency": "normal",
}
_BARE = {"text": "cant log in", "intent": "account", "product": None, "order_id": None, "urgency": "normal"}


def _reply_cases():
    right, bare = tickets.answer(_ROW), tickets.answer(_BARE)
    return [
        (right, _ROW),
        (bare, _BARE),
        (right.replace(",", ", ").replace(":", ": "), _ROW),
        ('{"urgency":"normal","order_id":"RL-48213","product":"Kestrel tent","intent":"defect"}', _ROW),
        (right.replace("normal", "high"), _ROW),
        (right.replace("defect", "return"), _ROW),
        (right.replace("RL-48213", "RL-48218"), _ROW),
        (right.replace("Kestrel tent", "kestrel tent"), _ROW),
        (bare.replace("null", '"null"', 1), _BARE),
        (bare.replace('"product":null,', ""), _BARE),
        (right[:-1], _ROW),
        (f"Sure! Here is the label: {right}", _ROW),
        ("I am sorry to hear that.", _ROW),
        ("[1, 2]", _ROW),
        ("", _BARE),
    ]


def _intent_only(reply, row):
    label = tickets.parse(reply)
    return label is not None and label["intent"] == row["intent"]


def _any_case(reply, row):
    label = tickets.parse(reply)
    return label is not None and str(label).lower() == str({f: row[f] for f in label}).lower()


def _missing_is_null(reply, row):
    try:
        label = json.loads(reply)
    except ValueError:
        return False
    return isinstance(label, dict) and all(label.get(field) == row[field] for field in tickets.FIELDS)


is_right = Exercise(
    name="first_fine_tune.is_right",
    reference=metrics.is_right,
    cases=_reply_cases,
    mistakes=[
        (
            lambda reply, row: reply == tickets.answer(row),
            "You compare text. Spaces and the order of keys do not matter in JSON: compare values.",
        ),
        (
            lambda reply, row: tickets.answer(row) in reply,
            "The right answer inside other text is not right: a program could not read that reply.",
        ),
        (
            lambda reply, row: all(str(row[field]) in reply for field in tickets.FIELDS),
            "You look whether the values occur somewhere in the reply; parse it as JSON instead.",
        ),
        (_intent_only, "You only look at the intent; all four fields must be right."),
        (_any_case, "You ignore capitals. An order id is copied exactly or it is wrong."),
        (_missing_is_null, "A missing key is not null: the reply must have all four keys."),
        (
            lambda reply, row: tickets.parse(reply) is not None,
            "You only check that the reply is valid JSON, not that it is right.",
        ),
    ],
    hints=[
        "json.loads raises ValueError for what is not JSON: then the reply is wrong.",
        "Valid JSON need not be an object: check for dict and for exactly the four keys.",
        "tickets.parse(reply) gives the label or None; compare it with the row, field by field.",
    ],
    solution=SOLUTION,
)

# ---------------------------------------------------------------- F1


def _accuracy(predicted, expected):
    return sum(p == e for p, e in zip(predicted, expected, strict=True)) / len(expected)


def _precision(predicted, expected):
    right = sum(e is not None and p == e for p, e in zip(predicted, expected, strict=True))
    return right / max(1, sum(p is not None for p in predicted))


def _recall(predicted, expected):
    right = sum(e is not None and p == e for p, e in zip(predicted, expected, strict=True))
    return right / max(1, sum(e is not None for e in expected))


def _plain_mean(predicted, expected):
    return (_precision(predicted, expected) + _recall(predicted, expected)) / 2


def _null_counts(predicted, expected):
    right = sum(p == e for p, e in zip(predicted, expected, strict=True))
    return 2 * right / (len(predicted) + len(expected) - sum(p is None for p in predicted))


def _presence(predicted, expected):
    return metrics.f1([p and "x" for p in predicted], [e and "x" for e in expected])


f1 = Exercise(
    name="first_fine_tune.f1",
    reference=metrics.f1,
    cases=[
        (["tent", None, "boots", None, "rope"], ["tent", None, "boot", "stove", None]),
        (["a", "b", None, None, None, None], ["a", "b", "c", "d", None, None]),
        (["a", "b", "c", "x"], ["a", None, None, "y"]),
    ],
    mistakes=[
        (_accuracy, "That is the accuracy: agreeing that there is nothing (null) earns nothing in F1."),
        (_precision, "That is the precision: it does not see the values that were missed."),
        (_recall, "That is the recall: it does not see the values that were made up."),
        (_plain_mean, "F1 is the harmonic mean of precision and recall, not the plain one."),
        (_null_counts, "You count null as a right value; null claims nothing."),
        (_presence, "You only ask whether there is a value; it must be the right one."),
    ],
    hints=[
        "Count three things: values predicted, values expected, and values predicted right.",
        "None is no value. A wrong value counts as predicted and its counterpart as expected.",
        "F1 = 2 x right / (predicted + expected).",
    ],
    solution=SOLUTION,
)
