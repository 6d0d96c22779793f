"""What the hour says goes into its log, and to the terminal as long as there is one."""

from __future__ import annotations

import contextlib
import datetime
import os
import sys
import threading
from pathlib import Path


class Log:
    """Lines of the hour and the output of its jobs. No full disk and no terminal that is gone stops it."""

    def __init__(self, file: Path):
        self.file = file
        self.lost = 0  # bytes that could not be written
        self._lock = threading.Lock()
        self._terminal = True

    def say(self, line: str) -> None:
        """A line of the hour itself, with the time of day, to both."""
        now = datetime.datetime.now().strftime("%H:%M:%S")
        self.write(f"[{now}] {line}\n".encode())
        if not self._terminal:
            return
        try:
            print(line, flush=True)
        except (OSError, ValueError):  # ValueError: it was closed
            self._terminal = False
            forget_the_terminal()

    def write(self, content: bytes) -> None:
        """Bytes into the log. Opened each time: a log that was moved away begins anew."""
        with self._lock:
            try:
                with self.file.open("ab", buffering=0) as log:
                    log.write(content)
            except OSError:
                self.lost += len(content)


def forget_the_terminal() -> None:
    """What is still to be printed goes nowhere: it would fail again when Python ends."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nowhere, stream.fileno())
