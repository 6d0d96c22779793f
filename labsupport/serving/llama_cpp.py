"""A GGUF file opened by llama.cpp, to be asked what it makes of a conversation, a text and a prompt's ids.

llama.cpp comes with the package xllamacpp. Its server runs in a process of its own, see llama_child.py,
listens on 127.0.0.1 only and is gone when the `with` block is left. It computes on the processor and keeps
keys and values in float32, so that a float32 file says what transformers says in float32.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from labsupport.core import files
from labsupport.core.files import ROOT, LabError

MODULE = "labsupport.serving.llama_child"
PACKAGE = "xllamacpp"
START_LIMIT = 180.0  # seconds until the file must be open
ANSWER_LIMIT = 600.0  # seconds until an answer must be there


@dataclass(frozen=True)
class LlamaCpp:
    """An open GGUF file."""

    path: Path
    port: int
    process: subprocess.Popen

    def prompt(self, messages: Sequence[dict]) -> str:
        """The conversation as text, by the file's chat template, ending where the model is to reply.

        It is rendered by llama.cpp's own interpreter of such templates. A token that `ids` puts in front of
        every text (BOS, where the file asks for it) is not in it.
        """
        return self._ask("/apply-template", {"messages": list(messages)})["prompt"]

    def ids(self, text: str) -> list[int]:
        """The text's token ids, special tokens recognized in it: tokenizer(text)["input_ids"]."""
        return self._ask("/tokenize", {"content": text, "add_special": True, "parse_special": True})["tokens"]

    def generate(self, ids: Sequence[int], max_tokens: int) -> list[int]:
        """The ids of the reply, always the likeliest next, without the prompt's; at most max_tokens.

        A token that ends a reply ends it and is the last of them, as in transformers. LabError if the prompt
        does not fit the context; a reply ends where the context does.
        """
        if max_tokens < 1:
            raise LabError(f"max_tokens is {max_tokens}: ask for 1 or more.")
        job = {"prompt": [int(number) for number in ids], "n_predict": max_tokens, "return_tokens": True}
        greedy = {"samplers": ["top_k"], "top_k": 1, "temperature": 0, "cache_prompt": False}
        return self._ask("/completion", job | greedy)["tokens"]

    def _ask(self, route: str, body: dict) -> dict:
        """The server's answer. Without urllib, which would ask a proxy for it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_LIMIT)
        try:
            connection.request("POST", route, json.dumps(body), {"Content-Type": "application/json"})
            answer = json.load(connection.getresponse())
        except (OSError, http.client.HTTPException) as error:
            name = files.short(self.path)
            raise LabError(f"llama.cpp with {name} gives no answer: open the file again.") from error
        finally:
            connection.close()
        if "error" in answer:
            raise LabError(f"llama.cpp refuses {route[1:]}: {answer['error']['message']}")
        return answer


@contextlib.contextmanager
def opened(path: Path | str, *, threads: int = 1, context: int = 1024) -> Iterator[LlamaCpp]:
    """The GGUF file, opened; afterwards its process and its port are gone.

    threads: of the processor. context: positions that prompt and reply have together; llama.cpp rounds it up
    to a multiple of 256 and gives no more than the file's own. LabError if the file is missing or is not what
    llama.cpp can open, or llama.cpp is not installed.
    """
    path = Path(path).resolve()
    if not path.is_file():
        raise LabError(f"{files.short(path)} is missing: write it with gguf_export.write first.")
    if importlib.util.find_spec(PACKAGE) is None:
        raise LabError(
            f"llama.cpp (the package {PACKAGE}) is not installed: `python3 lab.py start` installs it, on "
            "Linux (x86-64, arm64), macOS on Apple silicon and Windows (x64)."
        )
    with tempfile.TemporaryFile() as log:
        process = _start(path, threads, context, log)
        try:
            yield LlamaCpp(path, _port(process, path, log), process)
        finally:
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()


def _start(path: Path, threads: int, context: int, log) -> subprocess.Popen:
    search = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return subprocess.Popen(
        [sys.executable, "-m", MODULE, str(path), str(threads), str(context)],
        env={**os.environ, "PYTHONPATH": search},
        stdin=subprocess.PIPE,  # see child.py
        stdout=subprocess.PIPE,
        stderr=log,
        start_new_session=os.name != "nt",  # Ctrl-C is the starter's to answer
    )


def _port(process: subprocess.Popen, path: Path, log) -> int:
    """Where it listens, once it says so."""
    too_long = threading.Timer(START_LIMIT, process.kill)
    too_long.start()
    try:
        line = process.stdout.readline()  # empty when the process has ended
    finally:
        too_long.cancel()
    said = json.loads(line) if line else {"error": f"its process ended, exit status {process.wait()}"}
    if "port" in said:
        return said["port"]
    name = files.short(path)
    if reason := _first_error(log):
        raise LabError(f"llama.cpp cannot open {name} ({reason}): write it anew with gguf_export.write.")
    raise LabError(f"llama.cpp did not start with {name}: {said['error']}.")


def _first_error(log) -> str:
    """The first thing that llama.cpp found wrong, as it says it; what follows is that it gives up."""
    log.seek(0)
    lines = log.read().decode(errors="replace").splitlines()
    return next((line.split(" E ", 1)[1].strip()[:200] for line in lines if " E " in line), "")
