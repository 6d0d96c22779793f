"""Runs the tests in stages: `lab.py test` calls this inside the environment.

Every stage runs even if an earlier one failed; the exit status is 1 if any did. Settings that decide
numbers are pinned here, so that two runs on one machine are the same run.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PINNED = {
    "CUDA_VISIBLE_DEVICES": "",  # the references are a processor's, and so is what the tests expect
    "LAB_STRICT": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
}
ONE_THREAD = {"LAB_THREADS": "1", "OMP_NUM_THREADS": "1"}
CPU = {"LAB_PROFILE": "cpu"}
SHORT = {"LAB_PROFILE": "short"}  # `cpu` with a quarter of the training steps
SMOKE = {"LAB_PROFILE": "smoke", "LAB_STRICT": "0"}
TRAINS = "01_first_fine_tune"
NBVAL = ["-p", "no:cacheprovider", "--nbval-cell-timeout=1500", "--nbval-sanitize-with=tests/sanitize.cfg"]
BROWSER = ["tests/notebooks/test_browser.py", "tests/notebooks/test_browser_frame.py"]
# The student editions that the first of these runs.
IN_BROWSER = ("00_start_here", "01_first_fine_tune")


class Stage(NamedTuple):
    """pytest's arguments and what is added to the environment."""

    name: str
    arguments: list[str]
    environment: dict[str, str]


def notebooks(folder: str) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in sorted((ROOT / folder).glob("[0-9][0-9]_*.ipynb"))]


def unit() -> Stage:
    """What needs no training, no notebook and no network."""
    marks = "not browser and not slow and not network"
    return Stage("unit and static tests", ["tests", "-q", "-m", marks, "--durations=5"], ONE_THREAD)


def side_by_side() -> list[Stage]:
    """Stages of one process and one thread each, the longest first: two of them run at a time."""
    trains = [path for path in notebooks("solutions") if TRAINS in path]
    solutions = [path for path in notebooks("solutions") if TRAINS not in path]
    students = [
        path
        for path in notebooks("notebooks")
        if shutil.which("chromium") is None or Path(path).stem not in IN_BROWSER
    ]
    strict = ["--nbval", *NBVAL, "--durations=5"]
    return [
        Stage(
            "tests that train or ask the registry",
            ["tests", "-q", "-m", "not browser and (slow or network)", "--durations=5"],
            ONE_THREAD,
        ),
        Stage("the fine-tune, shortened, outputs compared", [*strict, *trains], {**SHORT, **ONE_THREAD}),
        Stage("JupyterLab in a browser", [*BROWSER, "-q", "--durations=5"], ONE_THREAD),
        unit(),
        Stage("other worked solutions, outputs compared", [*strict, *solutions], {**CPU, **ONE_THREAD}),
        Stage(
            "student editions, no error allowed",
            ["--nbval-lax", *NBVAL, *students, "--durations=3"],
            {**SMOKE, **ONE_THREAD},
        ),
    ]


def run(stage: Stage, to_screen: bool) -> bool:
    """Whether the stage passed. What it prints is shown as it comes, or all at the end."""
    started = time.monotonic()
    print(f"== {stage.name}: started\n", end="", flush=True)  # in one piece: another stage prints too
    with tempfile.TemporaryDirectory(prefix="lab-runs-") as runs:
        places = {"LAB_RUNS": runs, "LAB_PROGRESS": f"{runs}/progress.json"}
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *stage.arguments],
            cwd=ROOT,
            env={**os.environ, **PINNED, **places, **stage.environment},
            stdout=None if to_screen else subprocess.PIPE,
            stderr=None if to_screen else subprocess.STDOUT,
        )
    verdict = "ok" if done.returncode == 0 else "FAILED"
    text = "" if to_screen else done.stdout.decode(errors="replace")
    print(f"{text}== {stage.name}: {verdict}, {time.monotonic() - started:.0f} s\n", flush=True)
    return done.returncode == 0


def main(arguments: list[str]) -> int:
    began = time.monotonic()
    # A shell's background job ignores Ctrl-C, and so would all that is started here: some tests send it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if "--fast" in arguments:
        # A file stays in one process; each process computes with one thread (tests/conftest.py).
        stages = [unit()._replace(arguments=[*unit().arguments, "-n", "2", "--dist", "loadfile"])]
        passed = [run(stage, to_screen=True) for stage in stages]
    else:
        stages = side_by_side()
        with ThreadPoolExecutor(2) as pool:
            passed = list(pool.map(lambda stage: run(stage, to_screen=False), stages))
    failed = [stage.name for stage, ok in zip(stages, passed, strict=True) if not ok]
    print(f"all stages: {time.monotonic() - began:.0f} s; failed: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
