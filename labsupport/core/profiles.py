"""What to run on which machine: base model, number format, batch and sizes.

`current()` picks by what it finds; LAB_PROFILE, LAB_BASE_MODEL, LAB_DTYPE and LAB_THREADS override.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import platform
import shutil
import subprocess
from dataclasses import dataclass

from labsupport.core import dtypes
from labsupport.core.files import STATE, LabError, read_json

DTYPES = dtypes.NAMES
REPLY_TOKENS = 64  # the longest right answer has 45


@dataclass(frozen=True)
class Profile:
    """One machine class. Rows and batches are counts; max_length is in tokens.

    dtype is the format of the weights (of the arithmetic, where the weights are 4-bit). eval_families
    is how many families of test_lookalike are scored live, one row each; eval_rows how many production
    rows; generate_rows how many replies of each set are written out live, of reply_tokens tokens at most.
    """

    name: str
    device: str
    base_model: str
    dtype: str
    quantize: bool
    attention: str
    learning_rate: float
    batch_size: int
    accumulation: int
    max_length: int
    train_rows: int
    max_steps: int
    eval_families: int
    eval_rows: int
    generate_rows: int
    reply_tokens: int
    threads: int

    @property
    def use_cpu(self) -> bool:
        return self.device == "cpu"

    @property
    def bf16(self) -> bool:
        """Mixed precision in bfloat16: adapters in float32, their products in the format of the weights."""
        return self.dtype == "bfloat16"

    @property
    def fp16(self) -> bool:
        """Mixed precision in float16: on a GPU without bfloat16, such as a T4."""
        return self.device == "cuda" and self.dtype == "float16"


def _gpu(name: str, **changes) -> Profile:
    defaults = {
        "device": "cuda",
        "base_model": "qwen2.5-7b-instruct",
        "dtype": "bfloat16",
        "quantize": True,
        "attention": "sdpa",
        "learning_rate": 2e-4,  # what the QLoRA paper uses for 7B
        "batch_size": 4,
        "accumulation": 2,
        "max_length": 512,
        "train_rows": 1200,
        "max_steps": -1,
        "eval_families": 144,
        "eval_rows": 200,
        "generate_rows": 144,
        "reply_tokens": REPLY_TOKENS,
        "threads": 8,
    }
    return Profile(name=name, **(defaults | changes))


_CPU = Profile(
    name="cpu",
    device="cpu",
    base_model="smollm2-135m-instruct",
    dtype="float32",
    quantize=False,
    attention="eager",  # torch's fused attention was slower backwards in bfloat16 on a CPU
    learning_rate=2e-3,
    batch_size=2,  # rows one by one at half the rate: no better on validation, half as much time again
    accumulation=1,
    max_length=256,
    train_rows=512,  # one of each family: 63,000 tokens, of which 51,000 are run with a shared prompt
    max_steps=-1,
    eval_families=32,
    eval_rows=32,
    generate_rows=6,
    reply_tokens=REPLY_TOKENS,
    threads=2,
)

PROFILES = {
    "cpu": _CPU,
    "gpu-16gb": _gpu("gpu-16gb"),
    "gpu-24gb": _gpu("gpu-24gb"),
    "gpu-80gb": _gpu("gpu-80gb", quantize=False, batch_size=8, accumulation=1),
    # For the tests: a quarter of the training, all else as above; and: everything runs, nothing is learned.
    "short": dataclasses.replace(_CPU, name="short", max_steps=64),
    "smoke": dataclasses.replace(
        _CPU,
        name="smoke",
        train_rows=16,
        max_steps=2,
        eval_families=4,
        eval_rows=4,
        generate_rows=2,
        reply_tokens=8,
    ),
}


def get(name: str) -> Profile:
    """The profile of that name. Raises LabError listing the valid names."""
    if name not in PROFILES:
        raise LabError(f"Unknown profile {name!r}. There are: {', '.join(PROFILES)}.")
    return PROFILES[name]


def current() -> Profile:
    """The profile for this machine and these settings."""
    name = os.environ.get("LAB_PROFILE") or detect()
    profile = get(name)
    settings = read_settings()
    changes: dict = {}
    if profile.use_cpu:
        changes["dtype"] = settings.get("dtype", profile.dtype)
        changes["threads"] = settings.get("threads", profile.threads)
    elif gpu() is None:
        raise LabError(f"LAB_PROFILE is {name} but PyTorch finds no GPU here: set it to cpu, or unset it.")
    elif not gpu()["bf16"]:
        changes["dtype"] = "float16"
    if dtype := os.environ.get("LAB_DTYPE"):
        if dtype not in DTYPES:
            raise LabError(f"Unknown LAB_DTYPE {dtype!r}. There are: {', '.join(DTYPES)}.")
        changes["dtype"] = dtype
    if threads := os.environ.get("LAB_THREADS"):
        if not threads.isdigit() or threads == "0":
            raise LabError(f"LAB_THREADS is {threads!r}: give a whole number of at least 1.")
        changes["threads"] = int(threads)
    if base_model := os.environ.get("LAB_BASE_MODEL"):
        changes["base_model"] = base_model
    return dataclasses.replace(profile, **changes)


def read_settings() -> dict:
    """What set-up measured on this machine; empty before it, or if the file is damaged."""
    settings = read_json(STATE / "ready.json")
    return {} if settings_fault(settings) else settings


def settings_fault(settings) -> str:
    """What is wrong with the content of ready.json; "" if nothing is."""
    if not isinstance(settings, dict):
        return "it is no JSON object"
    dtype, threads, speeds = (settings.get(key) for key in ("dtype", "threads", "tokens_per_second"))
    if dtype not in DTYPES:
        return f"dtype is {dtype!r}, not one of {', '.join(DTYPES)}"
    if type(threads) is not int or threads < 1:
        return f"threads is {threads!r}, not a whole number of at least 1"
    if not isinstance(speeds, dict) or not all(is_speed(speed) for speed in speeds.values()):
        return f"tokens_per_second is {speeds!r}, not a speed above 0 for each format"
    return ""


def is_speed(value) -> bool:
    return type(value) in (int, float) and 0 < value < float("inf")


@functools.cache
def gpu() -> dict | None:
    """Name, memory in GiB and bfloat16 support of the first CUDA device; None without one.

    Support is decided by compute capability (8.0 is Ampere): older cards only emulate bfloat16.
    """
    import torch

    if not torch.cuda.is_available():
        return None
    found = torch.cuda.get_device_properties(0)
    return {
        "name": found.name,
        "memory_gib": found.total_memory / 2**30,
        "bf16": (found.major, found.minor) >= (8, 0),
    }


def detect() -> str:
    """The name of the profile that fits the hardware found."""
    card = gpu()
    if card is None:
        driver = nvidia_driver()
        if driver:
            raise LabError(
                f"There is an NVIDIA driver ({driver}) but this PyTorch cannot use it. {way_out(driver)} Or "
                "set LAB_PROFILE=cpu to go on without the card."
            )
        return "cpu"
    for name, least in (("gpu-80gb", 70), ("gpu-24gb", 21), ("gpu-16gb", 14)):
        if card["memory_gib"] >= least:
            return name
    raise LabError(
        f"{card['name']} has {card['memory_gib']:.0f} GiB: the smallest GPU profile needs 16. "
        "Set LAB_PROFILE=cpu to run on the processor."
    )


# ---------------------------------------------------------------- what nvidia-smi says

# The rules by which lab.py chooses a build of PyTorch; it says where they come from.
DRIVER_FOR_CUDA_13, DRIVER_FOR_CUDA_12 = 580, 525
OLDEST_CARD, NEWEST_CARD_OF_CUDA_12 = (7, 5), (9, 0)


@dataclass(frozen=True)
class Card:
    """A card as nvidia-smi describes it. capability: (8, 9), say; None where an old driver does not know."""

    driver: str
    capability: tuple[int, int] | None
    name: str


def nvidia_driver() -> str | None:
    """The version of the NVIDIA driver; None without one, or where CUDA_VISIBLE_DEVICES hides every card."""
    cards = nvidia_cards()
    return cards[0].driver if cards else None


def nvidia_cards() -> list[Card]:
    """All cards of this machine, in nvidia-smi's order, which need not be CUDA's.

    Empty where no driver answers, and where CUDA_VISIBLE_DEVICES hides every card: whoever sets it to
    nothing, as the tests do, wants to work as if there were none.
    """
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if hidden or not shutil.which("nvidia-smi"):
        return []
    for fields in ("driver_version,compute_cap,name", "driver_version"):  # old drivers know no compute_cap
        command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        except (OSError, subprocess.SubprocessError):
            return []
        if done.returncode == 0 and (cards := read_cards(done.stdout)):
            return cards
    return []


def read_cards(text: str) -> list[Card]:
    """The cards in nvidia-smi's "driver_version,compute_cap,name", a line each; other lines are left out."""
    cards = []
    for line in text.splitlines():
        driver, capability, name = [part.strip() for part in f"{line},,".split(",")][:3]
        if not driver.split(".")[0].isdigit():
            continue
        parts = capability.split(".")
        known = tuple(map(int, parts)) if len(parts) == 2 and all(p.isdigit() for p in parts) else None
        cards.append(Card(driver, known, name or "The card"))
    return cards


def way_out(driver: str) -> str:
    """How to get a PyTorch that uses the card, under a driver that the user of a container cannot change."""
    newest = max(nvidia_cards(), key=lambda card: card.capability or (0, 0), default=Card(driver, None, ""))
    capability, major = newest.capability, int(driver.split(".")[0])
    without = "`python3 lab.py start --torch cpu` installs PyTorch without CUDA."
    if capability and capability < OLDEST_CARD:
        return f"{newest.name} is older than any card that the course is written for (a T4): {without}"
    if major < DRIVER_FOR_CUDA_12:
        return f"No build runs under a driver below {DRIVER_FOR_CUDA_12}: take another host; {without}"
    if major < DRIVER_FOR_CUDA_13 and capability and capability > NEWEST_CARD_OF_CUDA_12:
        return f"{newest.name} needs a host with driver {DRIVER_FOR_CUDA_13} or newer; {without}"
    if platform.system() == "Windows":  # where pip's index has no build with CUDA
        return "Install PyTorch for CUDA into .venv as pytorch.org says."
    fitting = "13.0" if major >= DRIVER_FOR_CUDA_13 else "12.6"
    if built_for() == fitting:
        return (
            f"It is the build for CUDA {fitting}, which fits the driver: see that CUDA_VISIBLE_DEVICES names "
            "a card that is there, and that a container was started with its cards (docker run --gpus all)."
        )
    return f"Run `python3 lab.py start --torch cuda`: it installs the build that fits, for CUDA {fitting}."


def built_for() -> str | None:
    """The version of CUDA for which the installed PyTorch was built; None for a build without."""
    import torch

    return torch.version.cuda
