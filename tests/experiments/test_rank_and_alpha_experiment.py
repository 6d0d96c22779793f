"""Rank and alpha: the experiment in small, and its published record."""

import numpy as np
import pytest

from labsupport.evaluation import experiments
from labsupport.experiments import rank_and_alpha_experiment
from labsupport.updates import first_steps, toy_training


def test_rank_and_alpha_in_small(monkeypatch):
    monkeypatch.setattr(rank_and_alpha_experiment, "RANKS", (2, 8))
    monkeypatch.setattr(rank_and_alpha_experiment, "SEEDS", range(2))
    monkeypatch.setattr(rank_and_alpha_experiment, "STEPS", 2)
    monkeypatch.setattr(rank_and_alpha_experiment, "PLACES", ("seen 1", "fresh 1", "seen 2", "fresh 2"))
    cell = {"optimizer": "adam", "batch": 4, "width": 16, "row_cosine": 0.0}
    found = rank_and_alpha_experiment.run(cell)
    assert found["ranks"] == [2, 8] and set(found["exponent"]) == set(toy_training.RULES)
    fixed, doubled, rslora = (np.mean(found["exponent"][rule]["fresh 1"]) for rule in toy_training.RULES)
    assert doubled - fixed == pytest.approx(1, abs=0.01) and rslora - fixed == pytest.approx(0.5, abs=0.01)


def test_published_exponents_follow_the_alignment():
    """What the notebook says decides: the measured exponents lie on the curve of the two sums."""
    cells = experiments.published("rank_and_alpha")["cells"]
    toys = [cell for cell in cells if "optimizer" in cell["cell"] and "lr" not in cell["cell"]]
    for cell in toys:
        less = {"adam": 1, "sgd": 2}[cell["cell"]["optimizer"]]
        for place in ("seen 1", "fresh 1"):
            metrics = cell["metrics"]
            measured = np.mean(metrics["exponent"]["alpha fixed"][place])
            expected = first_steps.expected_exponent(
                cell["cell"]["optimizer"], metrics["alignment"][place], metrics["ranks"]
            )
            assert measured == pytest.approx(expected - less, abs=0.15), cell["cell"]
