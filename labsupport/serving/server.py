"""An OpenAI-compatible server on this machine: `transformers serve` in a process of its own.

It listens on 127.0.0.1 only, has a log, and is gone when its `with` block is left, however that is left.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labsupport.core import files
from labsupport.core.files import ROOT, LabError

if TYPE_CHECKING:
    import openai

HOST = "127.0.0.1"
ON_WINDOWS = os.name == "nt"
MODULE = "labsupport.serving.child"
START_LIMIT = 180.0  # seconds until it must answer: the import alone takes ten on a busy machine
# The server asks nothing of the network: models from folders only, no look for newer versions, no telemetry.
ALONE = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1", "OTEL_SDK_DISABLED": "true"}


@dataclass(frozen=True)
class Server:
    """A running server."""

    port: int
    folder: Path  # whose subfolders are the models, by name
    log: Path
    process: subprocess.Popen

    @property
    def url(self) -> str:
        """The base URL for a client."""
        return f"http://{HOST}:{self.port}/v1"

    def client(self, timeout: float = 120.0) -> openai.OpenAI:
        """A client for it, past any proxy, without second tries; timeout: seconds to wait for each piece."""
        import openai

        plain = openai.DefaultHttpxClient(trust_env=False)
        return openai.OpenAI(
            base_url=self.url, api_key="none", timeout=timeout, max_retries=0, http_client=plain
        )

    def kill(self) -> None:
        """End it and its children at once, as a machine does that runs out of memory; answers break off."""
        _kill(self.process)


@contextlib.contextmanager
def running(
    folder: Path | str,
    *,
    port: int | None = None,
    options: Sequence[str] = (),
    log: Path | str | None = None,
    start_limit: float = START_LIMIT,
) -> Iterator[Server]:
    """A server for the models in `folder`, ready to answer; afterwards neither it nor a child of it is left.

    folder: holds one folder a model; its name is what a request gives as `model`, and the model is loaded at
    the first request that names it. port: a free one by default. options: more of `transformers serve`.
    log: a file, `server.log` in `folder` by default, written anew. start_limit: seconds until it must answer.
    LabError if there is no model, the port is in use, or the server ends or does not answer in that time.
    """
    folder = Path(folder).resolve()
    if not any(folder.glob("*/config.json")):
        raise LabError(
            f"No model to serve in {files.short(folder)}: put a folder with a config.json into it."
        )
    port = _free_port(port)
    log = Path(log or folder / "server.log").resolve()
    server = Server(port, folder, log, _start(folder, port, options, log))
    try:
        _wait_until_ready(server, start_limit)
        yield server
    finally:
        server.kill()


def _free_port(asked: int | None) -> int:
    """The port asked for, or any free one."""
    with socket.socket() as probe:
        if not ON_WINDOWS:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, asked or 0))
        except (OSError, OverflowError) as error:
            raise LabError(
                f"Port {asked} is in use or not allowed: stop what listens there, or give another `port`."
            ) from error
        return probe.getsockname()[1]


def _start(folder: Path, port: int, options: Sequence[str], log: Path) -> subprocess.Popen:
    """The process: in a group of its own, so that its children can be ended with it."""
    command = [sys.executable, "-m", MODULE, "--host", HOST, "--port", str(port), *options]
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    try:
        with log.open("wb") as output:
            return subprocess.Popen(
                command,
                cwd=folder,  # so that a model's name is its folder's
                env={**os.environ, **ALONE, "PYTHONPATH": path},
                stdin=subprocess.PIPE,  # see child.py
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=not ON_WINDOWS,
            )
    except OSError as error:
        raise files.cannot_write(log, error) from error


def _wait_until_ready(server: Server, limit: float) -> None:
    end = time.monotonic() + limit
    while not _answers(server.port):
        if (status := server.process.poll()) is not None:
            raise LabError(f"The server ended at its start (exit status {status}): {_complaint(server.log)}")
        if time.monotonic() > end:
            raise LabError(
                f"The server does not answer after {limit:.0f} s. {files.short(server.log)} ends with: "
                f"{_complaint(server.log)}"
            )
        time.sleep(0.1)


def _answers(port: int) -> bool:
    """Whether /health says 200. Without urllib, which would ask a proxy for it."""
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _complaint(log: Path) -> str:
    """What the log says went wrong: its last line about an error, else its last line."""
    text = log.read_text(encoding="utf-8", errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["(its log is empty)"]
    errors = [line for line in lines if re.search(r"error\b", line, flags=re.IGNORECASE)]
    return (errors or lines)[-1][:300]


def _kill(process: subprocess.Popen) -> None:
    """End the process and every child of it. There is nothing to ask it for first: it keeps nothing."""
    if ON_WINDOWS:
        if process.poll() is None:
            subprocess.run(["taskkill", "/F", "/T", "/PID", str(process.pid)], capture_output=True)
    else:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdin.close()
