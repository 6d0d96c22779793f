"""A short full fine-tune: what is trained on, what a cut leaves, and what the published record rests on."""

import statistics

import pytest
import torch
from tiny_training import tiny_model

from labsupport.evaluation import experiments, scoring
from labsupport.models import chat
from labsupport.sizes import counting
from labsupport.updates import full_update


def test_trained_on_values_means_no_key_no_bracket_and_no_end(tokenizer):
    row = full_update.training_rows(1)[0] | {"product": None}
    example = chat.encode_example(tokenizer, row)
    every, values = (full_update.trained_labels(example, tokens) for tokens in ("all", "values"))
    assert len(every) == len(values) == len(example.ids)
    assert all(label in (chat.IGNORED, token) for label, token in zip(values, example.ids, strict=True))
    assert [label for label in every if label != chat.IGNORED] == example.targets
    text = "".join(tokenizer.decode([label]) for label in values if label != chat.IGNORED)
    assert row["intent"] in text and row["urgency"] in text and "null" in text
    assert not any(key in text for key in ("intent", "product", "order", "urg", "{", "<|im_end|>"))


def small_run(tokenizer, optimizer="adamw", rate=1e-2):
    model = tiny_model()
    before = full_update.freeze_all_but_linears(model)
    rows = full_update.training_rows(6)
    losses = full_update.train(model, tokenizer, rows, 2, optimizer, rate, "all")
    return model, before, rows, losses


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_only_the_projections_are_trained(tokenizer, optimizer):
    model, before, _, losses = small_run(tokenizer, optimizer, {"adamw": 1e-2, "sgd": 1.0}[optimizer])
    fresh = dict(tiny_model().named_parameters())
    assert {name.split(".")[-2] for name in before} == set(counting.ALL_LINEAR)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, fresh[name]) != (name in before), name
        assert name not in before or torch.equal(before[name], fresh[name])
    assert len(losses) == 3 and losses[-1] < losses[0]


def test_cut_to_rank_0_is_the_model_of_before_and_the_full_rank_is_the_trained_one(tokenizer):
    model, before, rows, _ = small_run(tokenizer)
    trained = [score["nll"]["all"] for score in scoring.score(model, tokenizer, rows)]
    untrained = [score["nll"]["all"] for score in scoring.score(tiny_model(), tokenizer, rows)]
    svds = full_update.factors(model, before)
    none, full = (full_update.scored_at(rank, model, tokenizer, rows, before, svds) for rank in (0, 32))
    assert none["all"] == pytest.approx(untrained, abs=1e-3)
    assert full["all"] == pytest.approx(trained, abs=1e-2) and trained != pytest.approx(untrained, abs=1)
    full_update.scored_at(3, model, tokenizer, rows, before, svds)
    for name, weight in before.items():
        assert torch.linalg.matrix_rank(model.get_parameter(name) - weight, rtol=1e-4) == 3


def published(optimizer: str, answers: str, tokens: str) -> dict:
    cells = experiments.published("spectrum")["cells"]
    wanted = {"optimizer": optimizer, "answers": answers, "tokens": tokens}
    return next(cell["metrics"] for cell in cells if cell["cell"] == wanted)


def test_the_published_arms_of_adamw_and_sgd_moved_as_far():
    """The experiment says so: the median relative size within 5 %, on the same rows."""
    arms = [published(optimizer, "right", "all") for optimizer in ("adamw", "sgd")]
    sizes = [statistics.median(matrix["relative_size"] for matrix in arm["matrices"]) for arm in arms]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.05)
    assert arms[0]["losses"][0] == arms[1]["losses"][0]
    assert arms[0]["cut"]["0"] == arms[1]["cut"]["0"]


def test_the_published_control_cannot_read_the_message():
    """Shuffled answers: trained on the same tokens, and worse than right ones on every field that copies."""
    right, shuffled = (published("adamw", answers, "values") for answers in ("right", "shuffled"))
    for field in ("product", "order_id"):
        ends = [statistics.mean(arm["cut_by_field"]["576"][field]) for arm in (right, shuffled)]
        assert ends[0] + 1 < ends[1]
