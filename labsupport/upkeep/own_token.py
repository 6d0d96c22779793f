"""Who may use the JupyterLab that `lab.py start` opens: whoever has the token of that start.

JUPYTER_TOKEN is only a default: Jupyter settings of the machine may put an empty token or a password in its
place. A token on the command line would stand above them, but every user of the machine could read it there.
"""

from __future__ import annotations

import os

from jupyter_server.auth.identity import PasswordIdentityProvider
from traitlets import validate


class OwnToken(PasswordIdentityProvider):
    """Takes the token from JUPYTER_TOKEN and knows no password, whatever is configured."""

    @validate("token")
    def _token_of_this_start(self, proposal) -> str:
        return os.environ["JUPYTER_TOKEN"]

    @validate("hashed_password")
    def _no_password(self, proposal) -> str:
        return ""

    @validate("password_required")
    def _none_required(self, proposal) -> bool:
        return False
