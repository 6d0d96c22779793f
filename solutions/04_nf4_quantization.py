# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 04 · NF4: four bits a weight
#
# After this notebook you will be able to
#
# - build QLoRA's number format from scratch: codebook, blocks, packing, double quantisation, backward pass;
# - say what four bits cost in accuracy, against INT4 and FP4, and what one outlier does;
# - predict the size of a quantised model to the byte, and say why "4 times smaller" is wrong.
#
# What you build here equals bitsandbytes, the library behind QLoRA, byte for byte.
#
# **Needs** nothing but this course. No GPU, no training. **Minutes** to run all cells: see the table in the
# README; `python3 lab.py doctor` says what to multiply them by on your machine.

# %% tags=["core", "setup"]
# Does nothing after `lab.py start`. In a bare kernel, such as Colab's, it installs the course's packages.
import importlib.util, pathlib, runpy, sys

if importlib.util.find_spec("labsupport") is None:
    here = pathlib.Path.cwd()
    folders = [here, *here.parents, *here.glob("*/")]
    found = [f for p in folders if (f := p / "labsupport" / "bare_kernel.py").exists()]
    if not found:
        sys.exit(f"No folder labsupport/ in, above or below {here}: clone the course's repository there.")
    runpy.run_path(str(found[0]), run_name="__main__")

# %% tags=["core"]
from labsupport.core import upstream

upstream.quiet_known_noise()  # messages about this stack that you can do nothing about
upstream.guard_4bit_on_cpu()  # a fault of bitsandbytes on some processors: guard before building a model

# %% tags=["core"]
import bitsandbytes as bnb
import bitsandbytes.functional as bnb_functional
import torch
import torch.nn.functional as F
from safetensors import safe_open
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from labsupport.core import plots, profiles
from labsupport.evaluation import four_bit
from labsupport.models import base_model, nf4
from labsupport.sizes import model_configs
from labsupport.teaching import predictions
from labsupport.notebooks.nb04_nf4_quantization import exercises
from labsupport.notebooks.nb04_nf4_quantization import quantiser_explorer
from labsupport.core.files import LabError

# %% tags=["core", "nbval-ignore-output"]
profile = profiles.current()
torch.set_num_threads(profile.threads)
print("profile:", profile.name, "| bitsandbytes", bnb.__version__)

# %% [markdown]
# ## Sixteen levels
#
# Four bits number 16 values, the *levels*, or the *codebook*. A weight is stored as the number of its
# nearest level: its *code*. Which 16 values are good?
#
# Trained weights look roughly normal: many near 0, few far out. INT4 spaces its levels evenly. NF4
# (NormalFloat, Dettmers 2023) takes *quantiles* $\Phi^{-1}(p)$ of the normal distribution, the points below
# which a share $p$ lies, for evenly spaced $p$. So levels are dense where weights are.
#
# One grid of 16 would have no level at exactly 0. NF4 joins two half-grids at their common zero: eight levels
# above, seven below. The outermost probability is 0.9677083; all levels are divided by the largest.
#
# ### Exercise 1: the codebook
#
# Positive half: quantiles of nine evenly spaced probabilities from `offset` down to 0.5 (which gives the 0).
# Negative half: the same with eight, and the sign turned. Return the 16 levels, ascending.


# %% tags=["core"]
def levels(offset: float) -> torch.Tensor:
    ### BEGIN SOLUTION
    above = torch.special.ndtri(torch.linspace(offset, 0.5, 9).double())
    below = -torch.special.ndtri(torch.linspace(offset, 0.5, 8).double())[:-1]
    values = torch.cat([below, above]).float().sort().values
    return values / values.max()
    ### END SOLUTION


exercises.levels.check(levels)

# %% tags=["core"]
# exercises.levels.hint()
codebook = exercises.levels.or_reference(levels)(nf4.OFFSET)
print([round(value, 4) for value in codebook.tolist()])

# %% [markdown]
# Are these the levels that the library uses?

# %% tags=["core"]
theirs = bnb_functional.get_4bit_type("nf4", device="cpu")
print("largest difference below 1e-6:", (codebook - theirs).abs().max().item() < 1e-6)
assert torch.equal(nf4.levels(), theirs)  # the course's own, to the last bit
codebook = theirs  # from here on every bit counts

# %% [markdown]
# With probabilities in float32 and quantiles in float64, all 16 come out to the last bit. The odd 0.9677083
# is $\tfrac12\left((1-\tfrac1{32})+(1-\tfrac1{30})\right)$: 1 less half a bin, of 16 and of 15, averaged.
#
# ## Blocks
#
# The levels end at 1, the weights do not. So weights are cut into *blocks* of 64 along the flattened
# matrix, and each block is divided by its largest magnitude, its *absmax*:
#
# $$c_i = \operatorname*{argmin}_k \left| \frac{w_i}{\max_{j \in \text{block}} |w_j|} - q_k \right|$$
#
# ### Exercise 2: quantise
#
# Return the codes (uint8, one a weight, flattened) and the absmax of each block (float32).


# %% tags=["core"]
def quantize(weight: torch.Tensor, levels: torch.Tensor, blocksize: int) -> tuple[torch.Tensor, torch.Tensor]:
    ### BEGIN SOLUTION
    blocks = weight.reshape(-1, blocksize).float()
    absmax = blocks.abs().amax(1)
    values = blocks * (1 / absmax)[:, None]
    thresholds = (levels[:-1] + levels[1:]) / 2  # the nearest level changes half-way
    return torch.bucketize(values.flatten(), thresholds).to(torch.uint8), absmax
    ### END SOLUTION


exercises.quantize.check(quantize)

# %% tags=["core"]
# exercises.quantize.hint()
quantize_to = exercises.quantize.or_reference(quantize)
weight = four_bit.random_weights("Gaussian", 2**20).view(1024, 1024)  # a million normal random numbers
codes, absmax = quantize_to(weight, codebook, 64)
print("codes", tuple(codes.shape), codes.dtype, codes[:8].tolist())
print("absmax", tuple(absmax.shape), absmax.dtype, "mean", round(absmax.mean().item(), 2))

# %% [markdown]
# The largest of 64 normal numbers is about 2.6 sigma on average. Keep that in mind: the levels were made for
# another scale.
#
# ### Exercise 3: pack
#
# A byte holds two codes, the first in the high half (bits 4 to 7). Pack neighbours.


# %% tags=["core"]
def pack(codes: torch.Tensor) -> torch.Tensor:
    ### BEGIN SOLUTION
    return codes[0::2] << 4 | codes[1::2]
    ### END SOLUTION


exercises.pack.check(pack)

# %% tags=["core"]
# exercises.pack.hint()
pack_codes = exercises.pack.or_reference(pack)
packed = pack_codes(codes).to(torch.uint8)
library_bytes, state = bnb_functional.quantize_4bit(weight, quant_type="nf4", blocksize=64)
print("bytes equal to the library's:", torch.equal(packed, library_bytes.flatten()))
print("absmax equal:", torch.equal(absmax, state.absmax))
assert torch.equal(packed, library_bytes.flatten()) and torch.equal(absmax, state.absmax)

# %% [markdown]
# Note `quant_type="nf4"`: the library's default is FP4, another format.
#
# ## Back again, and the error
#
# Restoring a weight is: look up its level, multiply by its block's absmax.


# %% tags=["core"]
def restore(packed: torch.Tensor, absmax: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    codes = torch.stack([packed >> 4, packed & 15], 1).flatten()
    return (levels[codes.int()].view(len(absmax), -1) * absmax[:, None]).flatten()


restored = restore(packed, absmax, codebook).view(weight.shape)
assert torch.equal(restored, bnb_functional.dequantize_4bit(library_bytes, state))

# %% [markdown]
# How far off are they? We measure the *relative squared error*, $\sum(\hat w-w)^2 / \sum w^2$. Your guess for
# NF4 on normal weights in blocks of 64?

# %% tags=["core"]
guess = None  # your guess, in percent

# %% tags=["core"]
error = four_bit.relative_error(weight, restored)
predictions.compare(guess, 100 * error, unit="%")
print(f"a typical weight is off by {100 * error**0.5:.1f} % of the weights' standard deviation")

# %% [markdown]
# ## Are the levels equally used?
#
# Guide 002 says that NF4 makes 16 intervals of equal probability and puts the best value into each. Equal
# would be 6.25 % of the weights a level. What share does the fullest level hold?

# %% tags=["core"]
guess = None  # your guess, in percent

# %% tags=["core"]
shares = four_bit.occupancy(codes)
predictions.compare(guess, 100 * shares.max().item(), unit="%")
print(f"the emptiest level holds {100 * shares.min():.2f} %")
print(f"entropy of the codes: {four_bit.entropy(shares):.2f} of 4 bits")

# %% tags=["core"]
best = four_bit.lloyd_max(weight.view(-1, 64))  # the levels with the least squared error
fig, panels = plots.figure(columns=2)
panels[0].bar(range(16), 100 * shares, color=plots.BLUE)
panels[0].axhline(6.25, color=plots.ORANGE)
panels[0].set(xlabel="code", ylabel="share of the weights (%)", title="The levels are not equally used")
panels[1].plot(range(16), codebook, "o-", color=plots.BLUE, label="NF4")
panels[1].plot(range(16), best, "s--", color=plots.GREEN, label="least error (Lloyd-Max)")
panels[1].plot(range(16), torch.arange(-8, 8) / 8, color=plots.GREY, label="INT4")
for axes in panels:
    axes.set_xticks(range(0, 16, 3))
panels[1].set(xlabel="code", ylabel="level", title="The best inner levels lie further out")
panels[1].legend()
plots.show(
    fig,
    "Left: share of weights by code, low at both ends and highest in the middle, around a line at 6.25 %. "
    "Right: level by code for NF4, for the levels with the least error, and for INT4, a straight line.",
)

# %% [markdown]
# Neither half of the sentence holds. The bins would be nearly equal if a block ended where the codebook does,
# at 1.85 sigma; a block of 64 reaches 2.6, so the outer levels are used little. And the levels are
# quantiles, not the values with the least error, which Lloyd's algorithm finds (`four_bit.lloyd_max`).
#
# The larger the block, the further out its largest weight, and the more of the four bits is wasted:

# %% tags=["core"]
for size in (32, 64, 256, 1024, 4096):
    used = four_bit.entropy(four_bit.occupancy(nf4.quantize_blocks(weight, codebook, size)[0]))
    print(f"blocks of {size:4d}: {used:.2f} of 4 bits used")

# %% [markdown]
# That is why "information-theoretically optimal" (guide 001, after the paper's abstract) is imprecise:
# what arrives at the codebook depends on the block size (Yoshida 2023, arXiv 2306.06965).
#
# ## NF4 against the others
#
# - *INT4 -7..7* and *-8..7*: even steps, one scale a block.
# - *INT4 min-max*: 16 even steps from the block's least to its largest weight: a second constant a block.
# - *FP4*: 1 sign, 2 exponent, 1 mantissa bit.
# - *Lloyd-Max*: fitted to these very weights.
#
# Guide 002 says NF4 has about half the error of INT4 (-8..7). What ratio of errors do you expect at block 64?

# %% tags=["core"]
guess = None  # your guess: INT4's error divided by NF4's


# %% tags=["core"]
def compare_formats(weight: torch.Tensor, size: int) -> dict[str, float]:
    """Relative squared error of each format."""
    blocks = weight.view(-1, size)
    restored = {name: four_bit.round_trip(blocks, name)[1] for name in four_bit.FORMATS}
    return {name: four_bit.relative_error(blocks, found) for name, found in restored.items()}


errors = compare_formats(weight, 64)
predictions.compare(guess, errors["INT4 -8..7"] / errors["NF4"])

# %% tags=["core"]
sizes = (32, 64, 256, 1024, 4096)
heavy = four_bit.random_weights("Student t5", 2**20)  # heavy tails: a few weights far out
table = {
    kind: {size: compare_formats(w, size) for size in sizes}
    for kind, w in (("Gaussian", weight), ("Student t5", heavy))
}
for kind, by_size in table.items():
    print(f"{kind}: error in %, by block size\n{'':14s}", *(f"{size:7d}" for size in sizes))
    for name in four_bit.FORMATS:
        print(f"  {name:12s}", *(f"{100 * by_size[size][name]:7.2f}" for size in sizes))

# %% tags=["core"]
fig, panels = plots.figure(columns=2)
colours = (plots.BLUE, plots.GREY, plots.GREY, plots.ORANGE, plots.PURPLE, plots.GREEN)
for axes, (kind, by_size) in zip(panels, table.items(), strict=True):
    for name, colour in zip(four_bit.FORMATS, colours, strict=True):
        style = ":" if name == "INT4 -7..7" else "-"
        values = [by_size[size][name] / by_size[size]["NF4"] for size in sizes]
        axes.plot(sizes, values, style, marker="o", markersize=3, color=colour, label=name)
    axes.set(xscale="log", xlabel="block size (weights)", title=kind, ylim=(0, 3))
    axes.set_xticks(sizes, sizes)
    axes.minorticks_off()
panels[0].set_ylabel("error, NF4 = 1")
panels[0].legend(fontsize=8, ncols=2)
fig.suptitle("NF4's lead over INT4 grows with the block and with the tails", x=0.02, ha="left")
plots.show(
    fig,
    "Error of each format relative to NF4 by block size. On Gaussian weights INT4 -7..7 rises from 1.2 at 32 "
    "to 2 at 4096 and min-max starts below 1; on Student t5 weights all but Lloyd-Max rise faster.",
)

# %% [markdown]
# At the block size that everybody uses, "half the error" is far off. INT4 -7..7 gets there with heavy tails
# or with blocks of 4096, and -8..7, which the guide prints, only with both. And min-max INT4 *beats* NF4 on
# Gaussian weights at block 64. It pays for that with a second constant a block. At equal storage the order
# turns:

# %% tags=["core"]
small = table["Gaussian"][32]["NF4"]
assert four_bit.bits_a_weight("NF4", 32) == four_bit.bits_a_weight("INT4 min-max", 64)
print(f"{four_bit.bits_a_weight('NF4', 32):.3f} bits a weight, both:")
print(f"  NF4, blocks of 32          {100 * small:.2f} %")
print(f"  INT4 min-max, blocks of 64 {100 * errors['INT4 min-max']:.2f} %")
assert small < errors["INT4 min-max"]

# %% [markdown]
# These are errors of weights. What a model loses is another question (notebook 08); the paper's table 2 gives
# mean perplexities: INT4 34.34, FP4 (E2M1) 31.07, NF4 with double quantisation 27.41.
#
# ## One outlier
#
# Put one weight of 40 sigma among 63 normal ones. How many of the 63 are restored as exactly 0?

# %% tags=["core"]
guess = None  # your guess, 0 to 63

# %% tags=["core"]
block = four_bit.random_weights("Gaussian", 64)
block[7] = 40
outlier_codes, _ = quantize_to(block, codebook, 64)
zeros = (outlier_codes == 7).sum().item()  # code 7 is the level 0
predictions.compare(guess, zeros)
print("codes:", outlier_codes.tolist())

# %% [markdown]
# The block is lost, its neighbours are untouched: that is what small blocks are for. The exact 0 helps, too:
# min-max INT4 has none, and would move all 63 weights off by up to a step.
#
# ## The cost of the scales: double quantisation
#
# A float32 for every 64 weights is half a bit a weight. QLoRA quantises the scales as well: their mean is
# taken off, then they go in blocks of 256 to 8-bit codes of a *dynamic* codebook (fine near 0, coarse
# outside), with one float32 for each 256.
#
# ### Exercise 4: bits of the scales
#
# How many bits a *weight* do the scales cost, without (`double=False`) and with double quantisation? Leave
# out the mean, 4 bytes a matrix.


# %% tags=["core"]
def scale_bits(blocksize: int, double: bool) -> float:
    ### BEGIN SOLUTION
    if not double:
        return 32 / blocksize
    return 8 / blocksize + 32 / (256 * blocksize)
    ### END SOLUTION


exercises.scale_bits.check(scale_bits)

# %% tags=["core"]
# exercises.scale_bits.hint()
bits_of_scales = exercises.scale_bits.or_reference(scale_bits)
print(f"{bits_of_scales(64, False)} bits become {bits_of_scales(64, True)}")
print(f"saved: {bits_of_scales(64, False) - bits_of_scales(64, True)} bits a weight")

# %% [markdown]
# Now count the bytes of the library's tensors:

# %% tags=["core"]
_, nested = bnb_functional.quantize_4bit(weight, quant_type="nf4", compress_statistics=True)
before = state.absmax.nbytes
after = nested.absmax.nbytes + nested.state2.absmax.nbytes
print(f"{before:,} bytes of scales become {after:,}: {8 * (before - after) / weight.numel()} bits a weight")
assert 8 * (before - after) / weight.numel() == 0.373046875

# %% [markdown]
# The paper's 0.373, exactly. And what does rounding the scales cost?

# %% tags=["core"]
double = nf4.dequantize(nf4.quantize(weight, 64, double=True))
growth = four_bit.relative_error(weight, double) / error - 1
print(f"the squared error grows by {100 * growth:.1g} %")
assert 0 < growth < 0.01

# %% [markdown]
# Almost nothing: the scales of a matrix are all alike, and 8 bits are plenty.
#
# ## Equal, byte for byte
#
# `nf4.quantize` is the course's version of all of this. Random shapes, block sizes and dtypes, every byte:

# %% tags=["core"]
random = torch.Generator().manual_seed(0)
compared = 0
for size in (32, 64, 128, 256, 512, 1024):
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        rows, columns = torch.randint(1, 30, (2,), generator=random).tolist()
        w = torch.randn(rows, columns * size, generator=random).to(dtype)
        ours = nf4.quantize(w, size)
        codes_4bit, s = bnb_functional.quantize_4bit(
            w, quant_type="nf4", blocksize=size, compress_statistics=True
        )
        assert torch.equal(ours.packed, codes_4bit.flatten()) and torch.equal(ours.absmax, s.absmax)
        assert torch.equal(ours.nested_absmax, s.state2.absmax) and torch.equal(ours.offset, s.offset)
        assert torch.equal(nf4.dequantize(ours), bnb_functional.dequantize_4bit(codes_4bit, s))
        compared += ours.bytes()
print(f"{compared:,} bytes compared, all equal")

# %% [markdown]
# Equal bytes need equal habits. A value exactly between two levels takes the lower code. Blocks are
# multiplied by the reciprocal of absmax, not divided. And the 8-bit codes of the scales are *not* always the
# nearest: the library's C++ code rounds to 65,536 steps and looks the code up in a table, which differs for
# one or two scales in a thousand. `labsupport/models/nf4.py` says where each bit comes from.
#
# ### Bad input

# %% tags=["core"]
for bad, size in (
    (torch.randn(64, 64), 48),
    (torch.randn(3, 33), 64),
    (torch.tensor([float("nan")] * 2 + [0.1] * 62), 64),
):
    try:
        nf4.quantize(bad, size)
    except LabError as problem:
        print(problem)

# %% [markdown]
# The library takes NaN without a word, and returns a block of NaN.
#
# ### Rows that are not whole blocks
#
# Blocks run along the flattened weight, so one may straddle two rows. That is allowed, and quantising handles
# it. But on a CPU with AVX-512, bitsandbytes 0.50.2 *restores* such rows with the wrong scales:

# %% tags=["core", "nbval-ignore-output"]
odd = four_bit.random_weights("Gaussian", 64 * 96).view(64, 96) * torch.linspace(1, 5, 64)[:, None]
codes_4bit, s = bnb_functional.quantize_4bit(odd, quant_type="nf4", blocksize=64)
print("this CPU:", torch.backends.cpu.get_cpu_capability())
ours, library = nf4.dequantize(nf4.quantize(odd, 64, False)), bnb_functional.dequantize_4bit(codes_4bit, s)
print(f"error, ours:    {100 * four_bit.relative_error(odd, ours):.2f} %")
print(f"error, library: {100 * four_bit.relative_error(odd, library):.2f} %")

# %% [markdown]
# No warning comes. Use a block size that divides the row length: with 64, that holds for every model of this
# course.
#
# ## A linear layer on packed weights
#
# QLoRA trains adapters *through* frozen 4-bit layers. A layer computes $y = xW^\top$. Its backward pass gets
# $g = \partial L/\partial y$ and needs only $\partial L/\partial x = gW$: the weight is frozen. So nothing
# has to be kept for it but the packed bytes; $W$ is restored once more.
#
# ### Exercise 5: the backward pass
#
# `grad_output` is (rows, out), `W` is (out, in).


# %% tags=["core"]
def input_gradient(
    grad_output: torch.Tensor, packed: torch.Tensor, absmax: torch.Tensor, levels: torch.Tensor
) -> torch.Tensor:
    ### BEGIN SOLUTION
    W = restore(packed, absmax, levels).view(grad_output.shape[-1], -1)
    return grad_output @ W
    ### END SOLUTION


exercises.input_gradient.check(input_gradient)

# %% tags=["core"]
# exercises.input_gradient.hint()
gradient_of = exercises.input_gradient.or_reference(input_gradient)


# %% tags=["core"]
class Linear4bit(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, packed, absmax, shape):
        ctx.save_for_backward(packed, absmax)  # all that is kept
        return F.linear(x, restore(packed, absmax, codebook).view(shape))

    @staticmethod
    def backward(ctx, grad_output):
        packed, absmax = ctx.saved_tensors
        return gradient_of(grad_output, packed, absmax, codebook), None, None, None


# %% [markdown]
# Compare with the library's layer, in output and in gradient:

# %% tags=["core"]
W = four_bit.random_weights("Gaussian", 128 * 256, seed=1).view(128, 256)
mine = nf4.quantize(W, 64, double=False)
layer = bnb.nn.Linear4bit(256, 128, bias=False, quant_type="nf4")
layer.weight = bnb.nn.Params4bit(W, requires_grad=False, quant_type="nf4", compress_statistics=False)
layer = layer.to("cpu")  # this quantises

# %% tags=["core"]
x = four_bit.random_weights("Gaussian", 8 * 256, seed=2).view(8, 256)
results = []
for function in (lambda x: Linear4bit.apply(x, mine.packed, mine.absmax, W.shape), layer):
    inputs = x.clone().requires_grad_()
    output = function(inputs)
    output.square().sum().backward()
    results.append((output.detach(), inputs.grad))
(output, gradient), (their_output, their_gradient) = results
print("outputs equal:", torch.equal(output, their_output))
print("input gradients agree:", torch.allclose(gradient, their_gradient, rtol=1e-5, atol=1e-3))
assert torch.equal(output, their_output)
assert torch.allclose(gradient, their_gradient, rtol=1e-5, atol=1e-3)


# %% [markdown]
# What does autograd keep between forward and backward? PyTorch lets you watch:


# %% tags=["core"]
def kept_bytes(function) -> int:
    kept = []
    watch = torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.nbytes) or t, lambda t: t)
    with watch:
        function(x.clone().requires_grad_())
    return sum(kept)


kept_4bit = kept_bytes(lambda x: Linear4bit.apply(x, mine.packed, mine.absmax, W.shape))
dense = kept_bytes(lambda x: F.linear(x, W))
print(f"{kept_4bit:,} bytes for the 4-bit layer, {dense:,} for the float32 one")
assert kept_4bit == W.numel() // 2 + 4 * W.numel() // 64

# %% [markdown]
# These are weights, which are in memory anyway. The *activations*, here `x` and `y`, have the same size
# in both: 4-bit weights do not make them smaller, as guide 002's table has it.
#
# ## A whole model
#
# How much smaller than in bfloat16 does the course's model get? The guides say 4 times.

# %% tags=["core"]
guess = None  # your guess: how many times smaller

# %% tags=["core"]
folder = base_model.path(base_model.BUNDLED)
model = AutoModelForCausalLM.from_pretrained(
    folder,
    dtype=torch.bfloat16,
    device_map=profile.device,
    quantization_config=BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",  # the default is fp4
        bnb_4bit_use_double_quant=True,  # the default is no
        bnb_4bit_compute_dtype=torch.bfloat16,  # the default is float32
    ),
)


# %% tags=["core"]
def bytes_held(model) -> int:
    """Bytes of all weights, and of what belongs to a quantised one."""
    total = sum(p.nbytes for p in model.parameters())  # tied weights count once
    for layer in (m for m in model.modules() if isinstance(m, bnb.nn.Linear4bit)):
        s = layer.weight.quant_state
        total += sum(t.nbytes for t in (s.absmax, s.code, s.offset, s.state2.absmax, s.state2.code))
    return total


held = bytes_held(model)
counted = nf4.model_bytes(model_configs.find("smollm2-135m"))
print(f"{held:,} bytes held, {counted['nf4']:,} by counting on paper, {counted['bf16']:,} in bfloat16")
assert held == counted["nf4"]
predictions.compare(guess, counted["bf16"] / held)

# %% [markdown]
# Equal to the byte. Only the matrices inside the blocks are quantised. Embeddings, output head and norms stay
# in 16 bits, and in a small model with a large vocabulary that is half of what remains:

# %% tags=["core"]
print(f"{'':16s} {'bf16, GB':>9s} {'NF4, GB':>9s} {'kept, GB':>9s} {'times smaller':>14s}")
for name in ("smollm2-135m", "llama-3.1-8b", "llama-2-7b", "mistral-7b-v0.3", "llama-3-70b"):
    sizes_of = nf4.model_bytes(model_configs.find(name))
    gb = [f"{sizes_of[key] / 1e9:9.3g}" for key in ("bf16", "nf4", "kept")]
    print(f"{name:16s}", *gb, f"{sizes_of['bf16'] / sizes_of['nf4']:14.2f}")

# %% [markdown]
# Not even without embeddings would it be 4: with its scales NF4 takes 4.127 bits, which makes 3.88.
#
# ## Why not measure on this model's weights?
#
# All errors above are of random weights. We have a real model: why not use its weights? Look at one
# stretch of 32 of them.

# %% tags=["core"]
with safe_open(f"{folder}/model.safetensors", framework="pt") as file:
    real = file.get_tensor("model.layers.10.mlp.down_proj.weight").float()
distinct = [len(piece.unique()) for piece in real.view(-1, 32)]
mean = sum(distinct) / len(distinct)
print(f"distinct values in 32 neighbours: at most {max(distinct)}, {mean:.1f} on average")
print("in 32 Gaussian weights:", len(weight.view(-1, 32)[0].unique()))

# %% tags=["core"]
on_real, on_random = compare_formats(real, 32), table["Gaussian"][32]
for name in four_bit.FORMATS:
    print(f"{name:12s} {100 * on_real[name]:.2f} % on this model, {100 * on_random[name]:.2f} % on Gaussian")
assert on_real["INT4 min-max"] < 0.01 * on_random["INT4 min-max"]

# %% [markdown]
# The model came as a Q4_1 file: 16 even steps from the least to the largest of 32 neighbours, which is
# min-max INT4. Quantise it that way again and nothing is lost: on these weights a format is as good as it
# resembles Q4_1. That NF4 comes out near its Gaussian value is no comfort; the ranking is worthless. Use
# original 16-bit weights, or random ones, and say which.
#
# ## Try it
#
# Change the format, the block size, the tails; add outliers (the error is that of all *other* weights).

# %% tags=["core"]
quantiser_explorer.explore()

# %% [markdown]
# ## Measured claims
#
# What this notebook settles of the guides' claims; the rest is on the claims page (`lab.py claims`).

# %% tags=["core", "claim-D3"]
print("NF4 has about half the error of INT4 (guide 002): wrong.")
ratios = [
    f"{name} {errors[name] / errors['NF4']:.2f}" for name in ("INT4 -8..7", "INT4 -7..7", "INT4 min-max")
]
print("   Squared error, NF4 = 1, blocks of 64:", ", ".join(ratios))

# %% tags=["core", "claim-D2"]
print("NF4 has 16 equally likely intervals, each with its best value (guide 002): wrong.")
print(f"   A level holds {100 * shares.min():.2f} to {100 * shares.max():.2f} % of the weights;")
print(f"   the best levels have {errors['Lloyd-Max'] / errors['NF4']:.2f} of its error.")

# %% tags=["core", "claim-D9"]
print("NF4 makes the frozen model about 4 times smaller (guide 001): imprecise.")
print(f"   This model {counted['bf16'] / held:.2f} times; Llama-3.1-8B and Llama-2-7B in the table above.")

# %% tags=["core", "claim-D6"]
print("Double quantisation saves 0.37 bits a weight (guides 001, 002): holds.")
print(f"   {8 * (before - after) / weight.numel()} bits, counted in the library's tensors.")

# %% tags=["core", "claim-E13"]
print("QLoRA halves the activations (guide 002): wrong.")
print(f"   The output of the 4-bit layer is {output.dtype}, as without: {output.nbytes:,} bytes both ways.")

# %% [markdown]
# ## Checkpoint

# %% tags=["core"]
from labsupport.teaching import quiz

quiz.ask("04_nf4_quantization")

# %% [markdown]
# ## On a rented GPU
#
# Written for L4/A10, not yet run there. Bytes, codes and sizes are the same there; nothing of this is worth a
# paid minute but one: the errors on the original bfloat16 weights of a 7B model. Expect them near the
# Gaussian column, with heavier tails in some layers.
