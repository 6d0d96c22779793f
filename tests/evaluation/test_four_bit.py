"""4-bit formats compared: each is what it says, and equals bitsandbytes where that has it."""

import bitsandbytes.functional as bnb_functional
import pytest
import torch

from labsupport.core.files import LabError
from labsupport.evaluation import four_bit
from labsupport.models import nf4


@pytest.mark.parametrize("blocksize", [32, 64, 256, 4096])
def test_lloyd_max_has_the_least_error_of_the_symmetric_scalings(blocksize):
    blocks = four_bit.random_weights("Gaussian", 2**18).view(-1, blocksize)
    restored = {name: four_bit.round_trip(blocks, name)[1] for name in four_bit.ALL_FORMATS}
    errors = {name: four_bit.relative_error(blocks, found) for name, found in restored.items()}
    assert min((e, n) for n, e in errors.items() if n != "INT4 min-max")[1] == "Lloyd-Max"
    assert errors["NF4"] < errors["INT4 -8..7"] < errors["INT4 -7..7"]


def test_lloyd_max_levels_are_the_means_of_their_bins():
    blocks = four_bit.random_weights("Gaussian", 2**18).view(-1, 64)
    codes, _, levels = four_bit.round_trip(blocks, "Lloyd-Max")
    values, absmax = nf4.scaled(blocks)
    weight = absmax.square()[:, None].expand_as(blocks)
    for code in range(16):
        inside = codes == code
        mean = (values[inside] * weight[inside]).sum() / weight[inside].sum()
        assert abs(mean - levels[code]) < 1e-3


def test_the_formats_that_the_library_has_agree_with_it():
    blocks = four_bit.random_weights("Gaussian", 2**14).view(-1, 64)
    for name, kind in (("NF4", "nf4"), ("FP4 bitsandbytes", "fp4"), ("FP4", "fp4")):
        packed, state = bnb_functional.quantize_4bit(blocks, quant_type=kind)
        restored = bnb_functional.dequantize_4bit(packed, state)
        assert torch.allclose(four_bit.round_trip(blocks, name)[1], restored)


def test_standard_fp4_is_the_format_of_two_exponent_bits_and_one_of_mantissa():
    """Built from its bits: 2^(e-1) (1 + m/2), and m/2 for exponent 0; the library's differs in one level."""
    magnitudes = [m / 2 if e == 0 else 2.0 ** (e - 1) * (1 + m / 2) for e in range(4) for m in range(2)]
    standard, library = (four_bit.levels(name) for name in four_bit.FP4)
    assert torch.allclose(standard[7:], torch.tensor(magnitudes) / 6)
    assert torch.equal(standard, -standard.flip(0)) and len(standard) == 15
    assert (standard != library).nonzero().flatten().tolist() == [6, 8]
    blocks = four_bit.random_weights("Gaussian", 2**18).view(-1, 64)
    errors = [four_bit.relative_error(blocks, four_bit.round_trip(blocks, name)[1]) for name in four_bit.FP4]
    assert errors[0] < 0.8 * errors[1]


def test_min_max_restores_the_ends_of_each_block():
    blocks = four_bit.random_weights("Student t5", 4096).view(-1, 64)
    restored = four_bit.round_trip(blocks, "INT4 min-max")[1]
    assert torch.allclose(restored.amin(1), blocks.amin(1), atol=1e-5)
    assert torch.allclose(restored.amax(1), blocks.amax(1), atol=1e-5)
    assert four_bit.bits_a_weight("INT4 min-max", 64) == four_bit.bits_a_weight("NF4", 32)


def test_entropy_and_occupancy():
    codes = torch.arange(16).repeat(8)
    assert four_bit.entropy(four_bit.occupancy(codes)) == pytest.approx(4)
    assert four_bit.entropy(four_bit.occupancy(torch.zeros(8))) == 0


def test_samples_have_unit_variance_and_their_tails():
    for kind, heavy in (("Gaussian", False), ("Student t5", True)):
        weights = four_bit.random_weights(kind, 2**18)
        assert weights.var().item() == pytest.approx(1, abs=0.03)
        kurtosis = weights.pow(4).mean() / weights.var() ** 2
        assert (kurtosis > 5) == heavy


def test_unknown_names_list_the_known_ones():
    for call in (lambda: four_bit.levels("INT5"), lambda: four_bit.random_weights("Cauchy", 4)):
        with pytest.raises(LabError, match="There are: .*(E2M1|Gaussian)"):
            call()
