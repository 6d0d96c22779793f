"""Global generators and settings: every call starts from the same ones, and the caller's come back after it.

Else a check would reseed the notebook's generators, and one answer that calls `torch.set_grad_enabled(False)`
or `np.seterr(all="raise")` would fail the next right answer.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np

from labsupport.core import randomness

SEED = 0
# What numpy and torch begin with. A verdict must not depend on what a notebook has set since.
NUMPY_ERRORS = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}


@contextlib.contextmanager
def same_start() -> Iterator[None]:
    """Run a block with seeded generators and the libraries' own settings; put everything back, come what may.

    Seeded: random, numpy, torch (CPU, and CUDA where it is in use). Set: torch records gradients and makes
    float32, numpy warns. Put back: these, and torch's default device, threads and determinism, the filters
    of warnings, the working folder, and environment variables that were changed or removed.

    Not put back is what a library adds when it is first imported, as it would never add it again: new
    variables, and the filters of a block that imports something. Settings that change no result, such as
    how numbers are printed, are left alone. torch is not imported; if the block imports it, torch is left as
    after an import, apart from its threads.
    """
    with contextlib.ExitStack() as stack:
        for kept in (_variables, _folder, _filters, _generators, _torch):
            stack.enter_context(kept())
        stack.enter_context(np.errstate(**NUMPY_ERRORS))
        yield


@contextlib.contextmanager
def _generators() -> Iterator[None]:
    with randomness.kept():
        random.seed(SEED)
        np.random.seed(SEED)
        yield


@contextlib.contextmanager
def _torch() -> Iterator[None]:
    torch = sys.modules.get("torch")
    if torch is None:
        try:
            yield
        finally:
            _as_imported(sys.modules.get("torch"))
        return
    before = [(read, write, read()) for read, write in _torch_settings(torch)]
    _seed_torch(torch)
    torch.set_default_dtype(torch.float32)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for read, write, value in before:
            if read() != value:
                write(value)


def _seed_torch(torch: ModuleType) -> None:
    """Not torch.manual_seed: where CUDA is not in use, that seeds it for when it will be."""
    torch.default_generator.manual_seed(SEED)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(SEED)


def _torch_settings(torch: ModuleType) -> list[tuple[Callable, Callable]]:
    """Pairs of functions, one that reads a setting and one that writes it."""

    def determinism() -> tuple[bool, bool]:
        warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
        return torch.are_deterministic_algorithms_enabled(), warn_only

    return [
        (torch.get_default_dtype, torch.set_default_dtype),
        (torch.get_default_device, lambda device: _set_device(torch, device)),
        (torch.get_num_threads, torch.set_num_threads),
        (determinism, lambda both: torch.use_deterministic_algorithms(both[0], warn_only=both[1])),
    ]


def _set_device(torch: ModuleType, device) -> None:
    # None is how torch begins: with "cpu" every later call would pass through a wrapper.
    torch.set_default_device(None if device.type == "cpu" else device)


def _as_imported(torch: ModuleType | None) -> None:
    """The state of a torch that has just been imported; its threads could not be known before."""
    if torch is None:
        return
    torch.default_generator.seed()  # a number that nobody knows, as on import
    torch.set_grad_enabled(True)
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    torch.use_deterministic_algorithms(False)


@contextlib.contextmanager
def _filters() -> Iterator[None]:
    before, modules = warnings.filters[:], len(sys.modules)
    try:
        yield
    finally:
        if warnings.filters != before and len(sys.modules) == modules:
            warnings.resetwarnings()  # also forgets what was shown or hidden under the other filters
            warnings.filters[:] = before


@contextlib.contextmanager
def _folder() -> Iterator[None]:
    try:
        before = Path.cwd()
    except OSError:  # removed under our feet
        before = None
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if before is not None:
                os.chdir(before)


@contextlib.contextmanager
def _variables() -> Iterator[None]:
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.update({name: value for name, value in before.items() if os.environ.get(name) != value})
