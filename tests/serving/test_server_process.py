"""Starting and ending the server: one line for what can be mended, and never a process left behind."""

import contextlib
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from served_models import make
from transformers import AutoConfig, AutoModelForCausalLM

from labsupport.core.files import ROOT, LabError
from labsupport.models import tiny_base
from labsupport.serving import folders, load, server

on_linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")


@pytest.fixture
def one_model(tmp_path) -> Path:
    folders.lay_out(tmp_path / "base", tiny_base.FOLDER)
    return tmp_path


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """In the server's place a program that runs; the file that says its own process id and its child's."""
    module = tmp_path / "stand_in.py"
    module.write_text(
        "import os, pathlib, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"pathlib.Path({str(tmp_path / 'ids')!r}).write_text(f'{{os.getpid()}} {{child.pid}}')\n"
        "print('loading'); print('almost there', flush=True)\n"
        "time.sleep(60)\n"
    )
    monkeypatch.setattr(server, "MODULE", "stand_in")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path / "ids"


def runs(pid: int) -> bool:
    """Whether a process does anything; a dead one that nobody has asked about yet does not. Its first thread
    can be dead while others are ending and still hold its port."""
    states = []
    for thread in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            states.append(thread.read_text().rpartition(")")[2].split()[0])
    return any(state not in "ZX" for state in states)


def gone(pids: list[int]) -> bool:
    end = time.monotonic() + 60
    while any(map(runs, pids)) and time.monotonic() < end:
        time.sleep(0.05)
    return not any(map(runs, pids))


def said(error: pytest.ExceptionInfo) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_port_in_use_is_one_line(one_model):
    with socket.socket() as taken:
        taken.bind((server.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(LabError) as error, server.running(one_model, port=port):
            pass
    assert said(error).startswith(f"Port {port} is in use")
    assert not (one_model / "server.log").exists()


def test_a_folder_without_a_model_is_one_line(tmp_path):
    with pytest.raises(LabError) as error, server.running(tmp_path):
        pass
    assert "config.json" in said(error)


@on_linux
def test_a_server_that_is_too_slow_is_ended_with_its_children(one_model, stand_in):
    with pytest.raises(LabError) as error, server.running(one_model, start_limit=8.0):
        pass
    assert "does not answer after 8 s" in said(error) and said(error).endswith("almost there")
    assert gone([int(pid) for pid in stand_in.read_text().split()])


@on_linux
def test_an_interrupt_while_it_starts_leaves_nothing(one_model, stand_in, monkeypatch):
    def interrupted(port):
        if stand_in.exists() and stand_in.read_text():
            raise KeyboardInterrupt
        return False

    monkeypatch.setattr(server, "_answers", interrupted)
    with pytest.raises(KeyboardInterrupt), server.running(one_model):
        pass
    assert gone([int(pid) for pid in stand_in.read_text().split()])


@pytest.mark.slow
def test_a_server_that_ends_at_its_start_says_why(one_model):
    with pytest.raises(LabError) as error, server.running(one_model, options=["--no-such-option"]):
        pass
    assert "ended at its start" in said(error) and said(error).endswith("No such option '--no-such-option'.")


@pytest.mark.slow
def test_a_port_that_is_taken_in_the_meantime_is_one_line(one_model, monkeypatch):
    with socket.socket() as taken:
        taken.bind((server.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setattr(server, "_free_port", lambda asked: port)
        with pytest.raises(LabError) as error, server.running(one_model, port=port):
            pass
    assert "address already in use" in said(error)


@pytest.mark.slow
@on_linux
def test_the_server_ends_with_a_starter_that_is_killed(one_model):
    program = (
        "import sys, time\nfrom labsupport.serving import server\n"
        "with server.running(sys.argv[1]) as running:\n"
        "    print(running.process.pid, running.port, flush=True)\n    time.sleep(600)\n"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", program, one_model], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        pid, port = map(int, starter.stdout.readline().split())
        assert runs(pid)
        starter.send_signal(signal.SIGKILL)
        assert gone([pid])
    finally:
        starter.kill()
        starter.wait()
        starter.stdout.close()
    assert server._free_port(port) == port


@pytest.mark.parametrize("clients", [0, 33])
def test_the_number_of_clients_is_bounded(clients):
    with pytest.raises(LabError, match=f"{clients} clients.*1 to 32"):
        load.at_once(None, "base", [], clients)


def test_an_adapter_is_served_with_its_base_beside_it(tmp_path):
    served = make(tmp_path)
    names = {file.name for file in (served / "adapted").iterdir()}
    assert {"config.json", "model.safetensors", "adapter_config.json", "tokenizer.json"} <= names
    assert "README.md" not in names
    for folders_of in ((tmp_path, None), (tiny_base.FOLDER, tmp_path)):
        with pytest.raises(LabError, match="config.json: give the folder of a"):
            folders.lay_out(tmp_path / "other", *folders_of)
    (tmp_path / "adapter" / "adapter_model.safetensors").unlink()  # the server would answer 500
    with pytest.raises(LabError, match="no adapter_model.safetensors: give the folder of an adapter"):
        folders.lay_out(tmp_path / "other", tiny_base.FOLDER, tmp_path / "adapter")
    assert not (tmp_path / "other").exists()
    with pytest.raises(LabError, match="Cannot write"):
        folders.lay_out(served / "base", tiny_base.FOLDER)


def test_what_a_server_could_not_load_is_refused_before_it_starts(tmp_path):
    served, adapter = make(tmp_path), tmp_path / "adapter"
    small = AutoConfig.from_pretrained(tiny_base.FOLDER)
    small.hidden_size //= 2
    AutoModelForCausalLM.from_config(small).save_pretrained(tmp_path / "small")
    with pytest.raises(LabError, match=r"of another base model \(.*\): lay it beside its own base\.$"):
        folders.lay_out(served / "other", tmp_path / "small", adapter)
    weights = adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(LabError, match=r"adapter_model\.safetensors is damaged"):
        folders.lay_out(served / "other", tiny_base.FOLDER, adapter)
    (tmp_path / "small" / "model.safetensors").write_bytes(b"{}")
    with pytest.raises(LabError, match=r"model\.safetensors is damaged"):
        folders.lay_out(served / "other", tmp_path / "small")
    assert not (served / "other").exists()
