"""Tokenizers are loaded once for all of these tests, which run the command in this process."""

import functools

import pytest

from labsupport.preflight import tokenizers

LOADED = functools.cache(tokenizers.loaded)


@pytest.fixture(autouse=True)
def loaded_once(monkeypatch):
    monkeypatch.setattr(tokenizers, "loaded", LOADED)
