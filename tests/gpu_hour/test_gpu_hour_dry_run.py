"""The whole hour rehearsed on the processor with the tiny base model."""

import json
import os
import subprocess
import sys

import pytest

from labsupport.core.files import ROOT
from labsupport.gpu_hour import figures, reading

COMMAND = [sys.executable, "-m", "labsupport.cli", "gpu-hour", "--budget", "2", "--rate", "0.80", "--dry-run"]
JOBS = {"doctor", "gpu_check", "download", "qlora", "templates", "nf4_error", "prompts", "forgetting"}


@pytest.mark.slow
def test_a_rehearsal_runs_every_job_and_leaves_one_small_folder(tmp_path):
    environment = os.environ | {"LAB_RUNS": str(tmp_path), "LAB_BASE_MODEL": "data/tiny_base"}
    environment |= {"LAB_PROFILE": "smoke"}
    done = subprocess.run(COMMAND, cwd=ROOT, env=environment, capture_output=True, text=True)
    folder = tmp_path / "gpu_hour_rehearsal"
    assert done.returncode == 0, (folder / "log.txt").read_text()[-3000:]
    assert "A prediction for L4, 24 GB" in done.stdout and "Copy home: " in done.stdout
    assert {file.name for file in (folder / "done").iterdir()} == JOBS
    results = reading.opened(folder)
    assert set(results) == JOBS
    for document in results.values():
        assert document["finished"] and document["rehearsal"] and document["card"] is None
        assert document["stamp"]["libraries"]["torch"]
    with_card = {"peak memory allocated", "peak memory reserved"}
    table = reading.compare(folder, {})
    assert {name for name, *_ in table.rows} == set(figures.UNITS) - with_card
    plans = {name for name, _, plan, *_ in table.rows if plan != "none"}
    assert plans == {"training time", "training speed", figures.TIME, figures.MONEY}
    assert len(results["templates"]["steps"]) == 1 + 2 * 8
    assert any(step.startswith("general text after") for step in results["forgetting"]["steps"])
    state = json.loads((folder / "state.json").read_text())
    assert {job["ended"] for job in state["jobs"].values()} == {"done"} and state["spent"] > 0
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 3e6
    for adapter in ("qlora", "forgetting"):
        assert (tmp_path / "gpu_hour_rehearsal_adapters" / adapter / "adapter_model.safetensors").exists()
    assert {file.name for file in tmp_path.iterdir()} == {folder.name, f"{folder.name}_adapters"}
