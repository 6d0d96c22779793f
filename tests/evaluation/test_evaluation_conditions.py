"""Asking under other conditions: scores do not depend on padding, replies do where it stands on the right."""

import pytest
from tiny_training import tiny_model, train_rows

from labsupport.evaluation import conditions, scoring


@pytest.fixture(scope="module")
def model():
    return tiny_model(attn_implementation="eager").eval()


@pytest.mark.parametrize(("size", "side"), [(1, "left"), (3, "left"), (3, "right")])
def test_forced_scores_are_those_of_the_course(model, tokenizer, size, side):
    rows = train_rows()[:5]
    expected = scoring.score(model, tokenizer, rows)
    found = conditions.score(model, tokenizer, rows, size, side)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours["exact"] == theirs["exact"]
        assert ours["nll"] == pytest.approx(theirs["nll"], rel=1e-4)


def test_replies_come_in_the_order_of_the_texts(model, tokenizer):
    texts = [row["text"] for row in train_rows()[:5]]
    one_by_one = conditions.written(model, tokenizer, texts, 1, longest=6)
    assert conditions.written(model, tokenizer, texts, 3, longest=6) == one_by_one
    assert conditions.written(model, tokenizer, texts[::-1], 2, longest=6) == one_by_one[::-1]


def test_padding_on_the_right_is_kept_on_the_right(tokenizer):
    ids, mask = conditions.padded(tokenizer, [[5, 6, 7], [8]], "right")
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]] and ids[1, 0] == 8
    _, mask = conditions.padded(tokenizer, [[5, 6, 7], [8]], "left")
    assert mask.tolist() == [[1, 1, 1], [0, 0, 1]]
    assert conditions.positions(mask).tolist() == [[0, 1, 2], [0, 0, 0]]
