"""Shared and padded batches of any rows are the same training step, and cached and plain scores the same."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_prefixes import gradients, row, tiny

from labsupport.models import chat
from labsupport.training import prefixes

TOKENS = st.integers(1, 49)
ROWS = st.lists(
    st.tuples(st.lists(TOKENS, min_size=1, max_size=5), st.lists(TOKENS, max_size=4)), min_size=1, max_size=3
)


@pytest.fixture(scope="module")
def models():
    """One that pads and one that shares, with the same weights."""
    padding, sharing = tiny(), tiny()
    prefixes.share(SimpleNamespace(model=sharing, data_collator=None))
    return padding, sharing


def padded(rows: list[dict]) -> dict[str, torch.Tensor]:
    """As a trainer pads: on the right, unseen and not learned."""
    longest = max(len(each["input_ids"]) for each in rows)
    columns = {"input_ids": 0, "attention_mask": 0, "labels": chat.IGNORED}
    batch = {name: [] for name in columns}
    for each in rows:
        filled = each | {"attention_mask": [1] * len(each["input_ids"])}
        for name, filler in columns.items():
            batch[name].append(filled[name] + [filler] * (longest - len(filled[name])))
    return {name: torch.tensor(values) for name, values in batch.items()}


def step(model, batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss (mean over trained tokens) and gradients."""
    model.zero_grad()
    logits = model(**{name: value for name, value in batch.items() if name != "labels"}).logits
    loss = chat.answer_loss(logits, batch["labels"])
    loss.backward()
    return loss.detach(), gradients(model)


@settings(max_examples=60)
@given(common=st.lists(TOKENS, max_size=4), parts=ROWS)
def test_loss_and_gradients_of_shared_batches_are_those_of_padded_ones(models, common, parts):
    rows = [row([*common, *prompt], answer) for prompt, answer in parts]
    if not any(answer for _, answer in parts):
        return  # nothing is trained, so there is no mean
    padding, sharing = models
    (loss, slopes), (same_loss, same_slopes) = (
        step(padding, padded(rows)),
        step(sharing, prefixes.collate(rows)),
    )
    torch.testing.assert_close(same_loss, loss)
    torch.testing.assert_close(same_slopes, slopes, rtol=1e-3, atol=1e-5)


@settings(max_examples=60)
@given(common=st.lists(TOKENS, max_size=4), parts=ROWS)
def test_a_shared_batch_is_never_longer_and_trains_the_same_tokens(common, parts):
    rows = [row([*common, *prompt], answer) for prompt, answer in parts]
    batch, plain = prefixes.collate(rows), padded(rows)
    assert batch["input_ids"].numel() <= plain["attention_mask"].sum()
    trained = [batch["labels"][0, 1:], plain["labels"][:, 1:].flatten()]
    shared, expected = (sorted(labels[labels != chat.IGNORED].tolist()) for labels in trained)
    assert shared == expected


@settings(max_examples=60)
@given(st.lists(st.lists(TOKENS, min_size=1, max_size=6), min_size=1, max_size=4))
def test_what_prompts_share_is_the_longest_beginning_that_leaves_something_of_each(prompts):
    shared = prefixes.shared(prompts)
    assert all(prompt[: len(shared)] == shared and len(shared) < len(prompt) for prompt in prompts)
    one_more = len(shared) + 1
    assert len({tuple(p[:one_more]) for p in prompts}) > 1 or any(len(p) == one_more for p in prompts)


@settings(max_examples=30)
@given(common=st.lists(TOKENS, min_size=1, max_size=4), parts=ROWS)
def test_logits_behind_a_cache_are_those_of_the_whole_sequence(models, common, parts):
    model = models[0]
    tokenizer = SimpleNamespace(pad=pad)
    sequences = [[*common, *prompt, 7, *answer] for prompt, answer in parts]
    starts = [len(common) + len(prompt) for prompt, _ in parts]
    cache = prefixes.cache_of(model, common)
    behind = prefixes.answer_logits(model, tokenizer, sequences, starts, cache)
    for own, sequence, start in zip(behind, sequences, starts, strict=True):
        with torch.no_grad():
            whole = model(input_ids=torch.tensor([sequence])).logits[0, start - 1 : -1]
        torch.testing.assert_close(own[-len(whole) :], whole, rtol=1e-4, atol=1e-4)


def pad(batch, padding_side, return_tensors):
    """What a tokenizer's `pad` does: the tiny model has none."""
    assert (padding_side, return_tensors) == ("left", "pt")
    tensors = [torch.tensor(ids) for ids in batch["input_ids"]]
    masks = [torch.ones_like(ids) for ids in tensors]
    fill = torch.nn.utils.rnn.pad_sequence
    options = {"batch_first": True, "padding_side": "left"}
    return {"input_ids": fill(tensors, **options), "attention_mask": fill(masks, **options)}
