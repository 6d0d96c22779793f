"""What a file of rows is, told by its first bytes as much as by its name; what is said of other files."""

from __future__ import annotations

import codecs
import difflib
import gzip
import json
import zlib
from pathlib import Path

from labsupport.core.files import LabError, short

MOST = 64 * 2**20  # bytes of a row: an unclosed quote or bracket must not fill the memory
HEAD = 64 * 1024  # bytes from which a file's kind is told
BOM = codecs.BOM_UTF8
NAMES = {".jsonl": "lines", ".ndjson": "lines", ".json": "json", ".csv": "csv", ".tsv": "csv"}
KNOWN = "JSON Lines (.jsonl), JSON, CSV, TSV and Parquet are read"
# An object with rows may name them so; under another name they must be the only ones.
ROWS = {"data", "train", "rows", "examples", "instances", "items", "records", "samples", "dataset"}
READING = (OSError, EOFError, zlib.error)  # what a failing disk or a damaged .gz raises

# How other files begin, what they are, and what to do about it.
OTHERS = (
    (b"PK\x03\x04", "a ZIP archive or an Excel workbook", "unpack it, or save the sheet as CSV UTF-8"),
    (b"%PDF", "a PDF", "write its rows as JSON Lines"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "unpack it with `zstd -d`"),
    (b"BZh", "compressed with bzip2", "unpack it with `bunzip2`"),
    (b"\xfd7zXZ\x00", "compressed with xz", "unpack it with `unxz`"),
    (b"ARROW1", "an Arrow file", "write it with datasets' `to_json` or `to_parquet`"),
    (b"\xff\xff\xff\xff", "an Arrow stream", "write it with `Dataset.from_file(...).to_json(...)`"),
    (b"SQLite format 3\x00", "an SQLite database", "export the table as CSV"),
    (b"\x80\x04", "a Python pickle", "write its rows as JSON Lines"),
    (b"\x80\x05", "a Python pickle", "write its rows as JSON Lines"),
    (b"version https://git-lfs", "a Git LFS pointer and not the data", "fetch the data with `git lfs pull`"),
    (b"<!doctype", "a web page", "download the file itself, by its raw link"),
    (b"<html", "a web page", "download the file itself, by its raw link"),
    (b"<?xml", "XML", "write its rows as JSON Lines"),
)


def kind_of(path: Path) -> str:
    """ "lines" (a JSON object a line), "json" (one JSON value), "csv" or "parquet".

    Raises LabError for what cannot be read, is empty, or is something else.
    """
    try:
        check_file(path)
        with opened(path)[0] as file:
            head = file.read(HEAD)
            whole = not file.read(1)
            check_head(path, head)
            if head.startswith(b"PAR1"):
                return "parquet"
            if path.suffix.lower() == ".parquet":
                raise LabError(f"{short(path)} is no Parquet file or a damaged one (no PAR1): get it anew.")
            check_text(path, head)
            file.seek(0)
            return kind_of_text(path, file, head, whole)
    except READING as error:
        raise unreadable(path, error) from error


def check_file(path: Path) -> None:
    """LabError unless a file is there and has bytes."""
    if path.is_dir():
        inside = sorted(f.name for f in path.iterdir() if f.suffix.lower() in {*NAMES, ".parquet"})[:3]
        such = f", such as {', '.join(inside)}" if inside else ""
        raise LabError(f"{short(path)} is a folder: name one file in it{such}.")
    if not path.exists():
        beside = [f.name for f in path.parent.iterdir()] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, beside[:1000], n=1)
        raise LabError(f"There is no file {short(path)}." + (f" Nearest: {near[0]}." if near else ""))
    if not path.is_file():
        raise LabError(f"{short(path)} is no regular file: write the rows to one.")
    if not path.stat().st_size:
        raise LabError(f"{short(path)} is empty: write the rows to it anew.")


def check_head(path: Path, head: bytes) -> None:
    """LabError for a file that begins as another kind of file does."""
    for first, what, fix in OTHERS:
        if head[: len(first)].lower() == first.lower():
            raise LabError(f"{short(path)} is {what}: {fix}. {KNOWN}.")
    if head[257:262] == b"ustar":
        raise LabError(f"{short(path)} is a tar archive: unpack it and name one file.")


def check_text(path: Path, head: bytes) -> None:
    """LabError for UTF-16, UTF-32 and for bytes that are no text."""
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        wide = "UTF-32"
    elif head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or every_second_is_zero(head):
        wide = "UTF-16"
    elif (at := head.find(0)) >= 0:
        raise LabError(f"{short(path)} is a binary file (byte {at} is zero). {KNOWN}.")
    else:
        return
    fix = f"`iconv -f {wide} -t UTF-8 {path.name} > new{path.suffix}`"
    raise LabError(f"{short(path)} is {wide} text: write it as UTF-8, for example with {fix}.")


def every_second_is_zero(head: bytes) -> bool:
    """Whether this looks like Latin text in UTF-16 without a byte-order mark."""
    zeros = max(head[0:2000:2].count(0), head[1:2000:2].count(0))
    return len(head) >= 4 and zeros > 0.4 * min(len(head), 2000)


def kind_of_text(path: Path, file, head: bytes, whole: bool) -> str:
    start = head.removeprefix(BOM).lstrip()
    if not start and whole:
        raise LabError(f"{short(path)} has no rows: only blank lines.")
    named = NAMES.get(path.with_suffix("").suffix.lower() if is_packed(path) else path.suffix.lower())
    if named == "csv" and not is_json(start):
        return "csv"
    if start[:1] == b"[":
        return "lines" if named == "lines" and is_list_a_line(start) else "json"
    if start[:1] == b"{":
        return kind_of_objects(file, named)
    if named:
        return "lines"  # whose first line is then said to be no JSON
    first = start.split(b"\n", 1)[0]
    if any(sign in first for sign in b",;\t"):
        return "csv"
    raise LabError(f"{short(path)}: neither its name nor its beginning says what it is. {KNOWN}.")


def is_json(start: bytes) -> bool:
    """Whether a file that is named .csv begins with a JSON object or array nevertheless."""
    try:
        return start[:1] in (b"{", b"[") and isinstance(json.loads(start.split(b"\n", 1)[0]), dict | list)
    except (ValueError, RecursionError):
        return False


def is_list_a_line(start: bytes) -> bool:
    """Whether each line is a list, of messages for the most part, which is then said to be no row."""
    first, _, others = start.partition(b"\n")
    return is_json(first) and bool(others.strip())


def kind_of_objects(file, named: str | None) -> str:
    """Of a file that begins with "{": whether each line is a row, or the whole file is one JSON value."""
    lines = (line.removeprefix(BOM).strip() for line in iter(lambda: file.readline(MOST), b""))
    filled = (line for line in lines if line)
    first, second = next(filled), next(filled, b"")
    if len(first) >= MOST - 2:
        return "json"
    try:
        row = json.loads(first)
    except (ValueError, RecursionError) as error:
        # An object that goes on in the next line; but a broken first row is reported as a line.
        at_its_end = getattr(error, "pos", 0) >= len(first.decode(errors="replace")) - 1
        return "json" if second and at_its_end and second[:1] != b"{" else "lines"
    return "lines" if second or (named == "lines" and not (wraps(row) or by_columns(row))) else "json"


def wraps(row: dict) -> bool:
    """Whether an object holds rows under a key rather than being a row."""
    return any(key in ROWS and isinstance(cell, list) for key, cell in row.items())


def by_columns(row: dict) -> bool:
    """Whether an object is a whole table, a list or an object a column, as pandas writes it by default."""
    cells = list(row.values())
    lists = bool(cells) and all(isinstance(cell, list) and len(cell) > 1 for cell in cells)
    if lists and not any(isinstance(item, dict) for cell in cells for item in cell):
        return True
    return bool(cells) and all(isinstance(cell, dict) and "0" in cell for cell in cells)


def is_packed(path: Path) -> bool:
    """Whether the file is compressed with gzip, whatever its name."""
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def opened(path: Path) -> tuple:
    """The file to read from, and the file on the disk, whose position says how far the reading is."""
    raw = path.open("rb")
    if raw.peek(2)[:2] == b"\x1f\x8b":
        return gzip.GzipFile(fileobj=raw), raw
    return raw, raw


def unreadable(path: Path, error: BaseException) -> LabError:
    """The sentence for a file that cannot be opened, or whose end is missing."""
    if isinstance(error, OSError) and error.strerror:
        return LabError(f"Cannot read {short(path)}: {error.strerror}.")
    return LabError(f"{short(path)} is a damaged .gz file ({str(error).strip('.')}): get or write it anew.")


def not_utf8(path: Path) -> LabError:
    """The sentence for a file with bytes that are no UTF-8: it is read again to find the first of them."""
    before = 0
    with opened(path)[0] as file:
        for number, line in enumerate(iter(lambda: file.readline(MOST), b""), start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                where = (
                    f"line {number}: byte {before + error.start + 1:,} of the file ({line[error.start]:#04x})"
                )
                break
            before += len(line)
        else:
            where = "somewhere: a character"
    fix = "if it comes from Windows, `iconv -f CP1252 -t UTF-8` mends it"
    return LabError(f"{short(path)}, {where} is not UTF-8; {fix}.")


def broken(path: Path, where: str, what: str, fix: str) -> LabError:
    """The sentence for a place in a file that is no row."""
    return LabError(f"{short(path)}, {where}: {what}. {fix}.")
