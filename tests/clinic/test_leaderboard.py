"""The files of the leaderboard: what is refused, and who comes first."""

import json

import pytest

from labsupport.clinic import leaderboard
from labsupport.core.files import LabError

RIGHT = {"cents": 20, "right": True, "wrong": 0, "probes": ["lookalike"]}


def written(folder, name="Ana", edition="abc", of=3, **cases):
    return leaderboard.write(
        folder, name, edition, of, {number.lstrip("n"): c for number, c in cases.items()}
    )


def test_a_file_is_read_as_it_was_written(tmp_path):
    wrong = RIGHT | {"cents": 300, "right": False, "wrong": 2, "probes": ["tokens", "more_rows"]}
    found = leaderboard.read(written(tmp_path, "Ana Müller-2", n1=RIGHT, n3=wrong), "abc")
    assert (found.name, found.of, found.right, found.cents, found.wrong, found.probes) == (
        "Ana Müller-2",
        3,
        1,
        320,
        2,
        3,
    )
    assert [file.name for file in tmp_path.iterdir()] == ["clinic_Ana Müller-2.json"]


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "a/b",
        "a\\b",
        "..",
        ".a",
        "a.",
        "a ",
        "-a",
        "a\n",
        "a:b",
        "a*",
        "x" * 41,
        "a\0b",
        None,
        3,
        ["a"],
    ],
)
def test_a_name_that_makes_no_file_name_is_refused(tmp_path, name):
    with pytest.raises(LabError, match="makes no file name") as error:
        leaderboard.write(tmp_path, name, "abc", 3, {})
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a", "Ana", "a.b", "Ωmega 7", "x" * 40, "con", "a_b-c"])
def test_other_names_are_files(tmp_path, name):
    assert leaderboard.read(written(tmp_path, name, n1=RIGHT), "abc").name == name


def changed(content: dict, **entries) -> str:
    return json.dumps(content | entries)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (lambda c: "", "it is no JSON"),
        (lambda c: "[" * 100_000, "it is no JSON"),
        (lambda c: b"\xff\xfe", "it is no JSON"),
        (lambda c: "[]", "is not of type 'object'"),
        (lambda c: json.dumps(c)[:-9], "it is no JSON"),
        (lambda c: changed(c, version=0), "version: 1 was expected"),
        (lambda c: changed(c, name="../x"), "name: '../x' does not match"),
        (lambda c: changed(c, date="today"), "date: 'today'"),
        (lambda c: changed(c, cases={"0": RIGHT}), "'0' does not match"),
        (lambda c: changed(c, cases={"4": RIGHT}), "a case beyond the 3"),
        (lambda c: changed(c, cases={"1": RIGHT | {"cents": -5}}), "cases.1.cents: -5 is less"),
        (lambda c: changed(c, cases={"1": RIGHT | {"cents": 0.2}}), "cases.1.cents"),
        (lambda c: changed(c, cases={"1": RIGHT | {"right": 1}}), "cases.1.right"),
        (lambda c: changed(c, cases={"1": {}}), "'cents' is a required property"),
        (lambda c: changed(c, extra=1), "extra"),
        (lambda c: changed(c, edition="xyz"), "another edition of the cases"),
        (lambda c: changed(c, version=2), "newer edition of the course"),
    ],
)
def test_a_damaged_file_or_one_of_other_cases_is_one_line_that_names_it(tmp_path, text, said):
    file = written(tmp_path, n1=RIGHT)
    content = text(json.loads(file.read_text(encoding="utf-8")))
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(LabError) as error:
        leaderboard.read(file, "abc")
    line = str(error.value)
    assert said in line and "clinic_Ana.json" in line and "\n" not in line and len(line) < 500


def test_a_file_that_cannot_be_read_is_one_line(tmp_path):
    (tmp_path / "folder").mkdir()
    for name in ("missing.json", "folder"):
        with pytest.raises(LabError, match=f"Cannot read .*{name}"):
            leaderboard.read(tmp_path / name, "abc")


def test_more_causes_come_before_less_money_and_equals_share_a_place(tmp_path):
    def entry(name, *cases):
        numbered = {f"n{number}": case for number, case in enumerate(cases, start=1)}
        return leaderboard.read(written(tmp_path, name, **numbered), "abc")

    dear = RIGHT | {"cents": 900}
    guessed = RIGHT | {"wrong": 1, "probes": []}
    entries = [
        entry("none", RIGHT | {"right": False, "cents": 0}),
        entry("b", RIGHT),
        entry("guessed", guessed),
        entry("all", dear, dear),
        entry("a", RIGHT),
        entry("dear", dear),
    ]
    rows = leaderboard.ranking(entries)
    assert [(row["place"], row["name"]) for row in rows] == [
        (1, "all"),
        (2, "a"),
        (2, "b"),
        (4, "guessed"),
        (5, "dear"),
        (6, "none"),
    ]
    assert rows[0]["cents"] == 1800 and rows[0]["right"] == 2 and rows[0]["of"] == 3
