"""The learner's data file: what counts as a row, and errors that name file and line."""

import itertools
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
        (b'{"a": 1}\n' * 100_000 + b'"\xff"', "is not UTF-8 text (byte 900001)"),
        ('{\n "a": 1\n}', "line 1, is not JSON"),
        ("question,answer\nwhat,that", "line 1, is not JSON"),
        ('{"a": ' + "9" * 5000 + "}", "line 1, is not JSON"),
        ('{"data": [{"text": "a"}, {"text": "b"}]}', "line 1, holds 2 rows at once, under 'data'"),
        ('{"a": 1}\n7', "line 2, holds 7, which is no row"),
        ("null", "line 1, holds None, which is no row"),
        ('["a"]\n["b"', "begins like a JSON array and is not JSON"),
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


def test_lines_may_be_an_array_each(tmp_path):
    assert row_lengths(written(tmp_path, '["1234", "5678"]\n["1"]\n')) == [2, 1]


def test_a_row_of_messages_is_one_row(tmp_path):
    row = {"messages": [{"role": "user", "content": "12"}, {"role": "assistant", "content": "34"}]}
    assert row_lengths(written(tmp_path, json.dumps(row))) == [5]


def test_what_is_no_file_is_not_read(tmp_path):
    for path in (tmp_path, *([Path("/dev/zero")] if Path("/dev/zero").exists() else [])):
        with pytest.raises(LabError, match="is no file: give JSON Lines"):
            row_lengths(path)


@given(st.one_of(st.binary(), st.text().map(str.encode)))
def test_any_bytes_are_rows_or_one_line(content):
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder), content)
        try:
            assert all(length >= 1 for length in row_lengths(path))
        except LabError as error:
            assert "\n" not in str(error)
