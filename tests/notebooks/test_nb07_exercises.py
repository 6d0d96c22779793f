"""Notebook 07's interval is drawn at random: its check must admit every right answer, and only those."""

import functools

import pytest

from labsupport.evaluation.paired import paired_interval
from labsupport.notebooks.nb07_evaluation import exercises


@pytest.mark.parametrize("seed", range(1, 9))
def test_a_right_interval_passes_with_any_seed(seed):
    answer = functools.partial(paired_interval, seed=seed)
    assert exercises.paired_interval.check(answer).status == "correct"


def test_many_more_resamples_pass_as_well_and_a_handful_does_not():
    check = exercises.paired_interval.check
    assert check(functools.partial(paired_interval, resamples=40_000)).status == "correct"
    assert check(functools.partial(paired_interval, resamples=50, seed=1)).status == "wrong"
