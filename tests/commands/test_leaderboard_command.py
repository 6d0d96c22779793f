"""`lab.py leaderboard`: the table, and a line for each file that is not in it."""

import json

import pytest

from labsupport import cli
from labsupport.clinic import game, leaderboard
from labsupport.evaluation import experiments

RIGHT = {"cents": 20, "right": True, "wrong": 0, "probes": ["float32"]}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two learners' files of the present edition, in a folder."""
    monkeypatch.setattr(experiments, "PUBLISHED", tmp_path)
    cell = {"cell": {"kind": "healthy", "seed": 1}, "metrics": {}}
    (tmp_path / "clinic.json").write_text(json.dumps({"cells": [cell] * 3}))
    game.recorded.cache_clear()
    game.edition.cache_clear()
    files = tmp_path / "collected"
    leaderboard.write(files, "Ana", game.edition(), 3, {"1": RIGHT | {"cents": 320, "wrong": 3}})
    leaderboard.write(files, "Ben", game.edition(), 3, {"1": RIGHT, "2": RIGHT})
    yield files
    game.recorded.cache_clear()
    game.edition.cache_clear()


def ended(capsys, *arguments):
    status = cli.main(["leaderboard", *map(str, arguments)])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_the_best_stands_first(folder, capsys):
    for given in ([folder / "clinic_Ana.json", folder / "clinic_Ben.json"], [folder], [folder, folder]):
        status, out, err = ended(capsys, *given)
        lines = [line.split() for line in out.splitlines()]
        assert (status, err, len(lines)) == (0, "", 4)
        assert lines[2][:7] == ["1", "Ben", "2", "of", "3", "$0.40", "0"]
        assert lines[3][:7] == ["2", "Ana", "1", "of", "3", "$3.20", "3"]


def test_json_is_one_document(folder, capsys):
    (folder / "clinic_bad.json").write_text("{")
    status, out, err = ended(capsys, folder, "--json")
    document = json.loads(out)
    assert status == 2 and err.count("\n") == 1
    assert [row["name"] for row in document["rows"]] == ["Ben", "Ana"]
    assert document["edition"] == game.edition() and document["rows"][0]["cents"] == 40
    assert "clinic_bad.json" in document["refused"][0]["problem"] and len(document["refused"]) == 1


def test_a_bad_file_is_one_line_and_the_others_are_still_compared(folder, capsys):
    leaderboard.write(folder, "Eve", "0" * 12, 3, {})
    (folder / "clinic_bad.json").write_text("")
    status, out, err = ended(capsys, folder, folder / "missing.json")
    first, second, third = err.splitlines()
    assert status == 2 and out.splitlines()[2].split()[1] == "Ben"
    assert "clinic_Eve.json" in first and "another edition of the cases" in first
    assert "clinic_bad.json" in second and "no JSON" in second and "Cannot read" in third


def test_nothing_to_compare_is_status_2(folder, capsys):
    status, out, err = ended(capsys, folder / "missing.json")
    assert (status, out, err.count("\n")) == (2, "", 1)
    status, out, err = ended(capsys, folder.parent)
    assert (status, out, err.count("\n")) == (2, "", 1) and "no clinic_NAME.json in" in err


def test_a_name_that_stands_twice_is_told_apart_by_its_file(folder, capsys):
    twin = folder / "clinic_second.json"
    twin.write_text((folder / "clinic_Ana.json").read_text())
    _, out, _ = ended(capsys, folder)
    assert "Ana (clinic_Ana.json)" in out and "Ana (clinic_second.json)" in out and "Ben (" not in out


def test_without_the_cases_it_says_so(folder, capsys):
    (folder.parent / "clinic.json").unlink()
    game.recorded.cache_clear()
    game.edition.cache_clear()
    status, out, err = ended(capsys, folder)
    assert (status, out) == (2, "") and "clinic.json is missing" in err
