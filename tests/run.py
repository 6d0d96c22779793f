"""Runs the tests in stages: `lab.py test` calls this inside the environment.

Every stage runs even if an earlier one failed; the exit status is 1 if any did. Settings that decide
numbers are pinned here, so that two runs on one machine are the same run.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PINNED = {
    "LAB_THREADS": "2",
    "LAB_STRICT": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
}
# A file stays in one process; each process computes with one thread (tests/conftest.py).
TWO_AT_A_TIME = ["-n", "2", "--dist", "loadfile"]
NBVAL = ["-p", "no:cacheprovider", "--nbval-cell-timeout=1500", "--nbval-sanitize-with=tests/sanitize.cfg"]


def notebooks(folder: str) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in sorted((ROOT / folder).glob("*.ipynb"))]


def stages(fast: bool) -> list[tuple[str, list[str], dict]]:
    """Name, pytest arguments and extra environment of each stage."""
    unit = "not browser and not slow and not network" if fast else "not browser"
    found = [
        ("unit and static tests", ["tests", "-q", "--durations=5", *TWO_AT_A_TIME, "-m", unit], {}),
    ]
    if not fast:
        found += [
            (
                "worked solutions, outputs compared",
                ["--nbval", *NBVAL, *notebooks("solutions"), "--durations=8"],
                {"LAB_PROFILE": "cpu"},
            ),
            (
                "student editions, no error allowed",
                ["--nbval-lax", *NBVAL, *TWO_AT_A_TIME, *notebooks("notebooks"), "--durations=3"],
                {"LAB_PROFILE": "smoke", "LAB_STRICT": "0", "LAB_THREADS": "1", "OMP_NUM_THREADS": "1"},
            ),
            ("JupyterLab in a browser", ["tests", "-q", "-m", "browser", "--durations=3"], {}),
        ]
    return found


def main(arguments: list[str]) -> int:
    failed, began = [], time.monotonic()
    for name, options, extra in stages("--fast" in arguments):
        started = time.monotonic()
        print(f"\n== {name}", flush=True)
        with tempfile.TemporaryDirectory(prefix="lab-runs-") as runs:
            environment = {
                **os.environ,
                **PINNED,
                "LAB_RUNS": runs,
                "LAB_PROGRESS": f"{runs}/progress.json",
                **extra,
            }
            command = [sys.executable, "-m", "pytest", *options]
            status = subprocess.run(command, cwd=ROOT, env=environment).returncode
        print(
            f"== {name}: {'ok' if status == 0 else 'FAILED'}, {time.monotonic() - started:.0f} s", flush=True
        )
        if status:
            failed.append(name)
    print(f"\nall stages: {time.monotonic() - began:.0f} s; failed: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
