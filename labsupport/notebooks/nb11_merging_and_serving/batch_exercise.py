"""Notebook 11's exercise on a batch in which each row has its own adapter."""

from __future__ import annotations

import torch

from labsupport.checking.exercise import Exercise, told
from labsupport.models import merging

NONE = merging.NO_ADAPTER


def _cases() -> list[tuple]:
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, generator=generator)

    def case(shape, ranks, names):
        adapters = {
            name: (random(rank, shape[1]), random(shape[0], rank), scale)
            for name, (rank, scale) in ranks.items()
        }
        return random(len(names), shape[1]), random(*shape), adapters, names

    two = {"tickets": (2, 4.0), "notes": (3, 0.5)}
    three = {"a": (1, 2.0), "b": (4, 0.25), "c": (2, 8.0)}
    return [
        case((5, 7), two, ["notes", NONE, "tickets", "notes", NONE]),
        case((4, 3), three, ["c", "a", NONE, "a", "c", "a"]),  # b is not asked for
        case((3, 6), two, [NONE, NONE]),
        case((6, 4), three, ["b"]),
        case((3, 5), three, ["a", "b", "c", "b"]),
    ]


# ---------------------------------------------------------------- what people write


def _update(x, adapter):
    A, B, scale = adapter
    return scale * (x @ A.T @ B.T)


def _with(update=_update, base=lambda x, weight, name: x @ weight.T, of=lambda adapters, names, i: names[i]):
    """A right one, a row at a time: but for the adapter's part, the base's, or which adapter a row has."""

    def answer(x, weight, adapters, names):
        rows = []
        for i, row in enumerate(x):
            name = of(adapters, names, i)
            y = base(row, weight, names[i])
            rows.append(y if name == NONE else y + update(row, adapters[name]))
        return torch.stack(rows)

    return answer


def _sum_of(chosen):
    """Every row with all adapters that chosen(adapters, names) names."""

    def answer(x, weight, adapters, names):
        return x @ weight.T + sum(_update(x, adapters[name]) for name in chosen(adapters, names))

    return answer


def _grouped(x, weight, adapters, names):
    groups = dict.fromkeys(names)
    found = []
    for group in groups:
        rows = x[[i for i, name in enumerate(names) if name == group]]
        y = rows @ weight.T
        found.append(y if group == NONE else y + _update(rows, adapters[group]))
    return torch.cat(found)


def _merged_one_after_the_other(x, weight, adapters, names):
    rows = []
    for row, name in zip(x, names, strict=True):
        if name != NONE:
            A, B, scale = adapters[name]
            weight = weight + scale * B @ A
        rows.append(row @ weight.T)
    return torch.stack(rows)


def _base_again(x, weight, adapters, names):
    y = x @ weight.T
    for i, name in enumerate(names):
        if name != NONE:
            y[i] += x[i] @ weight.T + _update(x[i], adapters[name])
    return y


def _each_once(x, weight, adapters, names):
    y = x @ weight.T
    for name in set(names) - {NONE}:
        i = names.index(name)
        y[i] += _update(x[i], adapters[name])
    return y


def _skipped(x, weight, adapters, names):
    y = merging.mixed_forward(x, weight, adapters, names)
    return y[[i for i, name in enumerate(names) if name != NONE]]


def _last_for_all(x, weight, adapters, names):
    for name in names:
        y = x @ weight.T
        if name != NONE:
            y = y + _update(x, adapters[name])
    return y


def _in_dict_order(adapters, names, i):
    return NONE if names[i] == NONE else list(adapters)[i % len(adapters)]


def _by_rank_again(x, adapter):
    return _update(x, adapter) / len(adapter[0])


mixed_forward = Exercise(
    name="merging_and_serving.mixed_forward",
    reference=merging.mixed_forward,
    cases=_cases,
    mistakes=told(
        _sum_of(lambda adapters, names: adapters),
        "Every row gets all adapters: each has its own, and some have none.",
        _sum_of(lambda adapters, names: set(names) - {NONE}),
        "Every row gets all adapters that the batch asks for: each has its own.",
        _with(of=lambda adapters, names, i: names[0]),
        "Every row gets the first row's adapter: go by its own name.",
        _last_for_all,
        "Every row gets the last row's adapter: does each turn of the loop compute all rows anew?",
        _with(of=_in_dict_order),
        "Rows get the adapters in the order of the dict: names says which.",
        _with(update=lambda x, adapter: x @ adapter[0].T @ adapter[1].T),
        "The scale is missing: an adapter adds scale · B A x.",
        _with(update=_by_rank_again),
        "You divide by the rank: the scale is alpha / r already.",
        _with(base=lambda x, weight, name: x @ weight.T * (name == NONE)),
        "Rows with an adapter have lost the base's product: the adapter adds to it.",
        _with(base=lambda x, weight, name: x @ weight.T * (name != NONE)),
        'Rows of "__base__" are zero: they get the product with the weight alone.',
        _base_again,
        "Rows with an adapter have the base's product twice: add the adapter's part alone.",
        _grouped,
        "The rows come back sorted by adapter: write each to its own place.",
        _skipped,
        'Rows of "__base__" are left out: they get the product with the weight alone.',
        _merged_one_after_the_other,
        "Each adapter stays in the weight for the rows that come after: the weight is for all, so add the "
        "adapter's part to the row's output.",
        _each_once,
        "Only the first row of each adapter gets it: names.index finds one, and there may be more.",
    ),
    hints=[
        "First one product with the weight for all rows. Then, for each adapter, find the rows that have its "
        "name and add its part to them.",
        "x is a batch of rows, so W x is x @ W.T, and B A x is x @ A.T @ B.T, as in notebook 02. Nothing is "
        'added for "__base__".',
        "rows = [i for i, own in enumerate(names) if own == name]; y[rows] += scale * x[rows] @ A.T @ B.T",
    ],
    minutes=10,
    difficulty=2,
    returns="tensor",
)
