"""The exercises of notebook 04, each with the mistakes people make."""

from __future__ import annotations

import torch

from labsupport.checking.exercise import Exercise
from labsupport.evaluation import four_bit
from labsupport.models import nf4

SOLUTION = "solutions/04_nf4_quantization.ipynb"

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
    mistakes=[
        (
            lambda offset: _joined(_quantiles(1 - offset, offset, 16)),
            "One even grid of 16 probabilities has no level at 0. NF4 joins two half-grids at 0.",
        ),
        (
            lambda offset: _joined(_quantiles(offset, 0.5, 8), -_quantiles(offset, 0.5, 9)[:-1]),
            "The halves are swapped: NF4 has eight levels above 0 and seven below.",
        ),
        (
            lambda offset: _joined(_quantiles(offset, 0.5, 8), -_quantiles(offset, 0.5, 8)),
            "Zero appears twice and a level is missing: the positive half needs nine probabilities.",
        ),
        (
            lambda offset: nf4.levels(offset) * torch.special.ndtri(torch.tensor(offset)),
            "These are quantiles in units of sigma: divide by the largest, so that they end at 1.",
        ),
        (_probabilities, "These are even steps of probability: turn them into quantiles with ndtri first."),
        (
            lambda offset: torch.linspace(-1, 1, 16),
            "Even steps are INT4. NF4's levels are quantiles of the normal distribution.",
        ),
        (
            lambda offset: nf4.levels(offset).flip(0),
            "The order: codes count from -1 (code 0) up to 1 (code 15).",
        ),
    ],
    hints=[
        "torch.special.ndtri turns a probability into a quantile. ndtri(0.5) is the zero that both share.",
        "Positive: nine probabilities from offset down to 0.5. Negative: eight, and turn the sign round.",
        "Leave the zero out of one half, put the halves together, sort, divide by the largest.",
    ],
    solution=SOLUTION,
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
    mistakes=[
        (
            _divided_by(lambda blocks: blocks.abs().max().expand(len(blocks))),
            "One scale for the whole weight: each block of blocksize weights has its own.",
        ),
        (
            _divided_by(lambda blocks: blocks.amax(1)),
            "You took the largest value; a large negative weight then leaves [-1, 1]. Take abs first.",
        ),
        (
            _divided_by(lambda blocks: blocks.std(1)),
            "You divide by the standard deviation; NF4 divides by the largest magnitude.",
        ),
        (_level_below, "You take the level below; take the nearest one."),
        (
            lambda weight, levels, blocksize: nf4.quantize_blocks(weight.T, levels, blocksize),
            "Your blocks run down the columns; they run along the flattened weight, row by row.",
        ),
        (
            _levels_themselves,
            "You return levels; return their numbers, 0 to 15: the codes are what is stored.",
        ),
        (_not_divided, "You look up the weights themselves: divide each block by its absmax first."),
        (_scale_turned_round, "Return absmax, not its reciprocal: restoring multiplies by it."),
    ],
    hints=[
        "weight.reshape(-1, blocksize) gives one block a row; absmax is one number for each row.",
        "The nearest level changes at the midpoint of two neighbours: 15 thresholds.",
        "torch.bucketize(values, thresholds) counts the thresholds below each value: that is the code.",
    ],
    solution=SOLUTION,
)

# ---------------------------------------------------------------- two codes a byte


def _pack_cases():
    random = torch.Generator().manual_seed(0)
    fixed = torch.tensor([1, 2, 15, 0, 0, 15], dtype=torch.uint8)
    return [(fixed,), (torch.randint(16, (64,), generator=random).to(torch.uint8),)]


def _paired_by_halves(codes):
    middle = len(codes) // 2
    return codes[:middle] << 4 | codes[middle:]


pack = Exercise(
    name="nf4_quantization.pack",
    reference=nf4.pack,
    cases=_pack_cases,
    mistakes=[
        (
            lambda c: c[1::2] << 4 | c[0::2],
            "The other way round: bitsandbytes puts the first code in the high half of the byte.",
        ),
        (
            _paired_by_halves,
            "You pair the first half with the second half; pair neighbours: 0 with 1, 2 with 3.",
        ),
        (lambda c: c, "Still one code a byte: the result has half as many bytes as there are codes."),
        (lambda c: c[0::2] << 3 | c[1::2], "Shifted by 3 bits, the codes overlap: a code has 4 bits."),
        (lambda c: c[0::2] + c[1::2], "Added without a shift, the two codes cannot be told apart again."),
        (
            lambda c: c[0::2] * 10 + c[1::2],
            "A factor of 10 is for decimal digits; a 4-bit digit needs a factor of 16.",
        ),
    ],
    hints=[
        "codes[0::2] are the first of each pair, codes[1::2] the second.",
        "x << 4 moves a code into the high half of its byte; | joins two halves.",
    ],
    solution=SOLUTION,
)

# ---------------------------------------------------------------- bits of the scales

scale_bits = Exercise(
    name="nf4_quantization.scale_bits",
    reference=nf4.scale_bits,
    cases=[(64, False), (64, True), (128, True), (4096, True), (32, False)],
    mistakes=[
        (
            lambda blocksize, double: 8 / blocksize if double else 32 / blocksize,
            "The 8-bit scales need scales of their own: one float32 for each 256 of them.",
        ),
        (
            lambda blocksize, double: 8 / blocksize + 16 / (256 * blocksize) if double else 16 / blocksize,
            "The scales are float32, 32 bits each, whatever dtype the weight had.",
        ),
        (
            lambda blocksize, double: 8 / blocksize + 32 / 256 if double else 32 / blocksize,
            "256 scales share the second float32: that is 256 x blocksize weights.",
        ),
        (
            lambda blocksize, double: 32 / blocksize + (8 / blocksize if double else 0),
            "The 8-bit codes replace the float32 scales, they do not come on top.",
        ),
        (
            lambda blocksize, double: nf4.scale_bits(blocksize, double) / 8,
            "That is in bytes a weight; the question is bits.",
        ),
        (
            lambda blocksize, double: 4 + nf4.scale_bits(blocksize, double),
            "You counted the 4 bits of the code, too; here only the scales.",
        ),
        (
            lambda blocksize, double: nf4.scale_bits(blocksize, double) * blocksize,
            "That is bits a block; divide by the weights in a block.",
        ),
    ],
    hints=[
        "Without double quantisation: one float32 for each block of blocksize weights.",
        "With it: 8 bits for each block, and one float32 for every 256 blocks.",
    ],
    tolerance=1e-9,
    solution=SOLUTION,
)

# ---------------------------------------------------------------- the backward pass


def _gradient_cases():
    cases = []
    for number, (batch, side, levels) in enumerate([(3, 64, nf4.levels()), (2, 128, nf4.levels(0.95))]):
        weight = four_bit.random_weights("Gaussian", side * side, number)
        packed, absmax = nf4.quantize(weight, 64, double=False)[:2]
        random = torch.Generator().manual_seed(number)
        cases.append((torch.randn(batch, side, generator=random), packed, absmax, levels))
    return cases


def _weight(grad_output, packed, absmax, levels):
    return nf4.dequantize_blocks(packed, absmax, levels).view(grad_output.shape[-1], -1)


input_gradient = Exercise(
    name="nf4_quantization.input_gradient",
    reference=nf4.input_gradient,
    cases=_gradient_cases,
    mistakes=[
        (
            lambda dy, packed, absmax, levels: dy @ _weight(dy, packed, absmax, levels).T,
            "Transposed: y = x W^T, so the gradient to x is grad_output W, without a transpose.",
        ),
        (
            lambda dy, packed, absmax, levels: dy @ _weight(dy, packed, torch.ones_like(absmax), levels),
            "You left out the scales: a weight is its level times the absmax of its block.",
        ),
        (
            lambda dy, packed, absmax, levels: dy @ _weight(dy, packed, absmax, torch.arange(16.0)),
            "You multiply with the codes; look each one up in levels first.",
        ),
        (
            lambda dy, packed, absmax, levels: dy @ _weight(dy, packed << 4 | packed >> 4, absmax, levels),
            "The two weights of each byte are swapped: the high half comes first.",
        ),
        (
            lambda dy, packed, absmax, levels: dy @ torch.ones(dy.shape[-1], dy.shape[-1]),
            "You passed the gradient on as if every weight were 1; it must meet the weights.",
        ),
        (_weight, "That is W; the gradient to the input is grad_output times W."),
    ],
    hints=[
        "Restore W first: unpack, look up, multiply by the scales, shape it (out, in).",
        "For y = x W^T the chain rule gives grad_x = grad_y W.",
        "W has as many rows as grad_output has columns: .view(grad_output.shape[-1], -1).",
    ],
    tolerance=1e-4,
    solution=SOLUTION,
)
