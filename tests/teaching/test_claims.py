"""The claims page: broken rows are named, and every function behind a row returns what the row says."""

import json
import re
import subprocess
import sys

import pytest
import yaml
from jsonschema import Draft202012Validator

from labsupport import cli
from labsupport.core import course
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
    found = claims.verify(row)
    assert found == row["measured"] and "\n" not in found


def test_every_function_has_a_row_and_a_name_that_says_more_than_its_id():
    files = claims.ledger_files().values()
    assert len(files) >= 6
    for file in files:
        module = claims.module_of(file)
        functions = [item for item in vars(module).values() if hasattr(item, "claim")]
        here = {row["id"] for row in CHECKED if row["evidence"]["verify"] == file.stem}
        assert {function.claim for function in functions} == here
        assert [function.claim for function in functions] == claims.ids_of_functions(file)
        assert all(len(function.__name__) > 6 for function in functions)


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
    assert set(claims.cell_tags()) <= cells | ids


# ---------------------------------------------------------------- broken files


def test_schema_is_one():
    Draft202012Validator.check_schema(claims.schema())


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"verdict": "true"}, ", verdict: 'true' is not one of ['holds', 'wrong', 'imprecise', "),
        ({"verdict": True}, ", verdict: True is not one of ['holds'"),
        ({"guides": ["000", "005"]}, ", guides.1: '005' is not one of ['000', '001', "),
        ({"guides": [4]}, ", guides.0: 4 is not one of ['000', '001', '002', '003', '004']; "),  # 004
        ({"guides": [4]}, "expected a guide's number in quotes"),
        ({"guides": "004"}, ", guides: '004' is not of type 'array'; expected a list of guides' numbers"),
        ({"guides": ["004", "004"]}, ", guides: ['004', '004'] has non-unique elements; "),
        ({"notebook": "14"}, ", notebook: '14' is not one of ['00', '01', "),
        ({"notebook": 3}, ", notebook: 3 is not one of ['00', '01', "),
        ({"claim": ""}, ", claim: '' does not match '\\\\S'; expected a text that is not empty, in quotes"),
        ({"claim": " "}, ", claim: ' ' does not match"),
        ({"measured": 3.5}, ", measured: 3.5 is not of type 'string'; expected a text that is not empty, in"),
        ({"id": "production"}, "expected a section's letter and a number, such as B3"),
        ({"id": 3}, ", id: 3 is not of type 'string'; expected a section's letter"),
        (
            {"evidence": {}},
            ", evidence: {} should be non-empty; expected a mapping with keys out of verify, c",
        ),
        ({"evidence": "claim-H21"}, ", evidence: 'claim-H21' is not of type 'object'; expected a mapping"),
        (
            {"evidence": {"blog": "x"}},
            "('blog' was unexpected); expected a mapping with keys out of verify, c",
        ),
        ({"evidence": {"cell": None}}, ", evidence.cell: None is not of type 'string'; expected a text"),
        ({"evidence": {"paper": "Hu 2021"}}, ", evidence: 'section' is a dependency of 'paper'; "),
        ({"evidence": {"section": "4.1"}}, ", evidence: 'paper' is a dependency of 'section'; "),
        ({"source": "me"}, "('source' was unexpected); expected a row with the keys id, claim, guides"),
        ({"evidence": {"cell": "claim-E1"}}, ": unknown cell 'claim-E1'; there are claim-"),
        ({"evidence": {"experiment": "sweep"}}, ": unknown experiment 'sweep'; there are "),
        ({"evidence": {"verify": "os"}}, ": unknown verify 'os'; there are "),
        (
            {"evidence": {"verify": "fine_tune"}},
            ": unknown verify 'fine_tune'; there are fine_tuning, ",
        ),
        (
            {"evidence": {"verify": "fine_tuning"}},
            ': ledger/fine_tuning.py has 0 functions with @shows("Z2") instead of one; it has H21, ',
        ),
        (
            {"id": "B3", "evidence": {"verify": "fine_tuning"}},
            ': ledger/fine_tuning.py has 0 functions with @shows("B3") instead of one; it has ',
        ),
    ],
)
def test_broken_row_is_named(tmp_path, changes, problem):
    bad = GOOD | {"id": "Z2"} | changes
    path = written(tmp_path, GOOD, bad)
    with pytest.raises(LabError) as caught:
        claims.load(path)
    assert str(caught.value).startswith(f"{path}, row {bad['id']}")
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500 + len(str(path))


@pytest.mark.parametrize("key", GOOD)
def test_missing_key_is_named(tmp_path, key):
    bad = {name: value for name, value in GOOD.items() if name != key}
    path = written(tmp_path, bad)
    name = "number 1" if key == "id" else "Z1"
    with pytest.raises(
        LabError, match=f"mine.yaml, row {name}: '{key}' is a required property; expected a r"
    ):
        claims.load(path)


def test_second_function_with_an_id_is_an_error(tmp_path, monkeypatch):
    one = '@shows("Z1")\ndef water_is_{}() -> str:\n    return "wet"\n'
    file = tmp_path / "water.py"
    file.write_text(one.format("wet") + one.format("damp"))
    monkeypatch.setattr(course, "LEDGER", tmp_path)
    row = GOOD | {"evidence": {"verify": "water"}}
    with pytest.raises(LabError, match=r'row Z1: .* has 2 functions with @shows\("Z1"\) instead of one'):
        claims.load(written(tmp_path, row))
    file.write_text("def z1():\n    pass\n")
    with pytest.raises(LabError, match="has 0 functions .* it has none at all"):
        claims.load(written(tmp_path, row))


def test_duplicated_id_is_named(tmp_path):
    with pytest.raises(LabError, match="mine.yaml, row Z1: the id stands there twice"):
        claims.load(written(tmp_path, GOOD, GOOD | {"id": "Z2"}, GOOD))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "mine.yaml: None is not of type 'array'; expected a list of rows"),
        (b"[]", "mine.yaml: [] should be non-empty; expected a list of rows"),
        (b"id: Z1", "mine.yaml: {'id': 'Z1'} is not of type 'array'; expected a list of rows"),
        (b"- Z1", "mine.yaml, row number 1: 'Z1' is not of type 'object'; expected a row with the keys"),
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
        {"id": "H21", "evidence": {"verify": "fine_tuning", "cell": "claim-H21"}},
        {"guides": []},  # what a paper says and no guide repeats
        {"id": "Z12b"},
    ],
)
def test_good_rows_load(tmp_path, changes):
    row = GOOD | changes
    assert claims.load(written(tmp_path, row)) == [row]


def test_verify_needs_a_function_that_bears_the_id():
    with pytest.raises(LabError, match="Row Z1 has no verify function; its evidence is"):
        claims.verify(GOOD)
    for file in ("nowhere", "fine_tuning"):
        with pytest.raises(LabError, match=f"Row Z1: {file} has 0 functions for it"):
            claims.verify(GOOD | {"evidence": {"verify": file}})


# ---------------------------------------------------------------- lab.py claims


def output(capsys, *arguments):
    assert cli.main(["claims", *arguments]) == 0
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
    end = lines.index("")
    first = [line.split()[0] for line in lines[2:end] if not line.startswith(" ")]
    assert first == [row["id"] for row in ROWS]
    total, counts = " ".join(lines[end:]).strip().split(": ")
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
    ("option", "value", "field"),
    [("--verdict", "right", "verdict"), ("--notebook", "1", "notebook"), ("--guide", "5", "guides")],
)
def test_unknown_filter_lists_the_valid_ones(capsys, option, value, field):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["claims", option, value])
    said = capsys.readouterr()
    assert stopped.value.code == 2 and said.out == "" and said.err.count("\n") == 1
    assert said.err.startswith(f"lab.py claims: argument {option}: invalid choice: '{value}'")
    assert all(valid in said.err for valid in claims.choices(field))


def test_broken_page_is_one_line_and_status_2(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "FILE", written(tmp_path, GOOD | {"verdict": "right"}))
    assert cli.main(["claims"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and "row Z1, verdict: 'right' is not" in said.err


def test_the_page_is_printed_without_torch():
    code = "import sys; from labsupport import cli; cli.main(['claims']); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=ROOT)
