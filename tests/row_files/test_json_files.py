"""JSON Lines and JSON: every row is found, and what is broken is said with its line."""

import json
import tracemalloc

import pytest

from labsupport.core.files import LabError
from labsupport.row_files.json_rows import CHUNK, DEEPEST
from labsupport.training_data.reading import Rows

ROW = '{"prompt":"a","completion":"b"}'


def read(folder, name, content):
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return [(where, row) for _, where, row in Rows(path)]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"prompt": "a" "completion": "b"}', "line 3: not JSON at character 16 (expecting ',' delimiter)"),
        ("{'prompt': 'a'}", "It is Python's notation"),
        (ROW + ROW, "put a line break between two rows"),
        ('{"prompt": "a\tb"}', "Write line breaks and tabs in a string as"),
        ('{"prompt": "C:\\dir"}', "Write a backslash in a string twice"),
        ('["a", "b"]', "line 3: a list and no object"),
        ("null", "line 3: null and no object"),
        ('{"n": ' + "9" * 5000 + "}", "line 3: a number of thousands of digits"),
        ('{"a":' * 5000 + "1" + "}" * 5000, "line 3: nested more than 100 deep"),
        ('{"a":' + "[" * DEEPEST + "]" * DEEPEST + "}", "line 3: nested more than 100 deep"),
    ],
)
def test_a_broken_line_is_named(tmp_path, line, said):
    with pytest.raises(LabError) as error:
        read(tmp_path, "a.jsonl", f"{ROW}\n\n{line}\n{ROW}\n")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_lists_of_messages_a_line_are_no_rows(tmp_path):
    chat = '[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]\n'
    with pytest.raises(LabError, match="line 1: a list and no object. A row is an object, such as"):
        read(tmp_path, "a.jsonl", chat * 3)


def test_a_file_that_was_cut_off(tmp_path):
    with pytest.raises(LabError, match="line 2: .*was the file cut off"):
        read(tmp_path, "a.jsonl", f'{ROW}\n{{"prompt": "a')
    with pytest.raises(LabError, match=r"row 2 \(line 3\): the file ends too early"):
        read(tmp_path, "a.json", f'[{ROW},\n\n{{"prompt": "a')


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (f"[{ROW},\n{ROW[:-1]} x]", "row 2 (line 2): not JSON: expecting ',' delimiter"),
        (f"[{ROW},\n]", "line 2: not JSON: a comma after the last row, 1"),
        (f"[{ROW}\n{ROW}]", "line 2: not JSON: no comma after row 1"),
        (f"[{ROW}] x", "line 1: more than one JSON value"),
        (f"[{ROW}, 7]", "row 2: a number and no object"),
        (f'[{{"n": {"9" * 5000}}}]', "row 1 (line 1): a number of thousands of digits"),
        ("[" * 100_000, "nested more than 100 deep"),
        ("[]", "has no rows"),
        ("{}", "has no rows"),
        ('{"prompt": ["a", "b"], "completion": ["c", "d"]}', "orient='records', lines=True"),
        ('{"prompt": {"0": "a"}, "completion": {"0": "c"}}', "orient='records', lines=True"),
        (f'{{"test": [{ROW}], "more": [{ROW}]}}', "'test' and 'more': both hold rows"),
        (json.dumps(json.loads(ROW), indent=1) + "\n7", "line 5: more than one JSON value"),
    ],
)
def test_a_broken_json_file_is_named(tmp_path, content, said):
    with pytest.raises(LabError) as error:
        read(tmp_path, "a.json", content)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_blank_lines_count_and_are_no_rows(tmp_path):
    assert [where for where, _ in read(tmp_path, "a.jsonl", f"\n{ROW}\n \n{ROW}\n\n")] == ["line 2", "line 4"]


@pytest.mark.parametrize("indent", [None, 2])
def test_rows_under_a_key(tmp_path, indent):
    rows = [{"prompt": str(i), "completion": "b"} for i in range(3)]
    wrapped = {"version": "1", "labels": ["x", "y"], "data": rows, "splits": [{"name": "z"}], "end": None}
    assert read(tmp_path, "a.json", json.dumps(wrapped, indent=indent)) == [
        (f"row {i}", row) for i, row in enumerate(rows, start=1)
    ]


def test_a_single_row_over_many_lines_is_a_row(tmp_path):
    row = {"tools": [{"type": "x"}], "messages": [{"role": "user", "content": "a"}], "sources": [{"id": 7}]}
    assert read(tmp_path, "a.json", json.dumps(row, indent=1)) == [("row 1", row)]


def test_rows_over_many_lines_one_after_another(tmp_path):
    rows = [{"prompt": str(i), "completion": "b"} for i in range(3)]
    text = "\n".join(json.dumps(row, indent=1) for row in rows)
    assert [row for _, row in read(tmp_path, "a.jsonl", text)] == rows


def test_one_line_is_a_row_unless_it_holds_rows(tmp_path):
    row = {"sources": [{"id": 7}], "messages": [{"role": "user", "content": "a"}]}
    assert read(tmp_path, "a.jsonl", json.dumps(row)) == [("line 1", row)]
    assert read(tmp_path, "a.jsonl", json.dumps({"data": [row]})) == [("row 1", row)]
    with pytest.raises(LabError, match="holds one list a column"):
        read(tmp_path, "a.jsonl", '{"prompt": {"0": "a"}, "completion": {"0": "b"}}')


@pytest.mark.parametrize("length", [CHUNK - 20, CHUNK, CHUNK + 3, 3 * CHUNK])
def test_rows_across_the_edges_of_what_is_read_at_a_time(tmp_path, length):
    """Long texts, escapes, numbers and characters of several bytes at an edge."""
    rows = [
        {"prompt": "\u00fc\U0001f600" + "x" * length + "\n", "n": 123456},
        {"prompt": "b", "n": -1.5e3},
    ] * 2
    for plain in (True, False):
        text = json.dumps(rows, ensure_ascii=plain)
        assert [row for _, row in read(tmp_path, "a.json", text)] == rows


def test_memory_does_not_grow_with_the_rows(tmp_path):
    path = tmp_path / "a.json"
    row = {"prompt": "x" * 1000, "completion": "y"}
    peaks = []
    for rows in (4_000, 40_000):  # 4 and 40 MB
        path.write_text(json.dumps([row] * rows))
        tracemalloc.start()
        assert sum(1 for _ in Rows(path)) == rows
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]
