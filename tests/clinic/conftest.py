"""For tests that make runs of the clinic."""

import pytest


@pytest.fixture(autouse=True)
def without_patching_trl(monkeypatch):
    """Making a run lets TRL score the labels alone, for good: later tests of this process train without it."""
    monkeypatch.setattr("labsupport.core.upstream.score_only_labels", lambda: None)
