"""A running server that speaks OpenAI's protocol, asked greedily."""

from __future__ import annotations

import http.client
import json
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from urllib.parse import urlsplit

from labsupport.core.files import LabError
from labsupport.findings.finding import shortened

SECONDS = 120  # for one reply, which on a CPU takes long
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
ABSENT = {404, 405, 501}  # a server without this way of asking
# vLLM's own: token ids of prompt and reply, and no penalty for repeating, which it may have of the model's
# generation_config.json. Other servers ignore them, or refuse, and are asked again without.
EXTRAS = {"return_token_ids": True, "repetition_penalty": 1.0}


class NoList(LabError):
    """A server answers, and lists no models."""


@dataclass(frozen=True)
class Reply:
    """What the server said. ids, prompt_ids: tokens of reply and prompt; None where it does not tell."""

    text: str
    ids: list[int] | None = None
    prompt_ids: list[int] | None = None


class Server:
    """An OpenAI-compatible server at a URL, with or without /v1 at its end."""

    def __init__(self, url: str, key_variable: str | None = None):
        try:
            parts = urlsplit(url)
        except ValueError:  # an IPv6 address that is none
            parts = urlsplit("")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise LabError(f"--url {url!r} is no address: it begins with http:// or https:// and a host.")
        self.url = url.rstrip("/").removesuffix("/v1")
        self.key = None if key_variable is None else key_in(key_variable)
        here = parts.hostname in ("localhost", "127.0.0.1", "::1")  # a proxy would look for it elsewhere
        self.opener = urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if here else []))
        self.plain = False  # whether it refused EXTRAS

    def models(self) -> list[dict]:
        """What /v1/models lists, an object with "id" each; vLLM adds "root" and "parent". LabError where no
        such server answers."""
        status, found = self._ask("GET", "/v1/models")
        listed = found.get("data") if isinstance(found, dict) else None
        if status != 200 or not isinstance(listed, list):
            raise NoList(
                f"{self.url}/v1/models answers with status {status} and no list of models: give "
                "--served, the adapter's name there, if it is an OpenAI-compatible server."
            )
        return [one for one in listed if isinstance(one, dict) and isinstance(one.get("id"), str)]

    def chat(self, model: str, messages: list[dict], tokens: int) -> Reply | None:
        """The reply to messages, of at most so many tokens; None where the server has no chat, or no chat
        template."""
        choice, whole = self._first(CHAT, {"messages": messages}, model, tokens)
        if choice is None:
            return None
        message = choice.get("message")
        text = message.get("content") if isinstance(message, dict) else message
        if isinstance(text, list):  # of parts
            text = "".join(str(part.get("text", "")) for part in text if isinstance(part, dict))
        return Reply(text or "", choice.get("token_ids"), whole.get("prompt_token_ids"))

    def complete(self, model: str, ids: list[int], tokens: int) -> Reply | None:
        """How it goes on after token ids, so that no template is involved; None where it cannot."""
        choice, _ = self._first(COMPLETIONS, {"prompt": ids}, model, tokens)
        if choice is None:
            return None
        return Reply(choice.get("text") or "", choice.get("token_ids"), choice.get("prompt_token_ids"))

    def _first(self, path: str, body: dict, model: str, tokens: int):
        """(first choice, whole answer); (None, {}) where the server has no such path."""
        body = {"model": model, "temperature": 0, "max_tokens": tokens, **body}
        status, found = self._ask("POST", path, body if self.plain else body | EXTRAS)
        if status in (400, 422) and not self.plain:
            again, other = self._ask("POST", path, body)
            if again == 200:
                self.plain, status, found = True, again, other
        if self._cannot(path, status, str(found).lower()):
            return None, {}
        choices = found.get("choices") if isinstance(found, dict) else None
        if status != 200 or not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            raise LabError(f"{self.url}{path} answers with status {status}: {shortened(str(found), 200)}.")
        return choices[0], found

    def _cannot(self, path: str, status: int, said: str) -> bool:
        """Whether an answer means that the server has no such way of asking: no path, no chat template, no
        prompts as token ids. A model that it does not have is another matter."""
        if status in ABSENT:
            return "model" not in said
        return status in (400, 422) and (path == COMPLETIONS or "chat template" in said)

    def _ask(self, method: str, path: str, body: dict | None = None):
        """(status, what came back as JSON, else as text). LabError where nobody answers."""
        content = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        try:
            request = urllib.request.Request(self.url + path, content, headers, method=method)
            if self.key is not None:
                request.add_unredirected_header("Authorization", f"Bearer {self.key}")
            with self._answer(request) as answer:
                status, said = answer.status, answer.read()
        except (OSError, http.client.HTTPException, ValueError) as error:
            why = getattr(error, "reason", error)
            if isinstance(why, TimeoutError):
                raise LabError(f"{self.url}{path} does not answer within {SECONDS} seconds.") from None
            raise LabError(
                f"No server answers at {self.url} ({said_by(why)}): start it, or correct --url."
            ) from None
        if status in (401, 403):
            if self.key is not None:
                raise LabError(f"{self.url} refuses the key that --key-variable names: correct it.")
            raise LabError(f"{self.url} asks for a key: name the variable that holds it with --key-variable.")
        text = said.decode(errors="replace")
        try:
            return status, json.loads(text)
        except ValueError:
            return status, text

    def _answer(self, request):
        """What came back, an error of the server's included."""
        try:
            return self.opener.open(request, timeout=SECONDS)
        except urllib.error.HTTPError as error:
            return error


def key_in(variable: str) -> str:
    """The key that an environment variable holds. It is never shown."""
    key = os.environ.get(variable, "").strip()  # read from a file it ends in a line break
    if not key:
        raise LabError(f"--key-variable {variable}: there is no such environment variable.")
    if not (key.isascii() and key.isprintable()):
        raise LabError(f"--key-variable {variable}: what it holds is no key, with other signs than ASCII's.")
    return key


def said_by(error) -> str:
    """An error in a few words."""
    return shortened(str(error), 100) or type(error).__name__


def model_for(listed: list[dict], adapter_folder, wanted: str | None, url: str) -> str:
    """The model to ask for: --served, else the one with the adapter's folder as its root or name, else the
    only one with a parent, else the only one. LabError where none can be told."""
    ids = [one["id"] for one in listed]
    if wanted is not None:
        if wanted not in ids:
            raise LabError(f"{url} serves no model {wanted!r}. It has: {', '.join(ids) or 'none'}.")
        return wanted
    folder = adapter_folder.resolve()
    adapters = [one["id"] for one in listed if one.get("parent")]
    for found in (
        [one["id"] for one in listed if one.get("root") in (str(folder), f"{folder}/")],
        [name for name in ids if name == folder.name],
        adapters,
        ids,
    ):
        if len(found) == 1:
            return found[0]
    raise LabError(f"Which of the server's models is it? Give --served, one of: {', '.join(ids) or 'none'}.")
