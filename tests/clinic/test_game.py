"""The clinic's learner side on a record as the experiment writes it: what is shown, paid and told."""

import json
import re

import pytest

from labsupport.broken_runs import kinds, probing
from labsupport.clinic import accounts, explaining, game
from labsupport.core.files import LabError
from labsupport.evaluation import experiments
from labsupport.run_folders import causes

EVALUATIONS = [name for name, (price, _) in probing.PROBES.items() if price == 0.2]
RETRAININGS = [name for name, (price, _) in probing.PROBES.items() if price == 3.0]
# Which probe's figures differ from the run's own evaluation, by kind.
TELLS = {"padding-side": "one_by_one", "eval-template": "training_format"}


def figures(parts: float, rows: int = 32) -> dict:
    return {"rows": rows, "exact": 0.5, "parts": parts, "valid": 1.0, "ended": 0.9, "loss": 3 - 2 * parts}


def metrics(kind: str, seed: int) -> dict:
    """A run in numbers that are made up, and in the form of labsupport.experiments.clinic_experiment."""
    case = kinds.case(kind, seed, task="tickets")
    own = 0.2 if kind in (*TELLS, "adapter-inactive", "no-gradient") else 0.8
    replies = [
        {"prompt": f"Where is {n}?", "expected": "here", "reply": "he<re>", "ended": False} for n in range(5)
    ]
    norms = {f"{n}.mlp.down_proj": [1.5, 0.0 if kind == "no-gradient" else 0.25] for n in range(2)}
    probes = {name: figures(own) | {"replies": replies[:2]} for name in EVALUATIONS}
    probes["without_adapter"] |= figures(0.2)
    if kind in TELLS:
        probes[TELLS[kind]] |= figures(0.8)
    log = [
        {"step": step, "loss": 2.0 / step, "grad_norm": 0.5, "learning_rate": 1e-3} for step in range(1, 9)
    ]
    evaluated = [{"step": step, "eval_loss": 2.5 / step} for step in (4, 8)]
    retrained = {"log": log, "eval_log": evaluated, "evaluation": figures(0.9)}
    probes |= {name: {"unchanged": True} for name in RETRAININGS} | {"more_rows": retrained}
    row = {"tokens": ["<|im_start|>", "Where", "?", "here", "<|im_end|>"], "learned": [0, 0, 0, 1, 1]}
    adapter = {"r": case["rank"], "target_modules": ["down_proj"]}
    probes |= {
        "tokens": {"rows": [row] * 5, "given": case["rows"], "kept": case["rows"], "learned_share": 0.4},
        "settings": {"arguments": {"learning_rate": 0.0012, "seed": seed}, "adapter": adapter},
        "adapter": {"norms": norms},
        "copies": {"found": 3, "of": 48, "examples": [["Where is 1?", "Hi, where is 1?"]] * 2},
    }
    settings = {name: case[name] for name in ("learning_rate", "epochs", "rank", "targets")}
    view = {
        "task": case["task"],
        "base": "tiny_base",
        "log": log,
        "eval_log": evaluated,
        "settings": settings,
        "counts": {"training_rows": case["rows"], "evaluation_rows": 32, "steps": 8},
        "replies": replies,
        "evaluation": figures(own),
    }
    return {"case": case, "view": view, "probes": probes}


@pytest.fixture
def record(tmp_path, monkeypatch):
    """A published record of every kind; returns a function that writes another one in its place."""
    monkeypatch.setattr(experiments, "PUBLISHED", tmp_path)

    def publish(cells: list[dict]) -> None:
        (tmp_path / "clinic.json").write_text(json.dumps({"name": "clinic", "cells": cells}))
        game.recorded.cache_clear()
        game.edition.cache_clear()

    cells = [{"kind": kind, "seed": seed} for seed, kind in enumerate(kinds.KINDS)]
    publish([{"cell": cell, "metrics": metrics(**cell), "stamp": {}} for cell in cells])
    yield publish
    game.recorded.cache_clear()
    game.edition.cache_clear()


@pytest.fixture
def work(tmp_path, monkeypatch):
    """The learner's folder, with their kernel in it."""
    folder = tmp_path / "my_work"
    folder.mkdir()
    monkeypatch.setenv("LAB_PROGRESS", str(folder / "progress.json"))
    monkeypatch.chdir(folder)
    return folder


def number_of(kind: str) -> int:
    return next(n for n, cell in enumerate(game.recorded(), start=1) if cell["cell"]["kind"] == kind)


def shown(thing) -> str:
    return repr(thing) + thing._repr_html_()


# ---------------------------------------------------------------- the cases


def test_cases_have_a_fixed_order_that_is_not_that_of_the_kinds(record):
    order = [cell["cell"]["kind"] for cell in game.recorded()]
    assert sorted(order) == sorted(kinds.KINDS) and order != list(kinds.KINDS)
    before = list(game.recorded())
    record([{**cell, "stamp": {"date": "2026-01-01"}} for cell in reversed(before)])
    assert game.recorded() == before  # by no date and no place in the file


def test_a_case_shows_what_a_practitioner_has_and_not_the_cause(record, work):
    for number, cell in enumerate(game.recorded(), start=1):
        case, kind = game.case(number), cell["cell"]["kind"]
        page = repr(case)
        for said in ("Where is 4?", "expected", "learning_rate", "training rows", "Loss over 8", "$0.20"):
            assert said in page, said
        assert kind not in page and explaining.title(kind) not in page and kind not in repr(vars(case))
    page = re.sub(r"base64,[^\"]*", "", case._repr_html_())
    assert "<img alt=" in page and "he&lt;re&gt;" in page and kind not in page
    assert "<span>$</span>0.20" in page and page.count("$") == page.count("<span>$</span>")  # no formula
    assert not list(work.iterdir())  # looking writes nothing


def test_no_probe_names_the_cause_or_the_seed(record, work):
    for kind in kinds.KINDS:
        case = game.case(number_of(kind))
        for probe in probing.PROBES:
            page = repr(case.probe(probe))
            assert explaining.title(kind) not in page and "seed" not in page, probe
            assert kind == "healthy" or kind not in page, probe


def test_what_a_probe_answers_is_in_its_page(record, work):
    case = game.case(number_of("padding-side"))
    tokens = shown(case.probe("tokens"))
    assert "learned  here|«<|im_end|>»" in tokens and "40 % of all their tokens" in tokens
    assert "0.0012" in shown(case.probe("settings")) and "0.25" in shown(case.probe("adapter"))
    assert "3 of 48" in shown(case.probe("copies")) and "Hi, where is 1?" in shown(case.probe("copies"))
    evaluation = shown(case.probe("one_by_one"))
    assert "20 %" in evaluation and "80 %" in evaluation and "he&lt;re&gt;" in evaluation
    assert "gives the same" in shown(case.probe("lower_rate"))
    assert "90 %" in shown(case.probe("more_rows")) and "0.25" in shown(case.probe("more_rows"))


# ---------------------------------------------------------------- money


def test_a_probe_is_paid_once_and_what_costs_nothing_costs_nothing(record, work):
    case = game.case(1)
    for probe, cents in (
        ("tokens", 0),
        ("one_by_one", 20),
        ("one_by_one", 20),
        ("more_rows", 320),
        ("copies", 320),
    ):
        case.probe(probe)
        assert case.account.cents == cents
    assert "$3.20 spent on case 1 (4 probes, 0 wrongly named)" in case.bill()
    assert game.case(2).account.cents == 0 and "$3.20 spent, 0 of 15" in game.bill().heading


def test_a_wrong_name_costs_once_and_after_the_right_one_all_is_free(record, work):
    case = game.case(number_of("padding-side"))
    first, again = case.name("lr-too-high"), case.name("lr-too-high")
    assert "This cost $1.00" in repr(first) and "This cost" not in repr(again)
    case.probe("one_by_one")
    right = case.name("padding-side")
    assert "right: Batches were padded on the right" in right.heading
    assert case.account.cents == 120 and case.account.right
    assert "Your path: one_by_one, 1 wrongly named, for $1.20" in repr(
        right
    ) and "`one_by_one`, for $0.20" in repr(right)
    case.probe("more_rows")
    assert "not right" in case.name("healthy").heading and "This cost" not in repr(case.name("healthy"))
    assert case.account.cents == 120 and case.account.probes == ["one_by_one"]
    assert "Its cause is named" in repr(game.case(case.number))


def test_the_bill_is_kept_when_the_kernel_restarts(record, work):
    game.case(3).probe("lookalike")
    game.case(3).name(next(k for k in kinds.KINDS if number_of(k) != 3))
    game.recorded.cache_clear()
    assert game.case(3).account.cents == 120
    kept = json.loads((work / "clinic.json").read_text())
    assert kept["cases"]["3"]["probes"] == ["lookalike"] and kept["edition"] == game.edition()


def test_elsewhere_than_in_the_learners_folder_nothing_is_written(record, work, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(accounts, "_of_this_process", {})
    assert "This cost $0.20" in repr(game.case(1).probe("lookalike"))
    assert "This cost" not in repr(game.case(1).probe("lookalike"))
    assert game.case(1).account.cents == 20 and "Kept until this kernel ends" in repr(game.bill())
    assert not list(work.iterdir())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "[" * 100_000,
        '{"version": 1}',
        '{"version": 1, "cases": {"x": {"probes": [], "named": []}}}',
        '{"version": 1, "cases": {"1": {"probes": "lookalike", "named": []}}}',
        '{"version": 1, "cases": {"1": {"probes": []}}}',
    ],
)
def test_a_damaged_bill_is_set_aside_and_that_is_said(record, work, text):
    (work / "clinic.json").write_text(text)
    page = game.case(1).probe("lookalike")
    assert "was damaged and is now clinic.json.bad" in repr(page)
    assert (work / "clinic.json.bad").read_text() == text and game.case(1).account.cents == 20


def test_the_bill_of_other_cases_is_set_aside(record, work):
    game.case(1).probe("lookalike")
    record([{"cell": cell["cell"], "metrics": cell["metrics"]} for cell in game.recorded()[1:]])
    assert game.case(1).account.cents == 0
    assert (work / "clinic.json.old").exists()
    (work / "clinic.json").write_text('{"version": 2}')
    with pytest.raises(LabError, match="newer edition"):
        game.bill()
    assert (work / "clinic.json").read_text() == '{"version": 2}'


def test_a_full_disk_keeps_no_answer_from_its_learner(record, work, monkeypatch):
    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("labsupport.core.files.os.fsync", full)
    page = repr(game.case(1).probe("lookalike"))
    assert "80 %" in page or "20 %" in page
    assert "This was not recorded. Cannot write" in page and "No space left" in page


# ---------------------------------------------------------------- causes


def test_causes_are_those_of_diagnose(record):
    assert set(explaining.CAUSES) == set(kinds.KINDS)
    assert set(kinds.KINDS) - {"healthy"} == set(causes.BY_ID) - {"eval-dtype"}
    assert all(probe in probing.PROBES for cause in explaining.CAUSES.values() for probe in cause.path)


def test_every_right_name_explains_what_was_done_and_what_to_do(record, work):
    for kind in kinds.KINDS:
        page = repr(game.case(number_of(kind)).name(kind))
        assert "right:" in page and explaining.fix(kind) in page, kind
        assert "{" not in page.replace(explaining.fix(kind), ""), kind  # every entry of the case is filled in


def test_every_wrong_name_gets_one_line_from_the_evidence(record, work):
    for kind in kinds.KINDS:
        for named in kinds.KINDS:
            if named != kind:
                found = next(c["metrics"] for c in game.recorded() if c["cell"]["kind"] == kind)
                line = explaining.against(named, kind, found["view"], found["probes"])
                assert line.endswith(".") and "\n" not in line and len(line) < 130, (kind, named, line)


def test_what_speaks_against_a_name_is_the_number_in_the_record(record):
    def line(named, kind):
        found = next(c["metrics"] for c in game.recorded() if c["cell"]["kind"] == kind)
        return explaining.against(named, kind, found["view"], found["probes"])

    rate = kinds.case("memorised", list(kinds.KINDS).index("memorised"), task="tickets")["learning_rate"]
    sound = kinds.HEALTHY[kinds.TINY, "tickets"]
    usual = f"{sound['learning_rate'].low:g} to {sound['learning_rate'].high:g}"
    assert f"The learning rate is {rate:g}; sound runs of this task have {usual}." == line(
        "lr-too-low", "memorised"
    )
    assert "largest norm is 0.25" in line("no-gradient", "healthy")
    usual = (
        f"{sound['rows'].low} to {sound['rows'].high}, {sound['epochs'].low} to {sound['epochs'].high} times"
    )
    assert usual in line("memorised", "healthy")
    assert "finds 3 of 48" in line("leaked-eval", "healthy")
    assert "is 2.6; that of this evaluation is 1.4" in line("adapter-inactive", "healthy")
    assert "the largest norm of B is 0" in line("adapter-inactive", "no-gradient")
    assert "One by one 80 %" in line("padding-side", "healthy")
    # The run's own figures on the same rows come from a probe that changes nothing in it.
    assert "One by one 20 % of the parts are right, and as the evaluation asks 20 %" in line(
        "padding-side", "eval-template"
    )
    assert "Asked as in training 20 %" in line("eval-template", "padding-side")
    assert "`copies`" in line("healthy", "leaked-eval") and "curve" in line("healthy", "lr-too-high")


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda: game.case(0), "The case's number is 0"),
        (lambda: game.case(16), "at most 15"),
        (lambda: game.case("one"), "'one'"),
        (lambda: game.case(1).probe("token"), "no probe 'token'. There are: tokens"),
        (lambda: game.case(1).probe(None), "no probe None"),
        (lambda: game.case(1).name("eos"), "Unknown cause 'eos'. There are: "),
        (lambda: game.case(1).name(["lr-too-high"]), "Unknown cause ['lr-too-high']"),
        (lambda: game.leaderboard("../x"), "makes no file name"),
        (lambda: game.leaderboard("Ana"), "No case was opened yet"),
    ],
)
def test_what_does_not_exist_is_one_line_and_costs_nothing(record, work, ask, said):
    with pytest.raises(LabError, match=re.escape(said)) as error:
        ask()
    assert "\n" not in str(error.value) and not list(work.iterdir())


def test_without_a_record_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(experiments, "PUBLISHED", tmp_path)
    game.recorded.cache_clear()
    with pytest.raises(LabError, match="clinic.json is missing"):
        game.case(1)


def test_the_leaderboards_file_has_the_bill_and_no_cause(record, work):
    case = game.case(number_of("eval-template"))
    case.name("padding-side")
    case.probe("lookalike")
    case.name("eval-template")
    game.case(number_of("healthy")).probe("tokens")
    file = game.leaderboard("Ana Müller")
    assert file == work / "clinic_Ana Müller.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    assert content["cases"][str(case.number)] == {
        "cents": 120,
        "right": True,
        "wrong": 1,
        "probes": ["lookalike"],
    }
    assert content["cases"][str(number_of("healthy"))]["right"] is False and len(content["cases"]) == 2
    assert not any(kind in file.read_text(encoding="utf-8") for kind in kinds.KINDS)
