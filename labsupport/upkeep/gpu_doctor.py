"""Does the graphics card do what the course asks of it? `lab.py doctor --gpu`, before a model is downloaded.

Written for 16, 24 and 80 GB cards and not yet run on one: the tests run the same code on the processor. Each
check is caught by itself; one that needs what has failed is not tried, and says so.
"""

from __future__ import annotations

import contextlib
import io
import os
import platform
import re
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from labsupport.core import files, profiles, upstream
from labsupport.core.files import LabError
from labsupport.models import hub
from labsupport.upkeep import gpu_trials
from labsupport.upkeep.doctor import Finding, finding_lines
from labsupport.upkeep.gpu_trials import Trial

ADVISED_GIB = 35  # for a 7B model: 15.2 GB of weights, a second copy when one is merged, and the runs
HELD_GIB = 2  # more than CUDA's context and a desktop take
NOT_TRIED = "not tried: "


@dataclass(frozen=True)
class Check:
    """look: whether it is fine, what was seen, how to mend it. needs: names of checks that must be fine.
    fix: how to mend it if `look` raises."""

    name: str
    look: Callable[[Trial], tuple[bool, str, str]]
    needs: tuple[str, ...] = ()
    fix: str = (
        "`python3 lab.py start --torch cuda` installs the build that fits; if it has, take another host."
    )


def examine(device: str = "cuda") -> dict:
    """Everything that `lab.py doctor --gpu` reports: a minute or two on a card."""
    cards = profiles.nvidia_cards()
    if device == "cuda" and not cards and profiles.gpu() is None:
        none = Finding(
            "card", False, "no NVIDIA card: the course runs on the processor", "Rent one, or go on."
        )
        return {"ok": False, "findings": [none.__dict__], "profile": None, "dtype": None}
    upstream.quiet_known_noise()
    with tempfile.TemporaryDirectory(prefix="lab-gpu-") as folder:
        trial = Trial(device, cards, Path(folder))
        findings = try_all(trial)
    return {
        "ok": all(finding.ok for finding in findings),
        "findings": [finding.__dict__ for finding in findings],
        "profile": trial.profile and trial.profile.name,
        "dtype": trial.profile and trial.profile.dtype,
    }


def try_all(trial: Trial) -> list[Finding]:
    """One finding a check, in their order."""
    found: dict[str, Finding] = {}
    for check in CHECKS:
        failed = [name for name in check.needs if not found[name].ok]
        if failed:
            seen = f"{NOT_TRIED}it needs {' and '.join(failed)}"
            found[check.name] = Finding(check.name, False, seen, "Mend that first.")
        else:
            found[check.name] = attempted(check, trial)
    return list(found.values())


def attempted(check: Check, trial: Trial) -> Finding:
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # the libraries' talk; --json is one document
            return Finding(check.name, *check.look(trial))
    except Exception as error:  # whatever a driver, a compiler or a kernel may raise
        seen = f"{type(error).__name__}: {files.first_line(error)}"
        return Finding(check.name, False, seen, check.fix)


def report(result: dict) -> str:
    """The examination as text; a line where there is no card."""
    if result["profile"] is None and len(result["findings"]) == 1:
        return result["findings"][0]["seen"]
    lines = []
    for finding in result["findings"]:
        skipped = finding["seen"].startswith(NOT_TRIED)
        lines += [f"---  {finding['name']}: {finding['seen']}"] if skipped else finding_lines([finding])
    which = f"profile {result['profile']}, {result['dtype']}" if result["profile"] else "no profile"
    verdict = (
        "the card is ready" if result["ok"] else "not ready; mend the first BAD line, then run this again"
    )
    return "\n".join([*lines, f"{which}: {verdict}"])


# ---------------------------------------------------------------- driver, card, machine


def driver(trial: Trial):
    import torch

    if not trial.cards:
        return True, "nvidia-smi does not answer, and PyTorch uses the card all the same", ""
    version, built = trial.cards[0].driver, profiles.built_for()
    fits = runs(version, built) if built else trial.device == "cpu"
    return fits, f"{version}, with PyTorch {torch.__version__}", profiles.way_out(version)


def runs(driver_version: str, built: str) -> bool:
    """Whether a driver, "550.54.14", runs a PyTorch built for CUDA "12.6" or "13.0"."""
    needed = profiles.DRIVER_FOR_CUDA_12 if built.startswith("12.") else profiles.DRIVER_FOR_CUDA_13
    return int(driver_version.split(".")[0]) >= needed


def card(trial: Trial):
    if trial.device == "cpu":
        return True, f"a processor, {platform.machine()}", ""
    import torch

    try:
        torch.cuda.init()  # its error says why; is_available() only says no
    except (RuntimeError, AssertionError) as error:
        way = profiles.way_out(trial.cards[0].driver) if trial.cards else "Take another host."
        return False, files.first_line(error), way
    found = profiles.gpu()
    return True, f"{found['name']}, {found['memory_gib']:.1f} GiB", ""


def capability(trial: Trial):
    if trial.device == "cpu":
        return True, "not asked of a processor", ""
    import torch

    return capability_seen(torch.cuda.get_device_capability(0), torch.cuda.get_arch_list())


def capability_seen(found: tuple[int, int], kernels: list[str]):
    """kernels: what PyTorch was built for: "sm_86" runs on 8.6 and 8.9, "compute_90" on whatever is newer."""
    text = "{}.{}".format(*found)
    if found < profiles.OLDEST_CARD:
        return (
            False,
            f"{text}, and the course needs 7.5, a T4 or newer",
            "Take another card, or LAB_PROFILE=cpu.",
        )
    for kind, number in re.findall(r"(sm|compute)_(\d+)", " ".join(kernels)):
        built = divmod(int(number), 10)
        if built <= found and (kind == "compute" or built[0] == found[0]):
            return True, text, ""
    fix = (
        "Run `python3 lab.py start --torch cuda`: it installs the build for card and driver, or says why not."
    )
    return False, f"{text}: this PyTorch has no kernels for it ({', '.join(kernels)})", fix


def free_memory(trial: Trial):
    if trial.device == "cpu":
        return True, "not asked of a processor", ""
    import torch

    return memory_seen(*torch.cuda.mem_get_info())


def memory_seen(free: int, total: int):
    """Both in bytes, as CUDA counts them: `free` is what no process holds."""
    free, total = free / 2**30, total / 2**30
    seen = f"{free:.1f} of {total:.1f} GiB"
    if total - free <= HELD_GIB:
        return True, seen, ""
    fix = (
        "Shut the other kernel down (JupyterLab: Running Terminals and Kernels); nvidia-smi lists processes."
    )
    return False, f"{seen}: another process holds {total - free:.1f}", fix


def visible_cards(trial: Trial):
    import torch

    setting = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible_seen(len(trial.cards), torch.cuda.device_count(), setting)


def visible_seen(here: int, visible: int, setting: str | None):
    """here: cards that nvidia-smi lists; visible: those that torch sees under CUDA_VISIBLE_DEVICES."""
    if visible > 1:
        seen = f"{visible}, and the trainer would spread over them (CUDA_VISIBLE_DEVICES is {setting})"
        return False, seen, "Set CUDA_VISIBLE_DEVICES=0: the course trains on one card."
    if here > 1:
        return True, f"one of {here}: CUDA_VISIBLE_DEVICES={setting} is used", ""
    return True, "one" if visible else "none", ""


def disk(trial: Trial):
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE)
    place = next(folder for folder in (cache, *cache.parents) if folder.exists())
    free, there = shutil.disk_usage(place).free / 2**30, downloaded_gib(trial.profile, cache)
    seen = f"{free:.0f} GiB free for {cache}" + (f", where {there:.0f} of the model are" if there else "")
    fix = (
        f"{ADVISED_GIB} GiB are advised for a 7B model, of which it fetches 14: free some, set HF_HOME to a "
        "folder on a larger disk, or rent a larger one."
    )
    return free + there >= ADVISED_GIB, seen, fix


def downloaded_gib(profile: profiles.Profile | None, cache: Path) -> float:
    """What of the profile's base model is in the hub's cache."""
    from huggingface_hub import scan_cache_dir

    if profile is None or not cache.is_dir():
        return 0.0
    name = hub.ON_THE_HUB.get(profile.base_model, profile.base_model).partition("@")[0]
    return sum(repo.size_on_disk for repo in scan_cache_dir(cache).repos if repo.repo_id == name) / 2**30


def compiler(trial: Trial):
    """Triton, in which TRL's head is written, compiles a C file against Python.h at its first launch."""
    if platform.system() == "Windows":
        return True, "not needed: no Triton on Windows", ""
    gcc = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    missing = [what for what, there in (("gcc", gcc), (str(header), header.exists())) if not there]
    if not missing:
        return True, f"{gcc} and {header}", ""
    version = "{}.{}".format(*sys.version_info)
    fix = (
        f"apt-get install build-essential python3-dev (python{version}-dev where python3 is another); `sudo` "
        "before it unless you are root."
    )
    return False, f"missing: {' and '.join(missing)}", fix


def profile(trial: Trial):
    fix = "Unset LAB_PROFILE and LAB_DTYPE; `python3 lab.py doctor` says more."
    try:
        found = profiles.current()
    except LabError as error:
        return False, str(error), fix
    if found.device != trial.device:
        return False, f"{found.name} leaves the card idle", fix
    trial.profile = found
    weights = "NF4" if found.quantize else found.dtype
    return True, f"{found.name}: {found.base_model}, weights in {weights}, products in {found.dtype}", ""


NOT_THE_MACHINE = "What it is made of is fine here, so the course is at fault: report it with these lines."
CHECKS = (
    Check("driver", driver),
    Check("card", card, ("driver",)),
    Check("compute capability", capability, ("card",)),
    Check("free memory", free_memory, ("card",)),
    Check("visible cards", visible_cards, ("card",)),
    Check("profile", profile, ("card",)),
    Check("disk of the hub's cache", disk),
    Check("compiler", compiler),
    Check("matrix product", gpu_trials.product, ("compute capability", "profile")),
    Check("TRL's output head", gpu_trials.head, ("matrix product", "compiler")),
    Check("NF4 layer", gpu_trials.nf4_layer, ("matrix product",)),
    Check("two training steps", gpu_trials.training, ("TRL's output head", "NF4 layer"), NOT_THE_MACHINE),
    Check("adapters", gpu_trials.adapters, ("TRL's output head", "NF4 layer")),
    Check("resume", gpu_trials.resume, ("two training steps",), NOT_THE_MACHINE),
)
