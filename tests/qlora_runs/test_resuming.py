"""Which checkpoint a killed run goes on from, where a folder holds more than checkpoints."""

import json

from labsupport.core import files
from labsupport.qlora_runs import resuming


def checkpoint(folder, step, manifest=None):
    path = folder / f"checkpoint-{step}"
    path.mkdir()
    (path / "optimizer.pt").write_bytes(b"states")
    hashes = {"optimizer.pt": files.sha256(path / "optimizer.pt")}
    (path / "manifest.json").write_text(json.dumps(hashes) if manifest is None else manifest)
    return path


def test_what_is_no_checkpoint_is_passed_over_and_nothing_is_deleted(tmp_path):
    complete = checkpoint(tmp_path, 16)
    checkpoint(tmp_path, 8)
    checkpoint(tmp_path, "best")
    checkpoint(tmp_path, 24, manifest='{"optimizer.pt": "5f')  # a copy that was broken off
    checkpoint(tmp_path, 32, manifest="{}")
    (tmp_path / "checkpoint-40").write_text("a file of that name")
    before = sorted(tmp_path.rglob("*"))
    assert resuming.newest_complete(tmp_path) == complete
    assert resuming.newest_complete(str(tmp_path)) == complete
    assert sorted(tmp_path.rglob("*")) == before
    assert resuming.newest_complete(tmp_path / "nowhere") is None
