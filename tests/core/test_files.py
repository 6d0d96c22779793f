"""Writing that leaves nothing half-done."""

import errno
import os

import pytest

from labsupport.core import files
from labsupport.core.files import LabError


def full_disk(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("where", ["os.fsync", "tempfile.mkstemp", "pathlib.Path.replace"])
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
