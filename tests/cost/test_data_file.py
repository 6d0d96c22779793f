"""The learner's data file: what counts as a row, and errors that name file and line."""

import itertools
import json

import pytest

from labsupport.core.files import LabError
from labsupport.cost.data_file import padded_length, row_lengths


def written(tmp_path, content: bytes | str):
    path = tmp_path / "mine.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_a_row_is_a_line_and_a_token_four_characters(tmp_path):
    assert row_lengths(written(tmp_path, '{"text": "12345"}\n\n{"a": ["1234", {"b": 12}]}\n')) == [2, 2]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\u0085", "\x0b"])
def test_characters_that_end_lines_elsewhere_end_none_here(tmp_path, separator):
    text = json.dumps({"text": f"ab{separator}cd"}, ensure_ascii=separator == "\x0b")
    assert row_lengths(written(tmp_path, f"{text}\n{text}\n")) == [2, 2]


def test_a_byte_order_mark_is_no_text(tmp_path):
    assert row_lengths(written(tmp_path, b'\xef\xbb\xbf{"text": "1234"}\r\n{"text": "1"}')) == [1, 1]


@pytest.mark.parametrize("indent", [None, 1])
def test_a_json_array_is_its_items(tmp_path, indent):
    rows = [{"text": "1234"}, {"text": "12345678"}, {"text": "1"}]
    assert row_lengths(written(tmp_path, json.dumps(rows, indent=indent))) == [1, 2, 1]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "mine.jsonl holds no rows"),
        ("[]", "mine.jsonl holds no rows"),
        ('{"a": 1}\n{"a": }', "mine.jsonl, line 2, is not JSON"),
        ('[{"a": 1}', "mine.jsonl begins like a JSON array and is not JSON"),
        ("[" * 100_000, "begins like a JSON array and is nested too deeply"),
        ('{"a": ' * 100_000, "line 1, is nested too deeply"),
        (b'{"a": "\xff"}', "is not UTF-8 text (byte 7)"),
    ],
)
def test_what_is_broken_is_named(tmp_path, content, problem):
    with pytest.raises(LabError) as caught:
        row_lengths(written(tmp_path, content))
    assert problem in str(caught.value) and "\n" not in str(caught.value)


def test_the_length_of_filled_up_rows_is_that_of_the_longest_drawn():
    lengths = [10, 20, 30, 100]
    assert padded_length(lengths, 1) == 40  # a row alone is as long as it is
    draws = list(itertools.product(lengths, repeat=3))
    assert padded_length(lengths, 3) == round(sum(map(max, draws)) / len(draws))
    assert padded_length([7] * 5, 4) == 7 and padded_length(lengths, 1000) == 100


def test_a_row_has_a_token_for_four_characters_of_its_values(tmp_path):
    rows = [{"prompt": "x" * 300, "completion": "y" * 100}, {"turns": [{"text": "abcde"}]}, {"empty": ""}]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    assert row_lengths(written(tmp_path, text)) == [100, 2, 1]


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(LabError, match="Cannot read"):
        row_lengths(tmp_path / "no")
