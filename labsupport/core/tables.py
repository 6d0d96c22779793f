"""Tables that read well everywhere: HTML with a caption, and the same as plain text."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable, Sequence

from labsupport.core.text import number

# A cell that begins like a quantity: 12.4 %, -0.3, ~5 GiB, +8.3 points, < 0.1, [2, 7] and a dash for nothing.
QUANTITY = re.compile(r"[-+±~<>≤≥\[ ]*(\d|\.\d|–$|$)")

LONGEST_UNIT = 12  # letters


class Table:
    """Rows under headings, with a caption; a notebook shows it as HTML, a terminal as text.

    Columns of quantities are aligned right, others left; the first column heads its row.
    """

    def __init__(self, headings: Sequence[str], rows: Iterable[Sequence], caption: str = ""):
        self.headings = [str(heading) for heading in headings]
        self.rows = [[written(cell) for cell in row] for row in rows]
        self.caption = caption
        for row in self.rows:
            if len(row) != len(self.headings):
                raise ValueError(f"{len(self.headings)} headings ({self.headings}), {len(row)} cells: {row}.")
        columns = zip(*self.rows, strict=True)
        self.right = [all(map(is_quantity, column)) for column in columns]
        self.right = self.right or [False] * len(self.headings)

    def _repr_html_(self) -> str:
        sides = ["right" if right else "left" for right in self.right]
        head = "".join(cell("th", text, side, "col") for text, side in zip(self.headings, sides, strict=True))
        lines = ["<table>"]
        if self.caption:
            wide = min(len(self.caption) // 2, 18)  # a narrow table would squeeze it, word below word
            style = f"text-align: left; min-width: {wide}em"
            lines.append(f'<caption style="{style}">{html.escape(self.caption)}</caption>')
        lines += [f"<thead><tr>{head}</tr></thead>", "<tbody>"]
        for first, *others in self.rows:
            body = cell("th", first, sides[0], "row")
            body += "".join(cell("td", text, side) for text, side in zip(others, sides[1:], strict=True))
            lines.append(f"<tr>{body}</tr>")
        return "\n".join([*lines, "</tbody>", "</table>"])

    def __repr__(self) -> str:
        lines = [self.headings, *self.rows]
        widths = [max(map(width, column)) for column in zip(*lines, strict=True)]
        rule = ["-" * width for width in widths]
        text = [
            "  ".join(map(padded, line, widths, self.right)).rstrip() for line in (lines[0], rule, *lines[1:])
        ]
        return "\n".join([self.caption, *text] if self.caption else text)


def is_quantity(text: str) -> bool:
    """Whether a cell is a number with a unit rather than words that begin with one."""
    return bool(QUANTITY.match(text)) and sum(map(str.isalpha, text)) <= LONGEST_UNIT


def written(cell) -> str:
    """Numbers with three digits, None as a dash, all else as it is."""
    if cell is None:
        return "–"
    if isinstance(cell, (int, float)) and not isinstance(cell, bool):
        return number(cell)
    return str(cell)


def cell(tag: str, text: str, side: str, scope: str = "") -> str:
    """One cell; an empty one heads nothing, which screen readers would announce. Its side is said twice:
    notebooks heed the style, and GitHub takes styles off."""
    tag, scope = (tag, scope) if text else ("td", "")
    scope = f' scope="{scope}"' if scope else ""
    return f'<{tag}{scope} align="{side}" style="text-align: {side}">{html.escape(text)}</{tag}>'


def width(text: str) -> int:
    """Columns that a text takes in a terminal."""
    return sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in text if not unicodedata.combining(c))


def padded(text: str, columns: int, right: bool) -> str:
    """The text filled up to so many columns, on its left if `right`."""
    space = " " * (columns - width(text))
    return space + text if right else text + space
