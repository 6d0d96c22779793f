"""The exercises of notebook 01, each with the mistakes people make."""

from __future__ import annotations

import json
import math
from collections import Counter

import torch
import torch.nn.functional as F

from labsupport.checking.exercise import Exercise, told
from labsupport.evaluation import metrics
from labsupport.models import chat
from labsupport.notebooks.nb01_first_fine_tune.loop_exercise import train  # noqa: F401 - one of them
from labsupport.tasks import tickets

SOLUTION = "solutions/01_first_fine_tune.ipynb"

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
    solution=SOLUTION,
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


def _all_positions(logits, labels):
    return chat.answer_loss(logits, labels.clamp(min=0))


def _probabilities(logits, labels):
    return F.nll_loss(logits.softmax(-1)[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


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
        _probabilities,
        "The logarithm is missing: that is the mean probability, with a minus.",
        lambda logits, labels: F.cross_entropy(logits.flatten(0, 1)[:-1], labels.flatten()[1:]),
        "Shift each row, then flatten: a row's last position must not predict the next row's first token.",
        lambda logits, labels: _cross_entropy(logits[:, :-1], labels[:, 1:].clamp(min=0), ignore_index=0),
        "You leave out token 0 as well; only -100 is ignored.",
        lambda logits, labels: chat.answer_loss(logits[:1], labels[:1]),
        "That is the first row alone: the mean is over all rows.",
        _all_positions,
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
        (bare.replace("null", '"None"'), _BARE),
        (bare.replace("null", '""'), _BARE),
        (bare.replace('"product":null,', ""), _BARE),
        (f'{right[:-1]},"note":"repair or replace"}}', _ROW),
        ('{"intent":"return","product":null,"order_id":null,"urgency":"low"}', _ROW),
        (f" {right}\n", _ROW),
        (right[:-1], _ROW),
        (f"Sure! Here is the label: {right}", _ROW),
        ("I am sorry to hear that.", _ROW),
        ("[1, 2]", _ROW),
        ("", _BARE),
    ]


def _found_inside(reply, row):
    start, end = reply.find("{"), reply.rfind("}") + 1
    return metrics.is_right(reply[start:end], row)


def _intent_only(reply, row):
    label = tickets.parse(reply)
    return label is not None and label["intent"] == row["intent"]


def _any_case(reply, row):
    label = tickets.parse(reply)
    return label is not None and str(label).lower() == str({f: row[f] for f in label}).lower()


def _comparing(compare):
    """A judge of compare(label, row) for each reply that is a JSON object, whatever its keys."""

    def wrong(reply, row):
        try:
            label = json.loads(reply)
        except ValueError:
            return False
        return isinstance(label, dict) and compare(label, row)

    return wrong


def _same(label, row, form=lambda value: value):
    return all(form(label.get(field)) == form(row[field]) for field in tickets.FIELDS)


is_right = Exercise(
    name="first_fine_tune.is_right",
    reference=metrics.is_right,
    cases=_reply_cases,
    mistakes=told(
        (
            lambda reply, row: reply == tickets.answer(row),
            lambda reply, row: reply.strip() == tickets.answer(row),
        ),
        "You compare text. Spaces and the order of keys do not matter in JSON: compare values.",
        (lambda reply, row: tickets.answer(row) in reply, _found_inside),
        "The right answer inside other text is not right: a program could not read that reply.",
        lambda reply, row: all(str(row[field]) in reply for field in tickets.FIELDS),
        "You look whether the values occur somewhere in the reply; parse it as JSON instead.",
        _comparing(
            lambda label, row: len(label) == 4 and all(label.get(f) == row[f] for f in tickets.FIELDS[:3])
        ),
        "You leave out the urgency; all four fields must be right.",
        _intent_only,
        "You only look at the intent; all four fields must be right.",
        _any_case,
        "You ignore capitals. An order id is copied exactly or it is wrong.",
        _comparing(lambda label, row: _same(label, row) and len(label) <= 4),
        "A missing key is not null: the reply must have all four keys.",
        _comparing(_same),
        "Only what you look up is compared: the reply must have the four keys, none missing, none more.",
        _comparing(lambda label, row: _same(label, row) and label.keys() >= set(tickets.FIELDS)),
        "A fifth key is wrong too: the reply must have exactly the four keys.",
        _comparing(lambda label, row: _same(label, row, str) and len(label) == 4),
        'You compare str() of the values: the text "None" is not null.',
        _comparing(lambda label, row: any(label.get(f) == row[f] for f in tickets.FIELDS)),
        "any() is true when one field is right; all four must be: all().",
        lambda reply, row: tickets.parse(reply) is not None,
        "You only check that the reply is valid JSON, not that it is right.",
    ),
    hints=[
        "json.loads raises ValueError for what is not JSON: then the reply is wrong.",
        "Valid JSON need not be an object: check for dict and for exactly the four keys.",
        "tickets.parse(reply) gives the label or None; compare it with the row, field by field.",
    ],
    minutes=10,
    difficulty=2,
    solution=SOLUTION,
)

# ---------------------------------------------------------------- F1


def _claims(values):
    return sum(value is not None for value in values)


def _right(predicted, expected):
    return sum(e is not None and p == e for p, e in zip(predicted, expected, strict=True))


def _wrong(ratio):
    """A wrong F1 that gives, for two columns without a value, nan as asked; or an error; or 0."""

    def asked(predicted, expected):
        return ratio(predicted, expected) if _claims(predicted + expected) else float("nan")

    def raising(predicted, expected):
        if not _claims(predicted + expected):
            raise ValueError("division by zero")
        return ratio(predicted, expected)

    def a_number(predicted, expected):
        return ratio(predicted, expected) if _claims(predicted + expected) else 0.0

    return asked, raising, a_number


def _empty_as(value):
    return lambda p, e: metrics.f1(p, e) if _claims(p + e) else value


def _agreeing(predicted, expected):
    return sum(p == e for p, e in zip(predicted, expected, strict=True))


def _precision(predicted, expected):
    return _right(predicted, expected) / max(1, _claims(predicted))


def _recall(predicted, expected):
    return _right(predicted, expected) / max(1, _claims(expected))


def _jaccard(predicted, expected):
    right = _right(predicted, expected)
    return right / (_claims(predicted + expected) - right)


def _in_common(collection):
    """F1 of what occurs in both columns, wherever it stands."""

    def ratio(predicted, expected):
        p, e = (collection(v for v in values if v is not None) for values in (predicted, expected))
        sizes = [sum(Counter(values).values()) for values in (p & e, p, e)]
        return 2 * sizes[0] / (sizes[1] + sizes[2])

    return ratio


def _presence(predicted, expected):
    return metrics.f1([p and "x" for p in predicted], [e and "x" for e in expected])


f1 = Exercise(
    name="first_fine_tune.f1",
    reference=metrics.f1,
    cases=[
        (["tent", None, "boots", None, "rope"], ["tent", None, "boot", "stove", None]),
        (["a", "b", None, None, None, None], ["a", "b", "c", "d", None, None]),
        (["a", "b", "c", "x"], ["a", None, None, "y"]),
        (["a", "b", "a", None, "c", "a"], ["b", "a", "a", "a", None, None]),  # right, but in another row
        (["a", None, "b"], ["b", "c", None]),
        ([None, None], [None, None]),
    ],
    mistakes=told(
        _wrong(lambda p, e: _agreeing(p, e) / len(e)),
        "That is the accuracy: agreeing that there is nothing (null) earns nothing in F1.",
        _wrong(_precision),
        "That is the precision: it does not see the values that were missed.",
        _wrong(_recall),
        "That is the recall: it does not see the values that were made up.",
        _wrong(lambda p, e: (_precision(p, e) + _recall(p, e)) / 2),
        "F1 is the harmonic mean of precision and recall, not the plain one.",
        _wrong(lambda p, e: 2 * _agreeing(p, e) / _claims(p + e)),
        "null = null is no right value: where there is nothing to find, nothing is earned.",
        _wrong(lambda p, e: 2 * _agreeing(p, e) / (len(e) + _claims(p))),
        "You count null as a right value; null claims nothing.",
        _wrong(lambda p, e: _right(p, e) / len(e)),
        "You divide by all rows, null included: count the values only.",
        _wrong(_jaccard),
        "That divides by the union (Jaccard); F1 divides twice the right ones by predicted + expected.",
        _wrong(_in_common(set)),
        "You compare sets: a value counts in its own row, and as often as it occurs.",
        _wrong(_in_common(Counter)),
        "You count which values occur in both lists; a value must be right in its own row.",
        _wrong(_presence),
        "You only ask whether there is a value; it must be the right one.",
        _wrong(lambda p, e: metrics.f1(p, e) / 2),
        "The 2 is missing: a right value counts twice, as predicted and as expected.",
        _wrong(lambda p, e: 100 * metrics.f1(p, e)),
        "That is in percent: return a share of 1.",
        (_empty_as(0.0), _empty_as(1.0), _wrong(metrics.f1)[1]),
        "Two columns without any value: nothing was claimed and nothing due, so F1 is float('nan').",
    ),
    hints=[
        "Count three things: values predicted, values expected, and values predicted right.",
        "None is no value. A wrong value counts as predicted and its counterpart as expected.",
        "F1 = 2 x right / (predicted + expected).",
    ],
    minutes=15,
    difficulty=2,
    solution=SOLUTION,
)
