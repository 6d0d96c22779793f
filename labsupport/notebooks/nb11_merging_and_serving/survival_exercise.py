"""Notebook 11's exercise on what rounding leaves of an update."""

from __future__ import annotations

import torch

from labsupport.checking.exercise import Exercise, told
from labsupport.models import merging, nf4


def _to_bfloat16(weight):
    return weight.to(torch.bfloat16).to(torch.float32)


def _to_nf4(weight):
    return nf4.dequantize(nf4.quantize(weight.float(), 64))


STORED = {"bfloat16": _to_bfloat16, "NF4": _to_nf4}


def use(fn, before, delta, format) -> dict:
    """What fn says of storing in that format."""
    kept, cosine = fn(before, delta, STORED[format])
    return {"kept": kept, "cosine": cosine}


def _cases() -> list[tuple]:
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, generator=generator)

    return [
        (_to_bfloat16(random(4, 32)), 3e-3 * random(4, 32), "bfloat16"),
        (random(8, 16), 1e-3 * random(8, 16), "bfloat16"),
        (_to_nf4(random(4, 16)), 0.2 * random(4, 16), "NF4"),
        (random(16, 24), 0.02 * random(16, 24), "NF4"),
    ]


# ---------------------------------------------------------------- what people write


def _cosine(a, b):
    return a @ b / a.norm() / b.norm()


def _with(change=None, kept=None, cosine=None):
    """A right one, but for what it takes as the change D, or for one of its two numbers, from D and delta."""

    def answer(before, delta, stored):
        D = change(before, delta, stored) if change else stored(before + delta) - stored(before)
        D, asked = D.double().flatten(), delta.double().flatten()
        share, angle = D @ asked / (asked @ asked), _cosine(D, asked)
        return kept(D, asked) if kept else share, cosine(D, asked) if cosine else angle

    return answer


def _of_weights(before, delta, stored):
    kept, _ = merging.surviving(before, delta, stored)
    after = before + delta
    return kept, _cosine(stored(after).double().flatten(), after.double().flatten())


def _of_rows(before, delta, stored):
    D, asked = (stored(before + delta) - stored(before)).double(), delta.double()
    shares = (D * asked).sum(1) / asked.square().sum(1)
    return shares.mean(), torch.cosine_similarity(D, asked, dim=1).mean()


surviving = Exercise(
    name="merging_and_serving.surviving",
    reference=merging.surviving,
    used=use,
    cases=_cases,
    mistakes=told(
        _with(change=lambda before, delta, stored: stored(delta)),
        "You store the update by itself, where nearly all of it is left: near zero the steps are fine. A "
        "merged model has only the sum: stored(before + delta).",
        _with(change=lambda before, delta, stored: stored(before + delta) - before),
        "Storing rounds the weight even without an update, and that counts as change here: subtract "
        "stored(before), not before.",
        _with(change=lambda before, delta, stored: before + delta - stored(before)),
        "The sum is not stored: D is stored(before + delta) - stored(before).",
        _with(change=lambda before, delta, stored: before + delta - before),
        "Nothing is stored here: D is stored(before + delta) - stored(before).",
        _with(change=lambda before, delta, stored: stored(before) - stored(before + delta)),
        "D has the wrong sign: what is after less what is before.",
        _with(kept=lambda D, asked: D.norm() / asked.norm()),
        "Kept is |D| / |delta| here, so noise counts as update: take the part of D along delta, "
        "D·delta / delta·delta.",
        _with(kept=lambda D, asked: D @ asked / (D @ D)),
        "Kept is divided by D·D: divide by delta·delta, of what was asked for.",
        _with(kept=lambda D, asked: D @ asked / asked.norm()),
        "Kept is divided by the length of delta: divide by its square, delta·delta.",
        _with(kept=lambda D, asked: (D != 0).double().mean()),
        "Kept is the share of entries that moved: those that did moved by whole steps, not by their delta.",
        _with(kept=lambda D, asked: (D / asked).mean()),
        "Kept is the mean of D / delta, in which the smallest entries of delta count as much as the largest: "
        "sum D · delta and divide by the sum of delta².",
        _with(kept=lambda D, asked: D.abs().sum() / asked.abs().sum()),
        "Kept is a ratio of absolute values, so noise counts as update: D·delta / delta·delta has signs.",
        _with(kept=lambda D, asked: 1 - (D - asked).norm() / asked.norm()),
        "Kept is 1 less the relative error, in which noise counts as loss: take D·delta / delta·delta.",
        _with(kept=lambda D, asked: 1 - D @ asked / (asked @ asked)),
        "That is the share that is lost: return the one that is kept.",
        _with(cosine=lambda D, asked: D @ asked),
        "The dot product is no cosine yet: divide it by both lengths.",
        _with(cosine=lambda D, asked: 1 - _cosine(D, asked)),
        "That is 1 - cosine: return the cosine, which is 1 where D has delta's direction.",
        _of_weights,
        "That is the cosine of two weights, and with a small update it is near 1 whatever is left: take that "
        "of D and delta.",
        _of_rows,
        "Those are means over the rows: take the matrix as one vector, .flatten().",
        lambda *given: merging.surviving(*given)[::-1],
        "Right, but in the other order: first the share that is kept, then the cosine.",
    ),
    hints=[
        "D = stored(before + delta) - stored(before): what the update changes of what is stored. Then take D "
        "and delta as vectors, .flatten().",
        "Both numbers are the dot product D @ delta, divided: one by delta @ delta, the other by both "
        "lengths.",
        "D, d = D.double().flatten(), delta.double().flatten(); (D @ d / (d @ d)).item() and "
        "(D @ d / (D.norm() * d.norm())).item().",
    ],
    minutes=10,
    difficulty=2,
    tolerance=1e-4,  # a sum in float32 will do
)
