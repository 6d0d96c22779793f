"""JupyterLab as a learner starts it, for the tests in a browser.

`lab.open_lab` itself starts the server, so that the tests see the learner's options. What the tests add
comes through a configuration folder of their own: the application object in the page, and every cell in
the page from the beginning, so that a selector finds what a learner would scroll to.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import threading
from pathlib import Path

import nbformat

from labsupport.core.files import ROOT
from labsupport.upkeep import contents

PATIENCE = 300  # seconds for anything: a busy machine is no failure
SETTINGS = {
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
    "@jupyterlab/docmanager-extension:plugin": {"autosave": False},
}
START = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import lab
lab.ROOT = Path.cwd()
lab.WORK = lab.ROOT / "my_work"
lab.open_lab(int(sys.argv[2]), browser=False)
"""


@contextlib.contextmanager
def dead_proxy():
    """The address of a proxy that refuses every request and notes it: (address, list of first lines)."""
    asked = []

    class Refuse(socketserver.StreamRequestHandler):
        def handle(self):
            asked.append(self.rfile.readline(500).decode(errors="replace").strip())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Refuse) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
        server.shutdown()


def environment(folder: Path, proxy: str) -> dict:
    """For Lab and its kernels: nothing of the user's, nothing on the network, the smallest sizes."""
    jupyter = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "IPYTHONDIR": "ipython",
        "LAB_RUNS": "runs",
    }
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), proxy)
    return {
        **os.environ,
        **{name: str(folder / place) for name, place in jupyter.items()},
        **proxies,
        "no_proxy": "127.0.0.1,localhost",
        "NO_PROXY": "127.0.0.1,localhost",
        "LAB_PROGRESS": str(folder / "progress.json"),
        "LAB_PROFILE": "smoke",
        "LAB_THREADS": "1",
        "LAB_STRICT": "0",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }


def configure(folder: Path) -> None:
    config = folder / "config"
    (config / "labconfig").mkdir(parents=True)
    (config / "labconfig" / "default_setting_overrides.json").write_text(json.dumps(SETTINGS))
    exposed = {"LabApp": {"expose_app_in_browser": True}}
    (config / "jupyter_lab_config.json").write_text(json.dumps(exposed))


class Lab:
    """A running server: address of the file root, its folder, what kernels asked of the network."""

    def __init__(self, folder: Path, address: str, token: str, asked: list[str]):
        self.folder, self.address, self.token, self.asked = folder, address, token, asked
        self.progress = folder / "progress.json"

    def write(self, name: str, *cells: str) -> str:
        """A notebook of these code cells in my_work/; its path for Lab."""
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        notebook.metadata["kernelspec"] = {
            "name": "python3",
            "display_name": "Python 3",
            "language": "python",
        }
        nbformat.write(notebook, self.folder / "my_work" / f"{name}.ipynb")
        return f"my_work/{name}.ipynb"

    def url(self, path: str, layout: str) -> str:
        return f"{self.address}/lab/tree/{path}?token={self.token}&{layout}"


@contextlib.contextmanager
def serve(folder: Path):
    """JupyterLab on 127.0.0.1 over `folder`, with copies of the student notebooks in my_work/."""
    configure(folder)
    (folder / "my_work").mkdir()
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        shutil.copy(notebook, folder / "my_work")
    for page in ("glossary.md", "guides.md", "README.md"):
        shutil.copy(ROOT / page, folder)
    page = contents.notebook("my_work", contents.page())
    (folder / "my_work" / contents.NAME).write_text(json.dumps(page))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with dead_proxy() as (proxy, asked), (folder / "log").open("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", START, str(ROOT), str(port)],
            cwd=folder,
            env=environment(folder, proxy),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield Lab(folder, f"http://127.0.0.1:{port}", token_of(folder / "log", process, port), asked)
        finally:
            stop(process)


def token_of(log: Path, process: subprocess.Popen, port: int) -> str:
    """The token in the address that `lab.py start` prints, once the server answers."""
    for _ in range(PATIENCE * 4):
        found = re.search(r"[?&]token=(\w+)", log.read_text())
        with socket.socket() as probe:
            if found and probe.connect_ex(("127.0.0.1", port)) == 0:
                return found.group(1)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.25)
            break
    raise AssertionError(f"JupyterLab did not start:\n{log.read_text()[-3000:]}")


def stop(process: subprocess.Popen) -> None:
    """End Lab, which ends its kernels; by force if it does not within a minute."""
    for how, seconds in ((signal.SIGTERM, 60), (signal.SIGKILL, 10)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        for _ in range(seconds * 4):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.25)
            try:
                os.killpg(process.pid, 0)
            except (ProcessLookupError, PermissionError):
                return
            threading.Event().wait(0.25)
