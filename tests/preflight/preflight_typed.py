"""`lab.py preflight` as it is typed, and files for it."""

import csv
import json
from pathlib import Path

from labsupport import cli


def preflight(capsys, *words) -> tuple[int, str, str]:
    """(status, standard output, standard error)."""
    try:
        status = cli.main(["preflight", *map(str, words)])
    except SystemExit as end:
        status = end.code
    said = capsys.readouterr()
    return status, said.out, said.err


def refused(capsys, *words) -> str:
    """The one line that bad input gets."""
    status, out, err = preflight(capsys, *words)
    assert (status, out, err.count("\n")) == (2, "", 1) and "usage" not in err and len(err) < 1000, err
    return err


def document(capsys, *words) -> dict:
    """What --json prints: one document without NaN; its status goes with "clean"."""
    status, out, err = preflight(capsys, *words, "--json")

    def no(constant):
        raise AssertionError(constant)

    found = json.loads(out, parse_constant=no)
    assert (status, err) == (0 if found["clean"] else 1, "")
    return found


def ids(capsys, *words) -> list[str]:
    """The rules that were broken."""
    return [finding["id"] for finding in document(capsys, *words)["findings"]]


def written(path: Path, rows: list[dict]) -> Path:
    """The rows as a file of the kind that its name says."""
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, rows[0].keys())
            table.writeheader()
            table.writerows(rows)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, indent=1))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def flat(rows: list[dict]) -> list[tuple[str, str]]:
    """Question and answer of rows of clean_rows."""
    return [(row["prompt"][0]["content"], row["completion"][0]["content"]) for row in rows]
