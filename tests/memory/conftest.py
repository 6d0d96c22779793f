"""What several tests of traces share."""

import pytest


@pytest.fixture
def trl_as_it_is(monkeypatch):
    """Without the course's guard for short trainings on a processor, which another test may have put on."""
    from trl.kernels import chunked_logprob
    from trl.trainer import utils

    monkeypatch.setattr(utils, "_use_triton", chunked_logprob._use_triton)
    monkeypatch.setattr(utils, "_ChunkedLogProbFunction", chunked_logprob.ChunkedLogProbFunction)
