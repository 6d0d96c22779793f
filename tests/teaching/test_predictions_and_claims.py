"""Guesses beside measurements, and claims that hold or differ."""

import numpy as np
import pytest

from labsupport.teaching.claims import expect
from labsupport.teaching.predictions import compare


def printed(capsys, *arguments, **settings):
    assert compare(*arguments, **settings) is None
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    return out.strip()


@pytest.mark.parametrize(
    ("guess", "measured", "unit", "line"),
    [
        (3.5, 2.1, "GiB", "your guess 3.5 GiB, measured 2.1 GiB: 1.7 times too high"),
        (1, 2.5, "", "your guess 1, measured 2.5: 2.5 times too low"),
        (10_000, 24_576, "", "your guess 10,000, measured 24,576: 2.5 times too low"),
        (1e6, 134_515_008, "", "your guess 1,000,000, measured 134,515,008: 130 times too low"),
        (2, 1234.567, "s", "your guess 2 s, measured 1,230 s: 620 times too low"),
        (2e-4, 1.23456e-5, "", "your guess 0.0002, measured 1.23e-05: 16 times too high"),
        (2.2, 2.1, "", "your guess 2.2, measured 2.1: close: within 5 %"),
        (1.1, 1.0, "", "your guess 1.1, measured 1: close: within 10 %"),
        (-1.9, -2.0, "", "your guess -1.9, measured -2: close: within 5 %"),
        (1.0001, 1, "", "your guess 1, measured 1: close: within 1 %"),
        (1.12, 1.0, "", "your guess 1.12, measured 1: 1.1 times too high"),
        (0, 0.0, "", "your guess 0, measured 0: exactly right"),
        (7, 7, "layers", "your guess 7 layers, measured 7 layers: exactly right"),
        (0, 3, "GiB", "your guess 0 GiB, measured 3 GiB: too low by 3 GiB"),
        (3, 0, "", "your guess 3, measured 0: too high by 3"),
        (1, -2, "", "your guess 1, measured -2: too high by 3"),
        (-4, -2, "", "your guess -4, measured -2: too low by 2"),
        (3, float("nan"), "", "your guess 3, measured nan: nothing to compare with"),
        (np.float32(3.5), np.int64(7), "", "your guess 3.5, measured 7: 2 times too low"),
    ],
)
def test_guess_and_measurement(capsys, guess, measured, unit, line):
    assert printed(capsys, guess, measured, unit=unit) == line


@pytest.mark.parametrize("guess", [None, ...])
def test_no_guess_goes_on(capsys, guess):
    assert printed(capsys, guess, 2.1, unit="GiB") == "no guess; measured 2.1 GiB"


@pytest.mark.parametrize(
    "guess", ["3", "3 GiB", True, float("nan"), float("inf"), [3], {}, 3j, np.ones(2), 10**400, abs]
)
def test_guess_that_is_no_number_is_asked_for_one(capsys, guess):
    line = printed(capsys, guess, 2.1, unit="GiB")
    assert "give a plain number" in line and line.endswith("; measured 2.1 GiB")
    assert len(line) < 200


def test_tensors_are_numbers(capsys):
    import torch

    line = printed(capsys, torch.tensor(4.0), torch.tensor(2))
    assert line == "your guess 4, measured 2: 2 times too high"


def test_measurement_must_be_a_number():
    with pytest.raises(TypeError, match="measured must be a number, not 'lots'"):
        compare(1, "lots")


@pytest.mark.parametrize("strict", ["", "0"])
def test_claims_are_printed_and_do_not_stop_a_learner(capsys, monkeypatch, strict):
    monkeypatch.setenv("LAB_STRICT", strict)
    expect("LoRA forgets less", True, "3 of 120 against 9")
    expect("LoRA forgets less", np.bool_(False), "9 of 120 against 3")
    expect("Rank 8 is enough", np.float64(1) > 0)
    assert capsys.readouterr().out == (
        "holds: LoRA forgets less (3 of 120 against 9)\n"
        "differs here: LoRA forgets less (9 of 120 against 3)\n"
        "holds: Rank 8 is enough\n"
    )


def test_strict_raises_after_printing(capsys, monkeypatch):
    monkeypatch.setenv("LAB_STRICT", "1")
    expect("Rank 8 is enough", True)
    with pytest.raises(AssertionError, match="Rank 16 is worse"):
        expect("Rank 16 is worse", False)
    assert capsys.readouterr().out.endswith("differs here: Rank 16 is worse\n")


def test_torch_bools_are_accepted(capsys):
    import torch

    expect("it does", torch.tensor(1) > 0)
    assert capsys.readouterr().out == "holds: it does\n"


@pytest.mark.parametrize(
    ("holds", "named"),
    [
        (None, "None"),
        (1, "not 1"),
        (0.5, "0.5"),
        ("yes", "'yes'"),
        (np.float64(1), "1.0"),
        (np.array([True, False]), "ndarray of shape \\(2,\\)"),
    ],
)
def test_claim_that_is_no_bool_is_named(holds, named):
    with pytest.raises(TypeError, match=named):
        expect("It is so", holds)
