"""Forgetting measured: NLL equal to the model's own loss, KL equal to torch's, zero where nothing moved."""

import pytest
import torch
from tiny_training import tiny_model

from labsupport.evaluation import general_text
from labsupport.tasks import general


@pytest.fixture(scope="module")
def passages():
    rows = general.load()
    chat = next(row for row in rows if row["kind"] == "chat")
    return [row for row in rows if row["kind"] in ("poem", "recipe")][:3] + [chat]


def test_nothing_moved(tokenizer, passages):
    model = tiny_model()
    found = general_text.compared(model, tokenizer, passages, general_text.logits(model, tokenizer, passages))
    assert [row["kl"] for row in found] == pytest.approx([0.0] * 4, abs=1e-6)


def test_nll_is_the_models_own_loss(tokenizer, passages):
    model = tiny_model().eval()
    reference = general_text.logits(model, tokenizer, passages)
    for row, found in zip(
        passages, general_text.compared(model, tokenizer, passages, reference), strict=True
    ):
        ids, first = general.encode(row, tokenizer)
        labels = torch.tensor([[-100] * first + ids[first:]])
        with torch.no_grad():
            loss = model(input_ids=torch.tensor([ids]), labels=labels).loss.item()
        assert found["tokens"] == len(ids) - first
        assert found["nll"] == pytest.approx(loss * found["tokens"], rel=1e-4)


def test_divergence_is_torchs_and_runs_from_before_to_after(tokenizer, passages):
    before, after = tiny_model(0).eval(), tiny_model(1).eval()
    with torch.no_grad():  # surer of itself, so that the two directions differ
        after.get_input_embeddings().weight.mul_(20)
    reference = general_text.logits(before, tokenizer, passages)
    [found] = general_text.compared(after, tokenizer, passages[:1], reference[:1])
    q = general_text.logits(after, tokenizer, passages[:1])[0].log_softmax(-1)
    p = reference[0].log_softmax(-1)
    expected = torch.nn.functional.kl_div(q, p, log_target=True, reduction="sum").item()
    assert found["kl"] == pytest.approx(expected, rel=1e-4)
    assert found["kl"] > 0
    [other_way] = general_text.compared(before, tokenizer, passages[:1], [q])
    assert other_way["kl"] != pytest.approx(found["kl"], rel=1e-3)


def test_what_is_scored_is_enough_and_never_replayed(tokenizer):
    scored, replayed = general_text.held_out(general.load())
    assert not {row["id"] for row in scored} & {row["id"] for row in replayed}
    assert len(scored) + len(replayed) == len(general.load())
    assert {row["kind"] for row in scored} == {row["kind"] for row in replayed} == set(general.KINDS)
    lengths = [len(ids) - first for ids, first in (general.encode(row, tokenizer) for row in scored)]
    assert sum(lengths) == 20_130
