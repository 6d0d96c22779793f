"""Programs for an interpreter in which nothing has been patched, and the libraries are imported already.

Each is forked from a server that has done nothing but import them, which takes ten seconds of a processor;
where the system cannot do that (Windows), it starts from nothing.
"""

import contextlib
import io
import multiprocessing
import os
import traceback

FORKS = "forkserver" in multiprocessing.get_all_start_methods()
LIBRARIES = ["torch", "bitsandbytes", "datasets", "peft", "transformers", "trl"]


def run(program: str, **environment: str) -> str:
    """What the program prints. It finds `environment` in os.environ; if it raises, the test fails so."""
    context = multiprocessing.get_context("forkserver" if FORKS else "spawn")
    if FORKS:
        context.set_forkserver_preload(LIBRARIES)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=execute, args=(program, environment, sender))
    process.start()
    sender.close()  # so that the end of the process is the end of what can be read
    with contextlib.suppress(EOFError):
        printed, trouble = receiver.recv()
    process.join()
    assert process.exitcode == 0, f"ended with {process.exitcode}"
    assert not trouble, trouble
    return printed.strip()


def execute(program: str, environment: dict, sender) -> None:
    os.environ |= environment
    printed, trouble = io.StringIO(), ""
    try:
        with contextlib.redirect_stdout(printed):
            exec(compile(program, "<program>", "exec"), {"__name__": "__main__"})
    except SystemExit:
        pass
    except BaseException:
        trouble = traceback.format_exc()
    sender.send((printed.getvalue(), trouble))
