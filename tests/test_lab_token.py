"""JupyterLab as `lab.py start` opens it keeps its token, whatever the machine's Jupyter settings say."""

import urllib.error
import urllib.request

import browser_server
import pytest
from jupyter_server.auth import passwd
from traitlets.config import Config

from labsupport.upkeep.own_token import OwnToken

OPEN = """
c.ServerApp.token = ""
c.IdentityProvider.token = ""
c.PasswordIdentityProvider.token = ""
c.OwnToken.token = ""
c.ServerApp.password = ""
c.ServerApp.identity_provider_class = "jupyter_server.auth.identity.PasswordIdentityProvider"
c.ServerApp.allow_origin = "*"
"""


def status(address: str, token: str = "") -> int:
    """What the server answers a program that asks it for files."""
    headers = {"Authorization": f"token {token}"} if token else {}
    asked = urllib.request.Request(f"{address}/api/contents", headers=headers)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.slow
@pytest.mark.parametrize("file", ["jupyter_server_config.py", "jupyter_lab_config.py", "jupyter_config.py"])
def test_settings_that_switch_the_token_off_do_not(tmp_path, file):
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / file).write_text(OPEN)
    with browser_server.serve(tmp_path) as lab:
        assert len(lab.token) >= 32
        assert (status(lab.address), status(lab.address, "wrong")) == (403, 403)
        assert status(lab.address, lab.token) == 200


def test_a_password_of_the_machine_is_none_of_this_server(monkeypatch):
    monkeypatch.setenv("JUPYTER_TOKEN", "the token")
    theirs = {"token": "", "hashed_password": passwd("known"), "password_required": True}
    for section in ("IdentityProvider", "PasswordIdentityProvider", "OwnToken"):
        found = OwnToken(config=Config({section: theirs}))
        assert (found.token, found.hashed_password, found.password_required) == ("the token", "", False)
        assert found.auth_enabled
