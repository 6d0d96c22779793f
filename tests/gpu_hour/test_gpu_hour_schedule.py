"""Which jobs of the hour the money is enough for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labsupport.core.files import LabError
from labsupport.gpu_hour import schedule
from labsupport.gpu_jobs.job import Job

NAMES = [f"job{number}" for number in range(8)]


@st.composite
def batches(draw):
    """Jobs that come after some of those before them, as in a batch."""
    found = []
    for name in NAMES[: draw(st.integers(1, len(NAMES)))]:
        fast = draw(st.floats(0, 1000))
        slow = fast + draw(st.floats(0, 1000))
        before = [job.name for job in found]
        after = draw(st.lists(st.sampled_from(before), unique=True)) if before else []
        found.append(Job(name, "?", ("x",), (fast, slow), after=tuple(after)))
    return found


@given(batches(), st.floats(0, 4000), st.sets(st.sampled_from(NAMES)))
def test_what_is_chosen_fits_and_nothing_that_fits_is_left_out(jobs, left, done):
    choices = schedule.choose(jobs, left, done)
    assert [choice.job for choice in choices] == jobs  # the order of value stays
    chosen = schedule.to_run(choices)
    assert sum(job.seconds[1] for job in chosen) <= left + 1e-6
    assert not {job.name for job in chosen} & done
    there = done | {job.name for job in chosen}
    remaining = left
    for choice in choices:
        if choice.what == "run":
            assert set(choice.job.after) <= there
            remaining -= choice.job.seconds[1]
        elif choice.what == "left out":
            assert choice.why
            assert choice.job.seconds[1] > remaining or not set(choice.job.after) <= there
        else:
            assert choice.job.name in done


def test_a_shorter_job_fits_where_a_longer_one_did_not_and_each_says_why():
    first, long, after, short = (
        Job("first", "?", (), (10, 20)),
        Job("long", "?", (), (100, 900)),
        Job("after", "?", (), (1, 2), after=("long",)),
        Job("short", "?", (), (10, 30)),
    )
    choices = schedule.choose([first, long, after, short], 60)
    assert [choice.what for choice in choices] == ["run", "left out", "left out", "run"]
    assert (
        choices[1].why == "it may take 15 min and 40 s are left" and choices[2].why == "it comes after long"
    )
    ended = schedule.choose([first, long, after, short], 2000, ended={"long": "it failed"})
    assert [choice.what for choice in ended] == ["run", "left out", "left out", "run"]
    assert ended[1].why == "it failed"


def test_money_is_time_and_what_was_spent_is_gone():
    assert schedule.seconds_for(2.0, 0.8) == pytest.approx(9000)
    assert schedule.seconds_for(2.0, 0.8, spent=1.5) == pytest.approx(2250)
    assert schedule.seconds_for(2.0, 0.8, spent=3.0) == 0


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), 1e300])
@pytest.mark.parametrize("which", ["budget", "rate"])
def test_no_positive_number_is_one_line(value, which):
    asked = {"budget": 2.0, "rate": 0.8} | {which: value}
    with pytest.raises(LabError, match=f"--{which} is .*above 0"):
        schedule.seconds_for(**asked)


def test_too_little_for_anything_says_how_much_is_needed_and_that_much_is_enough():
    jobs = [Job("doctor", "?", (), (30, 240)), Job("check", "?", (), (1, 2), after=("doctor",))]
    with pytest.raises(LabError, match=r"0.01 at 0.8 an hour .* doctor .* 4 min. Give at least 0.06") as said:
        left = schedule.seconds_for(0.01, 0.8)
        schedule.check_enough(schedule.choose(jobs, left), 0.01, 0.8)
    assert "\n" not in str(said.value)
    enough = schedule.choose(jobs, schedule.seconds_for(0.06, 0.8))
    schedule.check_enough(enough, 0.06, 0.8)
    with pytest.raises(LabError, match="of which 0.05 are spent, .* check comes next"):
        schedule.check_enough(schedule.choose(jobs, 1, {"doctor"}), 0.05, 0.8, spent=0.05)
    schedule.check_enough(schedule.choose(jobs, 0, {"doctor", "check"}), 0.05, 0.8, spent=0.05)  # all is done


def test_the_table_shows_time_money_memory_and_why():
    jobs = [Job("a", "what of it?", (), (60, 120), 5.25), Job("b", "and this?", (), (60, 7200))]
    text = str(schedule.table(schedule.choose(jobs, 600), 0.8, "A prediction"))
    assert text.startswith("A prediction\n")
    a, b = text.splitlines()[-2:]
    for part in ("1 to 2", "0.01 to 0.03", "5.2", "run", "what of it?"):
        assert part in a
    assert "its own plan" in b and "left out: it may take 120 min and 8 min are left" in b
