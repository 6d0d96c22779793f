"""The loop over settings with made-up answers, the record it keeps, and what `plan` and `cost` quote."""

import dataclasses
import json

import pytest

from labsupport import cli
from labsupport.core.files import LabError
from labsupport.gpu_checks import records, running, settings
from labsupport.gpu_checks.settings import Setting
from labsupport.setups.setup import checked, config_named
from labsupport.sizes import gpus

L4 = {"name": "NVIDIA L4", "memory_gib": 22.03, "free_gib": 21.7, "capability": [8, 9]}
SMALL, LARGE = Setting("135m", "lora", True, "sft", "short"), Setting("8b", "full", True, "sft", "short")
MEASURED = {"allocated_gib": 1.0, "reserved_gib": 2.0, "outside_torch_gib": 0.4, "tokens_a_second": 5000.0}
ANSWER = {"outcome": "done", "measured": MEASURED, "trained_in": ["float32"], "loss": 10.8}
PLANNED = {"allocated_gib": 1.1, "reserved_gib": 1.9, "tokens_a_second": [1000.0, 4000.0]}


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """Records in a folder of the test's own."""
    monkeypatch.setattr(records, "OWN", tmp_path / "own")
    monkeypatch.setattr(records, "PUBLISHED", tmp_path / "published")
    return tmp_path


@pytest.fixture
def card(monkeypatch):
    """An L4 on which the 8B does not fit: (the jobs its workers got, what they answer before ANSWER)."""
    jobs, answers = [], []

    def answer(job):
        if job["ask"] == "card":
            return L4
        jobs.append(job)
        return answers.pop(0) if answers else ANSWER

    def predicted(setup, card, built):
        large = setup.config["hidden_size"] > 2048
        return PLANNED | ({"reserved_gib": 60.0} if large else {})

    monkeypatch.setattr(running, "in_own_process", answer)
    monkeypatch.setattr(settings, "predicted", predicted)
    return jobs, answers


def run(*wanted: Setting, minutes: float = 15) -> tuple[dict, list[str]]:
    said = []
    return running.run(list(wanted), minutes, said.append), said


def test_what_fits_is_run_and_the_rest_listed_with_its_plan(card):
    record, said = run(SMALL, LARGE)
    jobs, _ = card
    assert [job["setup"]["method"] for job in jobs] == ["lora"] and jobs[0]["device"] == "cuda"
    row = record["rows"][SMALL.key]
    assert row["ratios"] == {"allocated": 1.1, "reserved": 0.95} and row["trained_in"] == ["float32"]
    assert record["rows"][LARGE.key]["outcome"] == "not run"
    assert said[-1].endswith("not run: plan says 60.00 GiB")
    assert "ratio 1.100" in said[1] and "off by +25%, faster than the range" in said[1]
    assert {"date", "libraries"} <= set(record["stamp"]) and record["card"] == L4
    kept = json.loads((records.OWN / "nvidia-l4.json").read_text())
    assert kept == json.loads(json.dumps(record))


def test_what_is_done_is_not_done_again_and_what_failed_is(card):
    jobs, answers = card
    other = Setting("135m", "lora", True, "plain", "short")
    answers += [{"outcome": "out of memory", "said": "it is full", "measured": MEASURED}]
    answers += [{"outcome": "failed", "said": "no compiler"}]
    _, said = run(SMALL, other)
    assert "OUT OF MEMORY: it is full" in said[1] and "FAILED: no compiler" in said[3]
    record, said = run(SMALL, other, LARGE)
    assert len(jobs) == 3 and said[0].endswith("done before")
    assert record["rows"][SMALL.key]["outcome"] == "out of memory"
    assert record["rows"][other.key]["outcome"] == "done"


def test_a_record_of_other_libraries_is_begun_anew(card):
    record, _ = run(SMALL)
    record["stamp"]["libraries"]["torch"] = "1.0"
    records.save(record)
    run(SMALL)
    assert len(card[0]) == 2


def test_after_the_limit_nothing_begins(card):
    record, said = run(SMALL, minutes=0)
    assert record["rows"] == {} and card[0] == [] and "minutes are over" in said[0]


def test_without_a_card_there_is_one_line_and_nothing_is_written(folders, capsys):
    assert cli.main(["gpu-check", "--models", "135m", "--publish"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and "no CUDA card" in said.err
    assert list(folders.iterdir()) == []


def test_the_verb_prints_publishes_and_fails_if_a_setting_did(card, monkeypatch, capsys):
    monkeypatch.setattr(running, "require_card", lambda: None)
    asked = ["gpu-check", "--models", "135m", "--methods", "lora"]
    assert cli.main([*asked, "--publish"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[0] == "NVIDIA L4" and len(said.out.splitlines()) == 1 + 8
    assert records.published()[0]["rows"].keys() == {one.key for one in settings.chosen("135m", "lora")}
    assert cli.main([*asked, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == records.published()[0]
    assert cli.main([*asked[:2], "135m,1b", "--methods", "lora", "--limit", "1e-9"]) == 0
    assert "Not tried yet: 8 of 16." in capsys.readouterr().out
    card[1].append({"outcome": "failed", "said": "no compiler"})
    assert cli.main([*asked[:2], "135m", "--methods", "dora"]) == 1


# ---------------------------------------------------------------- what plan and cost quote


PLAN, COST = "plan --model smollm2-135m --gpu l4", "cost --model smollm2-135m --rows 9 --rate 1 --gpu l4"


@pytest.fixture(scope="module")
def plan_of_small():
    from labsupport.planning import planner

    return planner.plan(SMALL.setup(), gpus.find("l4"))


@pytest.fixture
def printed(capsys, monkeypatch, plan_of_small):
    """What a command line prints; each plan is the one of SMALL."""
    from labsupport.planning import planner

    monkeypatch.setattr(planner, "plan", lambda setup, card: plan_of_small)

    def run(line: str) -> str:
        assert cli.main(line.split()) == 0
        return capsys.readouterr().out

    return run


def test_plan_and_cost_quote_a_published_record(card, printed):
    before = printed(PLAN), printed(COST), printed(f"{PLAN} --json")
    assert not any("checked on" in text for text in before) and "UNVERIFIED" in before[0]
    records.publish(run(SMALL, LARGE)[0])
    plan, cost, document = printed(PLAN), printed(COST), json.loads(printed(f"{PLAN} --seq 256 --json"))
    line = "- checked on NVIDIA L4 with 4 x 512 tokens: allocated off by +10.0 %, reserved off by -5.0 %"
    assert line in plan and "UNVERIFIED" not in plan
    assert "- checked on NVIDIA L4 with 4 x 512 tokens: 5,000 tokens a second" in cost
    assert "off by +25%, faster than the range" in cost
    assert sum("checked on NVIDIA L4" in line for line in document["assumptions"]) == 1
    assert "checked on" not in printed(f"{COST} --gpus 2") + printed(f"{COST} --method qlora")
    compared = printed(f"{COST} --gpus 2 --compare")
    assert "checked on" not in compared  # qlora on one card and lora on two: neither was tried


@pytest.mark.parametrize(
    "other",
    [
        {"method": "qlora"},
        {"checkpointing": False},
        {"trainer": "plain"},
        {"rank": 64},
        {"optimizer": "adamw_8bit"},
        {"padded": False},
        {"config": config_named("smollm2-360m")},
    ],
    ids=lambda other: next(iter(other)),
)
def test_another_run_is_not_covered(card, other):
    records.publish(run(SMALL)[0])
    l4 = gpus.find("l4")
    assert records.said_of_memory(SMALL.setup(), l4) and records.said_of_speed(SMALL.setup(), l4)
    changed = checked(dataclasses.replace(SMALL.setup(), **other))
    assert records.said_of_memory(changed, l4) == records.said_of_speed(changed, l4) == []


def test_adapters_that_were_cast_make_another_run_however_it_is_said(card):
    """A record made before the setup had that field holds runs that the trainer's adapters were left in."""
    qlora, l4 = dataclasses.replace(SMALL, method="qlora"), gpus.find("l4")
    record, _ = run(qlora)
    assert record["rows"][qlora.key]["setup"].pop("adapters", "absent") is None
    records.publish(record)
    as_made, cast = (
        checked(dataclasses.replace(qlora.setup(), adapters=name)) for name in ("bfloat16", "float32")
    )
    assert records.said_of_memory(qlora.setup(), l4) == records.said_of_memory(as_made, l4) != []
    assert records.said_of_memory(cast, l4) == records.said_of_speed(cast, l4) == []


def test_another_card_is_not_covered_nor_is_none(card):
    records.publish(run(SMALL)[0])
    for other in (gpus.find("a10"), gpus.find("22"), None):
        assert records.said_of_memory(SMALL.setup(), other) == []


def test_running_out_of_memory_is_quoted_too_and_a_failure_of_the_machine_is_not(card):
    card[1].append({"outcome": "out of memory", "said": "it is full", "measured": MEASURED})
    record, _ = run(SMALL)
    with pytest.raises(LabError, match="nothing to publish"):
        records.publish(record)
    records.save(record, records.PUBLISHED)
    l4 = gpus.find("l4")
    assert records.said_of_memory(SMALL.setup(), l4) == [
        "checked on NVIDIA L4 with 4 x 512 tokens: out of memory, where 1.90 GiB were planned."
    ]
    assert records.said_of_speed(SMALL.setup(), l4) == []
    record["rows"][SMALL.key] |= {"outcome": "failed", "said": "no compiler"}
    records.save(record, records.PUBLISHED)
    assert records.said_of_memory(SMALL.setup(), l4) == []


def test_the_present_planner_says_what_published_records_hold(monkeypatch):
    """A record quotes the planner of its day: one that has changed since makes it be recorded anew."""
    monkeypatch.undo()
    for record in records.published():
        tried = [row for row in record["rows"].values() if row["outcome"] in records.TRIED]
        for row in tried[:2]:
            told = settings.predicted(records.run_of(row), settings.card_of(record["card"]))
            assert told["allocated_gib"] == pytest.approx(row["planned"]["allocated_gib"], rel=0.005)
