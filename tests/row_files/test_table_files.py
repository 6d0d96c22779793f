"""CSV and Parquet: separators, quotes, line numbers, and what is no table."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labsupport.core.files import LabError
from labsupport.row_files.table_rows import BATCH
from labsupport.training_data.reading import Rows


def read(folder, content, name="a.csv"):
    path = folder / name
    path.write_text(content, encoding="utf-8", newline="")
    return [(where, row) for _, where, row in Rows(path)]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_header_says_what_separates(tmp_path, separator):
    table = f'prompt{separator}completion\n"a, b; c"{separator}"d"\n'
    assert read(tmp_path, table) == [("line 2", {"prompt": "a, b; c", "completion": "d"})]


def test_a_row_is_found_where_it_starts(tmp_path):
    table = '\ufeffprompt,completion\r\n"a\nb","says ""x"""\r\n\r\nc,\r\n"d\r\ne",f\r\n'
    assert read(tmp_path, table) == [
        ("line 2", {"prompt": "a\nb", "completion": 'says "x"'}),
        ("line 5", {"prompt": "c", "completion": ""}),
        ("line 6", {"prompt": "d\r\ne", "completion": "f"}),
    ]


def test_columns_that_a_spreadsheet_left_empty_at_the_end(tmp_path):
    assert read(tmp_path, "prompt,completion,,\na,b,,\nc,d,,e\n") == [
        ("line 2", {"prompt": "a", "completion": "b"}),
        ("line 3", {"prompt": "c", "completion": "d", "column 4": "e"}),
    ]


def test_what_excel_and_pandas_add_is_no_harm(tmp_path):
    assert read(tmp_path, "sep=;\nprompt;completion\na;b\n") == [
        ("line 3", {"prompt": "a", "completion": "b"})
    ]
    assert read(tmp_path, ",prompt\n0,a\n") == [("line 2", {"": "0", "prompt": "a"})]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("prompt,completion\na,b\nc,d,e\n", "line 3: 3 cells where the header has 2"),
        ("prompt,completion\na,b\nc\n", "line 3: 1 cell where the header has 2"),
        ('prompt,completion\na,b\n"c,d\ne,f\n', "line 3: a quote opens in this row and never closes"),
        ("1,2\n3,4\n", "line 1: it names no columns. Put a header first"),
        (f"{'How do I return it? ' * 9},b\nc,d\n", "line 1: a text stands where the first column names"),
        ("a,b,a\n1,2,3\n", "line 1: two columns are named 'a'"),
        ("prompt,completion\n", "has no rows"),
        ("prompt,completion\ra,b\rc,d\r", "line breaks are those of old Macs"),
    ],
)
def test_a_broken_table_is_named(tmp_path, table, said):
    with pytest.raises(LabError) as error:
        read(tmp_path, table)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_parquet_with_nested_messages(tmp_path):
    rows = [{"messages": [{"role": "user", "content": str(i)}], "n": i} for i in range(BATCH + 5)]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    data = Rows(path)
    assert [row for _, _, row in data] == rows
    assert data.fraction == 1.0


def test_a_parquet_file_with_a_flipped_byte_is_said(tmp_path):
    path = tmp_path / "a.parquet"
    table = pa.table({"text": [f"text {i}" for i in range(500)]})
    pq.write_table(table, path, compression="none", use_dictionary=False, write_page_checksum=True)
    content = bytearray(path.read_bytes())
    content[content.index(b"text 77")] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(LabError, match="is a damaged Parquet file"):
        list(Rows(path))
