"""labsupport/models/nf4.py is bitsandbytes byte for byte; its counts and comparisons are what they say."""

import json
import math
import re

import bitsandbytes as bnb
import bitsandbytes.functional as bnb_functional
import pytest
import torch

from labsupport.core import upstream
from labsupport.core.files import LabError
from labsupport.evaluation import four_bit
from labsupport.models import base_model, nf4

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
CASES = [(size, seed) for size in nf4.BLOCK_SIZES for seed in range(6)]

SMOLLM2 = {
    "model_type": "llama",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
    "tie_word_embeddings": True,
}


@pytest.fixture(autouse=True)
def eager():
    """bitsandbytes compiles its own fallback for large blocks, which takes longer than everything here."""
    with torch.compiler.set_stance("force_eager"):
        yield


def random_weight(blocksize: int, seed: int) -> torch.Tensor:
    """A weight of random shape, scale, tails and dtype, whose rows are whole blocks."""
    random = torch.Generator().manual_seed(1000 * blocksize + seed)
    rows, blocks = (int(torch.randint(1, n, (1,), generator=random)) for n in (24, 9))
    kind = ("Gaussian", "Student t5")[seed % 2]
    weight = four_bit.random_weights(kind, rows * blocks * blocksize, seed).view(rows, -1)
    weight *= torch.rand(rows, 1, generator=random) * 10.0 ** (seed - 3)
    if seed == 4:
        weight[0] = 0  # whole blocks of zeros
    return weight.to(DTYPES[seed % 3])


def bnb_quantize(weight: torch.Tensor, blocksize: int, double: bool):
    return bnb_functional.quantize_4bit(
        weight, quant_type="nf4", blocksize=blocksize, compress_statistics=double
    )


# ---------------------------------------------------------------- equality with bitsandbytes


def test_the_codebook_is_bit_equal_and_only_with_these_quantiles():
    library = bnb_functional.get_4bit_type("nf4", device="cpu")
    assert torch.equal(nf4.levels(), library)
    assert nf4.levels().unique().numel() == 16
    assert not torch.equal(nf4.levels(0.968), library)
    assert abs((1 - 1 / 32 + 1 - 1 / 30) / 2 - nf4.OFFSET) < 1e-7


def test_the_levels_of_the_scales_are_bit_equal():
    assert torch.equal(nf4.dynamic_levels(), bnb_functional.create_dynamic_map())


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize(("blocksize", "seed"), CASES)
def test_codes_scales_and_restored_weights_are_equal(blocksize, seed, double):
    weight = random_weight(blocksize, seed)
    packed, state = bnb_quantize(weight, blocksize, double)
    ours = nf4.quantize(weight, blocksize, double)
    assert torch.equal(ours.packed, packed.flatten())
    assert (ours.blocksize, ours.shape) == (state.blocksize, weight.shape)
    assert ours.absmax.dtype == state.absmax.dtype and torch.equal(ours.absmax, state.absmax)
    if double:
        assert torch.equal(ours.nested_absmax, state.state2.absmax)
        assert torch.equal(ours.offset, state.offset)
    restored = bnb_functional.dequantize_4bit(packed, state)
    assert restored.dtype == nf4.dequantize(ours).dtype == weight.dtype
    assert torch.equal(nf4.dequantize(ours), restored)


@pytest.mark.parametrize("shape", [(64,), (4, 3, 64), (7, 32), (48, 2, 8)])
def test_other_shapes_keep_the_flattened_order(shape):
    weight = four_bit.random_weights("Gaussian", math.prod(shape) * 64).view(-1, *shape[1:])
    packed, state = bnb_quantize(weight, 64, True)
    ours = nf4.quantize(weight, 64)
    assert torch.equal(ours.packed, packed.flatten()) and torch.equal(ours.absmax, state.absmax)
    assert nf4.dequantize(ours).shape == weight.shape


def test_many_scales_are_equal_and_rounding_to_the_nearest_level_would_not_be():
    """The C++ kernel looks a scale up in a table of 65,536 steps."""
    random = torch.Generator().manual_seed(1)
    absmax = 1.5 + 3 * torch.rand(300_007, generator=random)
    codes, nested, offset = nf4.quantize_absmax(absmax)
    theirs, state = bnb_functional.quantize_blockwise(absmax - offset, blocksize=256)
    assert torch.equal(codes, theirs) and torch.equal(nested, state.absmax)
    values = (absmax - offset) / nested.repeat_interleave(256)[: len(absmax)]
    nearest = torch.bucketize(values, nf4.thresholds(nf4.dynamic_levels()))
    assert 50 < (nearest != codes).sum() < 1000


@pytest.mark.parametrize("value", [0.0, 1.0, 0.3])
def test_constant_weights_are_equal(value):
    weight = torch.full((40, 64), value)
    packed, state = bnb_quantize(weight, 64, True)
    ours = nf4.quantize(weight)
    assert torch.equal(ours.packed, packed.flatten()) and torch.equal(ours.absmax, state.absmax)
    assert torch.equal(nf4.dequantize(ours), bnb_functional.dequantize_4bit(packed, state))


def test_a_value_on_a_threshold_takes_the_lower_code():
    weight = torch.zeros(64)
    weight[0] = 1
    weight[1:16] = nf4.thresholds(nf4.levels())
    packed, _ = bnb_quantize(weight, 64, False)
    assert nf4.unpack(packed.flatten())[1:16].tolist() == list(range(15))
    assert torch.equal(nf4.quantize(weight).packed, packed.flatten())


@pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() != "AVX512", reason="the fault is in the AVX-512 kernel"
)
def test_bitsandbytes_still_misreads_rows_that_are_not_whole_blocks():
    """Its AVX-512 kernel counts blocks from each row's start, the format from the weight's.

    If this fails, the library was mended: drop the warning from notebook 04.
    """
    weight = four_bit.random_weights("Gaussian", 64 * 96).view(64, 96)
    packed, state = bnb_quantize(weight, 64, False)
    ours = nf4.quantize(weight, 64, False)
    assert torch.equal(ours.packed, packed.flatten()) and torch.equal(ours.absmax, state.absmax)
    theirs = bnb_functional.dequantize_4bit(packed, state)
    assert four_bit.relative_error(weight, nf4.dequantize(ours)) < 0.01
    assert four_bit.relative_error(weight, theirs) > 0.015
    assert torch.equal(theirs[0, :64], nf4.dequantize(ours)[0, :64])


def test_packing_is_undone_and_the_first_code_is_in_the_high_half():
    codes = torch.randint(16, (512,), dtype=torch.uint8)
    assert torch.equal(nf4.unpack(nf4.pack(codes)), codes)
    assert nf4.pack(torch.tensor([1, 2], dtype=torch.uint8)).tolist() == [0x12]


# ---------------------------------------------------------------- the linear layer


def linear_pair(dtype):
    upstream.guard_4bit_on_cpu()
    weight = four_bit.random_weights("Gaussian", 48 * 128).view(48, 128) / 10
    layer = bnb.nn.Linear4bit(128, 48, bias=False, compute_dtype=dtype, quant_type="nf4")
    layer.weight = bnb.nn.Params4bit(
        weight, requires_grad=False, quant_type="nf4", compress_statistics=True, blocksize=64
    )
    return nf4.quantize(weight), layer.to("cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_output_and_input_gradient_equal_the_librarys(dtype):
    ours, theirs = linear_pair(dtype)
    random = torch.Generator().manual_seed(0)
    x, slope = (torch.randn(3, 5, n, generator=random).to(dtype) for n in (128, 48))
    results = []
    for function in (lambda x: nf4.Linear4bit.apply(x, ours), theirs):
        inputs = x.clone().requires_grad_()
        output = function(inputs)
        output.backward(slope)
        results.append((output, inputs.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    dense = nf4.dequantize(ours, dtype)
    assert torch.equal(results[0][0], torch.nn.functional.linear(x, dense))


def test_the_library_rounds_a_bfloat16_weight_once_more_in_its_backward_pass():
    """Forward it restores W in the input's dtype, backward in the weight's: we use the first for both."""
    upstream.guard_4bit_on_cpu()
    weight = (four_bit.random_weights("Gaussian", 48 * 128).view(48, 128) / 10).bfloat16()
    layer = bnb.nn.Linear4bit(128, 48, bias=False, quant_type="nf4")
    layer.weight = bnb.nn.Params4bit(weight, requires_grad=False, quant_type="nf4")
    layer, ours = layer.to("cpu"), nf4.quantize(weight)
    results = []
    for function in (lambda x: nf4.Linear4bit.apply(x, ours), layer):
        x = four_bit.random_weights("Gaussian", 5 * 128, 1).view(5, 128).requires_grad_()
        output = function(x)
        output.square().sum().backward()
        results.append((output.detach(), x.grad))
    (output, gradient), (their_output, their_gradient) = results
    assert torch.equal(output, their_output)
    assert torch.allclose(gradient, output.mul(2) @ nf4.dequantize(ours, torch.float32), atol=1e-4)
    difference = (gradient - their_gradient).norm() / gradient.norm()
    assert 1e-5 < difference < 1e-2


def test_the_gradient_is_the_true_one():
    ours, _ = linear_pair(torch.float32)
    x = torch.randn(4, 128, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: nf4.Linear4bit.apply(x, ours), x)


def saved_bytes(function, *arguments) -> int:
    """Bytes that autograd keeps for the backward pass."""
    kept = []
    hooks = torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t)
    with hooks:
        function(*arguments)
    return sum(t.numel() * t.element_size() for t in kept)


def test_only_the_packed_weight_and_its_scales_are_saved():
    ours, _ = linear_pair(torch.float32)
    x = torch.randn(5, 128, requires_grad=True)
    weights = 48 * 128
    expected = weights // 2 + weights // 64 + 4 * math.ceil(weights / 64 / 256) + 4
    assert saved_bytes(nf4.Linear4bit.apply, x, ours) == ours.bytes() == expected
    dense = nf4.dequantize(ours)
    assert saved_bytes(torch.nn.functional.linear, x, dense) == 4 * weights


# ---------------------------------------------------------------- counts


def test_double_quantisation_saves_0_373_bits():
    saved = nf4.scale_bits(64, False) - nf4.scale_bits(64, True)
    assert saved == 0.373046875  # QLoRA, section 3: 0.373
    assert nf4.scale_bits() == nf4.scale_bits(64, True)
    weight = torch.randn(1024, 1024)
    plain, double = (nf4.quantize(weight, 64, flag) for flag in (False, True))
    assert 8 * (plain.bytes() - (double.bytes() - 4)) / weight.numel() == saved


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("blocksize", nf4.BLOCK_SIZES)
def test_bytes_of_a_matrix_are_those_of_the_librarys_tensors(blocksize, double):
    weight = torch.randn(96, 4096)
    packed, state = bnb_quantize(weight, blocksize, double)
    tensors = [packed, *(t for t in state.as_dict().values() if isinstance(t, torch.Tensor))]
    held = sum(t.numel() * t.element_size() for t in tensors) + (4 if double else 0)  # the mean
    assert held == nf4.matrix_bytes(weight.numel(), blocksize, double)


@pytest.mark.slow
def test_bytes_of_the_bundled_model_are_those_of_its_tensors():
    config = json.loads((base_model.bundled_folder() / "config.json").read_text())
    assert {key: config[key] for key in SMOLLM2} == SMOLLM2
    model, _ = base_model.load(dtype="nf4", device="cpu")
    layers = [m for m in model.modules() if isinstance(m, bnb.nn.Linear4bit)]
    assert [tuple(m.weight.quant_state.shape) for m in layers] == nf4.linear_shapes(config)
    held = 0
    for layer in layers:
        state = layer.weight.quant_state
        inner = state.state2
        tensors = (layer.weight, state.absmax, state.code, state.offset, inner.absmax, inner.code)
        held += sum(t.numel() * t.element_size() for t in tensors)
    kept = sum(p.numel() for p in model.parameters() if p.dtype != torch.uint8)
    counted = nf4.model_bytes(config)
    assert held == counted["nf4"] - counted["kept"]
    assert 2 * kept == counted["kept"]


def test_sizes_of_the_models_against_the_guides_4x():
    counted = nf4.model_bytes(SMOLLM2)
    assert counted["bf16"] == 2 * 134_515_008
    assert counted["bf16"] / counted["nf4"] < 2.5
    assert nf4.model_bytes(SMOLLM2, double=False)["nf4"] > counted["nf4"]


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("weight", "blocksize", "words"),
    [
        (torch.zeros(64), 48, "48.*32, 64, 128"),
        (torch.zeros(64), 8192, "8192"),
        (torch.zeros(3, 33), 64, "64 does not divide the 99 weights.*\\(3, 33\\)"),
        (torch.zeros(0), 64, "does not divide the 0"),
        (torch.tensor([float("nan")] + [0.0] * 63), 64, "1 of 64 weights are NaN or infinite.*block"),
        (torch.full((64,), float("-inf")), 64, "64 of 64 weights are NaN or infinite"),
        (torch.zeros(64, dtype=torch.int32), 64, "int32"),
        (torch.zeros(64, dtype=torch.float64), 64, "float64"),
    ],
)
def test_bad_input_says_what_and_why(weight, blocksize, words):
    with pytest.raises(LabError) as error:
        nf4.quantize(weight, blocksize)
    assert re.search(words, str(error.value))
    assert "\n" not in str(error.value)


def test_the_block_sizes_are_those_that_the_library_takes():
    for size in (*nf4.BLOCK_SIZES, 16, 48, 96, 8192):
        weight = torch.randn(8192 * 3)
        if size in nf4.BLOCK_SIZES:
            bnb_quantize(weight, size, True)
        else:
            with pytest.raises(ValueError, match="blocksize"):
                bnb_quantize(weight, size, True)


def test_an_offset_that_is_no_probability():
    for offset in (1.0, 0.5, 0.0, float("nan")):
        with pytest.raises(LabError, match=f"offset {offset} is no probability above 1/2 and below 1"):
            nf4.levels(offset)
    assert nf4.levels(0.51).shape == nf4.levels(0.9999).shape == (16,)
