"""The claims page: broken rows are named, and every function behind a row returns what the row says."""

import json
import re
import subprocess
import sys

import pytest
import yaml

from labsupport.core.files import ROOT, LabError
from labsupport.teaching import claims

ROWS = claims.load()
CHECKED = [row for row in ROWS if "verify" in row["evidence"]]
GOOD = {
    "id": "Z1",
    "claim": "Water is wet",
    "guides": ["000", "004"],
    "notebook": "01",
    "verdict": "holds",
    "evidence": {"cell": "claim-H21"},
    "measured": "wet",
}


def written(tmp_path, *rows):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(list(rows)), encoding="utf-8")
    return path


# ---------------------------------------------------------------- the rows of data/claims.yaml


@pytest.mark.parametrize("row", CHECKED, ids=lambda row: row["id"])
def test_measured_is_what_the_function_returns(row):
    assert claims.verify(row) == row["measured"]


def test_rows_are_sorted_by_section_and_number():
    parts = [re.fullmatch(r"([A-Z])(\d+)([a-z]?)", row["id"]).groups() for row in ROWS]
    keys = [(letter, int(number), rest) for letter, number, rest in parts]
    assert keys == sorted(keys)


def test_rows_stand_on_what_is_there():
    """Independent of load: the tag is in a master's cell header, the guide is one of five."""
    masters = "\n".join(path.read_text("utf-8") for path in (ROOT / "solutions").glob("*.py"))
    for row in ROWS:
        assert set(row["guides"]) <= {"000", "001", "002", "003", "004"}, row["id"]
        if "cell" in row["evidence"]:
            assert re.search(rf'^# %% .*"{row["evidence"]["cell"]}"', masters, flags=re.MULTILINE), row["id"]


def test_every_claim_cell_has_a_row():
    cells = {row["evidence"].get("cell") for row in ROWS}
    ids = {f"claim-{row['id']}" for row in ROWS}
    assert claims.cell_tags() <= cells | ids


# ---------------------------------------------------------------- broken files


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"verdict": "true"}, 'unknown verdict \'true\'; there are "holds", "wrong", "imprecise"'),
        ({"verdict": True}, "unknown verdict True"),
        ({"guides": ["000", "005"]}, 'unknown guide \'005\'; there are "000", "001"'),
        ({"guides": [4]}, "unknown guide 4"),  # 004 without quotes
        ({"guides": "004"}, "guides '004' must be a list out of"),
        ({"notebook": "14"}, 'unknown notebook \'14\'; there are "00", "01"'),
        ({"notebook": 3}, "unknown notebook 3"),
        ({"claim": ""}, "claim '' must be a text"),
        ({"measured": 3.5}, "measured 3.5 must be a text that is not empty; put it in quotes"),
        ({"id": "production"}, "id 'production' must be a section's letter and a number, such as B3"),
        ({"evidence": {}}, "evidence {} must be a mapping"),
        ({"evidence": "claim-H21"}, "evidence 'claim-H21' must be a mapping"),
        ({"evidence": {"blog": "x"}}, 'unknown evidence \'blog\'; there are "verify", "cell"'),
        ({"evidence": {"cell": None}}, "cell None must be a text"),
        ({"evidence": {"cell": "claim-Z9"}}, "has the tag 'claim-Z9'; there are \"claim-"),
        ({"evidence": {"experiment": "sweep"}}, "unknown published experiment 'sweep'; there are \""),
        ({"evidence": {"paper": "Hu 2021"}}, "a paper needs its section"),
        ({"evidence": {"section": "4.1"}}, "a section its paper"),
        ({"evidence": {"verify": "os:getcwd"}}, "verify 'os:getcwd' must be \"module:function\""),
        (
            {"evidence": {"verify": "labsupport.notebooks.nowhere.claims:b3"}},
            'the modules are "labsupport.not',
        ),
        ({"evidence": {"verify": "labsupport.notebooks.nb01_first_fine_tune.claims"}}, "has no function ''"),
        (
            {"evidence": {"verify": "labsupport.notebooks.nb01_first_fine_tune.claims:z9"}},
            'labsupport.notebooks.nb01_first_fine_tune.claims has no function \'z9\'; it has "runs", "h21"',
        ),
        ({"source": "me"}, "unknown key 'source'; a row has the keys id, claim"),
    ],
)
def test_broken_row_is_named(tmp_path, changes, problem):
    bad = GOOD | {"id": "Z2"} | changes
    path = written(tmp_path, GOOD, bad)
    with pytest.raises(LabError) as caught:
        claims.load(path)
    assert str(caught.value).startswith(f"{path}, row {bad['id']}: ")
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", claims.KEYS)
def test_missing_key_is_named(tmp_path, key):
    bad = {name: value for name, value in GOOD.items() if name != key}
    path = written(tmp_path, bad)
    name = "number 1" if key == "id" else "Z1"
    with pytest.raises(LabError, match=f"mine.yaml, row {name}: {key} is missing"):
        claims.load(path)


def test_duplicated_id_is_named(tmp_path):
    with pytest.raises(LabError, match="mine.yaml, row Z1: the id stands there twice"):
        claims.load(written(tmp_path, GOOD, GOOD | {"id": "Z2"}, GOOD))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "must be a list of rows"),
        (b"id: Z1", "must be a list of rows"),
        (b"- Z1", "row number 1: 'Z1' is no row"),
        (b"- {id: Z1", "is not YAML"),
        ("- id: Grüße".encode("latin-1"), "is not YAML"),
        (None, "Cannot read"),
    ],
)
def test_unreadable_file_is_named(tmp_path, content, problem):
    path = tmp_path / "mine.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LabError) as caught:
        claims.load(path)
    assert str(path) in str(caught.value) and problem in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"evidence": {"cell": "claim-H21"}},
        {"evidence": {"experiment": "first_fine_tune"}},
        {"evidence": {"paper": "Hu 2021", "section": "4.1"}},
        {"evidence": {"verify": "labsupport.notebooks.nb01_first_fine_tune.claims:h21", "cell": "claim-H21"}},
        {"guides": []},  # what a paper says and no guide repeats
        {"id": "Z12b"},
    ],
)
def test_good_rows_load(tmp_path, changes):
    row = GOOD | changes
    assert claims.load(written(tmp_path, row)) == [row]


def test_verify_needs_a_function_that_can_be_imported():
    with pytest.raises(LabError, match="Row Z1 has no verify function; its evidence is"):
        claims.verify(GOOD)
    for target in (
        "labsupport.notebooks.nowhere.claims:b3",
        "labsupport.notebooks.nb01_first_fine_tune.claims:z9",
    ):
        with pytest.raises(LabError, match=f"Row Z1: {target} cannot be imported"):
            claims.verify(GOOD | {"evidence": {"verify": target}})


# ---------------------------------------------------------------- lab.py claims


def output(capsys, *arguments):
    assert claims.main(list(arguments)) == 0
    return capsys.readouterr().out


@pytest.fixture
def three(tmp_path, monkeypatch):
    """Three rows in place of data/claims.yaml."""
    rows = [
        GOOD,
        GOOD | {"id": "Z2", "verdict": "not testable without a GPU", "notebook": "05", "claim": "long " * 30},
        GOOD | {"id": "Z3", "verdict": "wrong", "guides": ["002"], "measured": "grün"},
    ]
    monkeypatch.setattr(claims, "FILE", written(tmp_path, *rows))
    return rows


def test_table_shows_every_row_within_100_columns(capsys):
    lines = output(capsys).splitlines()
    assert max(map(len, lines)) <= 100
    first = [line.split()[0] for line in lines[2:-2] if not line.startswith(" ")]
    assert first == [row["id"] for row in ROWS]
    total, counts = lines[-1].split(": ")
    assert total.split()[0] == str(len(ROWS))
    assert sum(int(part.split()[0]) for part in counts.split(", ")) == len(ROWS)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ["Z1", "Z2", "Z3"]),
        (["--verdict", "wrong"], ["Z3"]),
        (["--notebook", "05"], ["Z2"]),
        (["--guide", "004"], ["Z1", "Z2"]),
        (["--guide", "004", "--verdict", "holds"], ["Z1"]),
        (["--guide", "002", "--verdict", "holds"], []),
        (["--notebook", "13"], []),
    ],
)
def test_filters(capsys, three, arguments, expected):
    document = json.loads(output(capsys, *arguments, "--json"))
    assert document["rows"] == [row for row in three if row["id"] in expected]
    assert sum(document["counts"].values()) == len(expected)
    text = output(capsys, *arguments)
    assert re.findall(r"^Z\d", text, flags=re.MULTILINE) == expected
    assert (text == "No claim fits these filters.\n") == (not expected)


def test_counts_by_verdict_end_the_table(capsys, three):
    last = output(capsys).splitlines()[-1]
    assert last == "3 claims: 1 holds, 1 wrong, 1 not testable without a GPU"
    assert output(capsys, "--guide", "002").splitlines()[-1] == "1 claim: 1 wrong"


def test_long_cells_go_on_in_the_next_line(capsys, three):
    text = output(capsys, "--notebook", "05")
    assert text.count("long") == 30
    assert "000 004   05  not testable  long" in text
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize(
    ("option", "value", "valid"),
    [
        ("--verdict", "right", claims.VERDICTS),
        ("--notebook", "1", claims.NOTEBOOKS),
        ("--guide", "5", claims.GUIDES),
    ],
)
def test_unknown_filter_lists_the_valid_ones(option, value, valid):
    with pytest.raises(LabError) as caught:
        claims.main([option, value])
    assert f"Unknown {option[2:]} '{value}'. There are: {', '.join(valid)}." == str(caught.value)


def test_the_page_is_printed_without_torch():
    code = "import sys; from labsupport import cli; cli.main(['claims']); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=ROOT)
