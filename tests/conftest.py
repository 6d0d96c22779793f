"""Settings that must stand before torch or labsupport is imported, and what several tests share."""

import os
import tempfile

_runs = tempfile.TemporaryDirectory(prefix="lab-runs-")  # removed when the interpreter ends
os.environ |= {
    # Hides an NVIDIA card from torch and its driver from lab.py and profiles, in child processes, too.
    "CUDA_VISIBLE_DEVICES": "",
    "LAB_RUNS": _runs.name,
    "LAB_PROGRESS": f"{_runs.name}/progress.json",
    "LAB_THREADS": "1",
    "LAB_DTYPE": "float32",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
}

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

# The same inputs in every run, and no time limit: a laptop at work must not fail what passed in CI.
settings.register_profile("lab", derandomize=True, deadline=None, database=None)
settings.load_profile("lab")


@pytest.fixture(scope="session")
def tokenizer():
    """The bundled base model's tokenizer."""
    from transformers import AutoTokenizer

    from labsupport.models import base_model

    return AutoTokenizer.from_pretrained(base_model.bundled_folder())
