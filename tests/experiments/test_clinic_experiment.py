"""The runs of the clinic: all kinds are among them."""

from labsupport.broken_runs import kinds
from labsupport.experiments import clinic_experiment


def test_there_is_a_case_of_every_kind_and_a_healthy_one_of_each_task():
    assert {cell["kind"] for cell in clinic_experiment.CELLS} == set(kinds.KINDS)
    healthy = [cell["task"] for cell in clinic_experiment.CELLS if cell["kind"] == "healthy"]
    assert sorted(healthy) == sorted(kinds.TASKS)
    assert len({cell["seed"] for cell in clinic_experiment.CELLS}) == len(clinic_experiment.CELLS)
