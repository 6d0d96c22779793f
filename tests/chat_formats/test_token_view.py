"""A row token by token: told apart without colour, escaped, and the same in text."""

import re

import pytest

from labsupport.chat_formats import token_view

ROW = "<|im_start|>user\nIs 1 <b>?<|im_end|>\n"


@pytest.fixture
def ids(tokenizer):
    return tokenizer(ROW, add_special_tokens=False)["input_ids"]


def test_the_text_shows_runs_and_special_tokens(tokenizer, ids):
    labels = [-100] * 3 + ids[3:-1] + [-100]
    view = token_view.show(tokenizer, ids, labels, "A row")
    lines = repr(view).splitlines()
    assert lines[0] == f"A row: {len(ids) - 4} of {len(ids)} tokens learned ({(len(ids) - 4) / len(ids):.0%})"
    assert lines[1] == "-        «<|im_start|>»|user|↵"
    assert lines[2].startswith("learned  Is|·") and lines[2].endswith("|«<|im_end|>»")
    assert lines[3] == "-        ↵"


def test_html_says_learned_and_special_without_colour(tokenizer, ids):
    shown = token_view.show(tokenizer, ids, ids)._repr_html_()
    assert shown.count("<ins ") == len(ids) + 1  # and one in the legend
    assert "<code>&lt;|im_start|&gt;</code>" in shown
    assert "<b>" not in shown and "&lt;" in shown
    nothing = token_view.show(tokenizer, ids, [-100] * len(ids))._repr_html_()
    assert nothing.count("<ins ") == 1


def test_html_sets_no_ink_of_its_own(tokenizer, ids):
    """So that it is read in a dark theme: grounds are half transparent."""
    shown = token_view.show(tokenizer, ids, ids)._repr_html_()
    assert not re.search(r"(?<!-)\bcolor\s*:", shown)
    assert set(re.findall(r"background: ([^;\"]+)", shown)) == {"rgba(0, 114, 178, 0.28)"}


def test_without_labels_nothing_is_said_about_learning(tokenizer, ids):
    view = token_view.show(tokenizer, ids)
    assert view.heading == f"{len(ids)} tokens"
    assert "learned" not in repr(view) and "learned" not in view._repr_html_()
    assert view.table().headings == ["place", "token", "id"]


def test_the_table_has_a_row_a_token(tokenizer, ids):
    table = token_view.show(tokenizer, ids, ids[:-1] + [-100]).table()
    assert [row[2] for row in table.rows] == [str(i) for i in ids]
    assert table.rows[0] == ["0", "<|im_start|>", "1", "1"] and table.rows[-1][3] == "-100"


def test_tensors_will_do_and_lengths_must_agree(tokenizer, ids):
    import torch

    assert repr(token_view.show(tokenizer, torch.tensor(ids))) == repr(token_view.show(tokenizer, ids))
    with pytest.raises(ValueError):
        token_view.show(tokenizer, ids, ids[1:])
