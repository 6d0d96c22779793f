"""Rows of CSV and Parquet files."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from labsupport.core.files import LabError, short
from labsupport.row_files.json_rows import too_long
from labsupport.row_files.opening import BOM, MOST, broken

SEPARATORS = ",;\t|"
LONGEST_NAME = 100  # characters: what is longer in the first line is a text and no column's name
BATCH = 1024  # rows of a Parquet file at a time, fewer of long ones


class Lines:
    """The lines of a text file, decoded; knows when the last one has been taken."""

    def __init__(self, file, path: Path):
        self.file, self.path, self.number, self.ended = file, path, 0, False

    def __iter__(self):
        return self

    def __next__(self) -> str:
        line = self.file.readline(MOST + 1)
        if not line:
            self.ended = True
            raise StopIteration
        self.number += 1
        if len(line) > MOST:
            raise too_long(self.path, f"line {self.number}")
        return (line.removeprefix(BOM) if self.number == 1 else line).decode()


def csv_rows(file, path: Path) -> Iterator[tuple[str, dict]]:
    """(where, row) of each row below the header, all values str; where is the line on which the row starts.

    The separator is the one of SEPARATORS that makes most columns of the header. Raises LabError for a file
    without a header, a row of another width and a quote that is never closed.
    """
    lines = Lines(file, path)
    header = next((line for line in lines if not line.isspace()), "")
    usual = "\t" if ".tsv" in path.name.lower() else ","
    if header.lower().startswith("sep=") and len(header.strip()) == 5:  # Excel's own first line
        usual, header = header[4], next(lines, "")
    if "\r" in header.removesuffix("\n").removesuffix("\r"):
        fix = "Write line breaks as \\n: `tr '\\r' '\\n'` does"
        raise broken(path, "line 1", "line breaks are those of old Macs (\\r)", fix)
    csv.field_size_limit(MOST)
    separator, names = split_header(header, usual)
    check_header(names, path, lines.number)
    table = csv.reader(lines, delimiter=separator)
    while True:
        start = lines.number + 1
        try:
            cells = next(table, None)
        except csv.Error as error:
            said = f"not CSV ({error})"
            raise broken(
                path, f"line {start}", said, "Is a quote missing in it? Write the file anew"
            ) from None
        if cells is None:
            return
        if lines.ended:
            raise broken(path, f"line {start}", "a quote opens in this row and never closes", QUOTES)
        if len(cells) == len(names):
            yield f"line {start}", as_row(names, cells)
        elif cells:  # blank lines are none
            said = f"{len(cells)} cell{'s' * (len(cells) > 1)} where the header has {len(names)}"
            raise broken(path, f"line {start}", said, QUOTES)


def as_row(names: list[str], cells: list[str]) -> dict[str, str]:
    """Column -> cell. Of several columns without a name, as spreadsheets leave them at the end, those that
    hold something are called "column 3", say."""
    if names.count("") < 2:
        return dict(zip(names, cells, strict=True))
    named = enumerate(zip(names, cells, strict=True), start=1)
    return {name or f"column {place}": cell for place, (name, cell) in named if name or cell}


QUOTES = 'Put cells with separators or line breaks between quotes, and write a quote inside as ""'


def split_header(line: str, usual: str) -> tuple[str, list[str]]:
    """The separator and the columns' names."""
    tried = {sign: next(csv.reader([line], delimiter=sign)) for sign in usual + SEPARATORS}
    sign = max(tried, key=lambda one: len(tried[one]))  # of equals the first, the usual one
    return sign, [name.strip() for name in tried[sign]]


def check_header(names: list[str], path: Path, number: int) -> None:
    """LabError where the first line names no columns."""
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if not any(names) or all(is_number(name) for name in names):
        what = "it names no columns"
    elif any(len(name) > LONGEST_NAME or "\n" in name for name in names):
        what = "a text stands where the first column names should be"
    elif twice is not None:
        what = f"two columns are named {twice!r}"
    else:
        return
    raise broken(path, f"line {number}", what, "Put a header first, such as prompt,completion")


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def parquet_rows(path: Path, tell) -> Iterator[tuple[str, dict]]:
    """(where, row) of each row. tell: called with the share of the rows that is read, 0 to 1."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            rows = file.metadata.num_rows
            groups = [file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups)]
            fitting = MOST * rows // max(1, sum(groups))
            number = 0
            for batch in file.iter_batches(batch_size=max(1, min(BATCH, fitting))):
                if batch.nbytes > MOST and batch.num_rows == 1:
                    raise too_long(path, f"row {number + 1}")
                for row in batch.to_pylist():
                    number += 1
                    yield f"row {number}", row
                tell(number / rows)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        said = " ".join(str(error).split())[:150].rstrip(".")
        raise LabError(f"{short(path)} is a damaged Parquet file ({said}): get or write it anew.") from error
