"""Notebook 10's exercise on a weight's change: how much of it is length, how much direction."""

from __future__ import annotations

import torch

from labsupport.checking.exercise import Exercise, told
from labsupport.models.weight_changes import magnitude_and_direction as reference

KEPT, ROUNDED = "as in float64", "lost in rounding"


def use(fn, before, after) -> dict:
    """What fn(before, after) says, and whether it would still see a change ten thousand times smaller."""
    magnitude, direction = fn(before, after)
    close = before + 1e-4 * (after - before)
    small, exact = (float(pair[1]) for pair in (fn(before, close), fn(before.double(), close.double())))
    kept = abs(small - exact) <= 0.01 * abs(exact)
    return {
        "mean |change of length|": float(magnitude),
        "mean 1 - cosine": float(direction),
        "1 - cosine of a small change": KEPT if kept else ROUNDED,
    }


def _cases() -> list[tuple]:
    generator = torch.Generator().manual_seed(0)
    cases = []
    for shape, size in (((3, 5), 0.5), ((6, 4), 1.0), ((8, 12), 0.2), ((5, 5), 2.0)):
        before, change = (torch.randn(*shape, generator=generator) for _ in range(2))
        cases.append((before, before + size * change))
    return cases


# ---------------------------------------------------------------- what people write


def _lengths(before, after, dim=1):
    return before.double().norm(dim=dim), after.double().norm(dim=dim)


def _cosine(before, after, dim=1):
    return torch.cosine_similarity(before.double(), after.double(), dim=dim)


def _wrong(lengths=None, directions=None):
    """The reference, but for one of its two numbers, from the weights in float64."""

    def answer(before, after):
        magnitude, direction = reference(before, after)
        given = before.double(), after.double()
        return lengths(*given) if lengths else magnitude, directions(*given) if directions else direction

    return answer


def _of_columns(before, after):
    return reference(before.T, after.T)


def _signed(before, after):
    old, new = _lengths(before, after)
    return (new - old).mean()


def _relative(before, after):
    old, new = _lengths(before, after)
    return ((new - old).abs() / old).mean()


def _whole(before, after):
    return reference(before.reshape(1, -1), after.reshape(1, -1))


def _summed(before, after):
    return tuple(len(before) * value for value in reference(before, after))


def _of_each_row(before, after):
    old, new = _lengths(before, after)
    return (new - old).abs(), 1 - _cosine(before, after)


def _in_float32(before, after):
    return (after.norm(dim=1) - before.norm(dim=1)).abs().mean(), (
        1 - torch.cosine_similarity(before, after, dim=1)
    ).mean()


magnitude_and_direction = Exercise(
    name="dora_and_friends.magnitude_and_direction",
    reference=reference,
    used=use,
    cases=_cases,
    mistakes=told(
        _of_columns,
        "Those are the columns. A weight is (out, in), and DoRA has a vector for each output, a row: dim=1.",
        _whole,
        "You take the whole matrix as one vector: each row has a length and a direction of its own.",
        _wrong(lengths=_signed),
        "Rows that grow and rows that shrink cancel: take the absolute value of each row's change, then the "
        "mean.",
        _wrong(lengths=lambda before, after: (after - before).norm(dim=1).mean()),
        "That is the length of the change, and a row that only turns has one, too. Take the change of the "
        "length: the norm of each row after, less that before.",
        _wrong(lengths=_relative),
        "You divide by the old length: the paper's ΔM is not relative.",
        _wrong(lengths=lambda before, after: (_signed(before, after)) ** 2),
        "You square the change of the length: take its absolute value.",
        _wrong(directions=lambda before, after: _cosine(before, after).mean()),
        "That is the cosine itself, 1 where nothing turns: return the mean of 1 - cosine.",
        _wrong(directions=lambda before, after: _cosine(before, after).acos().mean()),
        "That is the angle in radians: the paper's ΔD is 1 - cosine.",
        _wrong(directions=lambda before, after: (1 - _cosine(before, after).abs()).mean()),
        "You take the absolute value of the cosine: a row that turned round has cosine -1, and is as far "
        "away as can be.",
        _wrong(directions=lambda before, after: (1 - (before * after).sum(1)).mean()),
        "The dot product is no cosine yet: divide it by both lengths.",
        _wrong(directions=lambda before, after: (1 - _cosine(before, after - before)).mean()),
        "That is the angle between the weight and its change: compare the weight before with that after.",
        lambda before, after: reference(before, after)[::-1],
        "Right, but in the other order: first the lengths, then the directions.",
        _summed,
        "Those are sums over the rows: take the means.",
        _of_each_row,
        "Those are numbers for each row: return the mean of each.",
        _in_float32,
        "Right for large changes. But a fine-tune's are small, and there 1 - cosine is mostly rounding in "
        "float32: make both weights float64 first, .double().",
    ),
    hints=[
        "Two numbers for each row, then the mean of each over the rows. norm(dim=1) gives the lengths of the "
        "rows.",
        "The cosine of two rows is their dot product over both lengths; torch.cosine_similarity has it, with "
        "dim=1. Make both weights float64 first.",
        "(new.norm(dim=1) - old.norm(dim=1)).abs().mean().item() and "
        "(1 - torch.cosine_similarity(old, new, dim=1)).mean().item().",
    ],
    minutes=12,
    difficulty=2,
    tolerance=1e-5,  # of float32: what precision is for is told apart above
)
