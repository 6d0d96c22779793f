"""NF4 as QLoRA uses it: codebook, blocks, packing, double quantisation, a linear layer on packed weights.

Written from the QLoRA paper (Dettmers 2023, section 3 and appendix E) and equal to bitsandbytes 0.50.2 on a
CPU byte for byte; tests/models/test_nf4.py holds that. Where bytes depend on a choice of the library, the
comment says so.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from labsupport.core.files import LabError
from labsupport.sizes import counting

BLOCK_SIZES = (32, 64, 128, 256, 512, 1024, 2048, 4096)  # what bitsandbytes takes; 64 is the default
NESTED_BLOCK = 256  # scales that share one float32 in double quantisation; fixed in bitsandbytes
OFFSET = 0.9677083  # the outermost probability: (1 - 1/32 + 1 - 1/30) / 2, to 7 digits (bitsandbytes)
SMALLEST = 3e-39  # 1 / what is smaller is infinite in float32, and 0 times that no number
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


class Quantized(NamedTuple):
    """A quantised weight. `nested_absmax` and `offset` are None without double quantisation."""

    packed: Tensor  # (weights / 2,) uint8, two codes a byte
    absmax: Tensor  # (weights / blocksize,) float32 scales, or their 8-bit codes
    nested_absmax: Tensor | None  # (scales / 256, rounded up,) float32
    offset: Tensor | None  # () float32, the mean scale
    blocksize: int
    shape: torch.Size
    dtype: torch.dtype

    def bytes(self) -> int:
        """Bytes of all tensors held for this weight, the two code tables not counted."""
        return sum(t.numel() * t.element_size() for t in self[:4] if t is not None)


# The 16 levels ------------------------------------------------------------------------------


def levels(offset: float = OFFSET) -> Tensor:
    """The NF4 codebook, (16,) float32 ascending from -1 to 1: quantiles of N(0, 1), scaled.

    Nine probabilities from `offset` down to 1/2 give eight positive levels, eight give seven negative
    ones; the two halves share an exact zero. Raises LabError unless 0.5 < offset < 1.
    """
    if not 0.5 < offset < 1:
        raise LabError(f"offset {offset!r} is no probability above 1/2 and below 1: use {OFFSET}.")
    # The probabilities in float32 and the quantiles in float64: with this, bit-equal to bitsandbytes.
    positive = torch.special.ndtri(torch.linspace(offset, 0.5, 9)[:-1].double())
    negative = -torch.special.ndtri(torch.linspace(offset, 0.5, 8)[:-1].double())
    values = torch.cat([negative, torch.zeros(1), positive]).float().sort().values
    return values / values.max()


def thresholds(levels: Tensor) -> Tensor:
    """Where rounding changes level: the midpoints of ascending levels."""
    return (levels[:-1] + levels[1:]) / 2


# Blocks and codes ---------------------------------------------------------------------------


def blocks_of(weight: Tensor, blocksize: int) -> Tensor:
    """The weight as (blocks, blocksize) float32. Raises LabError for what cannot be quantised."""
    if blocksize not in BLOCK_SIZES:
        sizes = ", ".join(map(str, BLOCK_SIZES))
        raise LabError(f"Block size {blocksize!r} is none that bitsandbytes has: use one of {sizes}.")
    if weight.dtype not in DTYPES:
        raise LabError(f"Weights of dtype {weight.dtype} cannot be quantised: use float32 or a 16-bit float.")
    if weight.numel() == 0 or weight.numel() % blocksize:
        raise LabError(
            f"Block size {blocksize} does not divide the {weight.numel():,} weights of shape "
            f"{tuple(weight.shape)}: use a smaller block or pad the weight."
        )
    wrong = (~weight.isfinite()).sum().item()
    if wrong:
        raise LabError(
            f"{wrong:,} of {weight.numel():,} weights are NaN or infinite, and one spoils its whole block of "
            f"{blocksize}, because all are divided by the largest: repair or reload the weight first."
        )
    return weight.detach().reshape(-1, blocksize).float()


def scaled(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Blocks divided by their largest magnitude, and these (the absmax), both float32."""
    absmax = blocks.abs().amax(1)
    # The library multiplies by the reciprocal, so the last bit may differ from that of a division.
    reciprocal = 1.0 / absmax.clamp(min=SMALLEST)
    return (blocks * reciprocal[:, None]).clamp(-1, 1), absmax


def quantize_blocks(weight: Tensor, levels: Tensor, blocksize: int) -> tuple[Tensor, Tensor]:
    """Codes (weights,) uint8 of the nearest levels, and absmax (blocks,) float32.

    Blocks run along the flattened weight. A value exactly on a threshold takes the lower code.
    """
    values, absmax = scaled(blocks_of(weight, blocksize))
    return torch.bucketize(values.flatten(), thresholds(levels)).to(torch.uint8), absmax


def pack(codes: Tensor) -> Tensor:
    """Two 4-bit codes a byte, the first in the high half: (n,) uint8 to (n / 2,) uint8."""
    return codes[0::2] << 4 | codes[1::2]


def unpack(packed: Tensor) -> Tensor:
    """The inverse of pack."""
    return torch.stack([packed >> 4, packed & 15], 1).flatten()


# Double quantisation ------------------------------------------------------------------------


def dynamic_levels() -> Tensor:
    """The 8-bit code of the scales, (256,) float32 ascending: 7 decades, each with twice the steps of the
    one below, both signs, and 0 and 1 (Dettmers 2016, arXiv 1511.04561, as bitsandbytes builds it).
    """
    parts = [torch.tensor([0.0, 1.0])]
    for decade in range(7):
        edges = torch.linspace(0.1, 1, 2**decade + 1)
        middles = (edges[:-1] + edges[1:]) / 2 * 10.0 ** (decade - 6)
        parts += [middles, -middles]
    return torch.cat(parts).sort().values


def quantize_absmax(
    absmax: Tensor, levels: Tensor | None = None, group: int = NESTED_BLOCK
) -> tuple[Tensor, Tensor, Tensor]:
    """Scales (n,) float32 to 8-bit codes (n,) uint8, nested absmax (n / group, rounded up,) and their mean.

    levels: ascending, from -1 to 1, at most 256; the library's if None.
    """
    levels = dynamic_levels() if levels is None else levels
    offset = absmax.mean()
    spare = -len(absmax) % group
    blocks = F.pad(absmax - offset, (0, spare)).view(-1, group)
    nested = blocks.abs().amax(1)
    reciprocal = 1.0 / nested.clamp(min=SMALLEST)
    values = (blocks * reciprocal[:, None]).clamp(-1, 1)
    codes = _by_table(values, levels)
    codes[nested == 0] = 0  # the library's choice; any code times 0 is 0
    return codes.flatten()[: len(absmax)], nested, offset


def _by_table(values: Tensor, levels: Tensor) -> Tensor:
    """Codes as bitsandbytes' C++ kernel finds them: the value is first rounded to one of 65,536 steps.

    Exact rounding to the nearest level differs from this in about one code in a thousand.
    """
    steps = 65535
    grid = -1.0 + 2.0 * torch.arange(steps + 1, dtype=torch.float32) / steps
    table = torch.bucketize(grid, 0.5 * (levels[:-1] + levels[1:])).to(torch.uint8)
    return table[((values + 1.0) * 0.5 * steps + 0.5).long()]


def absmax_of(weight: Quantized) -> Tensor:
    """The scales (blocks,) float32 that dequantisation uses."""
    if weight.nested_absmax is None:
        return weight.absmax
    scale = weight.nested_absmax.repeat_interleave(NESTED_BLOCK)[: len(weight.absmax)]
    return dynamic_levels()[weight.absmax.int()] * scale + weight.offset


# The whole weight ---------------------------------------------------------------------------


def quantize(weight: Tensor, blocksize: int = 64, double: bool = True) -> Quantized:
    """Quantise a weight of any shape, as `bitsandbytes.functional.quantize_4bit(quant_type="nf4")`.

    double: quantise the scales, too. Raises LabError for a block size that bitsandbytes does not have or
    that does not divide the weight, for NaN or infinite weights and for other dtypes than DTYPES.
    """
    codes, absmax = quantize_blocks(weight, levels(), blocksize)
    scales = quantize_absmax(absmax) if double else (absmax, None, None)
    return Quantized(pack(codes), *scales, blocksize, weight.shape, weight.dtype)


def dequantize_blocks(packed: Tensor, absmax: Tensor, levels: Tensor) -> Tensor:
    """Level times scale, (weights,) float32; the block size follows from the two lengths."""
    values = levels[unpack(packed).int()].view(len(absmax), -1)
    return (values * absmax[:, None]).flatten()


def dequantize(weight: Quantized, dtype: torch.dtype | None = None) -> Tensor:
    """The weight that the model computes with: original shape, and dtype unless another is given."""
    values = dequantize_blocks(weight.packed, absmax_of(weight), levels())
    return values.view(weight.shape).to(dtype or weight.dtype)


def input_gradient(grad_output: Tensor, packed: Tensor, absmax: Tensor, levels: Tensor) -> Tensor:
    """Gradient of the loss to the input of y = x W^T, from the packed W: (..., out) to (..., in).

    The frozen weight needs no gradient. W is (out, in) with out = the last size of grad_output.
    """
    weight = dequantize_blocks(packed, absmax, levels).view(grad_output.shape[-1], -1)
    return grad_output @ weight.to(grad_output.dtype)


class Linear4bit(torch.autograd.Function):
    """y = x W^T on a packed weight: `Linear4bit.apply(x, quantized)`.

    Only packed codes and scales are saved for the backward pass; W is unpacked once more there. (Where x and
    the weight differ in dtype, bitsandbytes rounds W to the weight's there, and here it stays in x's.)
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Quantized) -> Tensor:
        ctx.save_for_backward(*weight[:4])
        ctx.rest = weight[4:]
        return F.linear(x, dequantize(weight, x.dtype))

    @staticmethod
    def backward(ctx, grad_output: Tensor) -> tuple[Tensor, None]:
        weight = Quantized(*ctx.saved_tensors, *ctx.rest)
        return input_gradient(grad_output, weight.packed, absmax_of(weight), levels()), None


# Counting bits and bytes --------------------------------------------------------------------


def scale_bits(blocksize: int = 64, double: bool = True) -> float:
    """Bits a weight that the scales cost: one float32 a block, or 8 bits a block and one float32 for 256
    blocks (QLoRA, section 3). The mean and the tables, a few bytes a matrix, are left out.
    """
    return 8 / blocksize + 32 / (blocksize * NESTED_BLOCK) if double else 32 / blocksize


def matrix_bytes(weights: int, blocksize: int = 64, double: bool = True) -> int:
    """Bytes that bitsandbytes holds for one matrix: codes, scales, and its own copies of the tables."""
    blocks = -(-weights // blocksize)
    nested = -(-blocks // NESTED_BLOCK)
    tables = 16 * 4 + (256 * 4 + 4 if double else 0)  # levels; 8-bit levels and the mean
    return -(-weights // 2) + (blocks + 4 * nested if double else 4 * blocks) + tables


def stored_bytes(matrices: list[tuple], kept: int, blocksize: int = 64, double: bool = True) -> int:
    """Bytes of a model whose matrices (out, in) are in NF4 and whose other `kept` weights have 16 bits."""
    return 2 * kept + sum(matrix_bytes(rows * columns, blocksize, double) for rows, columns in matrices)


def linear_shapes(config: dict) -> list[tuple[int, int]]:
    """The (out, in) of every matrix that is quantised in a Llama-like model, as in its config.json."""
    shapes = counting.block_shapes(config).values()
    return [(d_out, d_in) for d_in, d_out in shapes] * config["num_hidden_layers"]


def model_bytes(config: dict, blocksize: int = 64, double: bool = True) -> dict[str, int]:
    """Bytes of a Llama-like model's weights: "bf16", "nf4", and of these "kept" (never quantised).

    Kept in 16 bits: embeddings, the output head (unless tied to them) and the norms. No biases.
    """
    sizes = [rows * columns for rows, columns in linear_shapes(config)]
    hidden, layers = config["hidden_size"], config["num_hidden_layers"]
    tables = 1 if config["tie_word_embeddings"] else 2
    kept = tables * config["vocab_size"] * hidden + (2 * layers + 1) * hidden
    quantised = stored_bytes(linear_shapes(config), kept, blocksize, double)
    return {"bf16": 2 * (sum(sizes) + kept), "nf4": quantised, "kept": 2 * kept}
