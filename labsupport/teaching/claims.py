"""What the guides claim and what was measured: statements checked as they are printed, and the claims page.

`data/claims.yaml` holds one row a claim; data/claims.schema.json says what a row looks like. `load` checks
the rows, `verify` computes one anew: the function in the file of labsupport/ledger that bears the row's id.
"""

from __future__ import annotations

import ast
import functools
import importlib
import json
import os
import re
import textwrap
from collections.abc import Callable
from pathlib import Path

from labsupport.core import course, upstream
from labsupport.core.files import DATA, ROOT, LabError, nearest_first, short

FILE = DATA / "claims.yaml"
SCHEMA = DATA / "claims.schema.json"
LISTED = 20  # names in an error, the nearest first


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


def shows(claim: str) -> Callable[[Callable[[], str]], Callable[[], str]]:
    """Above a function of labsupport/ledger: it computes what this claim's row calls measured.

    The claim's id is the function's key, so that its name can say what it shows.
    """

    def mark(function: Callable[[], str]) -> Callable[[], str]:
        function.claim = claim
        return function

    return mark


# ---------------------------------------------------------------- reading the rows


@functools.cache
def schema() -> dict:
    """The JSON schema of the rows; each part's description says what is valid there."""
    return json.loads(SCHEMA.read_text(encoding="utf-8"))


def choices(field: str) -> list[str]:
    """The values that a row may have as its verdict or notebook, or among its guides."""
    rules = schema()["items"]["properties"][field]
    return rules.get("items", rules)["enum"]


def load(path: Path | None = None) -> list[dict]:
    """The rows of data/claims.yaml, in the file's order.

    Raises LabError naming file, row and value, and what is valid, at the first fault.
    """
    path = path or FILE
    rows = parse(path)
    for fault in upstream.quick_jsonschema().Draft202012Validator(schema()).iter_errors(rows):
        raise LabError(f"{short(path)}{row_and_key(rows, [*fault.absolute_path])}: {in_words(fault)}.")
    there, seen = what_is_there(), set()
    for row in rows:
        try:
            if row["id"] in seen:
                raise LabError("the id stands there twice; give the second one another id")
            check_evidence(row, there)
        except LabError as error:
            raise LabError(f"{short(path)}, row {row['id']}: {error}.") from None
        seen.add(row["id"])
    return rows


def parse(path: Path):
    """What the YAML file holds."""
    import yaml

    try:
        return yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except OSError as error:
        raise LabError(f"Cannot read {short(path)}: {error.strerror}.") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise LabError(f"{short(path)} is not YAML ({' '.join(str(error).split())}).") from error


def row_and_key(rows: list, keys: list) -> str:
    """Where in the file a fault is: ", row B3, evidence.cell"; a row without an id has a number."""
    if not keys:
        return ""
    number, *keys = keys
    name = rows[number].get("id") if isinstance(rows[number], dict) else None
    inside = ".".join(map(str, keys))
    return f", row {name or f'number {number + 1}'}" + (f", {inside}" if inside else "")


def in_words(fault) -> str:
    """jsonschema's message in one line, and what is valid instead."""
    message = textwrap.shorten(fault.message, 300)
    valid = fault.schema.get("description")
    return f"{message}; expected {valid}" if valid else message


# ---------------------------------------------------------------- what a schema cannot say


def what_is_there() -> dict[str, list[str] | dict[str, list[str]]]:
    """What evidence can name, by kind: cells, experiments, the ledger's files with their functions' ids."""
    published = sorted(file.stem for file in (DATA / "experiments").glob("*.json"))
    functions = {stem: ids_of_functions(file) for stem, file in ledger_files().items()}
    return {"cell": cell_tags(), "experiment": published, "verify": functions}


def ledger_files() -> dict[str, Path]:
    """The ledger's files by the names that `verify` gives them, in whichever of its folders they are."""
    return {file.stem: file for file in sorted(course.LEDGER.rglob("[a-z]*.py"))}


def module_of(file: Path):
    """The module of a file of the ledger."""
    inside = file.relative_to(course.LEDGER).with_suffix("")
    return importlib.import_module(".".join(["labsupport.ledger", *inside.parts]))


def check_evidence(row: dict, there: dict) -> None:
    """LabError unless all that a row stands on is there."""
    evidence, claim = row["evidence"], row["id"]
    for kind in [kind for kind in evidence if kind in there]:
        if evidence[kind] not in there[kind]:
            nearest = nearest_first(evidence[kind], list(there[kind])).split(", ")
            more = f" and {len(nearest) - LISTED} more" if len(nearest) > LISTED else ""
            raise LabError(
                f"unknown {kind} {evidence[kind]!r}; there are {', '.join(nearest[:LISTED])}{more}"
            )
    file = evidence.get("verify")
    ids = there["verify"].get(file, [])
    if file and ids.count(claim) != 1:
        raise LabError(
            f'ledger/{file}.py has {ids.count(claim)} functions with @shows("{claim}") instead of one; '
            f"it has {nearest_first(claim, sorted(set(ids))) if ids else 'none at all'}"
        )


def cell_tags() -> list[str]:
    """The tags claim-… of all cells of the masters."""
    heads = re.compile(r"^# %%.*?tags=(\[.*?\])", flags=re.MULTILINE)
    texts = [master.read_text(encoding="utf-8") for master in (ROOT / "solutions").glob("*.py")]
    tags = {tag for text in texts for head in heads.findall(text) for tag in json.loads(head)}
    return sorted(tag for tag in tags if tag.startswith("claim-"))


def ids_of_functions(file: Path) -> list[str]:
    """The ids under which a file of the ledger has functions, in its order.

    Read from the source, which is not run: importing some of them takes seconds.
    """
    functions = ast.parse(file.read_text(encoding="utf-8")).body
    return [
        decorator.args[0].value
        for function in functions
        for decorator in getattr(function, "decorator_list", [])
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "shows"
    ]


def verify(row: dict) -> str:
    """Compute a row's measured text anew. LabError if there is not one function for it."""
    file = row["evidence"].get("verify")
    if file is None:
        raise LabError(f"Row {row['id']} has no verify function; its evidence is {row['evidence']}.")
    source = ledger_files().get(file)
    everything = vars(module_of(source)).values() if source else ()
    found = [item for item in everything if getattr(item, "claim", None) == row["id"]]
    if len(found) != 1:
        raise LabError(f"Row {row['id']}: {file} has {len(found)} functions for it and should have one.")
    return found[0]()
