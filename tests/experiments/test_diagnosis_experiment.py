"""The diagnosis on runs of seeds that it was not written on: as recorded, and some of them made here."""

import pytest

from labsupport.broken_runs import kinds
from labsupport.evaluation import experiments
from labsupport.experiments import diagnosis_experiment


def first(metrics: dict) -> str:
    return metrics["causes"][0][0] if metrics["causes"] else "healthy"


def test_every_kind_but_one_at_most_is_named_first_and_every_healthy_run_is_left_alone():
    """A kind counts only if it was named for every seed."""
    named = {}
    for record in experiments.published("diagnosis")["cells"]:
        cell = record["cell"]
        named.setdefault(cell["kind"], []).append(first(record["metrics"]))
    assert set(named) == set(kinds.KINDS)
    assert all(len(found) == len(diagnosis_experiment.SEEDS) for found in named.values())
    assert set(named["healthy"]) == {"healthy"}
    assert sum(set(found) != {kind} for kind, found in named.items()) <= 1, named


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["healthy", "noisy-labels", "capacity-too-small", "padding-side"])
def test_a_run_made_now_is_diagnosed_as_recorded(kind, monkeypatch):
    """These four are told by the model itself or by a loss, so a change of libraries could blur them."""
    monkeypatch.setattr("labsupport.core.upstream.score_only_labels", lambda: None)
    monkeypatch.setattr("labsupport.core.upstream.keep_freed_memory", lambda: None)
    assert first(diagnosis_experiment.run({"kind": kind, "seed": diagnosis_experiment.SEEDS[0]})) == kind
