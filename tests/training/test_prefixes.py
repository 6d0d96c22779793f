"""What rows share is run once, and nothing else changes."""

import copy
from types import SimpleNamespace

import pytest
import torch
from tiny_training import tiny_model

from labsupport.models import chat
from labsupport.training import prefixes

COMMON = [5, 6, 7, 8, 9]


def tiny(attention: str = "eager", dtype=torch.float32):
    # An initializer_range of 0.02, the default, would make all tokens equally likely.
    return tiny_model(vocab_size=50, attn_implementation=attention, initializer_range=0.2).to(dtype)


def row(prompt: list[int], answer: list[int]) -> dict:
    return {"input_ids": prompt + answer, "labels": chat.labels(prompt + answer, len(prompt))}


BATCHES = {
    "one row": [row([*COMMON, 1, 2], [3, 4])],
    "two rows": [row([*COMMON, 1, 2], [3, 4]), row([*COMMON, 11, 12, 13, 14], [3, 15, 16])],
    "three rows, one a beginning of another": [
        row([*COMMON, 1], [3]),
        row([*COMMON, 1, 2], [4, 17]),
        row([*COMMON, 18], [3, 4]),
    ],
    "the same prompt twice": [row([*COMMON, 1], [3, 4]), row([*COMMON, 1], [19, 4])],
    "nothing in common": [row([20, 21, 22], [3]), row([30, 31], [4, 3])],
    "trained from the first token on": [row([], [1, 2, 3]), row([], [1, 2, 4, 5])],
    "a row without an answer, as truncation leaves it": [row([*COMMON, 1], []), row([*COMMON, 2], [3])],
}


def sums(model, batch) -> torch.Tensor:
    """The loss summed over trained tokens, nats; its gradients are left in the model."""
    logits = model(**{name: value for name, value in batch.items() if name != "labels"}).logits
    trained = (batch["labels"][:, 1:] != chat.IGNORED).sum()
    loss = chat.answer_loss(logits, batch["labels"]) * trained if trained else logits.sum() * 0
    loss.backward()
    return loss.detach()


def gradients(model) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", BATCHES)
def test_loss_and_gradients_are_those_of_rows_run_one_by_one(name, attention):
    rows, model = BATCHES[name], tiny(attention)
    expected = sum(sums(model, {key: torch.tensor([value]) for key, value in each.items()}) for each in rows)
    expected_gradients = gradients(model)
    model.zero_grad()
    trainer = SimpleNamespace(model=model, data_collator=None)
    prefixes.share(trainer)
    batch = trainer.data_collator(rows)
    torch.testing.assert_close(sums(model, dict(batch)), expected)
    torch.testing.assert_close(gradients(model), expected_gradients, rtol=1e-4, atol=1e-5)


def test_what_is_shared_is_there_once_and_nothing_is_padded():
    rows = BATCHES["two rows"]
    before = copy.deepcopy(rows)
    batch = prefixes.collate(rows)
    assert rows == before  # not changed in place
    assert batch["input_ids"].tolist() == [COMMON + [1, 2, 3, 4] + [11, 12, 13, 14, 3, 15, 16]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 4, 5, 6, 7, 8, 5, 6, 7, 8, 9, 10, 11]]
    assert (batch["labels"] != chat.IGNORED).sum() == 5


def test_without_labels_every_token_is_trained_as_in_trls_own_batches():
    batch = prefixes.collate([{"input_ids": [1, 2, 3]}, {"input_ids": [1, 4]}])
    assert batch["input_ids"].tolist() == [[1, 2, 3, 1, 4]]
    assert batch["labels"].tolist() == [[chat.IGNORED, 2, 3, chat.IGNORED, 4]]


def test_a_half_precision_model_may_share_too():
    model = tiny(dtype=torch.bfloat16)
    prefixes.share(SimpleNamespace(model=model, data_collator=None))
    batch = prefixes.collate(BATCHES["two rows"])
    own = batch["row_of_token"]
    shared = model(**{k: v for k, v in batch.items() if k != "labels"}).logits[own == 1]
    alone = model(input_ids=torch.tensor([BATCHES["two rows"][1]["input_ids"]])).logits[0, len(COMMON) :]
    torch.testing.assert_close(shared, alone, rtol=0.05, atol=0.05)


def test_a_model_that_shares_runs_plain_batches_as_before():
    model, plain = tiny(), tiny()
    prefixes.share(SimpleNamespace(model=model, data_collator=None))
    ids = torch.tensor([[1, 2, 3], [4, 5, 0]])
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    assert torch.equal(
        model(input_ids=ids, attention_mask=mask).logits, plain(input_ids=ids, attention_mask=mask).logits
    )


def test_the_shared_prefix():
    assert prefixes.shared([[1, 2, 3, 4], [1, 2, 5]]) == [1, 2]
    assert prefixes.shared([[1, 2, 3]]) == [1, 2]  # something must be left to run
    assert prefixes.shared([[1, 2], [1, 2, 3]]) == [1]
    assert prefixes.shared([[7, 1], [8, 1]]) == []
