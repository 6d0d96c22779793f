"""A soft time limit: a loop without end becomes a message instead of a kernel that hangs."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator


class TooSlow(BaseException):
    """The time is over. Not an Exception, so that a learner's `except Exception` does not swallow it."""


@contextlib.contextmanager
def limited(seconds: float | None) -> Iterator[None]:
    """Raise TooSlow in the block once it has run that many seconds; None or 0 is no limit.

    It works where Python has interval timers (Linux, macOS) and in the main thread, which is where a Jupyter
    kernel runs its cells. Elsewhere (Windows, another thread) there is no limit, and nothing else changes.
    A single call into a library's C code is stopped only when it comes back. A timer that was set before
    goes on afterwards with what is left of it, and so does its handler.
    """
    main = threading.current_thread() is threading.main_thread()
    if not (seconds and main and hasattr(signal, "setitimer")):
        yield
        return

    def stop(signal_number, frame):
        raise TooSlow(f"more than {seconds:g} seconds")

    start, handler = time.monotonic(), signal.signal(signal.SIGALRM, stop)
    # Again every second, for a loop that catches everything.
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler if handler is not None else signal.SIG_DFL)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - start), 1e-3), interval)
