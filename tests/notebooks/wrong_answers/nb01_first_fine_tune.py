"""Wrong answers to notebook 01's exercises."""

import ast
import json
import math

import torch
import torch.nn.functional as F

from labsupport.tasks import tickets

FIELDS = ("intent", "product", "order_id", "urgency")


def nothing_learned(ids, prompt_length):
    return [-100] * len(ids)


def in_place(ids, prompt_length):
    ids[:prompt_length] = [-100] * prompt_length
    return ids


def in_place_and_wrong(ids, prompt_length):
    for i in range(prompt_length - 1):
        ids[i] = -100
    return ids


def as_tuple(ids, prompt_length):
    return (-100,) * prompt_length + tuple(ids[prompt_length:])


def as_tensor(ids, prompt_length):
    labels = torch.tensor(ids)
    labels[:prompt_length] = -100
    return labels


def none_for_ignored(ids, prompt_length):
    return [None] * prompt_length + ids[prompt_length:]


def without_end(ids, prompt_length):
    return [-100] * prompt_length + ids[prompt_length:-1]


def endless(ids, prompt_length):
    labels = []
    while len(labels) != len(ids) + 1:
        labels = labels[: len(ids)]
        labels += [-100] if len(labels) < len(ids) else []
    return labels


def loss(logits, labels, **options):
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), **options)


def flattened_before_the_shift(logits, labels):
    return F.cross_entropy(logits.flatten(0, 1)[:-1], labels.flatten()[1:])


def first_row_alone(logits, labels):
    return loss(logits[:1], labels[:1])


def detached(logits, labels):
    return loss(logits.detach(), labels)


def without_grad(logits, labels):
    with torch.no_grad():
        return loss(logits, labels)


def both_cut(logits, labels):
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, :-1].flatten())


def only_logits_cut(logits, labels):
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), labels.flatten())


def not_flattened(logits, labels):
    return F.cross_entropy(logits[:, :-1], labels[:, 1:])


def softmax_first(logits, labels):
    return loss(torch.softmax(logits, -1), labels)


def softmax_of_positions(logits, labels):
    logs = logits[:, :-1].log_softmax(1)
    return F.nll_loss(logs.flatten(0, 1), labels[:, 1:].flatten())


def none_reduced(logits, labels):
    return loss(logits, labels, reduction="none")


def smoothed(logits, labels):
    return loss(logits, labels, label_smoothing=0.1)


def labels_spoiled(logits, labels):
    labels[labels == -100] = 0
    return loss(logits, labels)


def looped(model, batches, rates, betas, *, step=None, loss_of=loss, optimizer=torch.optim.AdamW, **options):
    """The loop as most write it; step: what is done between backward and the next batch."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = optimizer(trained, betas=betas, **({"weight_decay": 0} | options))
    losses = []
    for batch, rate in zip(batches, rates, strict=True):
        optimizer.param_groups[0]["lr"] = rate
        current = loss_of(model(batch["input_ids"], batch["attention_mask"]).logits, batch["labels"])
        current.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        (step or optimizer.step)()
        optimizer.zero_grad()
        losses.append(current.item())
    return losses


def no_steps(model, batches, rates, betas):
    return looped(model, batches, rates, betas, step=lambda: None)


def decayed(model, batches, rates, betas):
    return looped(model, batches, rates, betas, weight_decay=0.01)


def adam_l2(model, batches, rates, betas):
    return looped(model, batches, rates, betas, optimizer=torch.optim.Adam, weight_decay=0.1)


def not_shifted(model, batches, rates, betas):
    def own(logits, labels):
        return F.cross_entropy(logits.flatten(0, 1), labels.flatten())

    return looped(model, batches, rates, betas, loss_of=own)


def detached_loop(model, batches, rates, betas):
    return looped(model, batches, rates, betas, loss_of=detached)


def item_loop(model, batches, rates, betas):
    return looped(model, batches, rates, betas, loss_of=lambda *both: loss(*both).item())


def last_loss(model, batches, rates, betas):
    return looped(model, batches, rates, betas)[-1]


def mean_loss(model, batches, rates, betas):
    losses = looped(model, batches, rates, betas)
    return sum(losses) / len(losses)


def one_rate(model, batches, rates, betas):
    return looped(model, batches, [rates[0]] * len(rates), betas)


def tensors(model, batches, rates, betas):
    return torch.tensor(looped(model, batches, rates, betas))


def stripped_text(reply, row):
    return reply.strip() == tickets.answer(row)


def literal(reply, row):
    return ast.literal_eval(reply) == {field: row[field] for field in FIELDS}


def no_try(reply, row):
    return json.loads(reply) == {field: row[field] for field in FIELDS}


def label_of(reply):
    try:
        label = json.loads(reply)
    except ValueError:
        return None
    return label if isinstance(label, dict) else None


def part_of_the_row(reply, row):
    label = label_of(reply)
    return label is not None and label.items() <= row.items()


def all_of_the_row(reply, row):
    return label_of(reply) == row


def any_field(reply, row):
    label = label_of(reply)
    return label is not None and any(label.get(field) == row[field] for field in FIELDS)


def fifth_key(reply, row):
    label = label_of(reply)
    return label is not None and all(field in label and label[field] == row[field] for field in FIELDS)


def as_text(reply, row):
    label = label_of(reply)
    keys = label is not None and set(label) == set(FIELDS)
    return keys and all(str(label[field]) == str(row[field]) for field in FIELDS)


def a_count(reply, row):
    label = label_of(reply) or {}
    return sum(label.get(field) == row[field] for field in FIELDS) == 4


def by_sets(predicted, expected):
    p, e = set(predicted) - {None}, set(expected) - {None}
    precision, recall = len(p & e) / len(p), len(p & e) / len(e)
    return 2 * precision * recall / (precision + recall) if p & e else 0.0


def right_values(predicted, expected):
    return sum(p == e and p is not None for p, e in zip(predicted, expected, strict=True))


def claims(values):
    return sum(value is not None for value in values)


def f1(predicted, expected):
    return 2 * right_values(predicted, expected) / (claims(predicted) + claims(expected))


def without_two(predicted, expected):
    return right_values(predicted, expected) / (claims(predicted) + claims(expected))


def jaccard(predicted, expected):
    right = right_values(predicted, expected)
    return right / (claims(predicted) + claims(expected) - right)


def of_all_rows(predicted, expected):
    return 2 * right_values(predicted, expected) / (len(predicted) + len(expected))


def null_equals_null(predicted, expected):
    right = sum(p == e for p, e in zip(predicted, expected, strict=True))
    return 2 * right / (claims(predicted) + claims(expected))


def percent(predicted, expected):
    return 200 * right_values(predicted, expected) / (claims(predicted) + claims(expected))


def geometric(predicted, expected):
    right = right_values(predicted, expected)
    return math.sqrt(right / claims(predicted) * right / claims(expected))


ANSWERS = {
    "first_fine_tune.labels": [
        (nothing_learned, "You ignore everything"),
        (in_place, "changes argument ids in place"),
        (in_place_and_wrong, "One label too many"),
        (as_tuple, "a tuple where the next cells need a list"),
        (as_tensor, "a Tensor where the next cells need a list"),
        (none_for_ignored, "It returned None at [0] where a number (int) was expected"),
        (without_end, "The last item is missing"),
        (endless, "does a loop never end"),
    ],
    "first_fine_tune.answer_loss": [
        (flattened_before_the_shift, "Shift each row, then flatten"),
        (first_row_alone, "That is the first row alone"),
        (detached, "no gradient"),
        (lambda logits, labels: loss(logits, labels).item(), "no gradient"),
        (without_grad, "no gradient"),
        (both_cut, "Not shifted"),
        (only_logits_cut, "It raised ValueError"),
        (not_flattened, "It raised"),
        (softmax_first, "A softmax twice"),
        (softmax_of_positions, None),
        (none_reduced, "where a number"),
        (smoothed, None),
        (labels_spoiled, "Positions labelled -100 are learned"),
    ],
    "first_fine_tune.train": [
        (no_steps, "a model that learns nothing"),
        (decayed, "weight_decay=0"),
        (adam_l2, None),
        (not_shifted, None),
        (detached_loop, "It raised RuntimeError"),
        (item_loop, "It raised AttributeError"),
        (last_loss, "where a list"),
        (mean_loss, "where a list"),
        (one_rate, "first learning rate"),
        (tensors, "where the next cells need a list"),
    ],
    "first_fine_tune.is_right": [
        (stripped_text, "You compare text"),
        (literal, "It raised ValueError"),
        (no_try, "It raised JSONDecodeError"),
        (part_of_the_row, "A missing key is not null"),
        (all_of_the_row, None),
        (any_field, "any() is true when one field is right"),
        (fifth_key, "A fifth key is wrong"),
        (as_text, 'the text "None" is not null'),
        (a_count, "none missing, none more"),
    ],
    "first_fine_tune.f1": [
        (
            lambda predicted, expected: 0.0 if claims(predicted + expected) == 0 else f1(predicted, expected),
            "Two columns without any value",
        ),
        (f1, "Two columns without any value"),
        (by_sets, "You compare sets"),
        (without_two, "The 2 is missing"),
        (jaccard, "(Jaccard)"),
        (of_all_rows, "You divide by all rows"),
        (null_equals_null, "null = null is no right value"),
        (percent, "in percent"),
        (geometric, "It raised ZeroDivisionError"),
    ],
}
