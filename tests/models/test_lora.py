"""labsupport/models/lora.py against PEFT, the spectrum experiment, the explorer and the claims."""

import copy
import json
import math
import re

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_training import tiny_model
from torch import nn

from labsupport.core import files
from labsupport.core.files import LabError
from labsupport.evaluation import experiments
from labsupport.models import lora
from labsupport.notebooks.nb02_lora_math import low_rank_explorer, questions, spectrum_experiment


def pair(in_features, out_features, rank, alpha, dropout=0.0, rslora=False, bias=True):
    """Our layer and PEFT's with the same weights; B is not zero."""
    torch.manual_seed(0)
    base = nn.Linear(in_features, out_features, bias=bias)
    mine = lora.LoRALinear(copy.deepcopy(base), rank, alpha, dropout, rslora)
    nn.init.normal_(mine.B, std=0.1)
    config = LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=dropout, use_rslora=rslora, target_modules=["0"]
    )
    theirs = get_peft_model(nn.Sequential(base), config).base_model.model[0]
    theirs.lora_A["default"].weight.data = mine.A.detach().clone()
    theirs.lora_B["default"].weight.data = mine.B.detach().clone()
    return mine, theirs


def close(a, b, limit=1e-6):
    return (a - b).abs().max() <= limit * b.abs().max()


# ---------------------------------------------------------------- the layer


@pytest.mark.parametrize("shape", [(64, 48), (576, 192), (1536, 576)])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("rslora", [False, True])
def test_layer_equals_pefts(shape, dropout, rslora):
    mine, theirs = pair(*shape, 8, 20, dropout, rslora)
    x = torch.randn(3, 5, shape[0])
    outputs = []
    for layer in (mine, theirs):
        torch.manual_seed(1)
        outputs.append(layer(x))
        outputs[-1].square().sum().backward()
    assert close(*outputs)
    assert close(mine.A.grad, theirs.lora_A["default"].weight.grad)
    assert close(mine.B.grad, theirs.lora_B["default"].weight.grad)
    assert mine.base.weight.grad is None
    mine.merge()
    mine.merge()  # not twice
    theirs.merge()
    assert close(mine.base.weight, theirs.base_layer.weight)
    assert close(mine(x), theirs(x))


def test_merge_changes_the_weight_and_unmerge_restores_it():
    mine, _ = pair(64, 48, 4, 8)
    x, before, weight = torch.randn(5, 64), None, mine.base.weight.clone()
    before = mine(x)
    mine.unmerge()  # nothing to undo
    assert torch.equal(mine.base.weight, weight)
    mine.merge()
    assert not close(mine.base.weight, weight, 1e-2)
    assert close(mine(x), before, 1e-5)
    mine.unmerge()
    assert close(mine.base.weight, weight) and close(mine(x), before, 1e-5)


def test_start_is_the_base_and_a_is_uniform():
    torch.manual_seed(0)
    base = nn.Linear(1536, 576)
    layer = lora.LoRALinear(base, 64, 128)
    x = torch.randn(4, 1536)
    assert torch.equal(layer(x), base(x))
    layer(x).square().sum().backward()
    assert not layer.A.grad.any() and layer.B.grad.any()
    bound = 1 / math.sqrt(1536)
    assert 0.999 * bound < layer.A.abs().max() <= bound
    assert layer.A.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.01)
    assert lora.uniform_bound(1536) == pytest.approx(bound)
    torch.manual_seed(5)
    theirs = nn.init.kaiming_uniform_(torch.empty(64, 1536), a=math.sqrt(5))
    assert theirs.abs().max() <= lora.uniform_bound(1536)


def test_forward_and_gradients_are_the_layers():
    mine, _ = pair(64, 48, 4, 12, bias=False)
    x, dropped = torch.randn(2, 6, 64)
    full = mine.base.weight.requires_grad_(True)
    mine(x).square().sum().backward()
    by_hand = lora.factor_gradients(full.grad, mine.A, mine.B, 12)
    assert close(by_hand[0], mine.A.grad, 1e-5) and close(by_hand[1], mine.B.grad, 1e-5)
    assert close(lora.forward(x, x, full, mine.A, mine.B, 12), mine(x))
    apart = lora.forward(x, dropped, full, mine.A, mine.B, 12) - x @ full.T
    assert close(apart, dropped @ lora.delta(mine.A, mine.B, 12).T, 1e-4)


@pytest.mark.parametrize(
    ("rank", "words"),
    [
        (0, "nothing to train"),
        (-3, "at least 1"),
        (49, "larger than 48"),
        (8.0, "whole number"),
        ("8", "whole number"),
        (True, "whole number"),
        (None, "whole number"),
    ],
)
def test_bad_ranks(rank, words):
    with pytest.raises(LabError, match=words) as caught:
        lora.LoRALinear(nn.Linear(64, 48), rank, 8)
    assert str(rank) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("rank", [1, 48])
def test_extreme_ranks(rank):
    assert lora.LoRALinear(nn.Linear(64, 48), rank, 8).A.shape == (rank, 64)


def test_scale_is_pefts():
    for rslora in (False, True):
        _, theirs = pair(64, 48, 16, 32, rslora=rslora)
        assert lora.scale(32, 16, rslora) == pytest.approx(theirs.scaling["default"])


# ---------------------------------------------------------------- whole models


def test_attach_equals_peft_on_a_model():
    plain = tiny_model(vocab_size=101).eval()
    mine = copy.deepcopy(plain)
    names = lora.attach(mine, "all-linear", 4, 8)
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    theirs = get_peft_model(plain, config).eval()
    assert sorted(names) == sorted(
        n.partition("base_model.model.")[2] or n for n in theirs.targeted_module_names
    )
    trainable = sum(p.numel() for p in mine.parameters() if p.requires_grad)
    assert trainable == theirs.get_nb_trainable_parameters()[0]
    for name in names:
        layer, other = mine.get_submodule(name), theirs.base_model.model.get_submodule(name)
        nn.init.normal_(layer.B, std=0.1)
        other.lora_A["default"].weight.data = layer.A.detach().clone()
        other.lora_B["default"].weight.data = layer.B.detach().clone()
    ids = torch.arange(24).view(2, 12)
    for model in (mine, theirs):
        model(input_ids=ids, labels=ids).loss.backward()
    assert close(mine(input_ids=ids).logits, theirs(input_ids=ids).logits)
    for name in names:
        other = theirs.base_model.model.get_submodule(name)
        assert close(mine.get_submodule(name).A.grad, other.lora_A["default"].weight.grad)


@pytest.mark.parametrize("targets", [["q_proj", "v_porj"], "lm_head", [], "q"])
def test_unknown_targets_list_the_valid_ones(targets):
    model = tiny_model(vocab_size=101)
    with pytest.raises(LabError, match="down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"):
        lora.attach(model, targets, 4, 8)
    assert all(p.requires_grad for p in model.parameters())


def test_a_bad_rank_leaves_the_model_alone():
    model = tiny_model(vocab_size=101)
    with pytest.raises(LabError, match="larger than 16"):  # k and v are 16 x 32
        lora.attach(model, "all-linear", 17, 8)
    assert not any(isinstance(m, lora.LoRALinear) for m in model.modules())
    assert len(lora.attach(model, ["q_proj"], 17, 8)) == 2


# ---------------------------------------------------------------- spectra


def test_energy_and_rank():
    values = [3.0, 2.0, 1.0]
    assert lora.energy_curve(values) == pytest.approx([9 / 14, 13 / 14, 1])
    assert [lora.rank_for_energy(values, share) for share in (0.1, 9 / 14, 0.65, 13 / 14, 0.95, 1)] == [
        1, 1, 2, 2, 3, 3,
    ]  # fmt: skip
    assert lora.energy_curve(values[::-1]) == pytest.approx(lora.energy_curve(values))
    for share in (0, -1, 1.1):
        with pytest.raises(LabError, match="share"):
            lora.rank_for_energy(values, share)
    with pytest.raises(LabError, match="zero"):
        lora.energy_curve([0.0, 0.0])


def test_error_is_that_of_the_best_approximation():
    torch.manual_seed(0)
    matrix = torch.randn(20, 30, dtype=torch.float64)
    U, S, V = torch.linalg.svd(matrix, full_matrices=False)
    for rank in (1, 7, 20):
        error = (matrix - (U[:, :rank] * S[:rank]) @ V[:rank]).norm() / matrix.norm()
        assert lora.error_at(S, rank) == pytest.approx(error.item(), abs=1e-7)


@pytest.mark.parametrize("shape", [(192, 576), (576, 576), (1536, 576)])
def test_random_spectrum_is_that_of_random_signs(shape):
    signs = torch.randn(*shape, generator=torch.Generator().manual_seed(0)).sign()
    real, law = torch.linalg.svdvals(signs).numpy(), lora.random_spectrum(*shape)
    assert law.shape == real.shape
    assert law[0] == pytest.approx(real[0], rel=0.02)
    # Single values near the edges scatter from draw to draw; the shares of energy, which are used, do not.
    assert np.abs(lora.energy_curve(law) - lora.energy_curve(real)).max() < 0.005
    assert (law**2).sum() == pytest.approx(shape[0] * shape[1], rel=1e-3)
    assert abs(lora.rank_for_energy(law, 0.9) - lora.rank_for_energy(real, 0.9)) <= 1


# ---------------------------------------------------------------- alpha, learning rate, rank


def worst(one, other):
    return max(lora.apart(one, other, step) for step in range(1, len(one)))


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
    doubled = lora.toy_updates(optimizer, 32, lr, lr, steps=60)
    other = lora.toy_updates(optimizer, 16, rate_a * lr, rate_b * lr, a_factor, steps=60)
    assert worst(doubled, other) < 1e-9
    assert doubled[60].norm() > 0.1


@pytest.mark.parametrize(("optimizer", "lr", "factor"), [("adam", 2e-4, 2), ("sgd", 1e-2, 4)])
def test_inexact_rule_holds_for_one_step_only(optimizer, lr, factor):
    doubled = lora.toy_updates(optimizer, 32, lr, lr, steps=60)
    other = lora.toy_updates(optimizer, 16, factor * lr, factor * lr, steps=60)
    assert lora.apart(doubled, other, 1) < 1e-12
    assert lora.apart(doubled, other, 60) > 0.05
    wrong = lora.toy_updates(optimizer, 16, 6 // factor * lr, 6 // factor * lr, steps=1)  # 3, 1
    assert lora.apart(doubled, wrong, 1) > 0.4


def test_weight_decay_breaks_the_identity_a_little():
    rates = {"lr_a": 2e-4, "lr_b": 2e-4}
    doubled = lora.toy_updates("adam", 32, **rates, weight_decay=0.1)
    root = 2**0.5
    other = lora.toy_updates("adam", 16, root * 2e-4, root * 2e-4, root, weight_decay=0.1)
    assert 1e-5 < lora.apart(doubled, other, 200) < 1e-2


def test_first_step_by_rank():
    def growth(optimizer, alpha, rslora=False):
        one, other = (lora.first_step(optimizer, r, alpha(r), rslora) for r in (16, 64))
        return other / one

    assert 0.75 < growth("adam", lambda r: 32) < 1
    assert 3 < growth("adam", lambda r: 2 * r) < 4
    assert 0.75 < growth("sgd", lambda r: 32, True) < 1
    assert 0.18 < growth("sgd", lambda r: 32) < 0.25


# ---------------------------------------------------------------- the spectrum experiment in small


@pytest.fixture(scope="module")
def small(tmp_path_factory, tokenizer):
    """The experiment on a random two-layer Llama: the folder with its published record."""
    folder = tmp_path_factory.mktemp("spectrum")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiments, "PUBLISHED", folder)
        patch.setattr(files, "RUNS", folder / "runs")
        patch.setattr(spectrum_experiment, "STEPS", 3)
        patch.setattr(spectrum_experiment, "BATCH", 2)
        patch.setattr(spectrum_experiment, "LAYERS", (0, 1))
        patch.setattr(spectrum_experiment, "VALIDATION_FAMILIES", 4)
        patch.setattr(spectrum_experiment, "LEARNING_RATES", {"adamw": 1e-2, "sgd": 1.0})
        patch.setattr("labsupport.models.base_model.load", lambda **options: (tiny_model(), tokenizer))
        experiments.run("spectrum")
        experiments.publish("spectrum")
    return folder


def test_record(small):
    cells = json.loads((small / "spectrum.json").read_text())["cells"]
    assert [cell["cell"] for cell in cells] == spectrum_experiment.CELLS
    for cell in cells:
        metrics = cell["metrics"]
        assert len(metrics["losses"]) == 3
        assert len(metrics["matrices"]) == 14 == len(metrics["singular_values"])
        for matrix in metrics["matrices"]:
            assert matrix["energy"] == sorted(matrix["energy"]) and matrix["energy"][-1] == 1
            values = spectrum_experiment.from_text(
                metrics["singular_values"][f"{matrix['layer']}.{matrix['module']}"]
            )
            assert len(values) == min(matrix["shape"])
            assert lora.rank_for_energy(values, 0.9) == matrix["rank_90"]
    right, sgd, shuffled = (cell["metrics"] for cell in cells)
    assert right["losses"][0] == sgd["losses"][0] != shuffled["losses"][0]
    assert "cut" not in sgd and set(right["cut"]) == set(map(str, spectrum_experiment.CUTS))
    cuts = {int(k): np.mean(v) for k, v in right["cut"].items()}
    assert all(len(values) == 4 for values in right["cut"].values())
    assert cuts[576] < cuts[0]  # it has learned something
    assert cuts[64] == pytest.approx(cuts[576], rel=1e-4)  # no matrix has more than 32


def test_shuffled_rows_are_the_same_messages_with_others_labels():
    right, shuffled = (
        spectrum_experiment.training_rows("right"),
        spectrum_experiment.training_rows("shuffled"),
    )
    assert [row["text"] for row in right] == [row["text"] for row in shuffled]
    assert sorted(row["intent"] for row in right) == sorted(row["intent"] for row in shuffled)
    assert sum(a["intent"] != b["intent"] for a, b in zip(right, shuffled, strict=True)) > len(right) / 2


def test_explorer(small, monkeypatch):
    monkeypatch.setattr(experiments, "PUBLISHED", small)
    monkeypatch.setattr(spectrum_experiment, "LAYERS", (0, 1))
    low_rank_explorer.record.cache_clear()
    view = low_rank_explorer.view("SGD", 1, "down_proj", rank=32)
    assert view.heading.startswith("Rank 32 keeps 100.0 % of the energy of this 32 x 64 update")
    assert view.table[0]["parameters"] == "3,072 of 2,048 (150.0 %)"
    assert [row[""] for row in view.table] == ["this update", "random signs"]
    explorer = low_rank_explorer.explore(layer=0, module="k_proj", rank=2)
    before = explorer.out.value
    explorer.controls["rank"].value = 3
    assert "Rank 3 keeps" in explorer.out.value != before
    explorer.controls["rank"].value = 17  # k is 16 x 32
    assert "larger than 16" in explorer.out.value and "<img" not in explorer.out.value
    with pytest.raises(LabError, match="Unknown module 'lm_head'.*q_proj"):
        low_rank_explorer.view(layer=0, module="lm_head")
    with pytest.raises(LabError, match="Unknown arm"):
        low_rank_explorer.view("Lion", 0)
    low_rank_explorer.record.cache_clear()


def test_explorer_without_a_record_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(experiments, "PUBLISHED", tmp_path)
    low_rank_explorer.record.cache_clear()
    assert "missing or damaged" in low_rank_explorer.explore().out.value


# ---------------------------------------------------------------- questions and claims


def test_questions():
    assert [q.id for q in questions.QUESTIONS] == ["02.1", "02.2", "02.3", "02.4"]
    assert questions.QUESTIONS[0].answer() == 576 * 8
    for question in questions.QUESTIONS[1:3]:
        assert sum(choice.right for choice in question.choices) == 1


def test_identities_hold_in_the_verified_claims():
    from labsupport.notebooks.nb02_lora_math import claims as verifications

    assert verifications.a2() == "A takes 1,536 numbers down to 16, B takes these up to 576"
    assert re.search(r"below 1e-09$", verifications.c1())
    assert verifications.n3().endswith("16")
