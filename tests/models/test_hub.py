"""Models of the hub: what is fetched and what never is, from a small hub of the test's own."""

import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from labsupport.core import files
from labsupport.models import hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONTENT = {
    "config.json": b"{}",
    "model.safetensors": b"weights",
    "tokenizer.json": b"{}",
    "pytorch_model.bin": b"a pickle",
    "modeling_own.py": b"raise SystemExit('code of the hub was run')",
}


class SmallHub(BaseHTTPRequestHandler):
    """One whole model, one with pickled weights only, a gated one; each has one commit."""

    def do_GET(self):
        path = self.path.partition("?")[0]
        repository = re.search(r"(owner|modles)/\w+", path)[0]
        content = CONTENT if repository == "owner/model" else {"pytorch_model.bin": b"a pickle"}
        if repository == "owner/gated":
            self.reply(403, b"", {"X-Error-Code": "GatedRepo"})
        elif repository not in ("owner/model", "owner/pickled"):
            self.reply(404, b"", {"X-Error-Code": "RepoNotFound"})
        elif path.endswith("/revision/main"):
            self.reply(200, json.dumps({"id": repository, "sha": COMMIT}).encode())
        elif path.endswith(f"/tree/{COMMIT}"):
            listed = [{"type": "file", "path": n, "size": len(b), "oid": n} for n, b in content.items()]
            self.reply(200, json.dumps(listed).encode())
        elif f"/resolve/{COMMIT}/" in path:
            name = path.rpartition("/")[2]
            self.server.fetched.add(name)
            self.reply(200, content[name], {"X-Repo-Commit": COMMIT, "ETag": f'"{name}"'})
        else:
            self.reply(404, b"", {"X-Error-Code": "RevisionNotFound"})

    do_HEAD = do_GET

    def reply(self, status: int, body: bytes, headers: dict | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def small_hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), SmallHub)
    server.fetched = set()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def fetch(tmp_path, small_hub):
    """hub.fetch in a process of its own: the hub's client reads its settings when it is imported."""

    def fetch(name: str, function: str = "fetch", **environment: str) -> tuple[str, str]:
        program = (
            "import sys\nfrom labsupport.core.files import LabError\nfrom labsupport.models import hub\n"
            "try:\n    print(getattr(hub, sys.argv[2])(sys.argv[1]))\n"
            "except LabError as error:\n    print('LabError:', error)"
        )
        settings = {
            "HF_ENDPOINT": f"http://127.0.0.1:{small_hub.server_port}",
            "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            **environment,
        }
        done = subprocess.run(
            [sys.executable, "-c", program, name, function],
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip(), done.stderr

    return fetch


def test_only_safetensors_and_no_code_are_fetched_and_only_once(fetch, small_hub):
    folder, said = fetch(f"owner/model@{COMMIT}")
    assert folder.endswith(COMMIT)
    assert f"Fetching owner/model@{COMMIT}" in said and "not pinned" not in said
    assert small_hub.fetched == {"config.json", "model.safetensors", "tokenizer.json"}
    small_hub.fetched.clear()
    assert fetch(f"owner/model@{COMMIT}", HF_HUB_OFFLINE="1") == (folder, "")
    assert small_hub.fetched == set()


def test_of_a_tokenizer_no_weights_are_fetched_and_the_cache_serves_offline(fetch, small_hub):
    folder, said = fetch("owner/model", "fetch_tokenizer")
    assert folder.endswith(COMMIT) and "not pinned" not in said
    assert small_hub.fetched == {"config.json", "tokenizer.json"}
    small_hub.fetched.clear()
    assert fetch("owner/model", "fetch_tokenizer", HF_HUB_OFFLINE="1") == (folder, "")
    assert fetch(f"owner/model@{COMMIT}", "fetch_tokenizer", HF_HUB_OFFLINE="1") == (folder, "")
    assert small_hub.fetched == set()


def test_a_tokenizer_that_cannot_be_fetched_is_one_line_that_says_why(fetch):
    for name, told in (("owner/typo", "none of that name"), ("owner/gated", "is gated")):
        printed, _ = fetch(name, "fetch_tokenizer")
        assert printed.startswith("LabError: ") and told in printed and "\n" not in printed
    printed, _ = fetch("owner/model", "fetch_tokenizer", HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE is set" in printed
    printed, said = fetch("owner/model", "fetch_tokenizer", HF_ENDPOINT="http://127.0.0.1:9")
    assert printed.startswith("LabError: There is no folder owner/model here") and said == ""


@pytest.mark.parametrize("name", ["owner/model", "owner/model@main"])
def test_without_a_commit_a_line_tells_it_and_how_to_keep_to_it(fetch, name):
    folder, said = fetch(name)
    assert folder.endswith(COMMIT)
    assert f"LAB_BASE_MODEL=owner/model@{COMMIT}" in said


@pytest.mark.parametrize(
    "name, told",
    [
        ("modles/mine", "no folder modles/mine here, and no model modles/mine .*none of that name"),
        ("owner/typo", "no folder owner/typo here, and no model owner/typo .*none of that name"),
        ("owner/gated", "owner/gated is gated: accept its licence at .*hf auth login"),
        ("owner/model@v9", "owner/model has no revision 'v9'"),
        ("owner/pickled", "owner/pickled on the hub lacks config.json, model.safetensors, tokenizer.json"),
    ],
)
def test_what_cannot_be_fetched_is_one_line_that_says_why(fetch, name, told, small_hub):
    printed, _ = fetch(name)
    assert printed.startswith("LabError: ") and "\n" not in printed
    assert re.search(told, printed), printed
    assert "pytorch_model.bin" not in small_hub.fetched


def test_an_unreachable_hub_is_one_line_that_names_the_model_and_the_cause(fetch):
    printed, _ = fetch("owner/model", HF_HUB_OFFLINE="1")
    assert re.search("LabError: There is no folder owner/model here.*HF_HUB_OFFLINE is set", printed)
    known = hub.ON_THE_HUB["qwen2.5-7b-instruct"]
    printed, _ = fetch(known, HF_HUB_OFFLINE="1")
    assert re.search("LabError: Qwen/Qwen2.5-7B-Instruct could not be fetched.*HF_HUB_OFFLINE", printed)


def test_a_full_disk_of_the_cache_is_called_that():
    error = OSError(28, "No space left on device")
    assert re.search("Cannot write .*: No space left on device", hub.explained("owner/model", error))


def test_known_models_are_pinned_to_a_commit():
    for name in hub.ON_THE_HUB.values():
        assert hub.is_name(name) and hub.COMMIT.fullmatch(name.partition("@")[2])


@pytest.mark.parametrize(
    "name", ["owner/model", "owner/model@v1", f"owner/model@{COMMIT}", "o/m.x_y-2@refs/pr/1"]
)
def test_names_of_the_hub(name):
    assert hub.is_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "model",
        "a/b/c",
        "owner/",
        "/model",
        "owner/mo del",
        "own--er/model",
        "owner/model.git",
        "owner/model@",
        "o/m@ ",
    ],
)
def test_what_is_no_name_of_the_hub(name):
    assert not hub.is_name(name)


def test_a_folder_of_shards_is_whole_when_all_of_them_are_there(tmp_path):
    index = {
        "weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-2.safetensors"}
    }
    files.write_atomically(tmp_path / "model.safetensors.index.json", json.dumps(index))
    for name in ("config.json", "tokenizer.model", "model-1.safetensors"):
        (tmp_path / name).write_text("{}")
    assert hub.lacking(tmp_path) == ["model-2.safetensors"]
    (tmp_path / "model-2.safetensors").write_text("")
    assert hub.lacking(tmp_path) == []
