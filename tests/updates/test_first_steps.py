"""How far a first step of LoRA moves an output: the number that decides, and what it decides."""

import math

import pytest
import torch
from tiny_training import tiny_model, train_rows

from labsupport.models import chat, lora
from labsupport.updates import first_steps

RANKS = [4, 16, 64, 256]


def test_alignment_is_the_rms_cosine_of_rows():
    gradient = torch.tensor([[2.0, 0, 0], [0, 3.0, 0], [0, 0, 0]])  # the last row has no direction
    assert first_steps.alignment(gradient, torch.tensor([[5.0, 0, 0]])) == pytest.approx(math.sqrt(1 / 2))
    assert first_steps.alignment(gradient, torch.tensor([[0, 0, 1.0]])) == 0
    both = torch.tensor([[3.0, 0, 0], [0, 0, 4.0]])  # squared lengths 9 and 16
    assert first_steps.alignment(gradient, both) == pytest.approx(math.sqrt(9 / 25 / 2))


def test_row_cosine_is_the_mean_over_pairs():
    rows = torch.tensor([[1.0, 0], [0, 2.0], [3.0, 3.0]])
    assert first_steps.row_cosine(rows) == pytest.approx((0 + 2 * math.sqrt(1 / 2)) / 3)


@pytest.mark.parametrize(("optimizer", "power"), [("adam", 1), ("sgd", 2)])
def test_change_is_that_of_a_real_step(optimizer, power):
    """A LoRALinear with the same A, one step of the optimizer, a factor that is not 1."""
    width, outputs, rank, alpha = 48, 32, 8, 24
    draws = torch.Generator().manual_seed(1)
    x, error = torch.randn(5, width, generator=draws), torch.randn(5, outputs, generator=draws)
    layer = lora.LoRALinear(torch.nn.Linear(width, outputs, bias=False), rank, alpha)
    uniform = torch.rand(rank, width, generator=torch.Generator().manual_seed(2))
    layer.A.data = lora.uniform_bound(width) * (2 * uniform - 1)
    kind = torch.optim.SGD if optimizer == "sgd" else torch.optim.Adam
    update = kind([layer.A, layer.B], lr=1e-3)
    before = layer(x)
    before.backward(error)
    update.step()
    moved = (layer(x) - before).square().mean().sqrt().item()
    found = first_steps.change(optimizer, error.T @ x, x, rank, torch.Generator().manual_seed(2))
    assert moved == pytest.approx(1e-3 * (alpha / rank) ** power * found, rel=1e-3)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_growth_goes_from_the_root_of_the_rank_to_the_rank(optimizer):
    expected = [first_steps.expected_exponent(optimizer, c, RANKS) for c in (0, 0.1, 0.3, 1)]
    assert expected[0] == pytest.approx(0.5) and expected == sorted(expected) and 0.9 < expected[-1] <= 1
    assert first_steps.exponent(RANKS, [7 * r**0.75 for r in RANKS]) == pytest.approx(0.75)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("share", [0.0, 0.15, 0.5])
def test_change_grows_as_expected_from_the_alignment(optimizer, share):
    """Gradient rows and inputs with that share of one common direction."""
    draws = torch.Generator().manual_seed(0)
    common = torch.randn(512, generator=draws)
    gradient, inputs = (
        math.sqrt(share) * common + math.sqrt(1 - share) * torch.randn(rows, 512, generator=draws)
        for rows in (64, 32)
    )
    aligned = first_steps.alignment(gradient, inputs)
    assert aligned == pytest.approx(share, abs=0.06)
    changes = [first_steps.mean_change(optimizer, gradient, inputs, rank) for rank in RANKS]
    assert first_steps.exponent(RANKS, changes) == pytest.approx(
        first_steps.expected_exponent(optimizer, aligned, RANKS), abs=0.12
    )


def test_inputs_of_layers_leave_out_what_rows_share(tokenizer):
    model = tiny_model()
    examples = [chat.encode_example(tokenizer, row) for row in train_rows()[:3]]
    labels = [chat.labels(e.ids, e.prompt_length) for e in examples]
    found = first_steps.layer_inputs(model, tokenizer, [e.ids for e in examples], labels)
    layers = lora.linear_layers(model)
    assert set(found) == set(layers)
    lengths = [len(e.ids) for e in examples]
    same = next(
        i for i, column in enumerate(zip(*(e.ids for e in examples), strict=False)) if len(set(column)) > 1
    )
    assert all(
        rows.shape == (sum(lengths) - 3 * same, layers[name].in_features) for name, rows in found.items()
    )
    assert all(layer.weight.grad.any() for layer in layers.values())
    one = first_steps.layer_inputs(
        model, tokenizer, [examples[0].ids, examples[1].ids]
    )  # padding changes nothing
    start = lengths[0] - same
    name = "model.layers.0.self_attn.q_proj"
    torch.testing.assert_close(
        one[name][-(lengths[1] - same) :], found[name][start : start + lengths[1] - same]
    )
    assert not model.model.layers[0]._forward_hooks and not layers[name]._forward_hooks


def test_many_tokens_are_thinned(tokenizer, monkeypatch):
    monkeypatch.setattr(first_steps, "MOST_ROWS", 10)
    ids = [chat.encode_example(tokenizer, row).ids for row in train_rows()[:4]]
    found = first_steps.layer_inputs(tiny_model(), tokenizer, ids)
    assert all(10 <= len(rows) <= 20 for rows in found.values())


def test_by_layer_reports_every_kind():
    draws = torch.Generator().manual_seed(0)
    gradients = {"a": torch.randn(16, 32, generator=draws)}
    kinds = {kind: {"a": torch.randn(8, 32, generator=draws)} for kind in ("seen", "fresh")}
    (entry,) = first_steps.by_layer(gradients, kinds, [2, 8])
    assert entry["layer"] == "a"
    for part in ("row_cosine", "alignment", "adam", "sgd"):
        assert set(entry[part]) == {"seen", "fresh"}
    assert entry["alignment"]["seen"] == round(first_steps.alignment(gradients["a"], kinds["seen"]["a"]), 3)
