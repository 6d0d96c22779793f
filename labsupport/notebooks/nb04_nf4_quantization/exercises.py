"""The exercises of notebook 04, each with the mistakes people make."""

from __future__ import annotations

from labsupport.checking.exercise import Exercise

SOLUTION = "solutions/04_nf4_quantization.ipynb"

# torch takes seconds to import, and a learner's first cell should not wait for it here.

# ---------------------------------------------------------------- the 16 levels


def _levels(offset):
    from labsupport.models import nf4

    return nf4.levels(offset)


def _quantiles(high, low, count):
    import torch

    return torch.special.ndtri(torch.linspace(high, low, count).double())


def _scaled(*parts):
    import torch

    values = torch.cat(parts).float().sort().values
    return values / values.max()


def _one_grid(offset):
    return _scaled(_quantiles(1 - offset, offset, 16))


def _halves_swapped(offset):
    positive, negative = _quantiles(offset, 0.5, 8), -_quantiles(offset, 0.5, 9)[:-1]
    return _scaled(positive, negative)


def _two_zeros(offset):
    positive, negative = _quantiles(offset, 0.5, 8), -_quantiles(offset, 0.5, 8)
    return _scaled(positive, negative)


def _not_scaled(offset):
    positive, negative = _quantiles(offset, 0.5, 9), -_quantiles(offset, 0.5, 8)[:-1]
    return _scaled(positive, negative) * positive.max().float()


def _probabilities(offset):
    import torch

    positive, negative = torch.linspace(offset, 0.5, 9) - 0.5, 0.5 - torch.linspace(offset, 0.5, 8)[:-1]
    return _scaled(positive, negative)


def _even_steps(offset):
    import torch

    return torch.linspace(-1, 1, 16)


def _descending(offset):
    return _levels(offset).flip(0)


levels = Exercise(
    name="nf4_quantization.levels",
    reference=_levels,
    cases=[(0.9677083,), (0.95,), (0.99,)],
    mistakes=[
        (_one_grid, "One even grid of 16 probabilities has no level at 0. NF4 joins two half-grids at 0."),
        (_halves_swapped, "The halves are swapped: NF4 has eight levels above 0 and seven below."),
        (
            _two_zeros,
            "Zero appears twice and a level is missing: the positive half needs nine probabilities.",
        ),
        (_not_scaled, "These are quantiles in units of sigma: divide by the largest, so that they end at 1."),
        (_probabilities, "These are even steps of probability: turn them into quantiles with ndtri first."),
        (_even_steps, "Even steps are INT4. NF4's levels are quantiles of the normal distribution."),
        (_descending, "The order: codes count from -1 (code 0) up to 1 (code 15)."),
    ],
    hints=[
        "torch.special.ndtri turns a probability into a quantile. ndtri(0.5) is the zero that both share.",
        "Positive: nine probabilities from offset down to 0.5. Negative: eight, and turn the sign round.",
        "Leave the zero out of one half, put the halves together, sort, divide by the largest.",
    ],
    solution=SOLUTION,
)

# ---------------------------------------------------------------- blocks, scales and codes


def _quantize(weight, levels, blocksize):
    from labsupport.models import nf4

    return nf4.quantize_blocks(weight, levels, blocksize)


def _quantize_cases():
    from labsupport.models import nf4

    table = nf4.levels()
    return [
        (nf4.sample("Gaussian", 256, seed=1).view(4, 64), table, 64),
        (nf4.sample("Student t5", 512, seed=2).view(2, 256) / 30, table, 128),
        (3 * nf4.sample("Gaussian", 128, seed=3).view(4, 32), table, 32),
    ]


def _nearest(values, levels):
    import torch

    return torch.bucketize(values.flatten(), (levels[:-1] + levels[1:]) / 2).to(torch.uint8)


def _one_scale(weight, levels, blocksize):
    scale = weight.abs().max()
    return _nearest(weight / scale, levels), scale.expand(weight.numel() // blocksize)


def _signed_max(weight, levels, blocksize):
    blocks = weight.view(-1, blocksize)
    return _nearest(blocks / blocks.amax(1, keepdim=True), levels), blocks.amax(1)


def _by_sigma(weight, levels, blocksize):
    blocks = weight.view(-1, blocksize)
    return _nearest(blocks / blocks.std(1, keepdim=True), levels), blocks.std(1)


def _level_below(weight, levels, blocksize):
    import torch

    blocks = weight.view(-1, blocksize)
    values = blocks / blocks.abs().amax(1, keepdim=True)
    codes = torch.bucketize(values.flatten(), levels, right=True) - 1
    return codes.to(torch.uint8), blocks.abs().amax(1)


def _down_columns(weight, levels, blocksize):
    blocks = weight.T.reshape(-1, blocksize)
    return _nearest(blocks / blocks.abs().amax(1, keepdim=True), levels), blocks.abs().amax(1)


def _dense(weight, levels, blocksize):
    codes, absmax = _quantize(weight, levels, blocksize)
    return levels[codes.int()].view(-1, blocksize).flatten(), absmax


def _not_divided(weight, levels, blocksize):
    return _nearest(weight, levels), _quantize(weight, levels, blocksize)[1]


def _scale_turned_round(weight, levels, blocksize):
    codes, absmax = _quantize(weight, levels, blocksize)
    return codes, 1 / absmax


quantize = Exercise(
    name="nf4_quantization.quantize",
    reference=_quantize,
    cases=_quantize_cases,
    mistakes=[
        (_one_scale, "One scale for the whole weight: each block of blocksize weights has its own."),
        (
            _signed_max,
            "You took the largest value; a large negative weight then leaves [-1, 1]. Take abs first.",
        ),
        (_by_sigma, "You divide by the standard deviation; NF4 divides by the largest magnitude."),
        (_level_below, "You take the level below; take the nearest one."),
        (_down_columns, "Your blocks run down the columns; they run along the flattened weight, row by row."),
        (_dense, "You return levels; return their numbers, 0 to 15: the codes are what is stored."),
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


def _pack(codes):
    from labsupport.models import nf4

    return nf4.pack(codes)


def _pack_cases():
    import torch

    random = torch.Generator().manual_seed(0)
    fixed = torch.tensor([1, 2, 15, 0, 0, 15], dtype=torch.uint8)
    return [(fixed,), (torch.randint(16, (64,), generator=random).to(torch.uint8),)]


def _low_first(codes):
    return codes[1::2] << 4 | codes[0::2]


def _halves(codes):
    middle = len(codes) // 2
    return codes[:middle] << 4 | codes[middle:]


def _unpacked(codes):
    return codes


def _three_bits(codes):
    return codes[0::2] << 3 | codes[1::2]


def _added(codes):
    return codes[0::2] + codes[1::2]


def _decimal(codes):
    return codes[0::2] * 10 + codes[1::2]


pack = Exercise(
    name="nf4_quantization.pack",
    reference=_pack,
    cases=_pack_cases,
    mistakes=[
        (_low_first, "The other way round: bitsandbytes puts the first code in the high half of the byte."),
        (_halves, "You pair the first half with the second half; pair neighbours: 0 with 1, 2 with 3."),
        (_unpacked, "Still one code a byte: the result has half as many bytes as there are codes."),
        (_three_bits, "Shifted by 3 bits, the codes overlap: a code has 4 bits."),
        (_added, "Added without a shift, the two codes cannot be told apart again."),
        (_decimal, "A factor of 10 is for decimal digits; a 4-bit digit needs a factor of 16."),
    ],
    hints=[
        "codes[0::2] are the first of each pair, codes[1::2] the second.",
        "x << 4 moves a code into the high half of its byte; | joins two halves.",
    ],
    solution=SOLUTION,
)

# ---------------------------------------------------------------- bits of the scales


def _scale_bits(blocksize, double):
    from labsupport.models import nf4

    return nf4.scale_bits(blocksize, double)


def _no_second_level(blocksize, double):
    return 8 / blocksize if double else 32 / blocksize


def _float16(blocksize, double):
    return 8 / blocksize + 16 / (256 * blocksize) if double else 16 / blocksize


def _second_by_weights(blocksize, double):
    return 8 / blocksize + 32 / 256 if double else 32 / blocksize


def _on_top(blocksize, double):
    return 32 / blocksize + (8 / blocksize if double else 0)


def _bytes(blocksize, double):
    return _scale_bits(blocksize, double) / 8


def _with_codes(blocksize, double):
    return 4 + _scale_bits(blocksize, double)


def _a_block(blocksize, double):
    return _scale_bits(blocksize, double) * blocksize


scale_bits = Exercise(
    name="nf4_quantization.scale_bits",
    reference=_scale_bits,
    cases=[(64, False), (64, True), (128, True), (4096, True), (32, False)],
    mistakes=[
        (_no_second_level, "The 8-bit scales need scales of their own: one float32 for each 256 of them."),
        (_float16, "The scales are float32, 32 bits each, whatever dtype the weight had."),
        (_second_by_weights, "256 scales share the second float32: that is 256 x blocksize weights."),
        (_on_top, "The 8-bit codes replace the float32 scales, they do not come on top."),
        (_bytes, "That is in bytes a weight; the question is bits."),
        (_with_codes, "You counted the 4 bits of the code, too; here only the scales."),
        (_a_block, "That is bits a block; divide by the weights in a block."),
    ],
    hints=[
        "Without double quantisation: one float32 for each block of blocksize weights.",
        "With it: 8 bits for each block, and one float32 for every 256 blocks.",
    ],
    tolerance=1e-9,
    solution=SOLUTION,
)

# ---------------------------------------------------------------- the backward pass


def _input_gradient(grad_output, packed, absmax, levels):
    from labsupport.models import nf4

    return nf4.input_gradient(grad_output, packed, absmax, levels)


def _dense_weight(grad_output, packed, absmax, levels):
    from labsupport.models import nf4

    return nf4.dequantize_blocks(packed, absmax, levels).view(grad_output.shape[-1], -1)


def _gradient_cases():
    import torch

    from labsupport.models import nf4

    cases = []
    for number, (batch, rows, columns) in enumerate([(3, 64, 64), (2, 128, 128)]):
        weight = nf4.quantize(nf4.sample("Gaussian", rows * columns, number), 64, double=False)
        random = torch.Generator().manual_seed(number)
        cases.append((torch.randn(batch, rows, generator=random), weight.packed, weight.absmax, nf4.levels()))
    return cases


def _transposed(grad_output, packed, absmax, levels):
    return grad_output @ _dense_weight(grad_output, packed, absmax, levels).T


def _no_scale(grad_output, packed, absmax, levels):
    import torch

    return grad_output @ _dense_weight(grad_output, packed, torch.ones_like(absmax), levels)


def _codes_as_weights(grad_output, packed, absmax, levels):
    from labsupport.models import nf4

    codes = nf4.unpack(packed).float().view(len(absmax), -1) * absmax[:, None]
    return grad_output @ codes.view(grad_output.shape[-1], -1)


def _halves_swapped_back(grad_output, packed, absmax, levels):
    swapped = packed << 4 | packed >> 4
    return grad_output @ _dense_weight(grad_output, swapped, absmax, levels)


def _straight_through(grad_output, packed, absmax, levels):
    import torch

    weight = _dense_weight(grad_output, packed, absmax, levels)
    return grad_output @ torch.ones_like(weight)


def _only_the_weight(grad_output, packed, absmax, levels):
    return _dense_weight(grad_output, packed, absmax, levels)


input_gradient = Exercise(
    name="nf4_quantization.input_gradient",
    reference=_input_gradient,
    cases=_gradient_cases,
    mistakes=[
        (_transposed, "Transposed: y = x W^T, so the gradient to x is grad_output W, without a transpose."),
        (_no_scale, "You left out the scales: a weight is its level times the absmax of its block."),
        (_codes_as_weights, "You multiply with the codes; look each one up in levels first."),
        (_halves_swapped_back, "The two weights of each byte are swapped: the high half comes first."),
        (
            _straight_through,
            "You passed the gradient on as if every weight were 1; it must meet the weights.",
        ),
        (_only_the_weight, "That is W; the gradient to the input is grad_output times W."),
    ],
    hints=[
        "Restore W first: unpack, look up, multiply by the scales, shape it (out, in).",
        "For y = x W^T the chain rule gives grad_x = grad_y W.",
        "W has as many rows as grad_output has columns: .view(grad_output.shape[-1], -1).",
    ],
    tolerance=1e-4,
    solution=SOLUTION,
)
