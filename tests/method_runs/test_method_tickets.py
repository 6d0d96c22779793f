"""The experiment method_tickets in small: a random model as base, few rows, rates without a record."""

import pytest
import torch
from tiny_training import tiny_model

from labsupport.experiments import method_tickets_experiment as experiment
from labsupport.format_runs import prompt_formats
from labsupport.method_runs import ticket_reading, training, tuned
from labsupport.models import base_model


@pytest.fixture
def small(tokenizer, monkeypatch):
    """The experiment's `run` on a random two-layer Llama with the real vocabulary."""
    sets = {name: rows[:4] for name, rows in prompt_formats.test_sets().items()}
    monkeypatch.setattr(prompt_formats, "test_sets", lambda: sets)
    monkeypatch.setattr(base_model, "load", lambda dtype: (tiny_model().to(getattr(torch, dtype)), tokenizer))
    monkeypatch.setattr(tuned, "rates", lambda: dict.fromkeys(experiment.METHODS, 2e-3))
    monkeypatch.setattr(training, "TICKET_ROWS", 16)
    monkeypatch.setattr(experiment, "EVERY", 50)
    return experiment.run


@pytest.mark.parametrize("method", experiment.METHODS)
def test_a_cell_trains_and_is_scored(small, method):
    result = small({"method": method, "seed": 0})
    assert result["steps"] == 2 == len(result["losses"])
    assert result["general"]["kl"] != 0
    assert ("moves" in result) == (method != "bottleneck")
    record = {"cells": [{"cell": {"method": m, "seed": 0}, "metrics": result} for m in ("lora", "full")]}
    assert ticket_reading.versus(record, "full", "test_lookalike", "answer") == (0, 0, 0)
