"""A notebook in JupyterLab, open in headless Chromium, for the tests in tests/notebooks/test_browser*.py.

With LAB_SHOTS=folder the tests also save pictures there, in the light and the dark theme.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from browser_server import PATIENCE, Lab
from playwright.sync_api import TimeoutError

RUN_PATIENCE = 1200  # seconds for all cells of a notebook
BROWSER_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
]
# JupyterLab asks for an attachment: before it finds the picture inside the notebook.
ADMITTED = ("attachment:", "data:", "blob:")
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


LINKS = "link-in-text-block"  # JupyterLab's style: in prose only their colour tells links from text
THEMES = ("Dark", "Light")
NARROW = (700, 640)  # a small window; half of 1,280, as at 200 % zoom
CLOSE_SIDE_BAR = """() => {
  const { commands, shell } = window.jupyterapp;
  if (!shell.leftCollapsed) commands.execute("application:toggle-left-area");
}"""
CUT_OFF = """() => {
  const panel = window.jupyterapp.shell.currentWidget.node;
  const parts = [...panel.querySelectorAll(".jp-RenderedMarkdown, .jp-OutputArea-output")];
  const wide = parts.filter((node) => node.scrollWidth > node.clientWidth + 1);
  return wide.map((node) => node.innerText.slice(0, 80));
}"""
FIRST_CELL = """() => {
  const notebook = window.jupyterapp.shell.currentWidget.content;
  notebook.mode = "command";
  notebook.activeCellIndex = 0;
  notebook.node.focus();
}"""


class Notebook:
    """A notebook open in a page, whose layout is as JupyterLab comes, or with layout="" as it was left.

    `problems` collects requests that leave the machine and page errors."""

    def __init__(self, context, lab: Lab, path: str, layout: str = "reset"):
        self.lab, self.problems = lab, []
        self.page = context.new_page()
        self.page.set_default_timeout(PATIENCE * 1000)
        self.page.on("request", lambda request: self.watch(request.url))
        self.page.on("websocket", lambda socket: self.watch(socket.url.replace("ws:", "http:", 1)))
        self.page.on("pageerror", lambda error: self.problems.append(f"page error: {error}"))
        self.page.goto(lab.url(path, layout))
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
        for image in self.page.locator(".jp-NotebookPanel:visible .jp-RenderedMarkdown img").all():
            assert image.evaluate("image => image.complete && image.naturalWidth > 0"), image.get_attribute(
                "src"
            )
        assert self.problems == [], self.problems
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

    def put_on(self, theme: str) -> None:
        """Change to a theme, and wait until it is drawn."""
        change = "(name) => window.jupyterapp.commands.execute('apputils:change-theme', {theme: name})"
        self.page.evaluate(change, f"JupyterLab {theme}")
        self.page.locator(f"body[data-jp-theme-name='JupyterLab {theme}']").wait_for(state="attached")
        self.settle()
        self.page.locator("#jupyterlab-splash").wait_for(state="detached")  # it covers a new theme

    def expect_accessible(self, selector: str, but: str = "") -> None:
        """axe-core finds no fault in these parts of the notebook, in either theme, but those of a rule."""
        # JupyterLab's body has no height and hides what overflows: axe takes all text for hidden then.
        self.page.add_style_tag(content="html, body { height: 100% }")
        parts = {"include": [[f".jp-NotebookPanel:not(.lm-mod-hidden) {selector}"]]}
        rules = {but: {"enabled": False}} if but else {}
        for theme in THEMES:
            self.put_on(theme)
            found = Axe().run(self.page, parts, {"rules": rules}).response
            assert "color-contrast" in [rule["id"] for rule in found["passes"] + found["violations"]]
            faults = {rule["id"]: [node["html"] for node in rule["nodes"]] for rule in found["violations"]}
            assert not faults, f"{theme}: {faults}"

    def cut_off(self, width: int) -> list[str]:
        """What is wider than its place in a window of that width, the side bar closed."""
        before = self.page.viewport_size
        self.page.evaluate(CLOSE_SIDE_BAR)
        self.page.set_viewport_size({"width": width, "height": before["height"]})
        self.settle()
        found = self.page.evaluate(CUT_OFF)
        self.page.set_viewport_size(before)
        return found

    def shoot(self, name: str, selector: str | None = None) -> None:
        """Where LAB_SHOTS names a folder: a picture of the page or of an output, in both themes."""
        if "LAB_SHOTS" not in os.environ:
            return
        for theme in THEMES:
            self.put_on(theme)
            if selector:  # all of a tall output
                self.page.set_viewport_size({"width": 1280, "height": 2400})
            target = self.output(selector).first if selector else self.page
            target.screenshot(path=Path(os.environ["LAB_SHOTS"]) / f"{name}-{theme.lower()}.png")


@contextlib.contextmanager
def opened(chromium, lab: Lab, path: str):
    """A notebook in a page of its own; its kernel is shut down and the page closed afterwards."""
    context = chromium.new_context(viewport={"width": 1280, "height": 1000})
    try:
        notebook = Notebook(context, lab, path)
        yield notebook
        notebook.shut_down()
    finally:
        context.close()


# ---------------------------------------------------------------- controls, by keyboard


class Explorer:
    """An explorer in an open notebook: its controls in the page's order, and what it shows."""

    def __init__(self, notebook: Notebook, number: int):
        self.notebook, self.keyboard = notebook, notebook.page.keyboard
        self.box = notebook.output(".lab-explorer").nth(number)
        self.controls = self.box.locator("select, input, textarea, button").all()

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
        elif kind == "textarea":
            self.keyboard.press("Control+a")
            self.keyboard.type({"low": "user: a", "high": "user: a longer message"}.get(value, value))
            control.dispatch_event("change")  # as leaving the box does; the focus stays
        elif kind == "checkbox":
            if control.is_checked() != {"low": False, "high": True}.get(value, value):
                self.keyboard.press("Space")
        else:
            self.keyboard.press("Space")
