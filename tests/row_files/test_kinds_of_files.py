"""Files without rows, or not as their names say: one line names file, place and fix."""

import gzip
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labsupport.core.files import LabError
from labsupport.row_files import opening
from labsupport.training_data.reading import Rows

ROW = '{"prompt":"a","completion":"b"}'
LATIN = '{"prompt":"caf\xe9"}'.encode("latin-1")


def read(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(Rows(path))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", "", "is empty"),
        ("a.jsonl", " \n\n", "only blank lines"),
        ("a.jsonl", ROW.encode("utf-16"), "is UTF-16 text"),
        ("a.csv", "prompt,completion\nx,y\n".encode("utf-16-le"), "is UTF-16 text"),
        ("a.jsonl", ROW.encode("utf-32"), "is UTF-32 text"),
        ("a.jsonl", bytes(range(256)), "is a binary file (byte 0 is zero)"),
        (
            "a.csv",
            b"PK\x03\x04...",
            "a ZIP archive or an Excel workbook: unpack it, or save the sheet as CSV",
        ),
        ("a.jsonl", "<!DOCTYPE html>\n<html>", "is a web page: download the file itself"),
        ("a.parquet", "version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("a.parquet", "abc", "is no Parquet file or a damaged one"),
        ("a.parquet", b"PAR1abcPAR1", "is a damaged Parquet file"),
        ("a.txt", "Once upon a time", "neither its name nor its beginning"),
        ("a.jsonl", (ROW + "\n").encode() + LATIN, "line 2: byte 47 of the file (0xe9) is not UTF-8"),
        ("a.json", b'[{"prompt":"a"},\n' + LATIN + b"]", "line 2: byte 32 of the file (0xe9) is not UTF-8"),
        ("a.csv", b"prompt\nx\ncaf\xe9\n", "line 3: byte 13 of the file (0xe9) is not UTF-8"),
        ("a.jsonl.gz", gzip.compress(ROW.encode() * 999)[:-20], "is a damaged .gz file"),
    ],
)
def test_what_is_no_file_of_rows_is_said_in_one_line(tmp_path, name, content, said):
    with pytest.raises(LabError) as error:
        read(tmp_path, name, content)
    assert said in str(error.value)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_missing_and_a_folder(tmp_path):
    (tmp_path / "train.jsonl").write_text(ROW)
    with pytest.raises(LabError, match=r"There is no file .*trian.jsonl. Nearest: train.jsonl"):
        Rows(tmp_path / "trian.jsonl")
    with pytest.raises(LabError, match=r"There is no file .*a.jsonl\.$"):
        Rows(tmp_path / "nowhere" / "a.jsonl")
    with pytest.raises(LabError, match=r"is a folder: name one file in it, such as train.jsonl"):
        Rows(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.json", f"{ROW}\n{ROW}", "lines"),
        ("a.jsonl", f"[{ROW},\n{ROW}]", "json"),
        ("a.csv", f"{ROW}\n{ROW}", "lines"),
        ("a", f"{ROW}\n{ROW}", "lines"),
        ("a.data", "prompt;completion\na;b\na;b", "csv"),
        ("a.jsonl", "\ufeff" + f"{ROW}\r\n{ROW}\r\n", "lines"),
        ("a.jsonl.gz", gzip.compress(f"{ROW}\n{ROW}".encode(), mtime=0), "lines"),
        ("a.jsonl", gzip.compress(f"{ROW}\n{ROW}".encode(), mtime=0), "lines"),
        ("a.tsv.gz", gzip.compress(b"prompt\tcompletion\na\tb\na\tb\n", mtime=0), "csv"),
    ],
)
def test_the_content_says_what_a_file_is(tmp_path, name, content, kind):
    rows = read(tmp_path, name, content)
    assert Rows(tmp_path / name).kind == kind
    assert [row for _, _, row in rows] == [{"prompt": "a", "completion": "b"}] * 2


def test_a_file_without_an_end_of_line_is_not_read_without_bound(tmp_path, monkeypatch):
    monkeypatch.setattr("labsupport.row_files.json_rows.MOST", 2**21)
    monkeypatch.setattr("labsupport.row_files.table_rows.MOST", 2**21)
    monkeypatch.setattr(opening, "MOST", 2**21)
    long = "x" * 2**22
    with pytest.raises(LabError, match="line 2: longer than 2 MiB"):
        read(tmp_path, "a.jsonl", f'{ROW}\n{{"prompt": "{long}"}}\n')
    with pytest.raises(LabError, match="row 2: longer than 2 MiB"):
        read(tmp_path, "a.json", f'[{ROW},\n{{"prompt": "{long}"}}]')
    with pytest.raises(LabError, match="line 2: longer than 2 MiB"):
        read(tmp_path, "a.csv", f"prompt,completion\n{long},b\n")
    with pytest.raises(LabError, match="line 2: not CSV"):
        read(tmp_path, "b.csv", 'prompt,completion\n"never closed,b\n' + "line\n" * 2**19)


def parquet():
    file = io.BytesIO()
    pq.write_table(pa.table({"prompt": ["a", "b"], "completion": ["c", "d"]}), file, write_page_checksum=True)
    return file.getvalue()


WHOLE = {
    "a.jsonl": f"{ROW}\n{ROW}\n".encode(),
    "a.json": f'{{"n": [1], "data": [{ROW}, {ROW}]}}'.encode(),
    "a.csv": b'prompt,completion\n"a\nb",c\n',
    "a.jsonl.gz": gzip.compress(f"{ROW}\n{ROW}\n".encode()),
    "a.parquet": parquet(),
}


@settings(max_examples=400)
@given(
    st.sampled_from(list(WHOLE)),
    st.floats(0, 1),
    st.binary(max_size=3) | st.sampled_from([b'"', b"{", b"}", b"[", b"]", b",", b"\n", b"\xff\xfe", b"\r"]),
    st.integers(0, 12),
)
def test_a_damaged_file_is_read_or_refused_in_one_line(tmp_path_factory, name, share, put, cut):
    folder = tmp_path_factory.mktemp("damaged")
    at = int(share * len(WHOLE[name]))
    try:
        rows = read(folder, name, WHOLE[name][:at] + put + WHOLE[name][at + cut :])
    except LabError as error:
        assert name in str(error) and "\n" not in str(error)
    else:
        assert all(isinstance(row, dict) for _, _, row in rows)
