"""The exercises of notebook 04, each with the mistakes people make."""

from __future__ import annotations

import torch

from labsupport import old_names
from labsupport.checking.exercise import Exercise, told
from labsupport.evaluation import four_bit
from labsupport.models import nf4
from labsupport.notebooks.nb04_nf4_quantization.storage_exercises import model_bytes, quantize_scales

__all__ = ["input_gradient", "levels", "model_bytes", "quantize", "quantize_scales"]

# ---------------------------------------------------------------- the 16 levels


def _quantiles(high, low, count):
    return torch.special.ndtri(torch.linspace(high, low, count).double())


def _joined(*halves):
    values = torch.cat(halves).float().sort().values
    return values / values.max()


def _probabilities(offset):
    return _joined(torch.linspace(offset, 0.5, 9) - 0.5, 0.5 - torch.linspace(offset, 0.5, 8)[:-1])


levels = Exercise(
    name="nf4_quantization.levels",
    reference=nf4.levels,
    cases=[(0.9677083,), (0.95,), (0.99,)],
    mistakes=told(
        lambda offset: _joined(_quantiles(1 - offset, offset, 16)),
        "One even grid of 16 probabilities has no level at 0. NF4 joins two half-grids at 0.",
        lambda offset: _joined(_quantiles(offset, 0.5, 8), -_quantiles(offset, 0.5, 9)[:-1]),
        "The halves are swapped: NF4 has eight levels above 0 and seven below.",
        lambda offset: _joined(_quantiles(offset, 0.5, 8), -_quantiles(offset, 0.5, 8)),
        "Zero appears twice and a level is missing: the positive half needs nine probabilities.",
        lambda offset: nf4.levels(offset) * torch.special.ndtri(torch.tensor(offset)),
        "These are quantiles in units of sigma: divide by the largest, so that they end at 1.",
        _probabilities,
        "These are even steps of probability: turn them into quantiles with ndtri first.",
        lambda offset: _joined(_quantiles(offset, 0.5, 9), _quantiles(offset, 0.5, 8)[:-1]),
        "The levels below 0 are missing: turn the sign of one half.",
        lambda offset: _joined(_quantiles(offset, 0.5, 9), -_quantiles(offset, 0.5, 8)),
        "Zero is in both halves, so there are 17: leave it out of one.",
        lambda offset: _joined(_quantiles(1 / 32, 31 / 32, 16)),
        "Quantiles of 16 equal shares: the outermost probability is offset, and one level must be 0.",
        lambda offset: _joined(_quantiles(offset, 0.5, 9)[:-1], -_quantiles(offset, 0.5, 9)[:-1]),
        "Eight levels on each side leave none at 0: the negative half has seven, and zero is shared.",
        lambda offset: nf4.levels(),
        "You leave out the argument: the outermost probability is offset.",
        lambda offset: torch.linspace(-1, 1, 16),
        "Your levels are evenly spaced, as INT4's are. Space the probabilities evenly and turn each one "
        "into its quantile: these lie closer together near 0.",
        lambda offset: nf4.levels(offset).flip(0),
        "The order: codes count from -1 (code 0) up to 1 (code 15).",
    ),
    hints=[
        "torch.special.ndtri turns a probability into a quantile. ndtri(0.5) is the zero that both share.",
        "Positive: nine probabilities from offset down to 0.5. Negative: eight, and turn the sign round.",
        "Leave the zero out of one half, put the halves together, sort, divide by the largest.",
    ],
    minutes=15,
    difficulty=2,
    returns="tensor",
)

# ---------------------------------------------------------------- blocks, scales and codes


def _quantize_cases():
    return [
        (four_bit.random_weights("Gaussian", 256, seed=1).view(4, 64), nf4.levels(), 64),
        (four_bit.random_weights("Student t5", 512, seed=2).view(2, 256) / 30, nf4.levels(), 128),
        (3 * four_bit.random_weights("Gaussian", 128, seed=3).view(4, 32), nf4.levels(0.95), 32),
    ]


def _divided_by(scale_of):
    """A quantiser whose scale of each row of blocks is scale_of(blocks)."""

    def wrong(weight, levels, blocksize):
        blocks = weight.view(-1, blocksize)
        values = (blocks / scale_of(blocks)[:, None]).flatten()
        return torch.bucketize(values, nf4.thresholds(levels)).to(torch.uint8), scale_of(blocks)

    return wrong


def _level_below(weight, levels, blocksize):
    blocks = weight.view(-1, blocksize)
    absmax = blocks.abs().amax(1)
    values = (blocks / absmax[:, None]).flatten()
    return (torch.bucketize(values, levels, right=True) - 1).to(torch.uint8), absmax


def _level_above(scaled):
    def wrong(weight, levels, blocksize):
        values, absmax = scaled(weight.view(-1, blocksize))
        return torch.bucketize(values.flatten(), levels).to(torch.uint8), absmax

    return wrong


def _divided(blocks):
    """Another last bit than by the reciprocal: the largest is 1 exactly."""
    absmax = blocks.abs().amax(1)
    return blocks / absmax[:, None], absmax


def _of_fixed_blocks(weight, levels, blocksize):
    return nf4.quantize_blocks(weight, levels, 64)


def _of_rows(weight, levels, blocksize):
    return nf4.quantize_blocks(weight, levels, weight.shape[1])


def _int4(weight, levels, blocksize):
    values, absmax = _divided(weight.view(-1, blocksize))
    return (7.5 * values + 7.5).round().flatten(), absmax


def _levels_themselves(weight, levels, blocksize):
    codes, absmax = nf4.quantize_blocks(weight, levels, blocksize)
    return levels[codes.int()], absmax


def _not_divided(weight, levels, blocksize):
    codes = torch.bucketize(weight.flatten(), nf4.thresholds(levels)).to(torch.uint8)
    return codes, nf4.quantize_blocks(weight, levels, blocksize)[1]


def _scale_turned_round(weight, levels, blocksize):
    codes, absmax = nf4.quantize_blocks(weight, levels, blocksize)
    return codes, 1 / absmax


quantize = Exercise(
    name="nf4_quantization.quantize",
    reference=nf4.quantize_blocks,
    cases=_quantize_cases,
    mistakes=told(
        _divided_by(lambda blocks: blocks.abs().max().expand(len(blocks))),
        "One scale for the whole weight: each block of blocksize weights has its own.",
        _divided_by(lambda blocks: blocks.abs().mean(1)),
        "You divide by the mean magnitude; NF4 divides by the largest, so that all lies in [-1, 1].",
        _divided_by(lambda blocks: blocks.amax(1)),
        "You took the largest value; a large negative weight then leaves [-1, 1]. Take abs first.",
        _divided_by(lambda blocks: blocks.std(1)),
        "You divide by the standard deviation; NF4 divides by the largest magnitude.",
        _level_below,
        "You take the level below; take the nearest one.",
        (_level_above(nf4.scaled), _level_above(_divided)),
        "You search among the levels, which finds the one above: search among their midpoints.",
        lambda weight, levels, blocksize: nf4.quantize_blocks(weight.T, levels, blocksize),
        "Your blocks run down the columns; they run along the flattened weight, row by row.",
        _of_fixed_blocks,
        "You take blocks of 64 for granted: use blocksize.",
        _of_rows,
        "One scale for each row of the matrix: blocks have blocksize weights, whatever the width.",
        _int4,
        "You round to even steps; look for the nearest of the given levels.",
        lambda weight, levels, blocksize: nf4.quantize_blocks(weight, levels, blocksize)[0],
        "The scales are missing: return the codes and absmax.",
        _levels_themselves,
        "You return levels; return their numbers, 0 to 15: the codes are what is stored.",
        _not_divided,
        "You look up the weights themselves: divide each block by its absmax first.",
        _scale_turned_round,
        "Return absmax, not its reciprocal: restoring multiplies by it.",
    ),
    hints=[
        "weight.reshape(-1, blocksize) gives one block a row; absmax is one number for each row.",
        "The nearest level changes at the midpoint of two neighbours: 15 thresholds.",
        "torch.bucketize(values, thresholds) counts the thresholds below each value: that is the code.",
    ],
    minutes=20,
    difficulty=2,
    returns="tensor",
)

# ---------------------------------------------------------------- the backward pass


def _gradient_cases():
    cases = []
    sizes = [(3, 32, 64, 64), (2, 64, 64, 128), (5, 96, 16, 32)]
    for number, (batch, out, inputs, blocksize) in enumerate(sizes):
        weight = four_bit.random_weights("Gaussian", out * inputs, number)
        packed, absmax = nf4.quantize(weight, blocksize, double=False)[:2]
        random = torch.Generator().manual_seed(number)
        levels = nf4.levels(0.95) if number else nf4.levels()
        cases.append((torch.randn(batch, out, generator=random), packed, absmax, levels))
    return cases


def _weight(grad_output, packed, absmax, levels):
    return nf4.dequantize_blocks(packed, absmax, levels).view(grad_output.shape[-1], -1)


def _of_64(grad_output, packed, absmax, levels):
    scales = absmax.repeat_interleave(64)
    return grad_output @ (levels[nf4.unpack(packed).int()] * scales).view(grad_output.shape[-1], -1)


input_gradient = Exercise(
    name="nf4_quantization.input_gradient",
    reference=nf4.input_gradient,
    cases=_gradient_cases,
    mistakes=told(
        lambda dy, packed, absmax, levels: dy @ _weight(dy, packed, absmax, levels).T,
        "Transposed: y = x W^T, so the gradient to x is grad_output W, without a transpose.",
        lambda dy, packed, absmax, levels: dy @ _weight(dy, packed, 1 / absmax, levels),
        "You divide by the scales; quantising divided, so restoring multiplies.",
        lambda dy, packed, absmax, levels: dy @ _weight(dy, packed, absmax, levels).view(-1, dy.shape[-1]).T,
        "W has the shape (out, in): as many rows as grad_output has columns.",
        lambda dy, packed, absmax, levels: dy @ _weight(dy, packed, torch.ones_like(absmax), levels),
        "You left out the scales: a weight is its level times the absmax of its block.",
        lambda dy, packed, absmax, levels: dy @ _weight(dy, packed, absmax, torch.arange(16.0)),
        "You multiply with the codes; look each one up in levels first.",
        lambda dy, packed, absmax, levels: dy @ _weight(dy, packed << 4 | packed >> 4, absmax, levels),
        "The two weights of each byte are swapped: the high half comes first.",
        lambda dy, packed, absmax, levels: dy @ torch.ones_like(_weight(dy, packed, absmax, levels)),
        "You passed the gradient on as if every weight were 1; it must meet the weights.",
        _of_64,
        "You take blocks of 64 for granted: the block size is the number of weights / len(absmax).",
        lambda dy, packed, absmax, levels: dy @ _weight(dy, packed, absmax, levels).view(2 * dy.shape[-1:]),
        "You take W for square; it has as many rows as grad_output has columns, and its own width.",
        _weight,
        "That is W; the gradient to the input is grad_output times W.",
    ),
    hints=[
        "Restore W first: unpack, look up, multiply by the scales, shape it (out, in).",
        "For y = x W^T the chain rule gives grad_x = grad_y W.",
        "W has as many rows as grad_output has columns: .view(grad_output.shape[-1], -1).",
    ],
    tolerance=1e-4,
    minutes=15,
    difficulty=2,
    returns="tensor",
)


def __getattr__(name: str):
    return old_names.retired(__name__, name)
