"""JupyterLab as a learner starts it, in headless Chromium, for tests/notebooks/test_browser.py.

`lab.open_lab` itself starts the server, so that the tests see the learner's options. What the tests add
comes through a configuration folder of their own: the application object in the page, and every cell in
the page from the beginning, so that a selector finds what a learner would scroll to. With LAB_SHOTS=folder
the tests also save pictures there, in the light and the dark theme.
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
from playwright.sync_api import TimeoutError

from labsupport.core.files import ROOT

PATIENCE = 300  # seconds for anything: a busy machine is no failure
RUN_PATIENCE = 1200  # seconds for all cells of a notebook
BROWSER_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
]
ADMITTED = ("data:", "blob:")
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


# ---------------------------------------------------------------- the server


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

    def url(self, path: str) -> str:
        return f"{self.address}/lab/tree/{path}?token={self.token}&reset"


@contextlib.contextmanager
def serve(folder: Path):
    """JupyterLab on 127.0.0.1 over `folder`, with copies of the student notebooks in my_work/."""
    configure(folder)
    (folder / "my_work").mkdir()
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        shutil.copy(notebook, folder / "my_work")
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


# ---------------------------------------------------------------- the page


KERNEL = "window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel"
# JupyterLab hands widgets' messages to a thread of their own in the kernel, so that a reply to another
# request proves nothing: count what was sent and is not done.
WATCH = f"""() => {{
  const pending = window.labPending = new Set();
  {KERNEL}.anyMessage.connect((_, {{ msg, direction }}) => {{
    const type = msg.header.msg_type;
    if (direction === "send" && msg.channel === "shell") pending.add(msg.header.msg_id);
    if (type === "status" && msg.content.execution_state === "idle") pending.delete(msg.parent_header.msg_id);
  }});
}}"""
SETTLE = """async () => {
  const frame = () => new Promise(requestAnimationFrame);
  for (let calm = 0; calm < 4; ) { await frame(); calm = window.labPending.size ? 0 : calm + 1; }
}"""
RUN_ALL = """() => {
  window.labRan = null;
  window.jupyterapp.commands.execute("notebook:run-all-cells")
    .then(() => { window.labRan = true; }, (error) => { window.labRan = String(error); });
}"""


FIRST_CELL = """() => {
  const notebook = window.jupyterapp.shell.currentWidget.content;
  notebook.mode = "command";
  notebook.activeCellIndex = 0;
  notebook.node.focus();
}"""


class Notebook:
    """A notebook open in a page. `problems` collects requests that leave the machine and page errors."""

    def __init__(self, context, lab: Lab, path: str):
        self.lab, self.problems = lab, []
        self.page = context.new_page()
        self.page.set_default_timeout(PATIENCE * 1000)
        self.page.on("request", lambda request: self.watch(request.url))
        self.page.on("websocket", lambda socket: self.watch(socket.url.replace("ws:", "http:", 1)))
        self.page.on("pageerror", lambda error: self.problems.append(f"page error: {error}"))
        self.page.goto(lab.url(path))
        self.page.wait_for_function(f"{KERNEL}?.status === 'idle'")
        self.page.locator(".jp-NotebookPanel:visible .jp-CodeCell").first.wait_for()
        self.page.evaluate(WATCH)

    def watch(self, url: str) -> None:
        if not url.startswith((f"{self.lab.address}/", *ADMITTED)):
            self.problems.append(f"request: {url}")

    def cells(self) -> list[dict]:
        """The notebook as it would be saved."""
        model = "window.jupyterapp.shell.currentWidget.content.model.sharedModel.toJSON().cells"
        return self.page.evaluate(model)

    def written(self) -> list[tuple]:
        """What a stray shortcut would change."""
        return [(cell["cell_type"], cell["source"]) for cell in self.cells()]

    def run_all(self) -> None:
        """Run every cell, wait until all are done, and expect no error."""
        self.page.evaluate(RUN_ALL)
        try:
            self.page.wait_for_function("window.labRan !== null", timeout=RUN_PATIENCE * 1000)
        except TimeoutError as error:
            ran = [cell["source"] for cell in self.cells() if cell.get("execution_count")]
            raise AssertionError(f"after {RUN_PATIENCE} s this was the last cell: {ran[-1:]}") from error
        assert self.page.evaluate("window.labRan") is True
        self.settle()
        code = [cell for cell in self.cells() if cell["cell_type"] == "code"]
        outputs = [output for cell in code for output in cell["outputs"]]
        errors = [output for output in outputs if output["output_type"] == "error"]
        assert not errors, f"{errors[0]['ename']}: {errors[0]['evalue']}"  # the cells below it never ran
        assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))

    def settle(self) -> None:
        """Until the kernel has answered all it was sent and the page has drawn it."""
        self.page.evaluate(SETTLE)

    def output(self, selector: str):
        """Inside outputs only: a search of the page would also find the cells' source."""
        return self.page.locator(f".jp-NotebookPanel:visible .jp-OutputArea-output {selector}")

    def expect_no_error(self) -> None:
        """No error is shown, every image has alt text, and nothing left the machine."""
        outputs = self.page.locator(".jp-NotebookPanel:visible .jp-OutputArea-output")
        shown = "\n".join(outputs.all_inner_texts())
        for sign in ("Traceback (most recent call last)", "This view failed", "Error displaying widget"):
            assert sign not in shown, shown
        for image in self.output("img").all():
            assert len(image.get_attribute("alt") or "") >= 30
        assert self.problems == []
        assert self.lab.asked == []

    def tab_into(self, selector: str, number: int = 0) -> None:
        """From the first cell in command mode, press Tab until something inside an output has the focus."""
        box = self.output(selector).nth(number)
        self.page.evaluate(FIRST_CELL)
        for _ in range(200):
            self.page.keyboard.press("Tab")
            if box.evaluate("(box) => box.contains(document.activeElement)"):
                return
        raise AssertionError(f"Tab does not reach {selector}")

    def try_shortcuts(self) -> None:
        """Keys that in JupyterLab's command mode add, cut and delete cells change none."""
        before = self.written()
        for key in ("b", "a", "x", "d", "d"):
            self.page.keyboard.press(key)
        self.settle()
        assert self.written() == before, "a shortcut of JupyterLab fired"

    def shut_down(self) -> None:
        """End the kernels."""
        self.page.evaluate("window.jupyterapp.serviceManager.sessions.shutdownAll()")

    def shoot(self, name: str, selector: str | None = None) -> None:
        """Where LAB_SHOTS names a folder: a picture of the page or of an output, in both themes."""
        if "LAB_SHOTS" not in os.environ:
            return
        for theme in ("Dark", "Light"):
            change = "(name) => window.jupyterapp.commands.execute('apputils:change-theme', {theme: name})"
            self.page.evaluate(change, f"JupyterLab {theme}")
            self.page.locator(f"body[data-jp-theme-name='JupyterLab {theme}']").wait_for(state="attached")
            self.settle()
            self.page.locator("#jupyterlab-splash").wait_for(state="detached")  # it covers a new theme
            if selector:  # all of a tall output
                self.page.set_viewport_size({"width": 1280, "height": 2400})
            target = self.output(selector).first if selector else self.page
            target.screenshot(path=Path(os.environ["LAB_SHOTS"]) / f"{name}-{theme.lower()}.png")


# ---------------------------------------------------------------- controls, by keyboard


class Explorer:
    """An explorer in an open notebook: its controls in the page's order, and what it shows."""

    def __init__(self, notebook: Notebook, number: int):
        self.notebook, self.keyboard = notebook, notebook.page.keyboard
        self.box = notebook.output(".lab-explorer").nth(number)
        self.controls = self.box.locator("select, input, button").all()

    def shown(self) -> str:
        """The view's HTML, once it is up to date."""
        self.notebook.settle()
        return self.box.locator("> .widget-html").last.inner_html()

    def kind(self, control) -> str:
        return control.evaluate("node => node.tagName === 'INPUT' ? node.type : node.tagName.toLowerCase()")

    def name(self, control) -> str:
        return control.evaluate("node => node.labels?.[0]?.innerText || node.innerText").strip()

    def state(self, control):
        return control.evaluate(
            "n => n.type === 'checkbox' ? n.checked : n.tagName === 'SELECT' ? n.selectedIndex : n.value"
        )

    def put(self, control, value) -> None:
        """By keyboard: "low", "high", or what `state` gave. A button is pressed in any case."""
        kind = self.kind(control)
        control.focus()
        if kind == "select":
            self.keyboard.press("End" if value == "high" else "Home")
            for _ in range(value if isinstance(value, int) else 0):
                self.keyboard.press("ArrowDown")
        elif kind == "number":
            bound = {"low": "min", "high": "max"}.get(value)
            text = control.get_attribute(bound) if bound else value
            assert text, f"this number has no {bound}: use a Bounded control"
            self.keyboard.press("Control+a")
            self.keyboard.type(text)
            self.keyboard.press("Enter")
        elif kind == "checkbox":
            if control.is_checked() != {"low": False, "high": True}.get(value, value):
                self.keyboard.press("Space")
        else:
            self.keyboard.press("Space")
