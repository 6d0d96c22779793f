"""Makes requirements.lock and environment.yml out of pyproject.toml's exact pins.

Torch and the CUDA packages it brings stay outside the lock: which build is right depends on the
machine, and `lab.py` installs it. What the lock has already stays at its version, unless pyproject.toml
says otherwise; without a requirements.lock everything becomes the newest.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import tomllib
from pathlib import Path

from labsupport.core.files import ROOT, LabError, write_atomically

LOCK = ROOT / "requirements.lock"
LEFT_OUT = re.compile(r"(torch|triton|nvidia-.*|cuda-.*)$")


def resolve() -> str:
    """What uv resolves for every platform, as requirements text with hashes."""
    uv = shutil.which("uv")
    if uv is None:
        raise LabError("`lab.py lock` needs uv: `pip install uv`, then run it again.")
    command = [uv, "pip", "compile", "pyproject.toml", "--universal", "--generate-hashes", "--quiet"]
    command += ["--no-header", "--no-annotate", "--python-version", "3.11"]
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, LOCK.name)
        if LOCK.exists():
            shutil.copyfile(LOCK, output)  # uv keeps the versions that it finds in its output file
        done = subprocess.run([*command, "--output-file", output], cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise LabError(f"uv could not resolve pyproject.toml: {done.stderr.strip()}")
        return output.read_text()


def without_torch(text: str) -> str:
    """The requirements without torch and its CUDA packages."""
    blocks = re.split(r"\n(?=[A-Za-z0-9])", text.strip())
    kept = [block for block in blocks if not LEFT_OUT.match(block.split("==")[0])]
    return "\n".join(kept) + "\n"


def environment(locked: str, torch: str) -> str:
    """environment.yml with the lock's versions."""
    pins = [f"torch=={torch}"]
    for line in locked.splitlines():
        if re.match(r"[A-Za-z0-9]", line):
            pins.append(line.rstrip(" \\").replace('"', "'"))
    pip = "\n".join(f'      - "{pin}"' for pin in pins)
    return (
        "# Made by `lab.py lock`: the versions of requirements.lock for conda users.\n"
        "# conda env create -f environment.yml && conda activate lora-lab && pip install --no-deps -e .\n"
        "name: lora-lab\nchannels: [conda-forge]\ndependencies:\n  - python=3.11\n  - pip\n"
        f"  - pip:\n{pip}\n"
    )


def write() -> None:
    """Write both files."""
    pins = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    torch = next(pin.split("==")[1] for pin in pins if pin.startswith("torch=="))
    locked = without_torch(resolve())
    write_atomically(LOCK, locked)
    write_atomically(ROOT / "environment.yml", environment(locked, torch))
