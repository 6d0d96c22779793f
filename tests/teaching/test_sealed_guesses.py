"""Guesses that are sealed: none is lost, none is overwritten, and what is no guess is not kept."""

import datetime
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import filelock
import numpy as np
import pytest

from labsupport.core.files import ROOT, LabError
from labsupport.teaching import answer_store, sealed


class Today(datetime.date):
    day_of_test = (2026, 11, 29)

    @classmethod
    def today(cls):
        return cls(*cls.day_of_test)


@pytest.fixture(autouse=True)
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_PROGRESS", str(tmp_path / "my_work" / "progress.json"))
    monkeypatch.setattr(sealed, "datetime", SimpleNamespace(date=Today))
    return tmp_path / "my_work" / "guesses.json"


def said(capsys, *arguments, **options) -> str:
    assert sealed.seal(*arguments, **options) is None
    out = capsys.readouterr().out
    assert out.count("\n") == 1 and len(out) < 250
    return out.strip()


def test_a_guess_is_kept_with_unit_and_date(file, capsys):
    line = said(capsys, "peak", 12.5, "GiB")
    assert line == "sealed: peak, 12.5 GiB on 29 November; open it with sealed.guesses()"
    said(capsys, "rows", np.int64(40))
    assert sealed.guesses() == {"peak": (12.5, "GiB", "2026-11-29"), "rows": (40, "", "2026-11-29")}
    assert json.loads(file.read_text())["version"] == 1
    assert [found.name for found in file.parent.iterdir() if not found.name.startswith(".")] == [file.name]


def test_a_second_guess_does_not_overwrite_and_says_how_to_replace(file, capsys, monkeypatch):
    said(capsys, "peak", 12, "GiB")
    before = file.read_bytes()
    monkeypatch.setattr(Today, "day_of_test", (2026, 12, 3))
    assert said(capsys, "peak", 12.0, "GiB") == "already sealed: peak, 12 GiB on 29 November"
    line = said(capsys, "peak", 8, "GiB")
    assert line == (
        "already sealed: peak, 12 GiB on 29 November; 8 GiB was not kept: seal(..., again=True) keeps both"
    )
    assert "12 MB was not kept" in said(capsys, "peak", 12, "MB")  # another unit is another guess
    assert file.read_bytes() == before
    line = said(capsys, "peak", 8, "GiB", again=True)
    assert line.startswith("sealed: peak, 8 GiB on 3 December (before: 12 GiB on 29 November);")
    assert sealed.guesses() == {"peak": (8, "GiB", "2026-12-03")}
    assert sealed.history() == {"peak": [(12, "GiB", "2026-11-29"), (8, "GiB", "2026-12-03")]}
    said(capsys, "peak", 8, "GiB", again=True)  # a cell that is run twice
    assert len(sealed.history()["peak"]) == 2


@pytest.mark.parametrize("guess", [None, ...])
def test_no_guess_yet_stores_nothing(file, capsys, guess):
    assert said(capsys, "peak", guess, "GiB") == "peak: no guess yet"
    assert sealed.guesses() == {} and not file.parent.exists()


@pytest.mark.parametrize(
    "guess", ["3", "x" * 500, True, float("nan"), float("inf"), [3], {}, 3j, np.ones(2), 10**400, print]
)
def test_what_is_no_number_is_asked_for_one(file, capsys, guess):
    assert said(capsys, "peak", guess).endswith("cannot be sealed; give a plain number, such as 3.5")
    assert not file.exists()


@pytest.mark.parametrize("name", ["", " ", None, 3, ["peak"]])
def test_a_name_that_is_none(file, name):
    with pytest.raises(LabError, match="sealed under a name"):
        sealed.seal(name, 3)
    assert not file.exists()


ENTRY = {"guess": 1, "unit": "GiB", "date": "2026-11-29"}
WRONG = (
    [],
    ENTRY,
    [ENTRY, {}],
    [ENTRY | {"guess": "12"}],
    [ENTRY | {"guess": float("nan")}],
    [ENTRY | {"unit": 7}],
    [ENTRY | {"date": "yesterday"}],
    [ENTRY | {"more": 1}],
)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        b"\xff\xfe{}",
        "[" * 100_000,
        '{"version": 1}',
        '{"version": "1", "guesses": {}}',
        '{"version": 1, "guesses": []}',
        *(json.dumps({"version": 1, "guesses": {"peak": wrong}}) for wrong in WRONG),
    ],
)
def test_a_damaged_file_is_named_and_left_alone(file, capsys, content):
    file.parent.mkdir()
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    before = file.read_bytes()
    for ask in (sealed.guesses, lambda: sealed.seal("peak", 3), lambda: sealed.seal("x", 3, again=True)):
        with pytest.raises(
            LabError, match="guesses.json, .* is damaged and was left as it is: mend"
        ) as error:
            ask()
        assert "\n" not in str(error.value)
    assert file.read_bytes() == before and capsys.readouterr().out == ""


def test_a_file_of_a_newer_edition_is_left_alone(file):
    file.parent.mkdir()
    file.write_text('{"version": 2, "guesses": {}}')
    with pytest.raises(LabError, match="newer edition"):
        sealed.seal("peak", 3)
    assert file.read_text() == '{"version": 2, "guesses": {}}'


def test_a_file_that_an_editor_gave_a_mark_is_read(file, capsys):
    said(capsys, "peak", 3)
    file.write_text(file.read_text(), encoding="utf-8-sig")
    assert list(sealed.guesses()) == ["peak"]


def test_places_that_cannot_be_used_are_a_line(file, tmp_path, monkeypatch):
    file.mkdir(parents=True)
    with pytest.raises(LabError, match=r"Cannot read .*guesses\.json"):
        sealed.seal("peak", 3)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LAB_PROGRESS", str(tmp_path / "file" / "progress.json"))
    with pytest.raises(LabError, match="Cannot write"):
        sealed.seal("peak", 3)


def test_a_file_that_another_notebook_writes_is_a_line(file, monkeypatch):
    monkeypatch.setattr(answer_store, "PATIENCE", 0.05)
    file.parent.mkdir()
    with (
        filelock.FileLock(file.with_name(".guesses.json.lock")),
        pytest.raises(LabError, match="in use by another notebook"),
    ):
        sealed.seal("peak", 3)


def test_guesses_sealed_at_once_are_all_there():
    names = [f"name{number}" for number in range(12)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: sealed.seal(name, len(name)), names))
    assert set(sealed.guesses()) == set(names)


def test_sealing_needs_no_torch():
    """A cell that only asks for a guess answers at once."""
    program = "import sys; import labsupport.gpu_hour.reading; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
