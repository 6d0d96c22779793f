"""One browser and one JupyterLab for all tests that need them."""

import os
import shutil

import browser_lab
import browser_server
import pytest
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
