"""What each process of a job does first: end with the loop that began it, and stop in order when asked."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from labsupport.core.files import LabError


def run(job, arguments: list[str] | None = None) -> int:
    """Call `job(folder)` with the hour's folder, the first argument; the exit status of the process.

    A LabError becomes one line and status 2. SIGINT and SIGTERM end it with 130: what was kept stays.
    """
    folder, *_ = sys.argv[1:] if arguments is None else arguments
    die_with_the_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        job(Path(folder))
    except LabError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped; what was kept stays.", file=sys.stderr)
        return 130
    return 0


def _stop(number, frame):
    raise KeyboardInterrupt


def die_with_the_loop() -> None:
    """Linux ends this process with SIGTERM when its parent is gone, even by SIGKILL: a job that nobody
    watches would run on over the limit. Elsewhere nothing: rented cards are in Linux machines."""
    if sys.platform != "linux":
        return
    import ctypes

    pr_set_pdeathsig = 1  # sys/prctl.h
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM, 0, 0, 0)


def settle() -> None:
    """Quiet the libraries and keep to the profile's threads. Call before a model is loaded."""
    import torch

    from labsupport.core import profiles, upstream

    upstream.quiet_known_noise()
    torch.set_num_threads(profiles.current().threads)
