"""The leaderboard of the broken-run clinic: a small file of each learner, and the table made of all of them.

A file is `clinic_NAME.json`: who, which edition of the cases, and for each opened case the money, the wrong
namings and the probes. It holds no case's cause, so it may be handed round.
"""

from __future__ import annotations

import datetime
import json
import re
from dataclasses import dataclass
from pathlib import Path

from labsupport.core import upstream
from labsupport.core.files import LabError, short, write_atomically
from labsupport.core.numbers import shown

VERSION = 1
NAME = re.compile(r"\w([\w .-]{0,38}\w)?")  # a part of a file name on every system; letters of any language
WHOLE = {"type": "integer", "minimum": 0}
CASE = {
    "type": "object",
    "properties": {
        "cents": WHOLE,
        "right": {"type": "boolean"},
        "wrong": WHOLE,
        "probes": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
    },
    "required": ["cents", "right", "wrong", "probes"],
    "additionalProperties": False,
}
SCHEMA = {
    "type": "object",
    "properties": {
        "version": {"const": VERSION},
        "name": {"type": "string", "pattern": f"^{NAME.pattern}$"},
        "edition": {"type": "string", "minLength": 1},
        "of": {"type": "integer", "minimum": 1},
        "date": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\d$"},
        "cases": {
            "type": "object",
            "patternProperties": {r"^[1-9]\d*$": CASE},
            "additionalProperties": False,
        },
    },
    "required": ["version", "name", "edition", "of", "date", "cases"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Entry:
    """One learner's result. right: cases named rightly, of `of`; cents: all money spent; wrong: causes named
    wrongly; probes: paid and free ones asked for."""

    file: Path
    name: str
    date: str
    of: int
    right: int
    cents: int
    wrong: int
    probes: int

    @property
    def rank(self) -> tuple:
        """Smaller is better: more cases named, then less money, then fewer wrong names."""
        return -self.right, self.cents, self.wrong


def dollars(cents: int) -> str:
    """1220 as $12.20."""
    return f"${cents / 100:,.2f}"


def check_name(name: str) -> str:
    """The name, if it can be part of a file name on every system. LabError if not."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise LabError(
            f"The name {shown(name)} makes no file name: give 1 to 40 letters, digits, spaces, dots, hyphens "
            "or underscores that begin and end with a letter or digit."
        )
    return name


def write(folder: Path, name: str, edition: str, of: int, cases: dict[str, dict]) -> Path:
    """Write `clinic_NAME.json` into the folder, over an earlier one of that name; returns its path.

    cases: case number -> {"cents", "right", "wrong", "probes"}. LabError for a name that makes no file name
    and for a folder that cannot be written.
    """
    target = folder / f"clinic_{check_name(name)}.json"
    today = datetime.date.today().isoformat()
    content = {"version": VERSION, "name": name, "edition": edition, "of": of, "date": today, "cases": cases}
    write_atomically(target, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return target


def read(path: Path, edition: str) -> Entry:
    """One learner's file. LabError, naming it, for one that cannot be read, is damaged or was made with
    other cases."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LabError(f"Cannot read {short(path)}: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise damaged(path, "it is no JSON") from error
    version = content.get("version") if isinstance(content, dict) else None
    if isinstance(version, int) and version > VERSION:
        raise LabError(f"{short(path)} was written by a newer edition of the course: update this one.")
    validator = upstream.quick_jsonschema().Draft202012Validator(SCHEMA)
    for problem in validator.iter_errors(content):
        where = ".".join(map(str, problem.path))
        raise damaged(path, f"{where}: {problem.message}"[:200] if where else problem.message[:200])
    if content["edition"] != edition:
        theirs = shown(content["edition"])
        raise LabError(
            f"{short(path)} is of another edition of the cases ({theirs}; here {edition}): compare only what "
            "was played with the same version of the course."
        )
    if any(int(number) > content["of"] for number in content["cases"]):
        raise damaged(path, f"it has a case beyond the {content['of']} there are")
    return entry(path, content)


def entry(path: Path, content: dict) -> Entry:
    """The sums of a file that was checked."""
    cases = content["cases"].values()
    return Entry(
        file=path,
        name=content["name"],
        date=content["date"],
        of=content["of"],
        right=sum(case["right"] for case in cases),
        cents=sum(case["cents"] for case in cases),
        wrong=sum(case["wrong"] for case in cases),
        probes=sum(len(case["probes"]) for case in cases),
    )


def damaged(path: Path, why: str) -> LabError:
    return LabError(
        f"{short(path)} is no result of the clinic, or is damaged ({why}): ask for the file again."
    )


def ranking(entries: list[Entry]) -> list[dict]:
    """Rows for a table or for JSON, best first; who did equally well shares a place.

    Place, name, file, cases named rightly, of how many, cents, wrong namings, probes, date.
    """
    rows, ordered = [], sorted(entries, key=lambda entry: (entry.rank, entry.name, str(entry.file)))
    for entry in ordered:
        place = next(number for number, other in enumerate(ordered, start=1) if other.rank == entry.rank)
        rows.append(
            {
                "place": place,
                "name": entry.name,
                "file": entry.file.name,
                "right": entry.right,
                "of": entry.of,
                "cents": entry.cents,
                "wrong": entry.wrong,
                "probes": entry.probes,
                "date": entry.date,
            }
        )
    return rows
