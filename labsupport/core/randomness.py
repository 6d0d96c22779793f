"""Random numbers that a piece of work leaves as it found them."""

from __future__ import annotations

import contextlib
import hashlib
import random
import sys

import numpy as np


@contextlib.contextmanager
def kept():
    """Whatever the block draws or seeds, the generators of Python, numpy and torch go on afterwards as if it
    had not been there. Does not import torch."""
    torch = sys.modules.get("torch")
    python, arrays = random.getstate(), np.random.get_state()
    tensors = torch.get_rng_state() if torch else None
    on_cards = torch.cuda.get_rng_state_all() if torch and torch.cuda.is_initialized() else []
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(arrays)
        if torch:
            torch.set_rng_state(tensors)
            if on_cards:
                torch.cuda.set_rng_state_all(on_cards)


def seed_of_epoch(seed: int, epoch: int) -> int:
    """The seed of an epoch's order, below 2**32: the run's own in its first epoch, and unrelated to any other
    run's in later ones. With seed + epoch, seed 0's second epoch would be seed 1's first."""
    if epoch == 0:
        return seed
    return int.from_bytes(hashlib.sha256(f"seed {seed}, epoch {epoch}".encode()).digest()[:4], "big")
