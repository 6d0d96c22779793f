"""Wrong answers to notebook 04's exercises."""

import torch

ndtri = torch.special.ndtri


def right_levels(offset):
    positive = ndtri(torch.linspace(offset, 0.5, 9)[:-1].double())
    negative = -ndtri(torch.linspace(offset, 0.5, 8)[:-1].double())
    values = torch.cat([negative, torch.zeros(1), positive])
    return values / values.max()


def as_list(offset):
    return sorted(right_levels(offset).tolist())


def upside_down(offset):
    return -right_levels(offset).sort().values


def evenly_spaced(offset):
    ends = ndtri(torch.tensor([1 - offset, offset]).double())
    values = torch.linspace(ends[0].item(), ends[1].item(), 16)
    return values / values.max()


def no_zero(offset):
    positive = ndtri(torch.linspace(offset, 0.5, 9)[:-1].double())
    values = torch.cat([-positive, positive]).sort().values
    return values / values.max()


def fixed_offset(offset):
    return right_levels(0.9677083).sort().values


def nearest(values, levels):
    return (values[..., None] - levels).abs().argmin(-1)


def in_place(weight, levels, blocksize):
    blocks = weight.view(-1, blocksize)
    absmax = blocks.abs().amax(1)
    blocks /= absmax[:, None]
    return nearest(blocks.flatten(), levels), absmax


def without_midpoints(weight, levels, blocksize):
    blocks = weight.view(-1, blocksize)
    absmax = blocks.abs().amax(1)
    return torch.searchsorted(levels, (blocks / absmax[:, None]).flatten().contiguous()), absmax


def fixed_blocks(weight, levels, blocksize):
    blocks = weight.reshape(-1, 64)
    absmax = blocks.abs().amax(1)
    return nearest((blocks / absmax[:, None]).flatten(), levels), absmax


def rows_as_blocks(weight, levels, blocksize):
    absmax = weight.abs().amax(1)
    return nearest((weight / absmax[:, None]).flatten(), levels), absmax


def codes_alone(weight, levels, blocksize):
    blocks = weight.view(-1, blocksize)
    return nearest((blocks / blocks.abs().amax(1, keepdim=True)).flatten(), levels)


def scales_first(weight, levels, blocksize):
    blocks = weight.view(-1, blocksize)
    absmax = blocks.abs().amax(1)
    return absmax, nearest((blocks / absmax[:, None]).flatten(), levels)


def int4(weight, levels, blocksize):
    blocks = weight.view(-1, blocksize)
    absmax = blocks.abs().amax(1)
    return ((blocks / absmax[:, None]).flatten() * 7.5 + 7.5).round(), absmax


def scales_of(absmax, levels, group, mean):
    padded = torch.nn.functional.pad(absmax - mean, (0, -len(absmax) % group)).view(-1, group)
    nested = padded.abs().amax(1)
    return nearest(padded / nested[:, None], levels).flatten()[: len(absmax)], nested, mean


def mean_stays(absmax, levels, group):
    return scales_of(absmax, levels, group, torch.tensor(0.0))


def median_for_mean(absmax, levels, group):
    return scales_of(absmax, levels, group, absmax.median())


def mean_in_place(absmax, levels, group):
    mean = absmax.mean()
    absmax -= mean
    return (*scales_of(absmax, levels, group, torch.tensor(0.0))[:2], mean)


def groups_of_256(absmax, levels, group):
    return scales_of(absmax, levels, 256, absmax.mean())


def all_in_one_group(absmax, levels, group):
    return scales_of(absmax, levels, len(absmax), absmax.mean())


def mean_not_returned(absmax, levels, group):
    return scales_of(absmax, levels, group, absmax.mean())[:2]


def full_groups_only(absmax, levels, group):
    return scales_of(absmax[: len(absmax) // group * group], levels, group, absmax.mean())


def bytes_of(matrices, kept, blocksize, double, tables=True, kept_bytes=2, nested=True):
    total = kept_bytes * kept
    for rows, columns in matrices:
        blocks = rows * columns // blocksize
        total += rows * columns // 2 + (64 if tables else 0)
        total += blocks + 4 * -(-blocks // 256) * nested + 1028 * tables if double else 4 * blocks
    return total


def no_tables(*arguments):
    return bytes_of(*arguments, tables=False)


def kept_in_float32(*arguments):
    return bytes_of(*arguments, kept_bytes=4)


def kept_forgotten(*arguments):
    return bytes_of(*arguments, kept_bytes=0)


def no_nested_scales(*arguments):
    return bytes_of(*arguments, nested=False)


def always_double(matrices, kept, blocksize, double):
    return bytes_of(matrices, kept, blocksize, True)


def blocks_are_64(matrices, kept, blocksize, double):
    return bytes_of(matrices, kept, 64, double)


def in_bits(*arguments):
    return 8 * bytes_of(*arguments)


def unpacked(packed):
    return torch.stack([packed >> 4, packed & 15], 1).flatten().int()


def blocks_of_64(grad_output, packed, absmax, levels):
    weight = levels[unpacked(packed)].view(-1, 64) * absmax[:, None]
    return grad_output @ weight.view(grad_output.shape[-1], -1)


def weight_of(grad_output, packed, absmax, levels):
    values = levels[unpacked(packed)].view(len(absmax), -1) * absmax[:, None]
    return values.view(grad_output.shape[-1], -1)


def not_transposed(grad_output, *rest):
    return (grad_output @ weight_of(grad_output, *rest)).T


def weight_transposed(grad_output, *rest):
    return grad_output @ weight_of(grad_output, *rest).T


def no_scales(grad_output, packed, absmax, levels):
    return grad_output @ levels[unpacked(packed)].view(grad_output.shape[-1], -1)


def still_packed(grad_output, packed, absmax, levels):
    return grad_output @ (packed.float() * absmax[:, None]).view(grad_output.shape[-1], -1)


ANSWERS = {
    "nf4_quantization.levels": [
        (as_list, "a list where the next cells need a tensor"),
        (right_levels, "another order"),
        (upside_down, "The sign is wrong"),
        (evenly_spaced, "Your levels are evenly spaced"),
        (no_zero, "Eight levels on each side"),
        (fixed_offset, "You leave out the argument"),
    ],
    "nf4_quantization.quantize": [
        (in_place, "changes argument weight in place"),
        (without_midpoints, "search among their midpoints"),
        (fixed_blocks, "You take blocks of 64 for granted"),
        (rows_as_blocks, "One scale for each row"),
        (codes_alone, "The scales are missing"),
        (scales_first, "The order is reversed"),
        (int4, "You round to even steps"),
    ],
    "nf4_quantization.quantize_scales": [
        (mean_stays, "The mean stays in"),
        (median_for_mean, "You take the median off"),
        (mean_in_place, "changes argument absmax in place"),
        (groups_of_256, "You take groups of 256 for granted"),
        (all_in_one_group, "One float32 for all scales"),
        (mean_not_returned, "The last item is missing"),
        (full_groups_only, "The last scales are left out"),
    ],
    "nf4_quantization.model_bytes": [
        (no_tables, "The tables"),
        (kept_in_float32, "stays in 16 bits"),
        (kept_forgotten, "What is not quantised is missing"),
        (no_nested_scales, "need scales of their own"),
        (always_double, "You leave out `double`"),
        (blocks_are_64, "You take blocks of 64 for granted"),
        (in_bits, "8 times"),
    ],
    "nf4_quantization.input_gradient": [
        (blocks_of_64, "You take blocks of 64 for granted"),
        (not_transposed, "It is the transpose"),
        (weight_transposed, "Transposed: y = x W^T"),
        (no_scales, "You left out the scales"),
        (still_packed, "It returned shape (3, 1024) where (3, 64) was expected"),
    ],
}
