"""The jobs of the rented hour: all there, in order, with estimates; and what is kept of one."""

import json

import pytest

from labsupport import cli
from labsupport.core import profiles
from labsupport.gpu_jobs import jobs, ranges, results
from labsupport.setups.setup import config_named
from labsupport.sizes import gpus


@pytest.fixture
def no_trace(monkeypatch):
    """The planner's trace takes seconds and has tests of its own."""
    monkeypatch.setattr(ranges, "training_gib", lambda at: 6.5)


def test_the_batch_is_whole_ordered_and_can_run_here(no_trace, tmp_path):
    at = ranges.ground(gpus.find("l4"), profiles.get("gpu-24gb"), config_named("qwen2.5-7b-instruct"))
    batch = jobs.batch(at, tmp_path)
    names = [job.name for job in batch]
    assert names[:4] == ["doctor", "gpu_check", "download", "qlora"] and len(set(names)) == len(names)
    for number, job in enumerate(batch):
        assert 0 < job.seconds[0] < job.seconds[1] and set(job.after) <= set(names[:number])
        assert job.question.endswith("?")
    assert sum(job.seconds[1] for job in batch[:4]) < 3600 * 2 / 0.8  # what the hour is for fits in it
    train = next(job for job in batch if job.name == "qlora")
    assert at.setup.method == "qlora" and train.memory_gib == 6.5
    rehearsed = jobs.rehearsal(batch)
    assert [job.command for job in rehearsed] == [job.command for job in batch]


def test_the_verbs_that_are_called_know_these_options(no_trace, tmp_path, monkeypatch):
    """They are other files, and called as processes: a renamed option would be found on the meter."""
    at = ranges.ground(gpus.find("l4"), profiles.get("gpu-24gb"), config_named("qwen2.5-7b-instruct"))
    verbs = [job.command[4:] for job in jobs.batch(at, tmp_path) if job.command[0].endswith("command_job")]
    assert [verb[0] for verb in verbs] == ["doctor", "gpu-check"]
    for verb, *options in verbs:
        monkeypatch.setattr(cli.load(verb), "run", lambda asked: 17)
        assert cli.run(verb, options) == 17


@pytest.mark.parametrize("card", ["t4", "l4", "a10", "a100-80"])
@pytest.mark.parametrize("model", ["qwen2.5-7b-instruct", "llama-3.1-8b-instruct"])
def test_there_are_estimates_for_every_card_and_model_of_the_course(no_trace, tmp_path, card, model):
    found = gpus.find(card)
    at = ranges.ground(found, ranges.profile_for(found), config_named(model))
    assert all(job.seconds[1] < 4 * 3600 for job in jobs.batch(at, tmp_path))


# ---------------------------------------------------------------- what is kept of a job


def test_a_killed_job_goes_on_after_its_last_whole_step(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_PROFILE", "smoke")
    first = results.Record(tmp_path, "qlora")
    assert first.step("a", lambda: {"x": 1}) == {"x": 1}
    with pytest.raises(KeyboardInterrupt):
        first.step("b", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    again = results.Record(tmp_path, "qlora")
    assert again.step("a", lambda: pytest.fail("computed twice")) == {"x": 1}
    again.step("b", lambda: 2)
    again.finish()
    kept = json.loads((tmp_path / "results" / "qlora.json").read_text())
    assert kept["steps"] == {"a": {"x": 1}, "b": 2} and kept["finished"] and kept["rehearsal"]
    assert kept["card"] is None and kept["stamp"]["libraries"]["torch"]
    monkeypatch.setenv("LAB_BASE_MODEL", "another")
    assert results.Record(tmp_path, "qlora").document["steps"] == {}
