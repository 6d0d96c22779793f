# %%
# Does nothing after `lab.py start`. In a bare kernel, such as Colab's, it installs the course's packages.
import importlib.util, pathlib, runpy, sys

if importlib.util.find_spec("labsupport") is None:
    here = pathlib.Path.cwd()
    folders = [here, *here.parents, *here.glob("*/")]
    found = [f for p in folders if (f := p / "labsupport" / "elsewhere.py").exists()]
    if not found:
        sys.exit(f"No folder labsupport/ in, above or below {here}: clone the course's repository there.")
    runpy.run_path(str(found[0]), run_name="__main__")

# %%
from labsupport import upstream

upstream.quiet_known_noise()  # messages about this stack that you can do nothing about
upstream.guard_4bit_on_cpu()  # a fault of bitsandbytes on some processors: guard before building a model

# %%
import bitsandbytes as bnb
import bitsandbytes.functional as bnb_functional
import torch
import torch.nn.functional as F
from safetensors import safe_open
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from labsupport import base_model, model_configs, nf4, plots, predictions, profiles
from labsupport.exercises import nf4_quantization as exercises
from labsupport.explorers import quantiser
from labsupport.files import LabError

# %%
profile = profiles.current()
torch.set_num_threads(profile.threads)
print("profile:", profile.name, "| bitsandbytes", bnb.__version__)

# %%
def levels(offset: float) -> torch.Tensor:
    raise NotImplementedError  # your code here


exercises.levels.check(levels)

# %%
# exercises.levels.hint()
codebook = exercises.levels.or_reference(levels)(nf4.OFFSET)
print([round(value, 4) for value in codebook.tolist()])

# %%
theirs = bnb_functional.get_4bit_type("nf4", device="cpu")
print("largest difference below 1e-6:", (codebook - theirs).abs().max().item() < 1e-6)
assert torch.equal(nf4.levels(), theirs)  # the course's own, to the last bit
codebook = theirs  # from here on every bit counts

# %%
def quantize(weight: torch.Tensor, levels: torch.Tensor, blocksize: int) -> tuple[torch.Tensor, torch.Tensor]:
    raise NotImplementedError  # your code here


exercises.quantize.check(quantize)

# %%
# exercises.quantize.hint()
quantize_to = exercises.quantize.or_reference(quantize)
weight = nf4.sample("Gaussian", 2**20).view(1024, 1024)  # a million normal random numbers
codes, absmax = quantize_to(weight, codebook, 64)
print("codes", tuple(codes.shape), codes.dtype, codes[:8].tolist())
print("absmax", tuple(absmax.shape), absmax.dtype, "mean", round(absmax.mean().item(), 2))

# %%
def pack(codes: torch.Tensor) -> torch.Tensor:
    raise NotImplementedError  # your code here


exercises.pack.check(pack)

# %%
# exercises.pack.hint()
pack_codes = exercises.pack.or_reference(pack)
packed = pack_codes(codes).to(torch.uint8)
library_bytes, state = bnb_functional.quantize_4bit(weight, quant_type="nf4", blocksize=64)
print("bytes equal to the library's:", torch.equal(packed, library_bytes.flatten()))
print("absmax equal:", torch.equal(absmax, state.absmax))
assert torch.equal(packed, library_bytes.flatten()) and torch.equal(absmax, state.absmax)

# %%
def restore(packed: torch.Tensor, absmax: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    codes = torch.stack([packed >> 4, packed & 15], 1).flatten()
    return (levels[codes.int()].view(len(absmax), -1) * absmax[:, None]).flatten()


restored = restore(packed, absmax, codebook).view(weight.shape)
assert torch.equal(restored, bnb_functional.dequantize_4bit(library_bytes, state))

# %%
guess = None  # your guess, in percent

# %%
error = nf4.relative_error(weight, restored)
predictions.compare(guess, 100 * error, unit="%")
print(f"a typical weight is off by {100 * error**0.5:.1f} % of the weights' standard deviation")

# %%
guess = None  # your guess, in percent

# %%
shares = nf4.occupancy(codes)
predictions.compare(guess, 100 * shares.max().item(), unit="%")
print(f"the emptiest level holds {100 * shares.min():.2f} %")
print(f"entropy of the codes: {nf4.entropy(shares):.2f} of 4 bits")

# %%
best = nf4.lloyd_max(weight.view(-1, 64))  # the levels with the least squared error
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

# %%
for size in (32, 64, 256, 1024, 4096):
    used = nf4.entropy(nf4.occupancy(nf4.quantize_blocks(weight, codebook, size)[0]))
    print(f"blocks of {size:4d}: {used:.2f} of 4 bits used")

# %%
guess = None  # your guess: INT4's error divided by NF4's

# %%
def compare_formats(weight: torch.Tensor, size: int) -> dict[str, float]:
    """Relative squared error of each format."""
    blocks = weight.view(-1, size)
    return {name: nf4.relative_error(blocks, nf4.coded(blocks, name)[1]) for name in nf4.FORMATS}


errors = compare_formats(weight, 64)
predictions.compare(guess, errors["INT4 -8..7"] / errors["NF4"])

# %%
sizes = (32, 64, 256, 1024, 4096)
heavy = nf4.sample("Student t5", 2**20)  # heavy tails: a few weights far out
table = {
    kind: {size: compare_formats(w, size) for size in sizes}
    for kind, w in (("Gaussian", weight), ("Student t5", heavy))
}
for kind, by_size in table.items():
    print(f"{kind}: error in %, by block size\n{'':14s}", *(f"{size:7d}" for size in sizes))
    for name in nf4.FORMATS:
        print(f"  {name:12s}", *(f"{100 * by_size[size][name]:7.2f}" for size in sizes))

# %%
fig, panels = plots.figure(columns=2)
colours = (plots.BLUE, plots.GREY, plots.GREY, plots.ORANGE, plots.PURPLE, plots.GREEN)
for axes, (kind, by_size) in zip(panels, table.items(), strict=True):
    for name, colour in zip(nf4.FORMATS, colours, strict=True):
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

# %%
small = table["Gaussian"][32]["NF4"]
assert nf4.format_bits("NF4", 32) == nf4.format_bits("INT4 min-max", 64)
print(f"{nf4.format_bits('NF4', 32):.3f} bits a weight, both:")
print(f"  NF4, blocks of 32          {100 * small:.2f} %")
print(f"  INT4 min-max, blocks of 64 {100 * errors['INT4 min-max']:.2f} %")
assert small < errors["INT4 min-max"]

# %%
guess = None  # your guess, 0 to 63

# %%
block = nf4.sample("Gaussian", 64)
block[7] = 40
outlier_codes, _ = quantize_to(block, codebook, 64)
zeros = (outlier_codes == 7).sum().item()  # code 7 is the level 0
predictions.compare(guess, zeros)
print("codes:", outlier_codes.tolist())

# %%
def scale_bits(blocksize: int, double: bool) -> float:
    raise NotImplementedError  # your code here


exercises.scale_bits.check(scale_bits)

# %%
# exercises.scale_bits.hint()
bits_of_scales = exercises.scale_bits.or_reference(scale_bits)
print(f"{bits_of_scales(64, False)} bits become {bits_of_scales(64, True)}")
print(f"saved: {bits_of_scales(64, False) - bits_of_scales(64, True)} bits a weight")

# %%
_, nested = bnb_functional.quantize_4bit(weight, quant_type="nf4", compress_statistics=True)
before = state.absmax.nbytes
after = nested.absmax.nbytes + nested.state2.absmax.nbytes
print(f"{before:,} bytes of scales become {after:,}: {8 * (before - after) / weight.numel()} bits a weight")
assert 8 * (before - after) / weight.numel() == 0.373046875

# %%
double = nf4.dequantize(nf4.quantize(weight, 64, double=True))
growth = nf4.relative_error(weight, double) / error - 1
print(f"the squared error grows by {100 * growth:.1g} %")
assert 0 < growth < 0.01

# %%
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

# %%
for bad, size in (
    (torch.randn(64, 64), 48),
    (torch.randn(3, 33), 64),
    (torch.tensor([float("nan")] * 2 + [0.1] * 62), 64),
):
    try:
        nf4.quantize(bad, size)
    except LabError as problem:
        print(problem)

# %%
odd = nf4.sample("Gaussian", 64 * 96).view(64, 96) * torch.linspace(1, 5, 64)[:, None]
codes_4bit, s = bnb_functional.quantize_4bit(odd, quant_type="nf4", blocksize=64)
print("this CPU:", torch.backends.cpu.get_cpu_capability())
print(f"error, ours:    {100 * nf4.relative_error(odd, nf4.dequantize(nf4.quantize(odd, 64, False))):.2f} %")
print(f"error, library: {100 * nf4.relative_error(odd, bnb_functional.dequantize_4bit(codes_4bit, s)):.2f} %")

# %%
def input_gradient(
    grad_output: torch.Tensor, packed: torch.Tensor, absmax: torch.Tensor, levels: torch.Tensor
) -> torch.Tensor:
    raise NotImplementedError  # your code here


exercises.input_gradient.check(input_gradient)

# %%
# exercises.input_gradient.hint()
gradient_of = exercises.input_gradient.or_reference(input_gradient)

# %%
class Linear4bit(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, packed, absmax, shape):
        ctx.save_for_backward(packed, absmax)  # all that is kept
        return F.linear(x, restore(packed, absmax, codebook).view(shape))

    @staticmethod
    def backward(ctx, grad_output):
        packed, absmax = ctx.saved_tensors
        return gradient_of(grad_output, packed, absmax, codebook), None, None, None

# %%
W = nf4.sample("Gaussian", 128 * 256, seed=1).view(128, 256)
mine = nf4.quantize(W, 64, double=False)
layer = bnb.nn.Linear4bit(256, 128, bias=False, quant_type="nf4")
layer.weight = bnb.nn.Params4bit(W, requires_grad=False, quant_type="nf4", compress_statistics=False)
layer = layer.to("cpu")  # this quantises

# %%
x = nf4.sample("Gaussian", 8 * 256, seed=2).view(8, 256)
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

# %%
def kept_bytes(function) -> int:
    kept = []
    watch = torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.nbytes) or t, lambda t: t)
    with watch:
        function(x.clone().requires_grad_())
    return sum(kept)


four_bit = kept_bytes(lambda x: Linear4bit.apply(x, mine.packed, mine.absmax, W.shape))
dense = kept_bytes(lambda x: F.linear(x, W))
print(f"{four_bit:,} bytes for the 4-bit layer, {dense:,} for the float32 one")
assert four_bit == W.numel() // 2 + 4 * W.numel() // 64

# %%
guess = None  # your guess: how many times smaller

# %%
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

# %%
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

# %%
print(f"{'':16s} {'bf16, GB':>9s} {'NF4, GB':>9s} {'kept, GB':>9s} {'times smaller':>14s}")
for name in ("smollm2-135m", "llama-3.1-8b", "llama-2-7b", "mistral-7b-v0.3", "llama-3-70b"):
    sizes_of = nf4.model_bytes(model_configs.find(name))
    gb = [f"{sizes_of[key] / 1e9:9.3g}" for key in ("bf16", "nf4", "kept")]
    print(f"{name:16s}", *gb, f"{sizes_of['bf16'] / sizes_of['nf4']:14.2f}")

# %%
with safe_open(f"{folder}/model.safetensors", framework="pt") as file:
    real = file.get_tensor("model.layers.10.mlp.down_proj.weight").float()
distinct = [len(piece.unique()) for piece in real.view(-1, 32)]
mean = sum(distinct) / len(distinct)
print(f"distinct values in 32 neighbours: at most {max(distinct)}, {mean:.1f} on average")
print("in 32 Gaussian weights:", len(weight.view(-1, 32)[0].unique()))

# %%
on_real, on_random = compare_formats(real, 32), table["Gaussian"][32]
for name in nf4.FORMATS:
    print(f"{name:12s} {100 * on_real[name]:.2f} % on this model, {100 * on_random[name]:.2f} % on Gaussian")
assert on_real["INT4 min-max"] < 0.01 * on_random["INT4 min-max"]

# %%
quantiser.explore()

# %%
print("NF4 has about half the error of INT4 (guide 002): wrong.")
ratios = [
    f"{name} {errors[name] / errors['NF4']:.2f}" for name in ("INT4 -8..7", "INT4 -7..7", "INT4 min-max")
]
print("   Squared error, NF4 = 1, blocks of 64:", ", ".join(ratios))

# %%
print("NF4 has 16 equally likely intervals, each with its best value (guide 002): wrong.")
print(f"   A level holds {100 * shares.min():.2f} to {100 * shares.max():.2f} % of the weights;")
print(f"   the best levels have {errors['Lloyd-Max'] / errors['NF4']:.2f} of its error.")

# %%
print("NF4 makes the frozen model about 4 times smaller (guide 001): imprecise.")
print(f"   This model {counted['bf16'] / held:.2f} times; Llama-3.1-8B and Llama-2-7B in the table above.")

# %%
print("Double quantisation saves 0.37 bits a weight (guides 001, 002): holds.")
print(f"   {8 * (before - after) / weight.numel()} bits, counted in the library's tensors.")

# %%
print("QLoRA halves the activations (guide 002): wrong.")
print(f"   The output of the 4-bit layer is {output.dtype}, as without: {output.nbytes:,} bytes both ways.")

# %%
from labsupport import checkpoints

checkpoints.ask("04_nf4_quantization")
