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
# **In one sentence**: you build QLoRA's 4-bit format yourself, byte for byte as bitsandbytes stores it, and
# measure what four bits cost and save.
#
# **Minutes**: 110 to read and do, 1 to run all cells.
#
# ![A bell curve: how often a weight has which value, from minus absmax to plus absmax. Under it 16 orange
# dots, NF4's levels, close together near 0 and far apart outside. Dashed lines half-way between two
# dots cut the bell into 16 slices, and below each slice stands its code, 0 to 15.](attachment:schematic.png)
#
# NF4, drawn with its real levels and thresholds: a weight is stored as the code of its slice and comes back
# as the orange level in it.
#
# After this notebook you will be able to
#
# - build QLoRA's number format from scratch: [codebook](../glossary.md#codebook), blocks, packing, double
#   quantisation, and the backward pass through it;
# - say what four bits cost in accuracy, against INT4 and both FP4s, and what one outlier does;
# - predict the size of a quantised model to the byte, and say why "4 times smaller" is not quite what you
#   get.
#
# **Needs** [notebook 02](02_lora_math.ipynb): what an adapter is. No GPU, no training.

# %% [markdown]
# ## Why four bits
#
# The weights of Llama-2-7B take 13.5 GB in [bf16](../glossary.md#bf16), and perhaps 16 GB is what the card
# has that you can afford. Little is left for what training needs besides. But LoRA never changes these
# weights: it only reads them. What is only read can be kept in a coarser form, as a photograph is kept as a
# JPEG, if the picture stays good enough to work with.
#
# That is QLoRA's idea ([Q](../glossary.md#qlora) for quantised): the frozen weights in 4 bits each, the
# adapter beside them in 16 or 32. This notebook takes the 4 bits apart. You rebuild every step, and at the
# end your bytes are those of bitsandbytes, the library behind QLoRA.
#
# The next cells set up; loading torch and its relatives takes about 10 seconds.

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

# %% tags=["core", "setup"]
from labsupport.core import upstream

upstream.quiet_known_noise()  # messages about this stack that you can do nothing about
upstream.guard_4bit_on_cpu()  # a fault of bitsandbytes on some processors: guard before building a model

# %% tags=["core", "setup"]
import bitsandbytes as bnb
import bitsandbytes.functional as bnb_functional
import torch
import torch.nn.functional as F
from IPython.display import display
from safetensors import safe_open
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from labsupport.configs import model_configs
from labsupport.core import plots, profiles
from labsupport.core.files import LabError
from labsupport.core.tables import Table
from labsupport.evaluation import four_bit
from labsupport.explorers import quantiser_explorer
from labsupport.models import base_model, nf4
from labsupport.teaching import claims, predictions, quiz
from labsupport.notebooks.nb04_nf4_quantization import exercises, figures

# %% tags=["core", "setup", "nbval-ignore-output"]
profile = profiles.current()
torch.set_num_threads(profile.threads)
print("profile:", profile.name, "| bitsandbytes", bnb.__version__)

# %% [markdown]
# ## Eight weights by hand
#
# Take eight weights of some layer:
#
# $$0.02,\; -0.11,\; 0.06,\; 0,\; -0.04,\; 0.20,\; -0.07,\; 0.13$$
#
# 1. Find the largest magnitude, the [*absmax*](../glossary.md#absmax): 0.20.
# 2. Divide by it. Everything now lies between -1 and 1: 0.10, -0.55, 0.30, 0, -0.20, 1, -0.35, 0.65.
# 3. Look for the nearest of 16 fixed values, the *levels*, numbered 0 to 15. For -0.55 that is level 2,
#    which stands at -0.525; for 0.30 it is level 11, at 0.338 (level 10, at 0.246, is further away).
# 4. Store the numbers, the *codes*: 8, 2, 11, 7, 5, 15, 3, 14. And the absmax, once.
# 5. To get weights back, look each level up and multiply by the absmax: -0.525 x 0.20 = -0.105. You had
#    -0.11.
#
# The same in code, with the levels that bitsandbytes uses:

# %% tags=["core"]
library_levels = bnb_functional.get_4bit_type("nf4", device="cpu")
eight = torch.tensor([0.02, -0.11, 0.06, 0.0, -0.04, 0.20, -0.07, 0.13])
scaled = eight / eight.abs().max()
eight_codes = [(value - library_levels).abs().argmin().item() for value in scaled]
rows = []
for weight, value, code in zip(eight.tolist(), scaled.tolist(), eight_codes, strict=True):
    level = library_levels[code].item()
    rows.append([f"{weight:.2f}", f"{value:.2f}", code, f"{level:.3f}", f"{0.2 * level:.3f}"])
Table(["weight", "over absmax", "code", "level", "comes back as"], rows, "Eight weights through NF4")

# %% [markdown]
# The largest comes back exactly, and so does 0. The others are a little off, never by more than half the
# gap between two levels.
#
# What did it save? Eight codes of 4 bits are 4 bytes, and the absmax in float32 is another 4: together 8
# bytes, where bf16 needs 16. The scale costs as much as the codes! Share it among 64 weights and it is
# cheap. Share it among too many, and one large weight spoils them all. Keep this tug-of-war in mind; it
# decides most of what follows.
#
# ## Which sixteen levels?
#
# Four bits number $2^4 = 16$ values, no more. So the whole art is where to put them.
#
# [INT4](../glossary.md#int4) spaces them evenly. But trained weights look roughly normal: many near 0, few
# far out. An even grid spends several of its 16 levels on the few.
#
# NF4 (NormalFloat, Dettmers 2023) uses [*quantiles*](../glossary.md#quantile): $Q(p)$ is the point below
# which a share $p$ of a normal distribution lies. Space the *shares* evenly, and the points come out dense
# where the weights are. By hand, with nine shares from 0.1 to 0.9:

# %% tags=["core"]
p = torch.linspace(0.1, 0.9, 9)
q = torch.special.ndtri(p)  # the normal distribution's quantile function
print("Q(p):", [round(value, 2) + 0.0 for value in q.tolist()])
print("gaps:", [round(value, 2) for value in q.diff().tolist()])

# %% [markdown]
# The gaps shrink towards the middle. There is one catch: a single grid of 16 is symmetric, so it has eight
# levels on each side and *none at 0*. Yet weights that are exactly 0 (padding, pruned ones) should stay 0.
# NF4 therefore makes two half-grids that meet at 0, one of nine and one of eight, and counts the zero once:
# seven levels below it, eight above.
#
# ### Exercise 1: the codebook
#
# > **15 minutes · ●●○**
# >
# > Return the 16 levels, ascending, as a tensor of shape (16,). `offset` is the outermost share, just below
# > 1.
# >
# > - Above 0: the quantiles of *nine* evenly spaced shares from `offset` down to 0.5, which gives the 0.
# > - Below 0: the quantiles of *eight* evenly spaced shares from `offset` down to 0.5, with the sign
# >   turned.
# > - Count the 0 once, sort, and divide all by the largest.
# >
# > With `offset=0.9677083` the first two levels are -1 and -0.6962, the last two 0.7230 and 1.


# %% tags=["core"]
def levels(offset: float) -> torch.Tensor:
    ### BEGIN SOLUTION
    above = torch.special.ndtri(torch.linspace(offset, 0.5, 9).double())
    below = -torch.special.ndtri(torch.linspace(offset, 0.5, 8).double())[:-1]
    values = torch.cat([below, above]).float().sort().values
    return values / values.max()
    ### END SOLUTION


exercises.levels.check(levels)

# %% [markdown]
# Are these the levels that the library uses?

# %% tags=["core"]
# exercises.levels.hint()
codebook = exercises.levels.or_reference(levels)(nf4.OFFSET)
print([round(value, 4) for value in codebook.tolist()])
print("largest difference below 1e-6:", (codebook - library_levels).abs().max().item() < 1e-6)
assert torch.equal(nf4.levels(), library_levels)  # the course's own, to the last bit
codebook = library_levels  # from here on every bit counts

# %% [markdown]
# With the shares in float32 and the quantiles in float64, all 16 come out to the last bit.
#
# ## What the paper says, and what its code does
#
# If you read the QLoRA paper you will look for this construction in vain. Its equation 4 is another one:
#
# $$q_i = \tfrac12\left(Q\!\left(\tfrac{i}{2^k+1}\right) + Q\!\left(\tfrac{i+1}{2^k+1}\right)\right),
# \quad k = 4$$
#
# The mean of two neighbouring quantiles, on one grid. Take it at its word: for $i = 0$ it contains $Q(0)$,
# which is minus infinity. So of 16 values only 15 are finite. To get 16, the nearest repair is to keep
# clear of both ends, $Q\!\left(\frac{i+1}{18}\right)$ and $Q\!\left(\frac{i+2}{18}\right)$. Here are both
# readings, scaled to end at 1, beside the released code:


# %% tags=["core"]
def quantile_means(first: int, shares: int) -> torch.Tensor:
    """Equation 4 for 16 values, scaled by the largest: i counts from `first`, in `shares` shares."""
    i = torch.arange(first, first + 16).double()
    means = (torch.special.ndtri(i / shares) + torch.special.ndtri((i + 1) / shares)) / 2
    return (means / means.max()).float()


printed, repaired = quantile_means(0, 17), quantile_means(1, 18)
rows = [
    [code, f"{a:.4f}" if a > -9 else None, f"{b:.4f}", f"{c:.4f}", f"{c - b:+.4f}"]
    for code, (a, b, c) in enumerate(zip(printed.tolist(), repaired.tolist(), codebook.tolist(), strict=True))
]
headings = ["code", "equation 4", "with finite ends", "released code", "code − finite ends"]
Table(headings, rows, "The 16 levels, three ways")

# %% [markdown]
# (The dash is minus infinity.) Three things to see. Equation 4 as printed has a level nobody can reach.
# With finite ends it has no 0: its two inner levels stand at ±0.05. The paper says so in the next sentence,
# and describes in words the two half-grids that you built; it prints the 16 values of the code in its
# appendix. What it does not give is the code's `offset`:
#
# $$0.9677083 = \tfrac12\left(\left(1-\tfrac1{32}\right)+\left(1-\tfrac1{30}\right)\right)$$
#
# 1 less half a share, of 16 shares and of 15, averaged. And the code takes the quantiles themselves where
# the formula takes means of two. So when somebody's "NF4 from the paper" disagrees with bitsandbytes, this
# table is why.
#
# ## Blocks
#
# The levels end at 1, the weights do not. You divided eight weights by the largest of them; real weights
# are cut into [*blocks*](../glossary.md#block) of 64 along the flattened matrix, and each is divided by its
# own absmax. The code of weight $w_i$ is then
#
# $$c_i = \operatorname*{argmin}_k \left| \frac{w_i}{\max_{j \in \text{block}} |w_j|} - q_k \right|$$
#
# and what comes back is $q_{c_i}$ times the absmax. How large is the absmax of a block? For normal weights
# you can compute it. A magnitude lies below $x$ with probability $2\Phi(x)-1$, all $n$ of them with the
# $n$-th power of that, and the mean of the largest is the integral of the rest:


# %% tags=["core"]
def mean_absmax(count: int) -> float:
    """The expected largest magnitude of so many normal numbers, in sigma."""
    x = torch.linspace(0, 8, 8001).double()
    all_below = (2 * torch.special.ndtr(x) - 1) ** count
    return torch.trapezoid(1 - all_below, x).item()


weight = four_bit.random_weights("Gaussian", 2**20).view(1024, 1024)  # a million normal numbers
rows = []
for size in (32, 64, 256, 1024, 4096):
    blocks = weight.view(-1, size)
    found = [mean_absmax(size), blocks.abs().amax(1).mean(), blocks.amax(1).mean()]
    rows.append([size, *(f"{value:.2f}" for value in found)])
headings = ["block of", "absmax, computed", "absmax, measured", "largest value, measured"]
Table(headings, rows, "How far a block of normal weights reaches, in sigma, on average")

# %% [markdown]
# The largest *magnitude* of 64 normal numbers is 2.60 sigma on average. (Their largest *value*, sign
# included, is only 2.34: a magnitude has two tails to come from.) So in a typical block, level 1.0 stands
# for 2.6 sigma. Keep that in mind too: the quantiles were made for another scale. Their end,
# $Q(0.9677083)$, lies at 1.85 sigma.
#
# ### Exercise 2: quantise
#
# > **20 minutes · ●●○**
# >
# > Return two tensors: the codes (uint8, one a weight, flattened) and the absmax of each block (float32).
# >
# > - `weight` is a matrix of floats, and its number of entries is a multiple of `blocksize`. Blocks run
# >   along the flattened weight, row after row. Leave `weight` itself as it is.
# > - `levels` are ascending; their number and place can be others than NF4's.
# >
# > A block `[0.1, -0.2]` with the levels `[-1, 0, 1]` has the absmax 0.2 and is 0.5 and -1 after scaling. A
# > value exactly between two levels takes the lower code, so the codes are 1 and 0.


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
codes, absmax = quantize_to(weight, codebook, 64)
print("codes", tuple(codes.shape), codes.dtype, codes[:8].tolist())
print("absmax", tuple(absmax.shape), absmax.dtype, "mean", round(absmax.mean().item(), 2))

# %% [markdown]
# A code needs 4 bits, and the smallest thing a computer stores is a byte of 8. So two codes share one: the
# first of a pair moves into the high half (times 16, or `<< 4`), the second stays in the low half. From
# above: codes 8 and 2 become 8 x 16 + 2 = 130, in hexadecimal 0x82, where you can read both.


# %% tags=["core"]
def pack(codes: torch.Tensor) -> torch.Tensor:
    return codes[0::2] << 4 | codes[1::2]


def unpack(packed: torch.Tensor) -> torch.Tensor:
    return torch.stack([packed >> 4, packed & 15], 1).flatten()


print([hex(byte) for byte in pack(torch.tensor(eight_codes, dtype=torch.uint8)).tolist()])

# %% [markdown]
# Now the moment of truth: a million weights, your codes, the library's bytes.

# %% tags=["core"]
packed = pack(codes.to(torch.uint8))
library_bytes, state = bnb_functional.quantize_4bit(weight, quant_type="nf4", blocksize=64)
print("bytes equal to the library's:", torch.equal(packed, library_bytes.flatten()))
print("absmax equal:", torch.equal(absmax, state.absmax))
assert torch.equal(nf4.quantize(weight, 64, double=False).packed, library_bytes.flatten())

# %% [markdown]
# If your bytes differ in a few places although your exercise is right, you divided: the library multiplies
# by the reciprocal, and the last bit can tip a value over a threshold. Note also `quant_type="nf4"`: the
# library's default is FP4, another format.
#
# ## Back again, and the error
#
# Restoring a weight is: unpack, look up its level, multiply by its block's absmax.


# %% tags=["core"]
def restore(packed: torch.Tensor, absmax: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    return (levels[unpack(packed).int()].view(len(absmax), -1) * absmax[:, None]).flatten()


restored = restore(library_bytes.flatten(), state.absmax, codebook).view(weight.shape)
assert torch.equal(restored, bnb_functional.dequantize_4bit(library_bytes, state))

# %% [markdown]
# How far off are they? The measure is the *relative squared error*: the squared differences, summed, over
# the squared weights, summed.
#
# > **Predict.** What is it for NF4 on normal weights in blocks of 64, in percent?

# %% tags=["core"]
guess = None  # your guess, in percent

# %% tags=["core"]
error = four_bit.relative_error(weight, restored)
predictions.compare(guess, 100 * error, unit="%")
print(f"a typical weight is off by {100 * error**0.5:.1f} % of the weights' standard deviation")

# %% [markdown]
# Less than one percent in the squares, and 9 % in the weights themselves. That models hardly notice is
# because the errors of thousands of weights in a sum point every which way and mostly cancel.
#
# ## Are the levels equally used?
#
# > **Guide 002 says** of NF4 that it "divides the standard normal distribution into 16 equal-probability
# > intervals and assigns each interval the optimal value that minimizes the expected error".
#
# Equal would be 6.25 % of the weights a level.

# %% [markdown]
# > **Predict.** In blocks of 64, what share does the fullest level hold?

# %% tags=["core"]
guess = None  # your guess, in percent

# %% tags=["core", "claim-D2"]
shares = four_bit.occupancy(codes)
predictions.compare(guess, 100 * shares.max().item(), unit="%")
print(f"in blocks of 64 a level holds {100 * shares.min():.2f} to {100 * shares.max():.2f} %")
end = torch.special.ndtri(torch.tensor(nf4.OFFSET)).item()  # where the quantiles end, in sigma
below = torch.special.ndtr(nf4.thresholds(codebook) * end)
designed = F.pad(F.pad(below, (1, 0)), (0, 1), value=1).diff()
print(f"with level 1 at {end:.2f} sigma it would: {100 * designed.min():.1f} to {100 * designed.max():.1f} %")

# %% [markdown]
# For the standard normal distribution by itself, the guide's first half is nearly right: at the scale for
# which the quantiles were made, each level gets 5.6 to 7.1 %. But a block ends at its own largest weight,
# at 2.6 sigma and not at 1.85. The grid is stretched, its outer levels hang out over the thin tails, and
# the inner ones get more than their share. First half of the sentence: *imprecise*.
#
# The second half can be checked, too. Lloyd and Max showed how to find the levels with the least squared
# error: put each at the mean of the weights that fall to it, cut anew, repeat.

# %% tags=["core"]
best = four_bit.lloyd_max(weight.view(-1, 64))
_, by_best, _ = four_bit.round_trip(weight.view(-1, 64), "Lloyd-Max", best)
lloyd_error = four_bit.relative_error(weight.view(-1, 64), by_best)
print(f"least possible: {100 * lloyd_error:.2f} %, which is {lloyd_error / error:.2f} of NF4's")
plots.show(
    figures.use_of_levels(shares, codebook, best),
    "Left: share of weights by code, below 2 % at both ends and up to 9 % in the middle, around a dashed "
    "line at 6.25 %. Right: the levels of least error minus NF4's by code. Both ends lie about 0.05 "
    "nearer to 0, the levels between up to 0.035 further from it.",
)

# %% [markdown]
# Quantiles are not the values of least error: *wrong*, by a modest 9 %. On the right you see where it lies:
# the best levels are less crowded around 0, and the outermost do not go all the way to the end, where few
# weights are.
#
# And the formula that the paper printed? Its levels have errors, too:

# %% tags=["core"]
for name, some in (("equation 4, finite ends", repaired), ("released code", codebook)):
    _, back, _ = four_bit.round_trip(weight.view(-1, 64), "NF4", some)
    print(f"{name:24s} {100 * four_bit.relative_error(weight.view(-1, 64), back):.2f} %")

# %% [markdown]
# The surprise: on normal weights the symmetric grid without a 0 is *better* than the code that everybody
# uses. The exact zero has a price, 7 % of the error, and QLoRA pays it knowingly.
#
# The larger the block, the further out its largest weight, and the more of the four bits is wasted. The
# *entropy* of the codes says how many bits they really carry: 4 if all are equally likely.

# %% tags=["core"]
rows = []
for size in (32, 64, 256, 1024, 4096):
    block_codes, _ = nf4.quantize_blocks(weight, codebook, size)
    rows.append([size, f"{four_bit.entropy(four_bit.occupancy(block_codes)):.2f}"])
Table(["block of", "bits used of 4"], rows, "What NF4's codes carry")

# %% [markdown]
# That is why "information-theoretically optimal" ([guide 001](../guides.md#guide-001), after the paper's
# abstract) is imprecise: what arrives at the levels depends on the block size, so no one codebook can be
# optimal for all (Yoshida 2023, arXiv 2306.06965).

# %% [markdown]
# ## NF4 against the others
#
# The competitors:
#
# - *INT4 -7..7* and *-8..7*: even steps, one scale a block. The first wastes one of its 16 codes on
#   symmetry.
# - *INT4 min-max*: 16 even steps from the block's least to its largest weight, so a second constant a
#   block.
# - *Lloyd-Max*: the levels of least error, fitted to these very weights. Nobody can do better with
#   absmax as the scale.
# - *FP4*: a tiny floating-point number. And here you have to ask *which*.
#
# [FP4](../glossary.md#fp4) by hand: one bit is the sign, two are the exponent $e$, one is the mantissa $m$.
# The standard form, E2M1, means $2^{e-1}(1 + m/2)$, and $m/2$ for $e = 0$: that makes 0, 0.5, 1, 1.5, 2, 3,
# 4, 6. The library's FP4 looks like it, until you print its table:

# %% tags=["core"]
standard, library = (four_bit.levels(name)[7:] for name in four_bit.FP4)
theirs = bnb_functional.get_4bit_type("fp4", device="cpu")[:8].sort().values
assert torch.allclose(theirs, library)
pairs = zip(standard.tolist(), library.tolist(), strict=True)
rows = [[f"{6 * a:g}", f"{a:.4f}", f"{b:.4f}"] for a, b in pairs]
headings = ["E2M1", "E2M1 over 6", "bitsandbytes' FP4"]
Table(headings, rows, "Two formats that are both called FP4: magnitudes, over the largest")

# %% [markdown]
# Seven of eight agree. The smallest is 1/12 in the standard and 1/192 in bitsandbytes, so near to 0 that it
# is as good as a second zero. Does one level matter?
#
# > **Guide 002 says** of normally distributed weights, with INT4 spaced -8 to 7: "NF4 produces ~2x lower
# > quantization error than INT4".

# %% [markdown]
# > **Predict.** What is INT4's error (-8..7) divided by NF4's, in blocks of 64?

# %% tags=["core"]
guess = None  # your guess: INT4's error divided by NF4's


# %% tags=["core"]
def compare_formats(weight: torch.Tensor, size: int) -> dict[str, float]:
    """Relative squared error of each format."""
    blocks = weight.view(-1, size)
    restored = {name: four_bit.round_trip(blocks, name)[1] for name in four_bit.ALL_FORMATS}
    return {name: four_bit.relative_error(blocks, found) for name, found in restored.items()}


errors = compare_formats(weight, 64)
predictions.compare(guess, errors["INT4 -8..7"] / errors["NF4"])

# %% tags=["core", "claim-D3"]
sizes = (32, 64, 256, 4096)
heavy = four_bit.random_weights("Student t5", 2**20)  # heavy tails: a few weights far out
table = {}
for kind, some in (("Gaussian", weight), ("Student t5", heavy)):
    table[kind] = {size: compare_formats(some, size) for size in sizes}
    rows = []
    for name in four_bit.ALL_FORMATS:
        found = [f"{100 * table[kind][size][name]:.3g}" for size in sizes]
        rows.append([name, *found, f"{table[kind][64][name] / table[kind][64]['NF4']:.2f}"])
    headings = ["format", *(f"blocks of {size}" for size in sizes), "at 64, NF4 = 1"]
    display(Table(headings, rows, f"Relative squared error in %, {kind} weights"))

# %% [markdown]
# At the block size that everybody uses, and which the guide names, INT4 -8..7 has 1.17 times NF4's error
# and not twice: *wrong* there. It gets to 2 only with both heavy tails and blocks of 4096.
#
# And the one level? E2M1 has 1.12 % and bitsandbytes' FP4 1.49 %: a third more. A comparison "NF4 against
# FP4" therefore says little until you know whose FP4 it was. The same table as a picture, as the
# *difference* from NF4:

# %% tags=["core"]
plots.show(
    figures.errors_beside_nf4(table),
    "Two panels, normal and heavy-tailed weights; a row for each format, a mark for each block size, at "
    "how much more squared error than NF4 it has. Lloyd-Max lies left of zero, and so does INT4 min-max "
    "in small blocks. The INT4s and bitsandbytes' FP4 move right with larger blocks, up to 190 %; "
    "standard FP4 moves left, to zero.",
)

# %% [markdown]
# The larger the block, the worse for INT4, and the *better* for standard FP4: its levels get finer towards
# 0 by factors, which suits a block that is stretched far out. With heavy tails and blocks of 4096 it passes
# NF4.
#
# Some marks left of zero are a surprise, too: in blocks of 64, plain min-max INT4 *beats* NF4 on normal
# weights. But it stores a second constant a block. Give NF4 the same storage, that is, blocks of half the
# size:

# %% tags=["core"]
small = table["Gaussian"][32]["NF4"]
assert four_bit.bits_a_weight("NF4", 32) == four_bit.bits_a_weight("INT4 min-max", 64)
print(f"{four_bit.bits_a_weight('NF4', 32):.3f} bits a weight, both:")
print(f"  NF4, blocks of 32          {100 * small:.2f} %")
print(f"  INT4 min-max, blocks of 64 {100 * errors['INT4 min-max']:.2f} %")
assert small < errors["INT4 min-max"]

# %% [markdown]
# Errors compare only at equal bits. And these are errors of weights: what a *model* loses is another
# question. The paper's table 2 gives mean perplexities, INT4 34.34, FP4 (E2M1) 31.07, NF4 with double
# quantisation 27.41.
#
# ## One outlier
#
# Now the other side of the tug-of-war. Put one weight of 40 sigma, an [outlier](../glossary.md#outlier),
# among 63 normal ones. The block's absmax is 40 now, and the levels beside 0 stand at -0.091 and 0.080 of
# it: at -3.6 and 3.2 sigma.
#
# > **Predict.** How many of the other 63 weights come back as exactly 0?

# %% tags=["core"]
guess = None  # your guess, 0 to 63

# %% tags=["core"]
block = four_bit.random_weights("Gaussian", 64)
block[7] = 40
outlier_codes, _ = quantize_to(block.view(1, 64), codebook, 64)
zeros = (outlier_codes == 7).sum().item()  # code 7 is the level 0
predictions.compare(guess, zeros)
print("codes:", outlier_codes.tolist())

# %% [markdown]
# Nearly the whole block is wiped out. A smaller outlier does the same by degrees. Averaged over 16,384
# blocks, with the error that of the 63 others:

# %% tags=["core"]
rows = []
for outlier in (0, 5, 10, 20, 40):
    blocks = weight.reshape(-1, 64).clone()
    if outlier:
        blocks[:, 7] = outlier
    block_codes, back, _ = four_bit.round_trip(blocks, "NF4")
    others = torch.arange(64) != 7
    wiped = 63 * (block_codes[:, others] == 7).double().mean().item()
    lost = four_bit.relative_error(blocks[:, others], back[:, others])
    rows.append([f"{outlier} sigma" if outlier else "none", f"{wiped:.1f}", f"{100 * lost:.3g}"])
Table(["outlier", "of 63 become 0", "their error (%)"], rows, "What one outlier does to its block")

# %% [markdown]
# The block is lost and its neighbours are untouched: that is what small blocks are for. The exact 0 helps,
# too. Min-max INT4 has none and would move all 63 weights off by up to half a step of 2.7 sigma.
#
# ## The scales cost, too: double quantisation
#
# A float32 for every 64 weights is 32 / 64 = half a bit a weight. On a 65B model that is 4 GB for scales
# alone. So QLoRA treats the scales as it treated the weights: [quantise
# them](../glossary.md#double-quantisation), this time to 8 bits.
#
# Scales are all positive and much alike, around 2.6 sigma, so first their mean is taken off. By hand, for a
# group of four: 2.4, 2.6, 2.9, 2.5 have the mean 2.6. Take it off: -0.2, 0, 0.3, -0.1. Divide by the
# largest magnitude, 0.3: -0.67, 0, 1, -0.33. Store the nearest of 256 levels for each (one byte), 0.3 once
# for the group, and 2.6 once for the whole matrix.
#
# The 256 levels are a *dynamic* code (Dettmers 2016, arXiv 1511.04561): seven decades of 0.1 each, finer
# steps in each larger one.

# %% tags=["core"]
dynamic = nf4.dynamic_levels()
print(len(dynamic), "levels; around 0:", [f"{value:.1e}" for value in dynamic[124:131].tolist()])
print("at the end:", [round(value, 3) for value in dynamic[-4:].tolist()])

# %% [markdown]
# ### Exercise 3: quantise the scales
#
# > **15 minutes · ●●○**
# >
# > Return three tensors: a code for each scale (n,), the largest magnitude of each group (float32), and the
# > mean of all scales (a tensor of shape ()).
# >
# > - Take the mean of all of `absmax` off first. Leave `absmax` itself as it is.
# > - Then go in groups of `group` scales along `absmax`. The last group may be shorter.
# > - `levels` are ascending, between -1 and 1.
# >
# > `[2.4, 2.6, 2.9, 2.5]` in one group of 4 with the levels `[-1, -0.5, 0, 0.5, 1]` gives the codes 1, 2,
# > 4, 1, the largest magnitude 0.3 and the mean 2.6.


# %% tags=["core"]
def quantize_scales(
    absmax: torch.Tensor, levels: torch.Tensor, group: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    ### BEGIN SOLUTION
    mean = absmax.mean()
    thresholds = (levels[:-1] + levels[1:]) / 2
    codes, largest = [], []
    for part in (absmax - mean).split(group):
        largest.append(part.abs().max())
        codes.append(torch.bucketize(part / largest[-1], thresholds))
    return torch.cat(codes).to(torch.uint8), torch.stack(largest), mean
    ### END SOLUTION


exercises.quantize_scales.check(quantize_scales)

# %% [markdown]
# Compare with the library, and count bytes:

# %% tags=["core", "claim-D6"]
# exercises.quantize_scales.hint()
quantize_scales_to = exercises.quantize_scales.or_reference(quantize_scales)
scale_codes, largest, mean = quantize_scales_to(absmax, dynamic, 256)
_, nested = bnb_functional.quantize_4bit(weight, quant_type="nf4", compress_statistics=True)
different = (scale_codes != nested.absmax).sum().item()
print(f"{different} of {len(scale_codes):,} codes differ from the library's")
before = state.absmax.nbytes
after = nested.absmax.nbytes + nested.state2.absmax.nbytes
saved = 8 * (before - after) / weight.numel()
print(f"{before:,} bytes of scales become {after:,}: {saved} bits a weight saved")
assert saved == 32 / 64 - (8 / 64 + 32 / (64 * 256))

# %% [markdown]
# If a few codes differ, nothing is wrong with yours: they are the nearest. The library's C++ code first
# rounds to one of 65,536 steps and looks the code up in a table, which misses the nearest level for one or
# two scales in a thousand.
#
# By formula: $\frac{32}{64}$ bits become $\frac{8}{64} + \frac{32}{64 \cdot 256}$, that is 0.5 become
# 0.127. "0.37 bits per parameter" (guides [001](../guides.md#guide-001) and [002](../guides.md#guide-002))
# *holds*: it is 0.373. What does it cost?

# %% tags=["core"]
scales = dynamic[scale_codes.int()] * largest.repeat_interleave(256)[: len(absmax)] + mean
double = restore(packed, scales, codebook).view(weight.shape)
growth = four_bit.relative_error(weight, double) / error - 1
print(f"the squared error grows by {100 * growth:.1g} %")
assert 0 < growth < 0.01

# %% [markdown]
# Almost nothing. The scales of a matrix are so alike that 8 bits are plenty.
#
# ## Equal, byte for byte
#
# `nf4.quantize` is the course's version of all you have written, with the library's habits. Random shapes,
# block sizes and dtypes, every byte:

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
# `labsupport/models/nf4.py` says where each bit comes from.
#
# ## Optional: what can go wrong
#
# > **Optional · 5 minutes.** Nothing later needs this section.
#
# Weights that cannot be quantised are told so here. The library takes NaN without a word and returns a
# block of NaN.

# %% tags=["optional"]
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
# Blocks run along the flattened weight, so one may straddle two rows. That is allowed, and quantising
# handles it. But on a CPU with AVX-512, bitsandbytes 0.50.2 *restores* such rows with the wrong scales:

# %% tags=["optional", "nbval-ignore-output"]
odd = four_bit.random_weights("Gaussian", 64 * 96).view(64, 96) * torch.linspace(1, 5, 64)[:, None]
codes_4bit, s = bnb_functional.quantize_4bit(odd, quant_type="nf4", blocksize=64)
print("this CPU:", torch.backends.cpu.get_cpu_capability())
ours, library = nf4.dequantize(nf4.quantize(odd, 64, False)), bnb_functional.dequantize_4bit(codes_4bit, s)
print(f"error, ours:    {100 * four_bit.relative_error(odd, ours):.2f} %")
print(f"error, library: {100 * four_bit.relative_error(odd, library):.2f} %")
claims.expect("ours restores rows that are not whole blocks", four_bit.relative_error(odd, ours) < 0.01)

# %% [markdown]
# > **Careful.** No warning comes. Use a block size that divides the row length; with 64 that holds for
# > every model of this course.

# %% [markdown]
# ## Training through a frozen layer
#
# QLoRA trains adapters *through* frozen 4-bit layers. What must such a layer keep from the forward pass for
# the backward pass? That is the question that decides memory, so do it by hand once.
#
# A layer with two inputs and one output: $W = (2, -1)$, input $x = (3, 1)$, so
# $y = 2 \cdot 3 - 1 \cdot 1 = 5$. Backward comes the slope of the loss with respect to $y$; say it is
# $g = 1$. There are two questions to answer with it:
#
# - How does the loss change with $x$? By $g\,W = (2, -1)$. The earlier layers need this. It contains $W$,
#   and *not* $x$.
# - How does the loss change with $W$? By $g\,x = (3, 1)$. Only a layer that is trained needs this. It
#   contains $x$.
#
# In matrices, with rows of $x$ as tokens, $y = xW^\top$ and $g = \partial L / \partial y$:
#
# $$\frac{\partial L}{\partial x} = g\,W \qquad\qquad \frac{\partial L}{\partial W} = g^\top x$$
#
# A frozen layer skips the second, so it keeps no input at all. It needs $W$ once more, and $W$ can be
# restored from its 4 bits a second time. The adapter beside it *is* trained: its $A$ is a layer of the same
# input, and for it $x$ must be kept. So the input stays in memory after all, because of the adapter.
#
# ### Exercise 4: the backward pass
#
# > **15 minutes · ●●○**
# >
# > Return the gradient with respect to the layer's input, a tensor of shape (rows, in).
# >
# > - `grad_output` is (rows, out), float32; $W$ is (out, in) and need not be square.
# > - `packed` are its codes, two in a byte, `absmax` its scales, `levels` the codebook. The block size is
# >   what follows from their lengths.
# >
# > You may use `restore` from above.


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


def frozen_4bit(x: torch.Tensor) -> torch.Tensor:
    return Linear4bit.apply(x, mine.packed, mine.absmax, W.shape)


# %% tags=["core"]
x = four_bit.random_weights("Gaussian", 8 * 256, seed=2).view(8, 256)  # 8 tokens
results = []
for function in (frozen_4bit, layer):
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
# What does autograd really keep between forward and backward? PyTorch lets you watch:


# %% tags=["core", "claim-E13"]
def kept_for_backward(function) -> list[torch.Tensor]:
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        function(x.clone().requires_grad_())
    return kept


A = torch.randn(16, 256, requires_grad=True)
B = torch.zeros(128, 16, requires_grad=True)
cases = {
    "W in float32, trained": lambda x: F.linear(x, W.clone().requires_grad_()),
    "W in float32, frozen": lambda x: F.linear(x, W),
    "W in 4 bits, frozen": frozen_4bit,
    "LoRA on float32": lambda x: F.linear(x, W) + F.linear(F.linear(x, A), B),
    "LoRA on 4 bits": lambda x: frozen_4bit(x) + F.linear(F.linear(x, A), B),
}
rows = []
for name, function in cases.items():
    kept = kept_for_backward(function)
    of_tokens = sum(t.nbytes for t in kept if len(t) == len(x))  # what has a row for each token
    rows.append([name, sum(t.nbytes for t in kept) - of_tokens, of_tokens])
Table(["layer", "weights (bytes)", "activations (bytes)"], rows, "Kept from forward to backward, 8 tokens")

# %% [markdown]
# Read the last column. A frozen layer keeps nothing of its 8 tokens, in whatever format its weights are.
# LoRA keeps $x$ (8 x 256 x 4 = 8,192 bytes) and $xA^\top$ (8 x 16 x 4 = 512), and *the same* on float32 and
# on 4 bits. The first column is weights, which are in memory anyway; there 4 bits save.
#
# > **Guide 002 says**, in its table for LLaMA-7B: activations "~12 GB" with LoRA, "~6 GB" with QLoRA.
#
# *Wrong*: the format of the weights appears nowhere in what is kept of the tokens, at 7B as little as here.
# What halves activations is a smaller batch, or [checkpointing](../glossary.md#checkpointing).
#
# ## A whole model
#
# > **Guide 001 says** that NF4 "cuts the memory footprint of the frozen model by roughly 4x compared to
# > bfloat16".

# %% [markdown]
# > **Predict.** How many times smaller than in bf16 does this course's model of 135M parameters get?

# %% tags=["core"]
guess = None  # your guess: how many times smaller

# %% [markdown]
# This is how one loads a model in NF4. Name all three settings below the first: a bare `load_in_4bit=True`
# is bitsandbytes' FP4, without double quantisation, computing in float32.

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


# %% [markdown]
# ### Exercise 5: a model's bytes
#
# > **15 minutes · ●●○**
# >
# > Return how many bytes a model takes whose `matrices`, a list of shapes (out, in), are in NF4, while
# > `kept` other weights stay in 16 bits.
# >
# > - Codes: half a byte a weight. Every matrix is a whole number of blocks of `blocksize` weights.
# > - Scales, with `double=False`: a float32 a block. With `double=True`: a byte a block, and a float32 for
# >   every 256 blocks or part of 256.
# > - Tables: with every matrix the library stores the 16 levels, 64 bytes; with `double=True` also the 256
# >   levels of the scales and their mean, 1,028 bytes.
# >
# > One matrix (96, 64) in blocks of 64, nothing kept: 3,072 + 96 x 4 + 64 = 3,520 bytes, and with double
# > 3,072 + 96 + 4 + 64 + 1,028 = 4,264. (On a matrix that small, double quantisation costs more than it
# > saves!)


# %% tags=["core"]
def model_bytes(matrices: list[tuple[int, int]], kept: int, blocksize: int, double: bool) -> int:
    ### BEGIN SOLUTION
    total = 2 * kept
    for rows, columns in matrices:
        blocks = rows * columns // blocksize
        scales = blocks + 4 * -(-blocks // 256) if double else 4 * blocks  # -(-a // b) rounds up
        total += rows * columns // 2 + scales + 64 + (1028 if double else 0)
    return total
    ### END SOLUTION


exercises.model_bytes.check(model_bytes)

# %% [markdown]
# Count what the loaded model really holds, and set your number beside it:


# %% tags=["core"]
# exercises.model_bytes.hint()
bytes_of = exercises.model_bytes.or_reference(model_bytes)
held = sum(p.nbytes for p in model.parameters())  # tied weights count once
for each in model.modules():
    if isinstance(each, bnb.nn.Linear4bit):
        s = each.weight.quant_state
        held += sum(t.nbytes for t in (s.absmax, s.code, s.offset, s.state2.absmax, s.state2.code))
matrices = nf4.linear_shapes(model_configs.find("smollm2-135m"))
kept = sum(p.numel() for p in model.parameters() if p.dtype != torch.uint8)
print(f"{held:,} bytes held, {bytes_of(matrices, kept, 64, True):,} by your count")
assert held == bytes_of(matrices, kept, 64, True)

# %% tags=["core"]
in_bf16 = 2 * (sum(rows * columns for rows, columns in matrices) + kept)
predictions.compare(guess, in_bf16 / held)

# %% [markdown]
# Equal to the byte, and far from 4. Only the matrices inside the layers are quantised.
# [Embeddings](../glossary.md#embedding), output head and norms stay in 16 bits, and in a small model with a
# large [vocabulary](../glossary.md#vocabulary) they are half of what remains. At the sizes of which the
# guide speaks:

# %% tags=["core", "claim-D9"]
rows = []
for name in ("smollm2-135m", "llama-3.1-8b", "llama-2-7b", "mistral-7b-v0.3", "llama-3-70b"):
    counted = nf4.model_bytes(model_configs.find(name))
    gb = [f"{counted[key] / 1e9:.3g}" for key in ("bf16", "nf4", "kept")]
    rows.append([name, *gb, f"{counted['bf16'] / counted['nf4']:.2f}"])
headings = ["model", "bf16 (GB)", "NF4 (GB)", "of it kept in 16 bits (GB)", "times smaller"]
Table(headings, rows, "Weights in bf16 and in NF4 with double quantisation, in 10^9 bytes")

# %% [markdown]
# *Imprecise* at 7B and 70B, where it is 3.5, and further off for Llama-3.1-8B with its 128,256 tokens: 2.8.
# It would not even be 4 without embeddings: with its scales NF4 takes 4.127 bits, and 16 / 4.127 is 3.88.
# Plan with the table, not with the 4.
#
# ## Why not measure on this model's weights?
#
# All errors above are of random weights. There is a real model in memory: why not use its weights? Look at
# one stretch of 32 of them.

# %% tags=["core"]
with safe_open(f"{folder}/model.safetensors", framework="pt") as file:
    real = file.get_tensor("model.layers.10.mlp.down_proj.weight").float()
distinct = [len(piece.unique()) for piece in real.view(-1, 32)]
mean = sum(distinct) / len(distinct)
print(f"distinct values in 32 neighbours: at most {max(distinct)}, {mean:.1f} on average")
print("in 32 normal weights:", len(weight.view(-1, 32)[0].unique()))

# %% tags=["core"]
on_real, on_random = compare_formats(real, 32), table["Gaussian"][32]
rows = [[name, f"{100 * on_real[name]:.2f}", f"{100 * on_random[name]:.2f}"] for name in four_bit.ALL_FORMATS]
assert on_real["INT4 min-max"] < 0.01 * on_random["INT4 min-max"]
Table(["format", "this model (%)", "normal weights (%)"], rows, "Relative squared error, blocks of 32")

# %% [markdown]
# Never more than 16 different values: somebody was here before you. The model came as a Q4_1 file, 16 even
# steps from the least to the largest of 32 neighbours, which is min-max INT4. Quantise it that way again
# and nothing is lost; on these weights a format is as good as it resembles Q4_1. That NF4 comes out near
# its value on normal weights is no comfort, since the ranking is worthless. Before you measure a quantiser,
# ask where the weights come from.
#
# ## Try it
#
# Change the format, the block size, the tails; add outliers (the error is that of all *other* weights). Can
# you find a setting where standard FP4 beats NF4?

# %% tags=["core"]
quantiser_explorer.explore()

# %% [markdown]
# ## Checkpoint

# %% tags=["core"]
quiz.ask("04_nf4_quantization")

# %% [markdown]
# ## On a rented GPU
#
# Written for L4 and A10, not yet run there. Bytes, codes and sizes are the same there, and nothing of this
# is worth a paid minute but one thing: the errors on the original bfloat16 weights of a 7B model. Expect
# them near the columns of normal weights, with heavier tails in some layers. All that the guides claim,
# with what was measured: `python3 lab.py claims`.
