"""Is this machine ready, and how fast is it? Set-up's measurements and `lab.py doctor`."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import shutil
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from labsupport.core import files, profiles
from labsupport.core.files import ROOT, STATE, LabError, write_atomically
from labsupport.models import base_model

# Training speed, in tokens a second, of the machine on which MINUTES were measured (two cores with AVX2,
# float32), by tokens_per_second(). A test compares the README's table with these.
REFERENCE = 111
MINUTES = {
    "notebook 00": 1.0,
    "notebook 01, the fine-tune": 6.3,
    "notebook 01, all cells": 9.5,
    "notebook 02": 0.4,
    "notebook 03": 0.5,
    "notebook 04": 0.4,
    "notebook 05": 0.6,
    "lab.py test --fast": 1.9,
    "lab.py test": 25.4,
}
NEEDED_GIB = 2


@dataclass(frozen=True)
class Finding:
    """One thing looked at: fine or not, what was seen, and how to mend it."""

    name: str
    ok: bool
    seen: str
    fix: str = ""


def set_up() -> None:
    """Fetch the base model, choose the CPU's number format by measurement, and note the speed.

    Done once; the result in ready.json is what every profile on this machine goes by.
    """
    base_model.bundled_folder()
    settings = note(measured(seconds=10))
    best = settings["dtype"]
    speed = settings["tokens_per_second"][best]
    print(f"Base model ready. Fastest format here: {best}, {speed:.0f} tokens/s in training.")


def measured(seconds: float) -> dict:
    """The fastest number format of this CPU, and the training speed in each one that is worth timing."""
    threads = min(usable_processors(), 8)
    speeds = {dtype: tokens_per_second(dtype, threads, seconds) for dtype in worth_timing(threads)}
    rounded = {dtype: round(speed, 1) for dtype, speed in speeds.items()}
    return {"dtype": max(speeds, key=speeds.get), "threads": threads, "tokens_per_second": rounded}


def usable_processors(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """How many processors this process may use: those it is bound to, or fewer where a container has a quota,
    which Linux gives as microseconds of computing in a period, or as "max"."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        allowed, period = map(int, quota.read_text().split())
    except (OSError, ValueError):  # none, or "max"
        return bound
    return max(1, min(bound, allowed // period))


def note(settings: dict) -> dict:
    """Write the settings to ready.json, over whatever is there; the settings as written."""
    settings = settings | {"model": files.short(base_model.bundled_folder())}
    write_atomically(STATE / "ready.json", json.dumps(settings, indent=1))
    return settings


def worth_timing(threads: int) -> list[str]:
    """float32, and bfloat16 unless a plain product takes longer in it.

    A processor without instructions for bfloat16 can need minutes for one training step in it: an AMD EPYC
    with AVX2 does 5 tokens a second where it does 111 in float32.
    """
    float32, bfloat16 = (product_seconds(dtype, threads) for dtype in ("float32", "bfloat16"))
    return ["float32"] if bfloat16 > float32 else ["float32", "bfloat16"]


def product_seconds(dtype: str, threads: int) -> float:
    """Seconds of a matrix product [256 x 576] by [576 x 1536] on the CPU, the fastest of three."""
    import torch

    torch.set_num_threads(threads)
    left, right = (torch.ones(*shape, dtype=getattr(torch, dtype)) for shape in ((256, 576), (576, 1536)))
    times = []
    for _ in range(3):
        start = time.perf_counter()
        torch.mm(left, right)
        times.append(time.perf_counter() - start)
    return min(times)


def tokens_per_second(dtype: str, threads: int, seconds: float) -> float:
    """Speed of LoRA training steps (8 x 128 tokens) on the CPU, measured for about `seconds`, or one step."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from labsupport.core import upstream

    upstream.quiet_known_noise()
    upstream.keep_freed_memory()
    torch.set_num_threads(threads)
    model = AutoModelForCausalLM.from_pretrained(
        base_model.bundled_folder(), dtype=getattr(torch, dtype), attn_implementation="eager"
    )
    lora = LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(model, lora).train()
    ids = torch.randint(100, 49_000, (8, 128), generator=torch.Generator().manual_seed(0))
    times = []
    began = time.perf_counter()
    while len(times) < 2 or time.perf_counter() - began < seconds:
        start = time.perf_counter()
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        times.append(time.perf_counter() - start)
    return ids.numel() / min(times[1:])  # the first step warms up


# ---------------------------------------------------------------- the report


def examine(calibrate: bool = False) -> dict:
    """Everything `lab.py doctor` reports; with `calibrate`, speed is measured anew (20 seconds).

    What set-up measured is measured anew as a whole if it is damaged.
    """
    settings = calibrated(profiles.read_settings()) if calibrate else profiles.read_settings()
    findings = [
        python_version(),
        *installed_packages(),
        base_model_files(),
        set_up_measurements(),
        free_disk(),
        graphics_card(),
    ]
    try:
        profile = profiles.current()
    except LabError as error:
        profile = None
        findings.append(Finding("profile", False, str(error), "see the line above"))
    return {
        "ok": all(finding.ok for finding in findings),
        "findings": [finding.__dict__ for finding in findings],
        "profile": profile and profile.name,
        **pace(profile, settings),
    }


def pace(profile: profiles.Profile | None, settings: dict) -> dict:
    """Format, threads, training speed and minutes. None for what nobody measured: speed and minutes are the
    processor's, so a card has none, and without a profile nobody knows what will run."""
    nothing = dict.fromkeys(("dtype", "threads", "tokens_per_second", "minutes"))
    if profile is None:
        return nothing
    if not profile.use_cpu:
        return nothing | {"dtype": profile.dtype}
    speed = settings.get("tokens_per_second", {}).get(settings.get("dtype"))
    return {
        "dtype": settings.get("dtype"),
        "threads": settings.get("threads"),
        "tokens_per_second": speed,
        "minutes": {what: round(m * REFERENCE / speed, 1) for what, m in MINUTES.items()} if speed else None,
    }


def calibrated(settings: dict) -> dict:
    """The settings with the speed of their format measured anew; all of them, where there are none."""
    if not settings:
        return note(measured(seconds=10))
    dtype = settings["dtype"]
    speed = round(tokens_per_second(dtype, settings["threads"], 20), 1)
    return note(settings | {"tokens_per_second": settings["tokens_per_second"] | {dtype: speed}})


def report(result: dict) -> str:
    """The examination as text."""
    lines = finding_lines(result["findings"])
    if result["profile"] is None:
        lines.append("no profile: nothing can be trained before that is mended")
    elif result["profile"].startswith("gpu"):
        lines.append(
            f"profile {result['profile']}, {result['dtype']}; the minutes on a card are not measured"
        )
        lines.append("     `python3 lab.py doctor --gpu` tries the card, before the model is downloaded")
    else:
        lines.append(f"profile {result['profile']}, {result['dtype']}, {result['threads']} threads")
    if result["tokens_per_second"]:
        lines.append(f"speed {result['tokens_per_second']:.0f} tokens/s in training; estimated minutes here:")
        lines += [f"     {what}: {max(1, minutes):.0f}" for what, minutes in result["minutes"].items()]
    return "\n".join(lines)


def finding_lines(findings: list[dict]) -> list[str]:
    """A line a finding, and its fix below what is not fine."""
    lines = []
    for finding in findings:
        lines.append(f"{'ok ' if finding['ok'] else 'BAD'}  {finding['name']}: {finding['seen']}")
        if not finding["ok"]:
            lines.append(f"     {finding['fix']}")
    return lines


def python_version() -> Finding:
    """This Python against pyproject's requires-python."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "requires-python"
    ]
    seen = platform.python_version()
    fix = f"Install a Python that is {wanted} and run `lab.py start` with it."
    return Finding("Python", SpecifierSet(wanted).contains(seen, prereleases=True), seen, fix)


def installed_packages() -> list[Finding]:
    """Installed versions against the lock."""
    wrong = []
    for name, wanted in locked_versions().items():
        try:
            found = importlib.metadata.version(name).split("+")[0]
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{name} {wanted} is missing")
            continue
        if found != wanted:
            wrong.append(f"{name} {found} instead of {wanted}")
    seen = "; ".join(wrong) or "as locked"
    return [Finding("packages", not wrong, seen, "Delete .venv and run `python3 lab.py start`.")]


def locked_versions() -> dict[str, str]:
    """Name and version of every package that requirements.lock has for this Python and platform."""
    text = (ROOT / "requirements.lock").read_text()
    lines = re.findall(r"^[A-Za-z0-9][^\\\n]*", text, flags=re.MULTILINE)
    wanted = [Requirement(line) for line in lines]
    here = [entry for entry in wanted if entry.marker is None or entry.marker.evaluate()]
    return {entry.name: str(entry.specifier).removeprefix("==") for entry in here}


def base_model_files() -> Finding:
    folder = STATE / "models" / base_model.BUNDLED
    problem = base_model.damage(folder)
    return Finding(
        "base model", problem is None, problem or f"whole, in {files.short(folder)}",
        "Run `python3 lab.py start`: it is fetched again.",
    )  # fmt: skip


def set_up_measurements() -> Finding:
    """What set-up measured: there, not there yet, or damaged."""
    file = STATE / "ready.json"
    if not file.exists():
        return Finding("measurements", True, "none yet: `python3 lab.py start` takes them")
    fault = profiles.settings_fault(files.read_json(file))
    fix = "Run `python3 lab.py doctor --calibrate`: they are taken anew."
    seen = f"{files.short(file)} is damaged: {fault}" if fault else f"in {files.short(file)}"
    return Finding("measurements", not fault, seen, fix)


def free_disk() -> Finding:
    free = shutil.disk_usage(ROOT).free / 2**30
    fix = f"Free at least {NEEDED_GIB} GiB: runs and checkpoints need them."
    return Finding("disk", free >= NEEDED_GIB, f"{free:.1f} GiB free", fix)


def graphics_card() -> Finding:
    """A usable CUDA card, none, or one that this PyTorch leaves idle."""
    card, driver = profiles.gpu(), profiles.nvidia_driver()
    if card:
        return Finding("GPU", True, f"{card['name']}, {card['memory_gib']:.0f} GiB, bf16 {card['bf16']}")
    if driver:
        seen = f"NVIDIA driver {driver}, but this PyTorch cannot use it"
        return Finding("GPU", False, seen, profiles.way_out(driver))
    return Finding("GPU", True, "none: the course runs on the processor")
