"""The rows of a training file, one after another, whichever kind of file it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from labsupport.core.files import LabError, short
from labsupport.row_files import opening
from labsupport.row_files.json_rows import array_rows, line_rows
from labsupport.row_files.table_rows import csv_rows, parquet_rows

TEXT = {"lines": line_rows, "json": array_rows, "csv": csv_rows}


class Rows:
    """The rows of a file: iterating gives (number, where, row) from the first row on, anew each time.

    number: 1 for the first. where: "line 17" in JSON Lines and CSV, else "row 17". row: a dict, as it stands.
    kind: "lines", "json", "csv" or "parquet". fraction: how much of the file the last iteration has read.
    Raises LabError for a file that is none of these, for one without rows, at the first row that is broken.
    One row is in memory at a time (of Parquet a batch).
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        self.kind = opening.kind_of(self.path)
        self.size = self.path.stat().st_size
        self._share, self._raw = 0.0, None

    @property
    def fraction(self) -> float:
        """How much has been read, 0 to 1; for a progress bar."""
        if self._raw is not None and not self._raw.closed:
            return min(1.0, self._raw.tell() / self.size)
        return self._share

    def __iter__(self) -> Iterator[tuple[int, str, dict]]:
        number = 0
        try:
            for number, (where, row) in enumerate(self._rows(), start=1):
                yield number, where, row
        except UnicodeDecodeError as error:
            raise opening.not_utf8(self.path) from error
        except opening.READING as error:
            raise opening.unreadable(self.path, error) from error
        if not number:
            raise LabError(f"{short(self.path)} has no rows: write some to it.")
        self._share = 1.0

    def _rows(self) -> Iterator[tuple[str, dict]]:
        self._share = 0.0
        if self.kind == "parquet":
            yield from parquet_rows(self.path, self._tell)
            return
        file, self._raw = opening.opened(self.path)
        with self._raw, file:
            yield from TEXT[self.kind](file, self.path)

    def _tell(self, share: float) -> None:
        self._share = share
