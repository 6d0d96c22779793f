"""One job's process: begun in a group of its own, its output in the log, ended by steps."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Sequence

from labsupport.core.files import ROOT
from labsupport.gpu_hour.saying import Log

PATIENCE = (12.0, 6.0)  # seconds after SIGINT, and after SIGTERM, before the next
LONGEST = 300  # characters of a job's last line that the loop repeats
ON_WINDOWS = os.name == "nt"


class Process:
    """A running job, in a session of its own: neither Ctrl-C nor a dropped connection reaches it."""

    def __init__(self, command: Sequence[str], environment: dict[str, str], log: Log):
        options = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP} if ON_WINDOWS else {}
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=not ON_WINDOWS,
            **options,
        )
        self._log = log
        self.last = ""  # line of its output, cut
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        """Through this process, not straight into the file: there a full disk would be the job's error."""
        for line in self._process.stdout:
            self._log.write(line)
            self.last = line.decode(errors="replace").strip()[:LONGEST] or self.last

    def wait(self, seconds: float) -> int | None:
        """The exit status, or None if it still runs after so many seconds."""
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        self._send("SIGKILL")  # what it has left behind in its group would keep the card
        self._reader.join(5)
        return status

    def end(self, patience: tuple[float, float] = PATIENCE) -> int:
        """Ask it to stop, ask again, then kill it; the exit status. A second Ctrl-C kills it at once."""
        try:
            status = self._asked_to_stop(patience)
        finally:
            self._send("SIGKILL")
        if status is None:
            status = self._process.wait()
            self._reader.join(5)
        return status

    def _asked_to_stop(self, patience: tuple[float, float]) -> int | None:
        for name, seconds in zip(("SIGINT", "SIGTERM"), patience, strict=True):
            self._send(name)
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                if (status := self.wait(0.1)) is not None:
                    return status
        return None

    def _send(self, name: str) -> None:
        """A signal to the whole group, which may be gone."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if not ON_WINDOWS:
                os.killpg(self._process.pid, getattr(signal, name))
            elif name == "SIGINT":
                self._process.send_signal(signal.CTRL_BREAK_EVENT)
            else:
                self._process.kill()
