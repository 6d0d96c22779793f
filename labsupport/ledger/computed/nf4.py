"""The claims about NF4 (section D of the ledger, some of E) that counting and random weights settle."""

from __future__ import annotations

import functools

import torch

from labsupport.configs import model_configs
from labsupport.evaluation import four_bit
from labsupport.models import nf4
from labsupport.teaching.claims import shows

COUNT = 2**20  # the sample of notebook 04


@functools.cache
def blocks(blocksize: int = 64, kind: str = "Gaussian") -> torch.Tensor:
    return four_bit.random_weights(kind, COUNT).view(-1, blocksize)


@functools.cache
def error(name: str, blocksize: int = 64, kind: str = "Gaussian") -> float:
    weights = blocks(blocksize, kind)
    return four_bit.relative_error(weights, four_bit.round_trip(weights, name)[1])


def ratio(name: str, kind: str = "Gaussian") -> str:
    """A format's squared error, NF4's at the same block size 64 being 1."""
    return f"{error(name, kind=kind) / error('NF4', kind=kind):.2f}"


def shares(name: str = "NF4", blocksize: int = 64) -> torch.Tensor:
    codes, _, levels = four_bit.round_trip(blocks(blocksize), name)
    return four_bit.occupancy(codes, len(levels))


def gigabytes(name: str, kind: str = "nf4", double: bool = True) -> float:
    return nf4.model_bytes(model_configs.find(name), double=double)[kind] / 1e9


def without_torch(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


# ---------------------------------------------------------------- D: the format


@shows("D1")
def levels_are_bitsandbytes() -> str:
    import bitsandbytes.functional

    library = bitsandbytes.functional.get_4bit_type("nf4", device="cpu")
    printed = [-1.0, -0.6962, -0.5251, -0.3949, -0.2844, -0.1848, -0.0911, 0.0]
    printed += [0.0796, 0.1609, 0.2461, 0.3379, 0.4407, 0.5626, 0.7230, 1.0]  # guide 002, section 4.2
    apart = (torch.tensor(printed) - library).abs().max().item()
    equal = (nf4.levels() == library).sum().item()
    return f"{equal} of 16 rebuilt levels bit-equal to bitsandbytes; the guide's are within {apart:.1g}"


@shows("D2")
def levels_hold_unequal_shares() -> str:
    end = torch.special.ndtri(torch.tensor(nf4.OFFSET)).item()
    below = torch.special.ndtr(nf4.thresholds(nf4.levels()) * end)
    designed = 100 * torch.cat([torch.zeros(1), below, torch.ones(1)]).diff()
    masses = 100 * shares()
    return (
        f"a level holds {designed.min():.1f} to {designed.max():.1f} % of N(0, 1) at the scale of its "
        f"quantiles, {masses.min():.1f} to {masses.max():.1f} % of the weights in blocks of 64; equal is "
        "6.25 %"
    )


@shows("D3")
def errors_against_nf4s() -> str:
    parts = [f"{name} {ratio(name)}" for name in ("INT4 -7..7", "INT4 -8..7", "INT4 min-max", *four_bit.FP4)]
    return f"squared error to NF4's at block 64: {', '.join(parts)}"


@shows("D4")
def entropy_of_the_codes() -> str:
    parts = [
        f"{four_bit.entropy(shares(name)):.2f} for {name}" for name in ("INT4 -8..7", "INT4 -7..7", "NF4")
    ]
    return f"entropy of the codes in bits: {', '.join(parts)}; INT4's levels are equally dense everywhere"


@shows("D5")
def bits_used_fall_with_block_size() -> str:
    parts = [f"{four_bit.entropy(shares('NF4', size)):.2f} at {size}" for size in (32, 64, 256, 4096)]
    return f"bits of 4 used, by block size: {', '.join(parts)}"


@shows("D6")
def bits_saved_by_double_quantisation() -> str:
    plain, double = (nf4.quantize(blocks(), 64, flag) for flag in (False, True))
    saved = 8 * (plain.bytes() - (double.bytes() - 4)) / COUNT  # the mean, 4 bytes a matrix, left out
    return f"{saved} bits a weight, counted in bytes"


@shows("D7")
def gigabytes_saved_by_double_quantisation() -> str:
    saved = nf4.scale_bits(64, False) - nf4.scale_bits(64, True)
    return f"{saved * 65e9 / 8 / 1e9:.2f} GB on 65 billion weights"


@shows("D8")
def constants_of_a_block() -> str:
    weight = nf4.quantize(blocks())
    scales, groups = len(weight.absmax), len(weight.nested_absmax)
    kind = without_torch(weight.absmax.dtype)
    return f"one {kind} for {COUNT // scales} weights, one float32 for {scales // groups} of these"


@shows("D9")
def times_smaller_than_bfloat16() -> str:
    names = ("llama-2-7b", "mistral-7b-v0.3", "llama-3.1-8b", "smollm2-135m")
    parts = [f"{gigabytes(name, 'bf16') / gigabytes(name):.2f} ({name})" for name in names]
    return f"times smaller than bfloat16: {', '.join(parts)}"


@shows("D10")
def nf4_weights_of_7b_models() -> str:
    return ", ".join(f"{name} {gigabytes(name):.2f} GB" for name in ("llama-2-7b", "mistral-7b-v0.3"))


@shows("D14")
def load_in_4bit_alone_is_not_qlora() -> str:
    from transformers import BitsAndBytesConfig

    bare = BitsAndBytesConfig(load_in_4bit=True)
    kind, compute = bare.bnb_4bit_quant_type, without_torch(bare.bnb_4bit_compute_dtype)
    double = "double" if bare.bnb_4bit_use_double_quant else "no double"
    return f"load_in_4bit=True alone: {kind}, {compute} compute, {double} quantisation"


@shows("D16")
def lloyd_max_has_less_error() -> str:
    return f"levels with the least error (Lloyd-Max) have {ratio('Lloyd-Max')} of NF4's squared error"


@shows("D17")
def levels_are_two_half_grids() -> str:
    below, above = (nf4.levels() < 0).sum().item(), (nf4.levels() > 0).sum().item()
    return f"two half-grids of quantiles: {below} levels below 0, {above} above, and an exact 0"


@shows("D18")
def int4_min_max_at_the_same_bits() -> str:
    bits = four_bit.bits_a_weight("NF4", 32)
    assert bits == four_bit.bits_a_weight("INT4 min-max", 64)
    lead = error("INT4 min-max", 64) / error("NF4", 32)
    return f"at {bits:.3f} bits: INT4 min-max (block 64) has {lead:.2f} of NF4's error (block 32)"


@shows("D19")
def nf4s_lead_grows_with_heavy_tails() -> str:
    normal, heavy = (ratio("INT4 -7..7", kind) for kind in ("Gaussian", "Student t5"))
    return f"error of INT4 -7..7, NF4 = 1: {normal} on normal weights, {heavy} on heavy-tailed ones"


def kept(size: float, in_place: bool) -> str:
    """The share of a rank-16 update of relative size `size` that quantising to NF4 again keeps."""
    random = torch.Generator().manual_seed(0)
    weight = blocks()[:4096].reshape(512, 512)
    update = torch.randn(512, 16, generator=random) @ torch.randn(16, 512, generator=random)
    update *= size * weight.norm() / update.norm()
    start = nf4.dequantize(nf4.quantize(weight))
    merged = nf4.dequantize(nf4.quantize((start if in_place else weight) + update))
    return f"{100 * ((merged - start) * update).sum().item() / update.square().sum().item():.0f} %"


@shows("D20")
def merging_in_place_swallows_small_updates() -> str:
    parts = [f"{kept(size, in_place=True)} at {100 * size:g} %" for size in (0.003, 0.03, 0.3)]
    return f"of an update, merging in place keeps, by its size: {', '.join(parts)} of the weight's norm"


@shows("D21")
def merging_in_16_bits_keeps_the_update() -> str:
    return f"quantising W + update anew keeps {kept(0.03, in_place=False)} of an update of 3 %"


# ---------------------------------------------------------------- E: memory


@shows("E9")
def llama_3_70b_in_bfloat16() -> str:
    return f"bfloat16 weights alone: llama-3-70b {gigabytes('llama-3-70b', 'bf16'):.0f} GB"


@shows("E10")
def nf4_weights_of_7b_and_8b() -> str:
    llama2, llama3 = gigabytes("llama-2-7b"), gigabytes("llama-3.1-8b")
    plain = gigabytes("llama-3.1-8b", double=False)
    return (
        f"NF4 weights alone: llama-2-7b {llama2:.2f} GB, llama-3.1-8b {llama3:.2f} GB "
        f"({plain:.2f} without nesting)"
    )


@shows("E13")
def a_4bit_layer_saves_its_weight() -> str:
    saved = []
    weight = nf4.quantize(blocks()[:1024].reshape(256, 256))
    x = torch.randn(32, 256, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        output = nf4.Linear4bit.apply(x, weight)
    size, kind = sum(t.nbytes for t in saved), without_torch(output.dtype)
    return f"a 4-bit layer keeps its {size:,} packed bytes for the backward pass; its output stays {kind}"


@shows("E20")
def nf4_weights_of_70b_and_405b() -> str:
    sizes = [f"{name} {gigabytes(name):.0f} GB" for name in ("llama-3-70b", "llama-3.1-405b")]
    return f"NF4 weights alone: {', '.join(sizes)}"


@shows("E22")
def nf4_weights_of_13b() -> str:
    return f"NF4 weights alone: llama-2-13b {gigabytes('llama-2-13b'):.1f} GB"
