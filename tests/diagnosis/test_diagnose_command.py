"""`lab.py diagnose` as it is typed: status, what goes where, and one line for bad input."""

import json

import pytest
from made_runs import adapter, log_of, made, snapshot, ticket_rows

from labsupport import cli


def typed(capsys, *words) -> tuple[int, str, str]:
    """(status, standard output, standard error) of `lab.py diagnose` with these words."""
    try:
        status = cli.main(["diagnose", *map(str, words)])
    except SystemExit as end:
        status = end.code
    said = capsys.readouterr()
    return status, said.out, said.err


def test_a_run_that_went_well(capsys, tmp_path):
    folder = made(tmp_path / "run", train=ticket_rows(10), tokenizer=False)
    before = snapshot(folder)
    status, out, _ = typed(capsys, folder)
    assert status == 0 and "Nothing was found" in out and "10 training rows" in out
    assert snapshot(folder) == before


def test_a_run_that_did_not(capsys, tmp_path):
    state = log_of([2.5] * 6, norms=[0.0] * 6)
    folder = made(tmp_path / "run", state=state, tensors=adapter(0.0), tokenizer=False)
    status, out, _ = typed(capsys, folder)
    assert status == 1 and "Most likely: no-gradient (proven)" in out


def test_json_is_one_document_and_nothing_else(capsys, tmp_path):
    state = log_of([2.5, float("nan")], norms=[0.5, float("nan")])
    folder = made(tmp_path / "run", state=state, tokenizer=False)
    status, out, _ = typed(capsys, folder, "--json")

    def no(constant):
        raise AssertionError(constant)

    found = json.loads(out, parse_constant=no)
    assert status == 1 and [one["id"] for one in found["causes"]] == ["lr-too-high"]
    assert any("--replies" in note for note in found["notes"])


@pytest.mark.parametrize("option", ["--data", "--eval", "--replies", "--config", "--model"])
def test_a_file_that_is_not_there_is_one_line(option, capsys, tmp_path):
    folder = made(tmp_path / "run", tokenizer=False)
    status, out, err = typed(capsys, folder, option, tmp_path / "absent.jsonl")
    assert (status, out, err.count("\n")) == (2, "", 1) and "absent.jsonl" in err


def test_a_folder_that_is_not_there_is_one_line(capsys, tmp_path):
    status, out, err = typed(capsys, tmp_path / "absent")
    assert (status, out, err.count("\n")) == (2, "", 1) and "absent" in err
