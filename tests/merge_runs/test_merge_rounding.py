"""What of an update survives rounding: the laws that need no model."""

import math

import pytest
import torch

from labsupport.core.files import LabError
from labsupport.merge_runs import rounding


def gaussian(seed: int = 0, rows: int = 256) -> torch.Tensor:
    return torch.randn(rows, 256, generator=torch.Generator().manual_seed(seed))


def left(weight, delta, start, end) -> rounding.Survived:
    return rounding.survived(rounding.sums(weight, [delta], start, end)[0])


def test_on_the_grid_an_update_below_half_a_step_is_lost_whole():
    weight = rounding.in_bfloat16(gaussian()).numbers
    below = left(weight, weight * 2**-9 * 0.99, "bfloat16", "bfloat16")
    assert below.kept == below.moved == 0 and math.isnan(below.cosine)
    above = left(weight, weight * 2**-7, "bfloat16", "bfloat16")
    assert above.moved == 1 and 0.9 < above.kept < 1.5


@pytest.mark.parametrize(
    ("start", "end", "percent", "least", "most"),
    [
        ("NF4", "NF4", 1, -0.05, 0.05),
        ("NF4", "NF4", 30, 0.95, 1.05),
        ("float32", "NF4", 1, 0.8, 1.2),
        ("bfloat16", "bfloat16", 0.02, 0, 0.3),
        ("NF4", "bfloat16", 0.02, 0.8, 1.2),
        ("NF4", "float32", 0.02, 0.999, 1.001),
    ],
)
def test_kept_by_format_and_size(start, end, percent, least, most):
    found = left(gaussian(), percent / 100 * gaussian(1), start, end)
    assert least < found.kept < most
    assert found.relative == pytest.approx(percent / 100, rel=0.02)
    assert found.kept == pytest.approx(found.cosine * found.size, rel=1e-4)


def test_what_is_off_the_grid_keeps_the_update_with_noise_beside():
    found = left(gaussian(), 0.01 * gaussian(1), "float32", "NF4")
    assert found.cosine < 0.4 and found.size > 2


def test_matrices_add_up():
    weight, delta = gaussian(), 0.01 * gaussian(1)
    halves = [
        rounding.sums(weight[at], [delta[at]], "bfloat16", "bfloat16")[0]
        for at in (slice(128), slice(128, None))
    ]
    whole = left(weight, delta, "bfloat16", "bfloat16")
    assert rounding.survived(halves[0] + halves[1]) == pytest.approx(whole, rel=1e-4)


def test_no_update_has_no_share():
    found = left(gaussian(), torch.zeros(256, 256), "NF4", "NF4")
    assert math.isnan(found.kept) and math.isnan(found.size) and found.moved == found.relative == 0


def test_what_cannot_be_merged_is_refused():
    with pytest.raises(LabError, match="FP4"):
        rounding.merged(gaussian(), gaussian(1), "FP4", "NF4")
    with pytest.raises(LabError, match="both alike"):
        rounding.merged(gaussian(), gaussian(1, rows=8), "NF4", "NF4")
