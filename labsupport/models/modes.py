"""Evaluation mode that does not outlast its block."""

from __future__ import annotations

import contextlib


@contextlib.contextmanager
def evaluation_mode(model):
    """`model.eval()` in the block; afterwards, also after an error, every module has its mode of before."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
