"""labsupport/models/weight_changes.py."""

import math

import pytest
import torch

from labsupport.core.files import LabError
from labsupport.models import weight_changes


def test_lengths_and_directions_by_hand():
    before = torch.tensor([[3.0, 4.0], [2.0, 0.0]])
    after = torch.tensor([[6.0, 8.0], [0.0, 1.0]])  # the first row twice as long; the second turned by 90°
    assert weight_changes.magnitude_and_direction(before, after) == pytest.approx((3.0, 0.5))


def test_a_row_that_only_turns_or_only_grows():
    before = torch.tensor([[1.0, 0.0, 0.0]])
    angle = math.radians(60)
    turned = torch.tensor([[math.cos(angle), math.sin(angle), 0.0]])
    magnitude, direction = weight_changes.magnitude_and_direction(before, turned)
    assert magnitude == pytest.approx(0, abs=1e-7) and direction == pytest.approx(0.5, rel=1e-6)
    assert weight_changes.magnitude_and_direction(before, 3 * before) == pytest.approx((2, 0), abs=1e-12)
    assert weight_changes.magnitude_and_direction(before, -before) == pytest.approx((0, 2))


def test_a_small_change_is_not_lost_in_rounding():
    """A change of a thousandth turns a row by 1 - cos of half a millionth, of which float32 gets little."""
    generator = torch.Generator().manual_seed(0)
    before, change = (torch.randn(50, 200, generator=generator) for _ in range(2))
    after = before + 1e-4 * change
    _, direction = weight_changes.magnitude_and_direction(before, after)
    u, v = (w.double() for w in (before, after))
    sines = 1 - ((u * v).sum(1) / (u.norm(dim=1) * v.norm(dim=1))) ** 2
    assert direction == pytest.approx((sines / 2).mean().item(), rel=1e-5)
    rounded = 1 - torch.cosine_similarity(before, after, dim=1)
    assert rounded.mean().item() != pytest.approx(direction, rel=0.1)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (torch.ones(2, 3), torch.ones(3, 2), r"\(2, 3\) and \(3, 2\)"),
        (torch.ones(3), torch.ones(3), "two of"),
        (torch.ones(2, 3), torch.zeros(2, 3), "row of zeros"),
    ],
)
def test_bad_weights(before, after, words):
    with pytest.raises(LabError, match=words):
        weight_changes.magnitude_and_direction(before, after)
