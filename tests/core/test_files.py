"""Writing that leaves nothing half-done."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from interrupted import just_after

from labsupport.core import files
from labsupport.core.files import LabError


def full_disk(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("where", ["os.fsync", "pathlib.Path.open", "pathlib.Path.replace"])
def test_a_full_disk_leaves_the_old_file_and_no_scratch(where, tmp_path, monkeypatch):
    file = tmp_path / "a.json"
    files.write_atomically(file, "old")
    with monkeypatch.context() as patch:
        patch.setattr(where, full_disk)
        with pytest.raises(LabError, match=r"Cannot write .*a\.json: No space left on device") as caught:
            files.write_atomically(file, "new")
    assert "\n" not in str(caught.value)
    assert file.read_text() == "old"
    assert [f.name for f in tmp_path.iterdir()] == ["a.json"]
    files.write_atomically(file, "new")
    assert file.read_text() == "new"


@pytest.mark.parametrize("method", ["open", "mkdir"])
def test_ctrl_c_just_after_something_was_made_leaves_no_scratch(method, tmp_path, monkeypatch):
    files.write_atomically(tmp_path / "a.json", "old")
    monkeypatch.setattr(Path, method, just_after(method, ".a.json."))
    with pytest.raises(KeyboardInterrupt):
        if method == "open":
            files.write_atomically(tmp_path / "a.json", "new")
        else:
            with files.folder_atomically(tmp_path / "a.json"):
                pass
    assert [f.name for f in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "old"


def test_folders_on_the_way_are_made_and_bytes_are_kept(tmp_path):
    file = tmp_path / "a" / "b" / "c.bin"
    files.write_atomically(file, b"\x00\xff")
    assert file.read_bytes() == b"\x00\xff"


def test_a_folder_appears_whole(tmp_path):
    target = tmp_path / "model"
    with files.folder_atomically(target) as scratch:
        (scratch / "weights").write_text("new")
        assert not target.exists()
    assert (target / "weights").read_text() == "new"
    with files.folder_atomically(target) as scratch:
        (scratch / "other").write_text("newer")
    assert [f.name for f in target.iterdir()] == ["other"]
    assert [f.name for f in tmp_path.iterdir()] == ["model"]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "model", tmp_path / "file" / "deeper" / "model"):
        with (
            pytest.raises(LabError, match="Cannot write .*model: .*in its way"),
            files.folder_atomically(path),
        ):
            pass
        with pytest.raises(LabError, match="Cannot write .*model: .*in its way"):
            files.write_atomically(path, "x")


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), ValueError("bad")])
def test_a_failing_block_leaves_the_old_folder_and_no_scratch(error, tmp_path):
    target = tmp_path / "model"
    target.mkdir()
    (target / "weights").write_text("old")
    expected = LabError if isinstance(error, OSError) else ValueError
    with pytest.raises(expected), files.folder_atomically(target) as scratch:
        (scratch / "weights").write_text("half")
        raise error
    assert (target / "weights").read_text() == "old"
    assert [f.name for f in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    "error",
    [
        OSError("Error no file named model.safetensors found in directory x."),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "tokenizer.json"),
        PermissionError(errno.EACCES, "Permission denied", "/elsewhere/config.json"),
        ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
        RuntimeError("tensor is read-only"),
    ],
)
def test_other_errors_of_a_block_are_not_called_the_disks(error, tmp_path):
    with pytest.raises(type(error)) as caught, files.folder_atomically(tmp_path / "model"):
        raise error
    assert caught.value is error
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, shutil, sys
from pathlib import Path
from labsupport.core import files

calls, really = [], Path.replace

def replace(self, other):
    calls.append(other)
    if len(calls) == int(sys.argv[2]):
        os._exit(9)
    return really(self, other)

Path.replace = replace
if sys.argv[2] == "3":
    shutil.rmtree = lambda path, **_: os._exit(9) if Path(path).exists() else None
with files.folder_atomically(Path(sys.argv[1])) as scratch:
    (scratch / "weights").write_text("new")
"""


@pytest.mark.parametrize(
    "moment, found",
    [(1, "old"), (2, "old"), (3, "new")],
    ids=["before the old is moved", "before the new is moved", "before the old is deleted"],
)
def test_a_kill_while_a_folder_is_replaced_loses_nothing(moment, found, tmp_path):
    target = tmp_path / "model"
    target.mkdir()
    (target / "weights").write_text("old")
    done = subprocess.run([sys.executable, "-c", KILLED, str(target), str(moment)])
    assert done.returncode == 9
    assert target.exists() == (moment != 2)
    files.bring_back(target)
    assert (target / "weights").read_text() == found
    assert not files.aside(target).exists()


def test_the_next_call_brings_back_what_a_kill_left_aside(tmp_path):
    target = tmp_path / "model"
    target.mkdir()
    (target / "weights").write_text("old")
    subprocess.run([sys.executable, "-c", KILLED, str(target), "2"])
    with pytest.raises(ValueError), files.folder_atomically(target):
        assert (target / "weights").read_text() == "old"
        raise ValueError
    assert (target / "weights").read_text() == "old"


def test_a_new_folder_that_cannot_be_moved_in_leaves_the_old_one(tmp_path, monkeypatch):
    target = tmp_path / "model"
    target.mkdir()
    (target / "weights").write_text("old")
    really = Path.replace

    def replace(self, other):
        if other == target and self != files.aside(target):
            full_disk()
        return really(self, other)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(LabError, match="Cannot write"), files.folder_atomically(target):
        pass
    assert (target / "weights").read_text() == "old"
    assert [f.name for f in tmp_path.iterdir()] == ["model"]


# ---------------------------------------------------------------- what a full disk is


class SafetensorError(Exception):
    """As safetensors' own, which is no OSError."""


# torch 2.13.0 and safetensors 0.8.0 said these on a small tmpfs that was full or mounted read-only.
DISK = [
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EROFS, "Read-only file system"),
    PermissionError(errno.EACCES, "Permission denied"),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
    OSError(errno.EIO, "Input/output error"),
    OSError(errno.ENAMETOOLONG, "File name too long"),
    RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534\nframe #0: c10"),
    RuntimeError(
        "[enforce fail at inline_container.cc:747] . open file failed with strerror: Permission denied"
    ),
    RuntimeError(
        "[enforce fail at inline_container.cc:747] . open file failed with strerror: Read-only file system"
    ),
    RuntimeError("basic_ios::clear: iostream error"),
    RuntimeError("write(): fd 3 failed with No space left on device"),
    SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    SafetensorError(
        'Error while serializing: I/O error: Read-only file system (os error 30) at path "/a/.tmp"'
    ),
]
OTHER = [
    OSError(
        "We couldn't connect to 'the hub' to load the files, and couldn't find them in the cached files."
    ),
    OSError("Can't load the model: this tokenizer is read-only. There is no space in its name."),
    FileNotFoundError(errno.ENOENT, "No such file or directory"),
    ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
    TimeoutError("timed out"),
    ValueError("assignment destination is read-only"),
    RuntimeError("tensor is read-only"),
    RuntimeError("there is no space for the unexpected pos in the read-only cache: i/o error"),
    RuntimeError("PytorchStreamReader failed reading zip archive: failed finding central directory"),
    SafetensorError("Error while deserializing header: header too large"),
    SafetensorError("Error while serializing: I/O error: No such file or directory (os error 2)"),
]


@pytest.mark.parametrize("error", DISK, ids=str)
def test_trouble_with_the_disk_is_known(error):
    assert files.is_disk_trouble(error)


@pytest.mark.parametrize("error", OTHER, ids=str)
def test_what_only_sounds_like_the_disk_is_not(error):
    assert not files.is_disk_trouble(error)


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="needs a device that is always full")
def test_torch_on_a_full_device():
    import torch

    for legacy in (False, True):
        with pytest.raises(Exception) as caught:
            torch.save(torch.ones(3), "/dev/full", _use_new_zipfile_serialization=not legacy)
        assert files.is_disk_trouble(caught.value)


def test_torch_and_safetensors_on_a_small_disk(tmp_path):
    import torch
    from safetensors.torch import save_file

    disk = tmp_path / "disk"
    disk.mkdir()
    try:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"cannot mount a tmpfs here: {error}")
    try:
        for save in (torch.save, save_file):
            with pytest.raises(Exception) as caught:
                save({"weights": torch.ones(100_000)}, disk / "file")
            assert files.is_disk_trouble(caught.value)
            (disk / "file").unlink(missing_ok=True)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        for save in (torch.save, save_file):
            with pytest.raises(Exception) as caught:
                save({"weights": torch.ones(3)}, disk / "file")
            assert files.is_disk_trouble(caught.value)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


# ---------------------------------------------------------------- reading JSON, and the folders' places


@pytest.mark.parametrize(
    "content, read",
    [
        (b'{"a": [1]}', {"a": [1]}),
        ('["\u00e9"]'.encode(), ["\u00e9"]),
        (b"{}", {}),
        (b"", None),
        (b'{"a": ', None),
        (b"7", None),
        (b"null", None),
        (b"\xff\xfe{}", None),
        (b"[" * 100_000, None),
    ],
)
def test_json_is_read_or_it_is_nothing(content, read, tmp_path):
    (tmp_path / "a.json").write_bytes(content)
    assert files.read_json(tmp_path / "a.json") == read


def test_json_that_is_not_there_or_no_file_is_nothing(tmp_path):
    assert files.read_json(tmp_path / "missing.json") is None
    assert files.read_json(tmp_path) is None


@pytest.mark.parametrize(
    "value, expected",
    [
        (None, "DEFAULT"),
        ("", "DEFAULT"),
        ("cache", "ROOT/cache"),
        ("./a/b", "ROOT/a/b"),
        ("~/cache", "HOME/cache"),
        ("~nobody-of-this-name/x", "ROOT/~nobody-of-this-name/x"),
        ("/tmp/cache", "/tmp/cache"),
    ],
)
def test_a_folder_out_of_a_variable(value, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("LAB_X", raising=False)
    if value is not None:
        monkeypatch.setenv("LAB_X", value)
    places = {"DEFAULT": tmp_path / "default", "ROOT": files.ROOT, "HOME": tmp_path / "home"}
    first, _, rest = expected.partition("/")
    wanted = places[first] / rest if first in places else Path(expected)
    assert files.folder_from("LAB_X", tmp_path / "default") == wanted


@pytest.mark.parametrize("value, place", [("", "{default}"), ("here", "here")])
def test_the_cache_and_the_runs_are_in_one_place_wherever_a_kernel_starts(value, place, tmp_path):
    program = "from labsupport.core import files; print(files.STATE, files.RUNS, sep='|')"
    environment = {**os.environ, "LAB_CACHE": value, "LAB_RUNS": value, "PYTHONPATH": str(files.ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    expected = [files.ROOT / place.format(default=default) for default in (".lab", "runs")]
    assert done.stdout.strip() == "|".join(map(str, expected))


def test_an_output_may_be_new_or_old_but_no_folder_and_nothing_that_is_read(tmp_path):
    data, old = tmp_path / "data.jsonl", tmp_path / "old.html"
    data.write_text("1")
    old.write_text("2")
    (tmp_path / "link.html").symlink_to(data)
    for fine in (old, tmp_path / "new.html"):
        files.check_output(fine, "--html", [data, tmp_path / "absent.jsonl"])
    for bad, said in (
        (tmp_path, "is a folder: give --html the name of a file"),
        (tmp_path / "absent" / "x.html", "There is no folder .*absent: make it, or correct --html"),
        (data, "--html would write over .*data.jsonl, which is read"),
        (tmp_path / "link.html", "--html would write over .*data.jsonl, which is read"),
        (tmp_path / ("x" * 300), "File name too long"),
    ):
        with pytest.raises(LabError, match=said):
            files.check_output(bad, "--html", [data])
