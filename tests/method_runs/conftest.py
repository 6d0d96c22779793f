"""For tests that train with the methods."""

import pytest


@pytest.fixture(autouse=True)
def without_patching_trl(monkeypatch):
    """The recipe lets TRL score labels alone, for good; later tests of the process train without that."""
    monkeypatch.setattr("labsupport.core.upstream.score_only_labels", lambda: None)
