"""What holds of NF4 for every weight: hypothesis looks for one that breaks it."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from labsupport.core.files import LabError
from labsupport.models import nf4

# A slow machine, or one with other work, is no reason to fail.
slowly = [HealthCheck.too_slow]
laws = settings(max_examples=100, suppress_health_check=slowly)

SIZE = 32  # of a block: the smallest that there is
LEVELS, SCALE_LEVELS = nf4.levels(), nf4.dynamic_levels()
HALF_GAP = (LEVELS.diff().max() / 2).item()
ROUNDING = 1e-6  # of float32, relative

# The whole range of float32, and numbers of a size between which blocks differ little.
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False) | st.floats(-8, 8, width=32)


@st.composite
def weights(draw, elements=FINITE, most_blocks=4):
    """(blocks, SIZE) float32."""
    blocks = draw(st.integers(1, most_blocks))
    return torch.from_numpy(draw(arrays.arrays(np.float32, (blocks, SIZE), elements=elements)))


def codes_of(packed: torch.Tensor) -> torch.Tensor:
    return nf4.unpack(packed).view(-1, SIZE).int()


# ---------------------------------------------------------------- packing


@laws
@given(st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15))))
def test_unpacking_undoes_packing(pairs):
    codes = torch.tensor(pairs, dtype=torch.uint8).flatten()
    packed = nf4.pack(codes)
    assert packed.dtype == torch.uint8 and len(packed) == len(pairs)
    assert torch.equal(nf4.unpack(packed), codes)
    assert packed.tolist() == [16 * first + second for first, second in pairs]


@laws
@given(st.binary())
def test_packing_undoes_unpacking(data):
    packed = torch.tensor(list(data), dtype=torch.uint8)
    assert torch.equal(nf4.pack(nf4.unpack(packed)), packed)


# ---------------------------------------------------------------- one block


@laws
@given(weights())
def test_the_error_is_at_most_half_the_largest_gap_times_the_absmax(weight):
    restored = nf4.dequantize(nf4.quantize(weight, SIZE, double=False)).double()
    absmax = weight.double().abs().amax(1, keepdim=True)
    share = torch.where(absmax < nf4.SMALLEST, 1.0, HALF_GAP + ROUNDING)
    assert ((restored - weight.double()).abs() <= share * absmax).all()


@laws
@given(weights())
def test_each_weight_takes_the_nearest_level(weight):
    quantised = nf4.quantize(weight, SIZE, double=False)
    values = weight.double() / weight.double().abs().amax(1, keepdim=True).clamp(min=nf4.SMALLEST)
    apart = (values[..., None] - LEVELS.double()).abs()
    taken = apart.gather(2, codes_of(quantised.packed).long()[..., None])[..., 0]
    assert (taken <= apart.amin(2) + ROUNDING).all()


@laws
@given(st.integers(0, 14), st.floats(1e-5, 0.02), st.floats(2.0**-100, 2.0**100, width=32))
def test_the_code_changes_halfway_between_two_levels(code, apart, scale):
    middle = (LEVELS[code] + LEVELS[code + 1]) / 2
    weight = torch.zeros(SIZE)
    weight[:3] = scale * torch.stack([torch.ones(()), middle - apart, middle + apart])
    assert codes_of(nf4.quantize(weight, SIZE).packed)[0, :3].tolist() == [15, code, code + 1]


@laws
@given(weights())
def test_codes_keep_the_order_of_a_blocks_weights(weight):
    codes = codes_of(nf4.quantize(weight, SIZE, double=False).packed)
    order = weight.argsort(1)
    assert (codes.gather(1, order).diff(dim=1) >= 0).all()


@laws
@given(weights(), st.integers(-20, 20))
def test_a_power_of_two_changes_the_scales_alone(weight, power):
    weight = weight.clamp(-(2.0**100), 2.0**100)
    weight[weight.abs() < 2.0**-80] = 0
    plain, larger = (nf4.quantize(w, SIZE, double=False) for w in (weight, weight * 2.0**power))
    assert torch.equal(plain.packed, larger.packed)
    assert torch.equal(plain.absmax * 2.0**power, larger.absmax)


@laws
@given(weights())
def test_what_was_restored_is_restored_again(weight):
    weight[weight.abs().amax(1) < nf4.SMALLEST] = 0
    once = nf4.dequantize(nf4.quantize(weight, SIZE, double=False))
    twice = nf4.dequantize(nf4.quantize(once, SIZE, double=False))
    assert torch.equal(once, twice)


@laws
@given(weights(), st.booleans())
def test_a_block_of_zeros_stays_one(weight, double):
    """Even where double quantisation gives it a scale other than 0: its codes are the level 0."""
    weight[0] = 0
    quantised = nf4.quantize(weight, SIZE, double)
    zero = int((LEVELS == 0).nonzero())
    assert (codes_of(quantised.packed)[0] == zero).all()
    assert not nf4.dequantize(quantised)[0].any()


@pytest.mark.parametrize("double", [False, True])
def test_zeros_alone_stay_zeros(double):
    quantised = nf4.quantize(torch.zeros(3 * 256 * SIZE), SIZE, double)
    assert not nf4.absmax_of(quantised).any() and not nf4.dequantize(quantised).any()


@laws
@given(weights(), st.sampled_from([float("nan"), float("inf"), float("-inf")]), st.integers(0, SIZE - 1))
def test_one_weight_that_is_no_number_is_refused(weight, value, place):
    weight[0, place] = value
    with pytest.raises(LabError, match="1 of"):
        nf4.quantize(weight, SIZE)


# ---------------------------------------------------------------- the scales

SCALES = st.floats(0, 2.0**60, width=32) | st.floats(0, 8, width=32)


@st.composite
def scales(draw):
    """Scales (n,), up to three groups of 256: a few values, repeated to that length."""
    few = draw(arrays.arrays(np.float32, st.integers(1, 40), elements=SCALES))
    return torch.from_numpy(np.resize(few, draw(st.integers(1, 700))))


def farthest_from_a_level() -> float:
    """The largest distance of a number in [-1, 1] from its nearest level: -1 itself is none of them."""
    return max((SCALE_LEVELS.diff().max() / 2).item(), (1 + SCALE_LEVELS.min()).item())


def restored_scales(absmax: torch.Tensor) -> torch.Tensor:
    quantised = nf4.Quantized(None, *nf4.quantize_absmax(absmax), SIZE, None, None)
    return nf4.absmax_of(quantised)


@laws
@given(scales())
@example(torch.tensor([0.0, 1e-40]))  # so near each other that 1 / nested is infinite
def test_a_double_quantised_scale_is_off_by_half_a_gap_of_its_group(absmax):
    _, nested, offset = nf4.quantize_absmax(absmax)
    assert len(nested) == -(-len(absmax) // nf4.NESTED_BLOCK)
    group = nested.double().repeat_interleave(nf4.NESTED_BLOCK)[: len(absmax)]
    # Codes are looked up in a table of 65,536 steps; sums round in float32.
    share = torch.where(group < nf4.SMALLEST, 1.0, farthest_from_a_level() + 2 / 65535)
    limit = share * group + ROUNDING * (group + offset.double())
    assert ((restored_scales(absmax).double() - absmax.double()).abs() <= limit).all()


@laws
@given(SCALES, st.integers(1, 700))
def test_equal_scales_survive_double_quantisation(value, count):
    absmax = torch.full((count,), value)
    assert torch.allclose(restored_scales(absmax), absmax, rtol=ROUNDING, atol=0)


@laws
@given(weights(st.floats(-8, 8, width=32), most_blocks=12))
def test_double_quantisation_adds_no_more_error_than_its_scales_have(weight):
    quantised = nf4.quantize(weight, SIZE, double=True)
    absmax = weight.abs().amax(1)
    scale_error = (nf4.absmax_of(quantised) - absmax).abs()
    limit = HALF_GAP * absmax + scale_error + ROUNDING * (absmax + 1)
    assert ((nf4.dequantize(quantised) - weight).abs() <= limit[:, None]).all()


@laws
@given(st.integers(1, 4), st.sampled_from(nf4.BLOCK_SIZES), st.booleans())
def test_bytes_are_those_counted(blocks, size, double):
    quantised = nf4.quantize(torch.ones(blocks * size), size, double)
    tables = 16 * 4 + (256 * 4 if double else 0)
    assert nf4.matrix_bytes(blocks * size, size, double) == quantised.bytes() + tables
