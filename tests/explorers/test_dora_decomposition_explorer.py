"""What LoRA and DoRA can reach: the algebra, held against DoRA's own formula, and the explorer."""

import itertools
import math

import pytest
import torch

from labsupport.core.files import LabError
from labsupport.explorers import dora_decomposition_explorer as explorer
from labsupport.models import dora, dora_reach, lora, tiny_base
from labsupport.sizes import counting


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def change_of(rank, degrees=40.0, keep=True, longer=1.7, shape=(12, 20)):
    out, width = shape
    scales = torch.tensor([longer, 1 / longer], dtype=torch.float64).repeat(out // 2)
    directions = random(out, rank, seed=1) @ random(rank, width, seed=2)
    return dora_reach.make_change(random(out, width), scales, degrees, directions, keep)


def fitted(change, rank):
    factors, low = dora_reach.dora_fit(change, rank)
    return dora_reach.miss(change, factors[:, None] * change.weight + low)


# ---------------------------------------------------------------- the algebra


@pytest.mark.parametrize("degrees", [0.0, 25.0, 89.0])
def test_a_change_turns_and_scales_each_row_as_asked(degrees):
    change = change_of(3, degrees)
    cosines = torch.cosine_similarity(change.weight, change.target, dim=1)
    torch.testing.assert_close(cosines, torch.full_like(cosines, math.cos(math.radians(degrees))))
    lengths = dora.row_norms(change.target) / dora.row_norms(change.weight)
    torch.testing.assert_close(lengths, torch.tensor([1.7, 1 / 1.7], dtype=torch.float64).repeat(6))


def test_a_turn_that_may_change_lengths_is_an_update_of_its_rank():
    update = change_of(3, keep=False, longer=1.0)
    assert torch.linalg.matrix_rank(update.target - update.weight) == 3
    kept = change_of(3, keep=True, longer=1.0)
    assert torch.linalg.matrix_rank(kept.target - kept.weight) == 12


def test_lora_comes_as_near_as_the_truncated_svd():
    change = change_of(2)
    missed = dora_reach.lora_misses(change)
    U, S, V = torch.linalg.svd(change.target - change.weight, full_matrices=False)
    assert len(missed) == 13 and missed[0] == pytest.approx(1) and missed[12] == 0
    for rank in (1, 5, 11):
        nearest = change.weight + (U[:, :rank] * S[:rank]) @ V[:rank]
        assert missed[rank] == pytest.approx(dora_reach.miss(change, nearest))


@pytest.mark.parametrize("rank", [1, 3, 6])
def test_what_the_fit_says_is_reached_by_doras_formula(rank):
    """Below the rank of the turn and above: A, B and m made of the fit give a weight that misses as much."""
    change = change_of(4)
    factors, low = dora_reach.dora_fit(change, rank)
    U, S, V = torch.linalg.svd(low / factors[:, None], full_matrices=False)
    B, A = U[:, :rank] * S[:rank], V[:rank]
    m = factors * dora.row_norms(change.weight + B @ A)
    merged = dora.merged_weight(change.weight, A, B, m, alpha=rank)
    assert dora_reach.miss(change, merged) == pytest.approx(fitted(change, rank), abs=1e-9)


@pytest.mark.parametrize("keep", [True, False])
def test_dora_is_exact_from_the_turns_rank_on_and_never_worse_than_lora(keep):
    for turn_rank, rank in itertools.product((1, 4, 12), range(13)):
        change = change_of(turn_rank, keep=keep)
        left = fitted(change, rank)
        assert left <= dora_reach.lora_misses(change)[rank] + 1e-12
        assert (left < 1e-9) == (rank >= turn_rank)


def test_lengths_alone_need_no_rank_in_dora_and_all_of_them_in_lora():
    change = change_of(1, degrees=0.0)
    assert fitted(change, 0) < 1e-9 and dora_reach.lora_misses(change)[11] > 0.05


def test_training_doras_numbers_finds_nothing_nearer():
    """The bound is no proof of the best; Adam on A, B and m from DoRA's start must not get below it."""
    change, rank = change_of(6), 2
    A, B = lora.uniform_bound(20) * random(rank, 20, seed=3), torch.zeros(12, rank, dtype=torch.float64)
    trained = [t.requires_grad_() for t in (A, B, dora.row_norms(change.weight))]
    optimizer = torch.optim.Adam(trained, lr=0.03)
    for _ in range(600):
        moved = change.weight + trained[1] @ trained[0]
        reached = (trained[2] / dora.row_norms(moved))[:, None] * moved  # the norm is not held constant
        loss = (change.target - reached).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    left = dora_reach.miss(change, reached.detach())
    assert left == pytest.approx(fitted(change, rank), rel=0.02)


def test_what_has_no_direction_or_no_change_is_said():
    with pytest.raises(LabError, match="row of zeros"):
        dora_reach.make_change(torch.zeros(2, 3), torch.ones(2), 10, torch.ones(2, 3), True)
    with pytest.raises(LabError, match="Nothing changes"):
        dora_reach.lora_misses(change_of(1, degrees=0.0, longer=1.0))


# ---------------------------------------------------------------- the explorer


def left(view):
    return {row[""]: row["left"] for row in view.table}


def test_the_planes_first_row_is_the_one_of_exercise_1():
    plane = explorer.plane_change(2.0, math.degrees(math.atan2(4, 3) - math.atan2(3, 4)), keep=True)
    torch.testing.assert_close(plane.turned[0], torch.tensor([4.0, 3.0], dtype=torch.float64))
    torch.testing.assert_close(plane.target[0], torch.tensor([8.0, 6.0], dtype=torch.float64))


def test_what_each_can_reach_is_what_the_notebook_says():
    mixed = explorer.view()
    assert "LoRA leaves 76.7 % of the change, DoRA 0.0 %" in mixed.heading
    assert "LoRA comes as near from rank 64 on" in mixed.heading
    lengths = explorer.view(degrees=0.0)
    assert left(lengths)["lengths alone"] == "0.0 %" and left(lengths)["LoRA, rank 4"] == "92.3 %"
    update = explorer.view(longer=1.0, keep=False)
    assert "the lengths buy nothing here" in update.heading
    assert left(update)["LoRA, rank 4"] == left(update)["DoRA, rank 4"] == "0.0 %"
    assert left(explorer.view(longer=1.0))["LoRA, rank 4"] == "8.7 %"
    assert "DoRA 37.8 % or less; LoRA comes as near from rank 35 on" in explorer.view(rank=2).heading


def test_the_numbers_trained_are_loras_and_a_length_for_each_row():
    trained = {row[""]: row["numbers trained"] for row in explorer.view(rank=8).table}
    at_8 = counting.lora_parameters(192, 64, 8)
    assert trained["LoRA, rank 8"] == f"{at_8:,}" and trained["DoRA, rank 8"] == f"{at_8 + 64:,}"
    assert trained["lengths alone"] == "64"


@pytest.mark.parametrize("trained", explorer.COLORS)
@pytest.mark.parametrize(("longer", "degrees"), [(1.0, 60.0), (3.0, 0.0), (3.0, 60.0)])
@pytest.mark.parametrize(("turn_rank", "keep", "rank"), [(1, True, 64), (64, False, 1)])
def test_it_draws_at_its_corners(trained, longer, degrees, turn_rank, keep, rank):
    view = explorer.view(trained, longer, degrees, turn_rank, keep, rank)
    assert view.figure is not None and trained in view.alt
    assert "nan" not in (view.heading + str(view.table)).lower()


def test_the_controls_redraw_and_a_change_of_nothing_is_said():
    shown = explorer.explore()
    seen = {shown.out.value}
    for name, value in (("trained", explorer.LORA), ("rank", 7), ("turn_rank", 9), ("keep", False)):
        shown.controls[name].value = value
        seen.add(shown.out.value)
    assert len(seen) == 5
    shown.controls["longer"].value = 1.0
    shown.controls["degrees"].value = 0.0
    assert "Nothing changes" in shown.out.value and "<img" not in shown.out.value


@pytest.mark.parametrize(
    "bad",
    [
        {"trained": "m"},
        {"longer": 0.5},
        {"longer": float("nan")},
        {"degrees": 90.0},
        {"turn_rank": 0},
        {"rank": 65},
    ],
)
def test_it_says_what_is_wrong(bad):
    with pytest.raises(LabError):
        explorer.view(**bad)


def test_without_its_weight_it_says_which_file(tmp_path, monkeypatch):
    explorer.real_weight.cache_clear()
    monkeypatch.setattr(tiny_base, "FOLDER", tmp_path)
    with pytest.raises(LabError, match="model.safetensors cannot be read"):
        explorer.real_weight()
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(LabError, match="model.safetensors cannot be read"):
        explorer.real_weight()
