"""Alpha, learning rate and rank in LoRA on small problems: what is exact, and what is not."""

import pytest

from labsupport.updates import toy_training


def worst(one, other):
    return max(toy_training.distance(one, other, step) for step in range(1, len(one)))


@pytest.mark.parametrize(
    ("optimizer", "lr", "rate_a", "rate_b", "a_factor"),
    [
        ("adam", 2e-4, 1, 2, 1),
        ("adam", 2e-4, 2**0.5, 2**0.5, 2**0.5),
        ("sgd", 1e-2, 1, 4, 1),
        ("sgd", 1e-2, 2, 2, 2**0.5),
    ],
)
def test_exact_identities(optimizer, lr, rate_a, rate_b, a_factor):
    doubled = toy_training.updates(optimizer, 32, lr, lr, steps=60)
    other = toy_training.updates(optimizer, 16, rate_a * lr, rate_b * lr, a_factor, steps=60)
    assert worst(doubled, other) < 1e-9
    assert doubled[60].norm() > 0.1


@pytest.mark.parametrize(("optimizer", "lr", "factor"), [("adam", 2e-4, 2), ("sgd", 1e-2, 4)])
def test_inexact_rule_holds_for_one_step_only(optimizer, lr, factor):
    doubled = toy_training.updates(optimizer, 32, lr, lr, steps=60)
    other = toy_training.updates(optimizer, 16, factor * lr, factor * lr, steps=60)
    assert toy_training.distance(doubled, other, 1) < 1e-12
    assert toy_training.distance(doubled, other, 60) > 0.05
    wrong = toy_training.updates(optimizer, 16, 6 // factor * lr, 6 // factor * lr, steps=1)  # 3, 1
    assert toy_training.distance(doubled, wrong, 1) > 0.4


def test_weight_decay_breaks_the_identity_a_little():
    rates = {"lr_a": 2e-4, "lr_b": 2e-4}
    doubled = toy_training.updates("adam", 32, **rates, weight_decay=0.1)
    root = 2**0.5
    other = toy_training.updates("adam", 16, root * 2e-4, root * 2e-4, root, weight_decay=0.1)
    assert 1e-5 < toy_training.distance(doubled, other, 200) < 1e-2


def test_first_step_by_rank():
    def growth(optimizer, alpha, rslora=False):
        one, other = (toy_training.first_step_change(optimizer, r, alpha(r), rslora) for r in (16, 64))
        return other / one

    assert 0.75 < growth("adam", lambda r: 32) < 1
    assert 3 < growth("adam", lambda r: 2 * r) < 4
    assert 0.75 < growth("sgd", lambda r: 32, True) < 1
    assert 0.18 < growth("sgd", lambda r: 32) < 0.25


def growth(rule, batch, place, row_cosine=0.0):
    """Adam's first change of the output at rank 256 over that at rank 4, sums over two seeds."""
    found = [
        [
            toy_training.output_changes(
                "adam", rule, rank, batch=batch, row_cosine=row_cosine, steps=1, seed=seed
            )[f"{place} 1"]
            for rank in (4, 256)
        ]
        for seed in (0, 1)
    ]
    return sum(large for _, large in found) / sum(small for small, _ in found)


def test_which_rule_is_level_turns_round_on_fresh_inputs():
    assert 0.4 < growth("alpha fixed", 8, "seen") < 0.8 and growth("rsLoRA", 8, "seen") > 3.5
    assert 0.1 < growth("alpha fixed", 8, "fresh") < 0.2 and 1 < growth("rsLoRA", 8, "fresh") < 1.6


def test_a_large_batch_of_unrelated_rows_is_like_fresh_inputs():
    assert growth("alpha fixed", 512, "seen") < 0.25 and 1 < growth("rsLoRA", 512, "seen") < 1.8


def test_rows_with_a_common_direction_favour_alpha_fixed_on_fresh_inputs_too():
    assert 0.7 < growth("alpha fixed", 8, "fresh", row_cosine=0.7) < 1.3


@pytest.mark.parametrize("rule", toy_training.RULES)
def test_the_rules_agree_at_rank_16(rule):
    assert toy_training.factor(rule, 16) == pytest.approx(2)
    assert toy_training.factor(rule, 64) == pytest.approx({"alpha = 2r": 2, "rsLoRA": 1}.get(rule, 0.5))


def test_rows_have_the_cosine_that_was_asked_for_and_training_goes_the_right_way():
    """On rows that are nearly one direction everything aligns; with larger steps the change nears what the
    loss asks for, and no farther."""
    found = toy_training.output_changes("adam", "rsLoRA", 16, row_cosine=0.9, steps=50, lr=1e-3)
    assert found["seen 1 alignment"] > 0.85 and found["fresh 1 alignment"] > 0.85
    assert 0.6 < found["fresh 50"] < 1.2 and found["moved A"] > 0.1
