"""The claims about NF4 (section D of the ledger, some of E and F) that counting and random weights settle."""

from __future__ import annotations

import functools

import torch

from labsupport.models import model_configs, nf4

COUNT = 2**20  # the sample of notebook 04


@functools.cache
def blocks(blocksize: int, kind: str = "Gaussian") -> torch.Tensor:
    return nf4.sample(kind, COUNT).view(-1, blocksize)


@functools.cache
def error(name: str, blocksize: int = 64, kind: str = "Gaussian") -> float:
    weights = blocks(blocksize, kind)
    return nf4.relative_error(weights, nf4.coded(weights, name)[1])


def shares(name: str = "NF4", blocksize: int = 64) -> torch.Tensor:
    codes, _, levels = nf4.coded(blocks(blocksize), name)
    return nf4.occupancy(codes, len(levels))


def ratio(name: str, blocksize: int = 64, kind: str = "Gaussian") -> str:
    return f"{error(name, blocksize, kind) / error('NF4', blocksize, kind):.2f}"


def gigabytes(name: str, kind: str = "nf4", double: bool = True) -> float:
    return nf4.model_bytes(model_configs.find(name), double=double)[kind] / 1e9


def d1() -> str:
    import bitsandbytes.functional

    library = bitsandbytes.functional.get_4bit_type("nf4", device="cpu")
    printed = [-1.0, -0.6962, -0.5251, -0.3949, -0.2844, -0.1848, -0.0911, 0.0]
    printed += [0.0796, 0.1609, 0.2461, 0.3379, 0.4407, 0.5626, 0.7230, 1.0]  # guide 002, section 4.2
    apart = (torch.tensor(printed) - library).abs().max().item()
    equal = (nf4.levels() == library).sum().item()
    return f"{equal} of 16 rebuilt levels bit-equal to bitsandbytes; the guide's are within {apart:.1g}"


def d17() -> str:
    levels = nf4.levels()
    below, above = (levels < 0).sum().item(), (levels > 0).sum().item()
    return f"two half-grids of quantiles: {below} levels below 0, {above} above, and an exact 0"


def d2() -> str:
    masses = shares()
    return f"a level holds {100 * masses.min():.1f} to {100 * masses.max():.1f} % of the weights, not 6.25 %"


def d16() -> str:
    return f"levels with the least error (Lloyd-Max) have {ratio('Lloyd-Max')} of NF4's squared error"


def d3() -> str:
    parts = [f"{name} {ratio(name)}" for name in ("INT4 -7..7", "INT4 -8..7", "INT4 min-max", "FP4")]
    return f"squared error to NF4's at block 64: {', '.join(parts)}"


def d19() -> str:
    normal, heavy = (ratio("INT4 -7..7", 64, kind) for kind in ("Gaussian", "Student t5"))
    return f"error of INT4 -7..7, NF4 = 1: {normal} on normal weights, {heavy} on heavy-tailed ones"


def d18() -> str:
    bits = nf4.format_bits("NF4", 32)
    assert bits == nf4.format_bits("INT4 min-max", 64)
    lead = error("INT4 min-max", 64) / error("NF4", 32)
    return f"at {bits:.3f} bits: INT4 min-max (block 64) has {lead:.2f} of NF4's error (block 32)"


def d4() -> str:
    parts = [f"{nf4.entropy(shares(name)):.2f} for {name}" for name in ("INT4 -8..7", "INT4 -7..7", "NF4")]
    return f"entropy of the codes in bits: {', '.join(parts)}; INT4's levels are equally dense everywhere"


def d5() -> str:
    parts = [f"{nf4.entropy(shares('NF4', size)):.2f} at {size}" for size in (32, 64, 256, 4096)]
    return f"bits of 4 used, by block size: {', '.join(parts)}"


def d6() -> str:
    plain, double = (nf4.quantize(blocks(64), 64, flag) for flag in (False, True))
    saved = 8 * (plain.bytes() - (double.bytes() - 4)) / COUNT  # the mean, 4 bytes a matrix, left out
    return f"{saved} bits a weight, counted in bytes"


def d7() -> str:
    saved = nf4.scale_bits(64, False) - nf4.scale_bits(64, True)
    return f"{saved * 65e9 / 8 / 1e9:.2f} GB on 65 billion weights"


def d8() -> str:
    weight = nf4.quantize(blocks(64))
    scales, groups = len(weight.absmax), len(weight.nested_absmax)
    kind = str(weight.absmax.dtype).removeprefix("torch.")
    return f"one {kind} for {COUNT // scales} weights, one float32 for {scales // groups} of these"


def d9() -> str:
    names = ("llama-2-7b", "mistral-7b-v0.3", "llama-3.1-8b", "smollm2-135m")
    parts = [f"{gigabytes(name, 'bf16') / gigabytes(name):.2f} ({name})" for name in names]
    return f"times smaller than bfloat16: {', '.join(parts)}"


def d10() -> str:
    return (
        f"llama-2-7b {gigabytes('llama-2-7b'):.2f} GB, mistral-7b-v0.3 {gigabytes('mistral-7b-v0.3'):.2f} GB"
    )


def d14() -> str:
    from transformers import BitsAndBytesConfig

    bare = BitsAndBytesConfig(load_in_4bit=True)
    compute = str(bare.bnb_4bit_compute_dtype).removeprefix("torch.")
    double = "double" if bare.bnb_4bit_use_double_quant else "no double"
    return f"load_in_4bit=True alone: {bare.bnb_4bit_quant_type}, {compute} compute, {double} quantisation"


def e6() -> str:
    return f"bfloat16 weights alone: llama-3.1-8b {gigabytes('llama-3.1-8b', 'bf16'):.1f} GB"


def e9() -> str:
    return f"bfloat16 weights alone: llama-3-70b {gigabytes('llama-3-70b', 'bf16'):.0f} GB"


def e10() -> str:
    plain = gigabytes("llama-3.1-8b", double=False)
    return (
        f"NF4 weights alone: llama-2-7b {gigabytes('llama-2-7b'):.2f} GB, llama-3.1-8b "
        f"{gigabytes('llama-3.1-8b'):.2f} GB ({plain:.2f} without nesting)"
    )


def e13() -> str:
    kept = []
    weight = nf4.quantize(blocks(64)[:1024].reshape(256, 256))
    x = torch.randn(32, 256, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        output = nf4.Linear4bit.apply(x, weight)
    saved = sum(t.numel() * t.element_size() for t in kept)
    kind = str(output.dtype).removeprefix("torch.")
    return f"a 4-bit layer keeps its {saved:,} packed bytes for the backward pass; its output stays {kind}"


def e20() -> str:
    sizes = [f"{name} {gigabytes(name):.0f} GB" for name in ("llama-3-70b", "llama-3.1-405b")]
    return f"NF4 weights alone: {', '.join(sizes)}"


def e22() -> str:
    return f"NF4 weights alone: llama-2-13b {gigabytes('llama-2-13b'):.1f} GB"


def _kept(size: float, in_place: bool) -> float:
    """The share of a rank-16 update of relative size `size` that quantising to NF4 again keeps."""
    random = torch.Generator().manual_seed(0)
    weight = blocks(64)[:4096].reshape(512, 512)
    update = torch.randn(512, 16, generator=random) @ torch.randn(16, 512, generator=random)
    update *= size * weight.norm() / update.norm()
    start = nf4.dequantize(nf4.quantize(weight))
    merged = nf4.dequantize(nf4.quantize((start if in_place else weight) + update))
    return ((merged - start) * update).sum().item() / update.square().sum().item()


def d20() -> str:
    parts = [f"{100 * _kept(size, True):.0f} % at {100 * size:g} %" for size in (0.003, 0.03, 0.3)]
    return f"of an update, merging in place keeps, by its size: {', '.join(parts)} of the weight's norm"


def d21() -> str:
    return f"quantising W + update anew keeps {100 * _kept(0.03, False):.0f} % of an update of 3 %"
