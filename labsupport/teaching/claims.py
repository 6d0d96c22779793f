"""What the guides claim and what was measured: statements checked as they are printed, and the claims page.

`data/claims.yaml` holds one row a claim: id (the ledger's), claim, guides, notebook, verdict, evidence and
the measured value. `load` checks the rows, `verify` computes one anew, `main` is `lab.py claims`.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.util
import json
import os
import re
import textwrap
from collections import Counter
from pathlib import Path

from labsupport.core import course
from labsupport.core.files import DATA, ROOT, LabError, short

FILE = DATA / "claims.yaml"
KEYS = ("id", "claim", "guides", "notebook", "verdict", "evidence", "measured")
GUIDES = ("000", "001", "002", "003", "004")
NOTEBOOKS = tuple(f"{number:02d}" for number in range(14))
VERDICTS = (
    "holds",
    "wrong",
    "imprecise",
    "not reproduced here",
    "underpowered here",
    "not testable without a GPU",
)
EVIDENCE = ("verify", "cell", "experiment", "paper", "section")
WIDTHS = {"id": 4, "guides": 8, "nb": 2, "verdict": 12, "claim": 31, "measured": 33}  # 100 with the gaps


def expect(statement: str, holds: bool, detail: str = "") -> None:
    """Print whether the statement holds in this run.

    A bigger model may differ, so a failed one only raises AssertionError under LAB_STRICT=1 (the
    tests). TypeError if `holds` is not a single python, numpy or torch bool.
    """
    value = holds.item() if getattr(holds, "shape", None) == () else holds
    if not isinstance(value, bool):
        shape = getattr(holds, "shape", None)
        what = f"{type(holds).__name__} of shape {tuple(shape)}" if shape else repr(holds)
        raise TypeError(f"expect({statement!r}): holds must be True or False, not {what}.")
    sentence = f"{statement} ({detail})" if detail else statement
    print(f"{'holds' if value else 'differs here'}: {sentence}")
    if not value and os.environ.get("LAB_STRICT") == "1":
        raise AssertionError(f"differs here: {sentence}")


# ---------------------------------------------------------------- reading the rows


def load(path: Path | None = None) -> list[dict]:
    """The rows of data/claims.yaml, in the file's order.

    Raises LabError naming file, row and value, and the valid values, at the first fault.
    """
    import yaml

    path = path or FILE
    try:
        rows = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LabError(f"Cannot read {short(path)}: {error.strerror}.") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise LabError(f"{short(path)} is not YAML ({reason}).") from error
    if not isinstance(rows, list) or not rows:
        raise LabError(f"{short(path)} must be a list of rows with the keys {', '.join(KEYS)}.")
    tags, seen = cell_tags(), set()
    for number, row in enumerate(rows, start=1):
        name = row.get("id", f"number {number}") if isinstance(row, dict) else f"number {number}"
        try:
            check_row(row, tags)
            if row["id"] in seen:
                raise LabError("the id stands there twice; give the second one another id")
        except LabError as error:
            raise LabError(f"{short(path)}, row {name}: {error}.") from None
        seen.add(row["id"])
    return rows


def check_row(row: dict, tags: set[str]) -> None:
    """LabError saying what is wrong with a row, if anything is."""
    if not isinstance(row, dict):
        raise LabError(f"{row!r} is no row; write the keys {', '.join(KEYS)}")
    for key in [*KEYS, *row]:
        if key not in row:
            raise LabError(f"{key} is missing; a row has the keys {', '.join(KEYS)}")
        if key not in KEYS:
            raise LabError(f"unknown key {key!r}; a row has the keys {', '.join(KEYS)}")
    for key in ("id", "claim", "measured"):
        if not isinstance(row[key], str) or not row[key].strip():
            raise LabError(f"{key} {row[key]!r} must be a text that is not empty; put it in quotes")
    if not re.fullmatch(r"[A-Z]\d+[a-z]?", row["id"]):
        raise LabError(f"id {row['id']!r} must be a section's letter and a number, such as B3")
    if not isinstance(row["guides"], list):  # empty: a paper's claim, not a guide's
        raise LabError(f"guides {row['guides']!r} must be a list out of {quoted(GUIDES)}")
    for guide in row["guides"]:
        one_of("guide", guide, GUIDES)
    one_of("notebook", row["notebook"], NOTEBOOKS)
    one_of("verdict", row["verdict"], VERDICTS)
    check_evidence(row["evidence"], tags)


def one_of(what: str, value, valid: tuple[str, ...]) -> None:
    """LabError listing the valid values; an unquoted 004 is a number to YAML, hence the quotes."""
    if value not in valid:
        raise LabError(f"unknown {what} {value!r}; there are {quoted(valid)}")


def quoted(values) -> str:
    return ", ".join(f'"{value}"' for value in values)


def check_evidence(evidence: dict, tags: set[str]) -> None:
    """Evidence is a function, a tagged cell, a published experiment, or paper and section; or several."""
    if not isinstance(evidence, dict) or not evidence:
        raise LabError(f"evidence {evidence!r} must be a mapping with keys out of {quoted(EVIDENCE)}")
    for kind, value in evidence.items():
        one_of("evidence", kind, EVIDENCE)
        if not isinstance(value, str) or not value.strip():
            raise LabError(f"{kind} {value!r} must be a text that is not empty; put it in quotes")
    if ("paper" in evidence) != ("section" in evidence):
        raise LabError("a paper needs its section, and a section its paper")
    if "cell" in evidence and evidence["cell"] not in tags:
        raise LabError(
            f"no cell of solutions/*.py has the tag {evidence['cell']!r}; there are {quoted(sorted(tags))}"
        )
    if "experiment" in evidence:
        published = sorted(file.stem for file in (DATA / "experiments").glob("*.json"))
        one_of("published experiment", evidence["experiment"], tuple(published))
    if "verify" in evidence:
        check_target(evidence["verify"])


def cell_tags() -> set[str]:
    """The tags claim-… of all cells of the masters."""
    heads = re.compile(r"^# %%.*?tags=(\[.*?\])", flags=re.MULTILINE)
    texts = [master.read_text(encoding="utf-8") for master in (ROOT / "solutions").glob("*.py")]
    tags = {tag for text in texts for head in heads.findall(text) for tag in json.loads(head)}
    return {tag for tag in tags if tag.startswith("claim-")}


def check_target(target: str) -> None:
    """LabError unless "labsupport.notebooks.FOLDER.claims:function" is there. It reads the module's source
    and does not run it: importing some of them takes seconds."""
    module, _, function = target.partition(":")
    known = [f"labsupport.notebooks.{folder}.claims" for folder in course.notebooks().values()]
    if module not in known:
        raise LabError(f'verify {target!r} must be "module:function"; the modules are {quoted(known)}')
    source = Path(importlib.util.find_spec(module).origin).read_text(encoding="utf-8")
    functions = [node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    if function not in functions:
        raise LabError(f"{module} has no function {function!r}; it has {quoted(functions)}")


def verify(row: dict) -> str:
    """Compute a row's measured text anew. LabError if it names no function or that one cannot be imported."""
    target = row["evidence"].get("verify")
    if target is None:
        raise LabError(f"Row {row['id']} has no verify function; its evidence is {row['evidence']}.")
    module, _, function = target.partition(":")
    try:
        check = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise LabError(f"Row {row['id']}: {target} cannot be imported ({error}).") from error
    return check()


# ---------------------------------------------------------------- lab.py claims


def main(arguments: list[str]) -> int:
    """Print the claims, or those that the filters leave, and how many there are of each verdict."""
    parser = argparse.ArgumentParser(
        prog="lab.py claims", description="What the guides claim, and what we measured."
    )
    parser.add_argument("--verdict", help=f"one of: {', '.join(VERDICTS)}")
    parser.add_argument("--notebook", help="the notebook that settles it, 00 to 13")
    parser.add_argument("--guide", help="who says it, 000 to 004")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    asked = parser.parse_args(arguments)
    for what, valid in (("verdict", VERDICTS), ("notebook", NOTEBOOKS), ("guide", GUIDES)):
        value = getattr(asked, what)
        if value is not None and value not in valid:
            raise LabError(f"Unknown {what} {value!r}. There are: {', '.join(valid)}.")
    rows = [row for row in load() if matches(row, asked.verdict, asked.notebook, asked.guide)]
    counts = Counter(row["verdict"] for row in rows)
    by_verdict = {verdict: counts[verdict] for verdict in VERDICTS if counts[verdict]}
    if asked.json:
        print(json.dumps({"rows": rows, "counts": by_verdict}, indent=1, ensure_ascii=False))
    elif not rows:
        print("No claim fits these filters.")
    else:
        print(table(rows))
        noun = "claim" if len(rows) == 1 else "claims"
        print(f"\n{len(rows)} {noun}: " + ", ".join(f"{n} {verdict}" for verdict, n in by_verdict.items()))
    return 0


def matches(row: dict, verdict: str | None, notebook: str | None, guide: str | None) -> bool:
    """Does the row pass all filters? None lets everything through."""
    return (
        verdict in (None, row["verdict"])
        and notebook in (None, row["notebook"])
        and (guide is None or guide in row["guides"])
    )


def table(rows: list[dict]) -> str:
    """The rows as text of at most 100 columns; long cells go on in the next line."""
    lines = [aligned(WIDTHS), aligned(["-" * width for width in WIDTHS.values()])]
    for row in rows:
        cells = {**row, "guides": " ".join(row["guides"]) or "no guide", "nb": row["notebook"]}
        wrapped = [textwrap.wrap(cells[column], width) for column, width in WIDTHS.items()]
        for k in range(max(map(len, wrapped))):
            lines.append(aligned([cell[k] if k < len(cell) else "" for cell in wrapped]))
    return "\n".join(lines)


def aligned(cells) -> str:
    """One line of the table."""
    return "  ".join(text.ljust(width) for text, width in zip(cells, WIDTHS.values(), strict=True)).rstrip()
