"""One browser and one JupyterLab for all tests that need them, and a kernel for those that need no more."""

import os
import shutil

import browser_lab
import browser_server
import pytest
from jupyter_client.manager import start_new_kernel
from playwright.sync_api import expect, sync_playwright

expect.set_options(timeout=browser_server.PATIENCE * 1000)


@pytest.fixture(scope="session")
def chromium():
    """A running browser. Without one the tests are skipped, except in continuous integration."""
    program = shutil.which("chromium")
    if program is None:
        reason = "no `chromium` on the PATH (Debian: apt-get install chromium fonts-dejavu-core)"
        if os.environ.get("CI") == "true":
            pytest.fail(f"{reason}, and CI=true", pytrace=False)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=browser_lab.BROWSER_OPTIONS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def lab(chromium, tmp_path_factory):
    with browser_server.serve(tmp_path_factory.mktemp("lab")) as running:
        yield running


SECONDS = 300  # for a cell: a busy machine is no failure


class Kernel:
    """A running kernel; `run` gives all that a cell showed, as text."""

    def __init__(self, folder):
        places = {"LAB_PROGRESS": str(folder / "progress.json"), "LAB_PROFILE": "smoke", "LAB_STRICT": "0"}
        self.manager, self.client = start_new_kernel(cwd=str(folder), env={**os.environ, **places})

    def run(self, source: str) -> str:
        shown = []

        def see(message):
            content = message["content"]
            assert message["msg_type"] != "error", "\n".join(content["traceback"])
            shown.append(content.get("text") or content.get("data", {}).get("text/plain") or "")

        self.client.execute_interactive(source, output_hook=see, timeout=SECONDS)
        return "\n".join(shown)

    def restart(self):
        self.manager.restart_kernel(now=True)
        self.client.wait_for_ready(timeout=SECONDS)


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    kernel = Kernel(tmp_path_factory.mktemp("my_work"))
    yield kernel
    kernel.client.stop_channels()
    kernel.manager.shutdown_kernel(now=True)
