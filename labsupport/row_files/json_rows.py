"""Rows of JSON Lines, and of a JSON file with an array of rows, without the whole of it in memory."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path

from labsupport.core.files import LabError, short
from labsupport.row_files.opening import BOM, MOST, ROWS, broken, by_columns

DEEPEST = 100  # lists and objects within each other; no chat nests a tenth of it
CHUNK = 2**20
FILLED = re.compile(r"[^ \t\r\n]")
# Columns that only a row has.
COLUMNS = {"messages", "prompt", "conversations", "instruction", "question", "text"}
# The first key of a message, or of a tool that a row may call.
MESSAGE = re.compile(r'\{\s*"(role|from|speaker|content|value|type|name|weight|thinking)"')
decode = json.JSONDecoder().raw_decode


def line_rows(file, path: Path) -> Iterator[tuple[str, dict]]:
    """(where, row) of each line that is not blank. Raises LabError for the first that is no JSON object."""
    number = 0
    while line := file.readline(MOST + 1):
        number += 1
        if len(line) > MOST:
            raise too_long(path, f"line {number}")
        if line.isspace():
            continue
        text = (line.removeprefix(BOM) if number == 1 else line).decode()
        try:
            row = json.loads(text)
        except RecursionError:
            raise too_deep(path, f"line {number}") from None
        except json.JSONDecodeError as error:
            raise broken(path, f"line {number}", *explained(text, error, line)) from None
        except ValueError:  # Python reads numbers of up to 4,300 digits
            raise broken(
                path, f"line {number}", "a number of thousands of digits", "Write it as a text"
            ) from None
        yield f"line {number}", checked(row, text, 0, len(text), path, f"line {number}")


def checked(row, text: str, start: int, end: int, path: Path, where: str) -> dict:
    """The row, if it is an object and not nested too deeply."""
    if not isinstance(row, dict):
        fix = 'A row is an object, such as {"messages": [...]}'
        raise broken(path, where, f"{what_is(row)} and no object", fix)
    if text.count("[", start, end) + text.count("{", start, end) > DEEPEST and is_deep(row):
        raise too_deep(path, where)
    return row


def explained(text: str, error: json.JSONDecodeError, line: bytes = b"\n") -> tuple[str, str]:
    """What is wrong with a line that is no JSON, and what to do about it."""
    said = error.msg[:1].lower() + error.msg[1:]
    what = f"not JSON at character {error.pos + 1} ({said})"
    if text.lstrip()[:2] in ("{'", "['"):
        return what, "It is Python's notation: write rows with json.dumps, not with str"
    if error.msg == "Extra data":
        return what, "Each line is one row: put a line break between two rows, and no comma after one"
    if error.msg.startswith("Invalid control"):
        return what, "Write line breaks and tabs in a string as \\n and \\t: json.dumps does"
    if error.msg.startswith("Invalid \\"):
        return what, "Write a backslash in a string twice: json.dumps does"
    if text.lstrip()[:1] not in ("{", "["):
        return what, "JSON Lines begin with {; give a table a name with .csv"
    if text.strip() in ("{", "["):
        return what, "Each row stands on one line of its own: json.dumps without indent writes it so"
    if not line.endswith(b"\n"):
        return what, "It is the last line: was the file cut off? Write it anew, or remove the line"
    return what, "Write each row with json.dumps, on one line"


def what_is(value) -> str:
    """What a value is, in a word for people who write JSON."""
    if value is None:
        return "null"
    if isinstance(value, float) and value != value:
        return "NaN"
    kinds = {bool: "true or false", str: "a text", list: "a list", dict: "an object", bytes: "bytes"}
    return kinds.get(type(value), "a number" if isinstance(value, int | float) else type(value).__name__)


def is_deep(value) -> bool:
    """Whether lists and objects stand more than DEEPEST within each other."""
    level = [value]
    for _ in range(DEEPEST):
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True


def too_long(path: Path, where: str) -> LabError:
    most = MOST // 2**20
    return broken(path, where, f"longer than {most} MiB", "Shorten it, or put line breaks between the rows")


def too_deep(path: Path, where: str) -> LabError:
    return broken(path, where, f"nested more than {DEEPEST} deep", "Write nested data as a text (json.dumps)")


# ---------------------------------------------------------------- one JSON value with the rows in it


class Window:
    """A piece of a text file, from which JSON values are taken one after another."""

    def __init__(self, file, path: Path):
        self.file, self.path = file, path
        self.decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self.text, self.at, self.line, self.ended = "", 0, 1, False

    def more(self) -> None:
        """Drop what is taken and read on, more at a time the longer a value is."""
        self.line += self.text.count("\n", 0, self.at)
        rest = self.text[self.at :]
        chunk = self.file.read(max(CHUNK, len(rest)))
        self.text, self.at, self.ended = rest + self.decoder.decode(chunk, not chunk), 0, not chunk

    def peek(self) -> str:
        """The next character that is no space, "" at the end."""
        while not (found := FILLED.search(self.text, self.at)):
            self.at = len(self.text)
            if self.ended:
                return ""
            self.more()
        self.at = found.start()
        return self.text[self.at]

    def takes(self, sign: str) -> bool:
        """Take the sign if it comes next."""
        if self.peek() != sign:
            return False
        self.at += 1
        return True

    def need(self, sign: str, said: str) -> None:
        if not self.takes(sign):
            raise self.not_json(said if self.peek() else "the file ends too early", self.at)

    def value(self, where: str):
        """The value that comes next."""
        self.peek()
        while True:
            try:
                value, end = decode(self.text, self.at)
                if end < len(self.text) or self.ended:
                    start, self.at = self.at, end
                    return value, start, end
            except RecursionError:
                raise too_deep(self.path, where) from None
            except json.JSONDecodeError as error:
                # A value that is not all there yet breaks off at the end, or within a text.
                cut_off = error.pos > len(self.text) - 20 or error.msg.startswith("Unterminated")
                if self.ended or not cut_off:
                    at_end = error.pos >= len(self.text.rstrip()) or error.msg.startswith("Unterminated")
                    said = "the file ends too early" if at_end else explained(self.text, error)[0]
                    said = re.sub(r" at character \d+ \((.*)\)", r": \1", said)
                    raise self.not_json(said, error.pos, where) from None
            except ValueError:
                raise self.not_json("a number of thousands of digits", self.at, where) from None
            if len(self.text) - self.at > MOST:
                raise too_long(self.path, where)
            self.more()

    def not_json(self, said: str, at: int, where: str = "") -> LabError:
        line = f"line {self.line + self.text.count(chr(10), 0, at)}"
        place = f"{where} ({line})" if where else line
        return broken(
            self.path, place, said, "Write the file with json.dump, or as JSON Lines, each row on one line"
        )

    def items(self) -> Iterator[tuple]:
        """(value, start, end) of each item of the array that comes next."""
        self.need("[", "no array")
        number = 0
        while not self.takes("]"):
            if number:
                self.need(",", f"not JSON: no comma after row {number}")
                if self.peek() == "]":
                    raise self.not_json(f"not JSON: a comma after the last row, {number}", self.at)
            number += 1
            yield self.value(f"row {number}")


def array_rows(file, path: Path) -> Iterator[tuple[str, dict]]:
    """(where, row) of the rows of one JSON value: an array of rows, an object with one in it, or a row."""
    window = Window(file, path)
    if window.peek() == "{":
        yield from within_object(window)
    else:
        yield from array(window)
    if window.peek():
        raise window.not_json("more than one JSON value in the file", window.at)


def array(window: Window) -> Iterator[tuple[str, dict]]:
    for number, (row, start, end) in enumerate(window.items(), start=1):
        where = f"row {number}"
        yield where, checked(row, window.text, start, end, window.path, where)


def within_object(window: Window) -> Iterator[tuple[str, dict]]:
    """The rows of the first array of objects, unless they are messages: then the object is itself a row."""
    row, found = {}, None
    window.need("{", "no object")
    while not window.takes("}"):
        if row or found:
            window.need(",", "not JSON: no comma between two fields")
        key = window.value("a field")[0]
        window.need(":", "not JSON: no colon after a field's name")
        if not begins_rows(window, key) or (key not in ROWS and row.keys() & COLUMNS):
            row[key] = window.value("row 1")[0]
        elif found is None:
            found = key
            yield from array(window)
        elif found in ROWS:
            for _ in window.items():
                pass
        else:
            raise broken(window.path, f"{found!r} and {key!r}", "both hold rows", "Write a file of each")
    if found is None:
        check_single(row, window.path)
        text = json.dumps(row)
        yield "row 1", checked(row, text, 0, len(text), window.path, "row 1")
        yield from one_after_another(window)


def one_after_another(window: Window) -> Iterator[tuple[str, dict]]:
    """The rows after a first one, each over several lines: no standard, but `datasets` reads it."""
    number = 1
    while window.peek() == "{":
        number += 1
        row, start, end = window.value(f"row {number}")
        yield f"row {number}", checked(row, window.text, start, end, window.path, f"row {number}")


def begins_rows(window: Window, key: str) -> bool:
    """Whether an array of objects comes next that are no messages. Takes nothing."""
    if window.peek() != "[":
        return False
    while not (found := FILLED.search(window.text, window.at + 1)) and not window.ended:
        window.more()
    if not found or found[0] != "{":
        return False
    while len(window.text) - found.start() < 200 and not window.ended:
        window.more()
        found = FILLED.search(window.text, window.at + 1)
    return key in ROWS or not MESSAGE.match(window.text, found.start())


def check_single(row: dict, path: Path) -> None:
    """LabError for a table written column by column, and for an object without anything."""
    if by_columns(row):
        fix = "write one object a row (pandas: to_json(path, orient='records', lines=True))"
        raise LabError(f"{short(path)} holds one list a column and no rows: {fix}.")
    if not row:
        raise LabError(f"{short(path)} has no rows: it is an empty object.")
