"""The exercises of notebook 04 on what is stored: the scales' second quantisation, and a model's bytes."""

from __future__ import annotations

import torch

from labsupport.checking.exercise import Exercise, told
from labsupport.models import nf4

# ---------------------------------------------------------------- double quantisation


def _even(count):
    return torch.linspace(-1, 1, count)


def _scale_cases():
    """Not on the edge of two codes: there the library's table would decide."""
    cases = []
    for number, (count, levels, group) in enumerate(
        [(6, _even(9), 4), (500, nf4.dynamic_levels(), 256), (96, _even(15).sign() * _even(15) ** 2, 32)]
    ):
        random = torch.Generator().manual_seed(number)
        cases.append((2.6 + 0.4 * torch.randn(count, generator=random), levels, group))
    return cases


def _rounded(absmax, levels, group, offset, largest=lambda blocks: blocks.abs().amax(1)):
    """What a learner's quantiser does: each scale to its nearest level, without the library's table."""
    blocks = torch.nn.functional.pad(absmax - offset, (0, -len(absmax) % group)).view(-1, group)
    nested = largest(blocks)
    codes = torch.bucketize(blocks / nested[:, None], nf4.thresholds(levels))
    return codes.flatten()[: len(absmax)], nested, offset


def _mean_stays(absmax, levels, group):
    return *_rounded(absmax, levels, group, torch.zeros(()))[:2], absmax.mean()


def _mean_of_groups(absmax, levels, group):
    parts = [_rounded(part, levels, group, part.mean()) for part in absmax.split(group)]
    codes, nested, means = (list(each) for each in zip(*parts, strict=True))
    return torch.cat(codes), torch.cat(nested), torch.stack(means)


def _padding_kept(absmax, levels, group):
    padded = torch.nn.functional.pad(absmax - absmax.mean(), (0, -len(absmax) % group))
    return *_rounded(padded, levels, group, torch.zeros(()))[:2], absmax.mean()


def _last_left_out(absmax, levels, group):
    whole = absmax[: len(absmax) // group * group]
    return _rounded(whole, levels, group, absmax.mean()) if len(whole) else (whole, whole, absmax.mean())


def _searched_among_levels(absmax, levels, group):
    _, nested, offset = _rounded(absmax, levels, group, absmax.mean())
    values = (absmax - offset) / nested.repeat_interleave(group)[: len(absmax)]
    return torch.bucketize(values, levels), nested, offset


def _values_for_codes(absmax, levels, group):
    codes, nested, offset = _rounded(absmax, levels, group, absmax.mean())
    return levels[codes], nested, offset


quantize_scales = Exercise(
    name="nf4_quantization.quantize_scales",
    reference=nf4.quantize_absmax,
    cases=_scale_cases,
    mistakes=told(
        (_mean_stays, lambda absmax, levels, group: _rounded(absmax, levels, group, torch.zeros(()))),
        "The mean stays in: take it off all scales first, or half of the codes are never used.",
        lambda absmax, levels, group: _rounded(absmax, levels, group, absmax.median()),
        "You take the median off; the library takes the mean.",
        lambda absmax, levels, group: _rounded(absmax, levels, len(absmax), absmax.mean()),
        "One float32 for all scales: every `group` of them have their own.",
        lambda absmax, levels, group: _rounded(absmax, levels, 256, absmax.mean()),
        "You take groups of 256 for granted: use `group`.",
        _mean_of_groups,
        "A mean for each group: the library stores one for the whole matrix.",
        lambda absmax, levels, group: _rounded(
            absmax, levels, group, absmax.mean(), lambda blocks: blocks.amax(1)
        ),
        "After the mean is off, scales are negative, too: take abs before the largest.",
        _padding_kept,
        "The padding of the last group is still in the codes: return one code for each scale.",
        _last_left_out,
        "The last scales are left out: the last group may be shorter than the others.",
        _searched_among_levels,
        "You search among the levels, which finds the one above: search among their midpoints.",
        _values_for_codes,
        "You return levels; return their numbers: a code of 8 bits is what is stored.",
    ),
    hints=[
        "First offset = absmax.mean(); what is quantised is absmax - offset.",
        "From there it is Exercise 2, with `group` for blocksize: largest magnitude, divide, midpoints.",
        "(absmax - offset).split(group) gives the groups, and the last one may be shorter.",
    ],
    minutes=15,
    difficulty=2,
    returns="tensor",
)

# ---------------------------------------------------------------- a model's bytes


def _bytes_with(codes=0.5, block=None, double_block=None, tables=True, kept_bytes=2):
    """A count that differs from the right one in one of its parts; bytes of a block's scale are functions."""
    block = block or (lambda blocks: 4 * blocks)
    double_block = double_block or (lambda blocks: blocks + 4 * -(-blocks // 256))

    def count(matrices, kept, blocksize, double):
        total = kept_bytes * kept
        for rows, columns in matrices:
            blocks = -(-rows * columns // blocksize)
            total += codes * rows * columns + (double_block(blocks) if double else block(blocks))
            total += (1092 if double else 64) if tables else 0
        return int(total)

    return count


def _tables_once(matrices, kept, blocksize, double):
    tables = 1092 if double else 64
    return nf4.stored_bytes(matrices, kept, blocksize, double) - (len(matrices) - 1) * tables


def _first_matrix_only(matrices, kept, blocksize, double):
    return nf4.stored_bytes(matrices[:1], kept, blocksize, double)


model_bytes = Exercise(
    name="nf4_quantization.model_bytes",
    reference=nf4.stored_bytes,
    cases=[
        ([(96, 64)], 1000, 64, False),
        ([(96, 64)], 1000, 64, True),
        ([(576, 576), (192, 576)], 28_000_001, 64, True),
        ([(1536, 576), (576, 1536), (192, 576)], 50_000, 32, True),
        ([(4096, 4096), (1024, 4096)], 131_072, 128, False),
    ],
    mistakes=told(
        _bytes_with(codes=1),
        "A whole byte for a weight: its code has 4 bits, and two share a byte.",
        _bytes_with(kept_bytes=0),
        "What is not quantised is missing: `kept` weights of 16 bits.",
        _bytes_with(kept_bytes=4),
        "What is not quantised stays in 16 bits, 2 bytes a weight.",
        _bytes_with(kept_bytes=0.5),
        "Nobody quantises the `kept` weights: 2 bytes each.",
        (_bytes_with(tables=False), _tables_once),
        "The tables: the library stores them with every matrix, 64 bytes, and 1,028 more with double.",
        _bytes_with(block=lambda blocks: 2 * blocks),
        "Without double quantisation a scale is a float32, 4 bytes, whatever the weights were.",
        _bytes_with(double_block=lambda blocks: blocks),
        "The 8-bit scales need scales of their own: a float32 for every 256 of them.",
        _bytes_with(double_block=lambda blocks: blocks + 4 * (blocks // 256)),
        "The last group of scales may be shorter than 256 and has its float32 all the same: round up.",
        _bytes_with(double_block=lambda blocks: 4 * blocks + 4 * -(-blocks // 256)),
        "With double quantisation a scale is a code of one byte.",
        lambda matrices, kept, blocksize, double: nf4.stored_bytes(matrices, kept, blocksize, True),
        "You leave out `double`: without it, a block's scale is a float32.",
        lambda matrices, kept, blocksize, double: nf4.stored_bytes(matrices, kept, 64, double),
        "You take blocks of 64 for granted: use blocksize.",
        _first_matrix_only,
        "You count the first matrix only: return too early in the loop?",
    ),
    hints=[
        "One matrix first: its codes, its scales, its tables. blocks = rows * columns / blocksize.",
        "Scales: 4 * blocks, or with double one byte a block and 4 bytes for every 256 blocks, rounded up.",
        "math.ceil(blocks / 256) rounds up. Add up the matrices, then 2 bytes for each weight that is kept.",
    ],
    minutes=15,
    difficulty=2,
)
