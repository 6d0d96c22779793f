"""The exercises of notebook 01 on what a reply is worth: exact match and F1."""

from __future__ import annotations

import json
from collections import Counter

from labsupport.checking.exercise import Exercise, told
from labsupport.evaluation import metrics
from labsupport.tasks import tickets

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
        _wrong(lambda p, e: metrics.f1([value and "x" for value in p], [value and "x" for value in e])),
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
)
