"""`transformers serve`, in a process that ends with the one that started it.

`python -m labsupport.serving.child ARGUMENTS` takes the arguments of `transformers serve`. Its standard
input is a pipe that nobody writes to. The pipe closes when the starter ends, however that ends, and then this
process ends at once. A kernel that is killed would otherwise leave a server behind, with its port and memory.
"""

from __future__ import annotations

import os
import sys
import threading


def end_with_the_starter() -> None:
    """Wait in the background for standard input to close, then end this process without more ado."""

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def main() -> None:
    """Serve."""
    end_with_the_starter()  # before the import, which takes seconds
    from transformers.cli.transformers import app

    app(["serve", *sys.argv[1:]], prog_name="transformers")


if __name__ == "__main__":
    main()
