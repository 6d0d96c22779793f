"""Reading somebody's config.json: that it is one, and which part of it describes a language model."""

from __future__ import annotations

import json
from pathlib import Path

from labsupport.core.files import LabError, read_text, short
from labsupport.core.numbers import shown

WANTED = "Give the model's config.json, whose model_type names an architecture such as llama"
MOST_BYTES = 64 * 2**20  # a config.json has some kB; the largest index or tokenizer.json some ten MB
# How files begin that are no text.
BINARY = {b"GGUF": "a GGUF file of weights", b"PK\x03\x04": "a zip file, as torch writes weights"}
# Keys that only such a file has, all of them: what it is.
OTHER_FILES = (
    ({"weight_map"}, "the index of a checkpoint's weights"),
    ({"added_tokens_decoder"}, "a tokenizer_config.json"),
    ({"tokenizer_class"}, "a tokenizer_config.json"),
    ({"added_tokens", "model"}, "a tokenizer.json"),
    ({"image_processor_type"}, "a preprocessor_config.json"),
    ({"processor_class"}, "a processor's configuration"),
    ({"bits", "group_size"}, "a quantize_config.json"),
    ({"_class_name"}, "a configuration of diffusers"),
    ({"log_history"}, "a trainer_state.json"),
    ({"n_layers", "dim"}, "a params.json, the format of Meta and Mistral"),
    ({"zero_optimization"}, "a configuration of DeepSpeed"),
    ({"compute_environment"}, "a configuration of accelerate"),
    ({"nbformat", "cells"}, "a notebook"),
    ({"per_device_train_batch_size"}, "a trainer's arguments"),
    ({"do_sample"}, "a generation_config.json"),
    ({"_from_model_config"}, "a generation_config.json"),
)
# Keys under which the configuration of a multimodal model has that of its language model.
LANGUAGE_PARTS = ("text_config", "llm_config", "language_config")
OF_THE_WHOLE = ("tie_word_embeddings", "quantization_config")  # stand beside the part, and hold for it


def read(path: str | Path) -> tuple[dict, str]:
    """(what is in a config.json, its name for messages), from the file or the folder that holds it.

    LabError, naming the file, for what is no JSON object.
    """
    path = _file(Path(path))
    where = short(path)
    text = read_text(path)
    try:
        config = json.loads(text)
    except RecursionError as error:
        raise LabError(f"{where} is nested too deeply. {WANTED}.") from error
    except ValueError as error:
        raise LabError(f"{where} is not JSON: {error}. {WANTED}.") from error
    if not isinstance(config, dict):
        raise LabError(f"{where} holds no JSON object but {shown(config)}. {WANTED}.")
    return config, where


def _file(path: Path) -> Path:
    """The file itself; LabError if it cannot be a config.json by its size or beginning."""
    try:
        if path.is_dir():
            adapter = path / "adapter_config.json"
            path = path / "config.json"
            path = adapter if adapter.exists() and not path.exists() else path
        if not path.is_file() and path.exists() and not path.is_fifo():
            raise LabError(f"{short(path)} is no file. {WANTED}.")
        if path.is_fifo():
            return path
        if path.stat().st_size > MOST_BYTES:
            raise LabError(
                f"{short(path)} has {path.stat().st_size / 1e6:,.0f} MB: no config.json. {WANTED}."
            )
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise LabError(f"Cannot read {short(path)}: {error.strerror or error}.") from error
    if start[8:10] == b'{"' and start[:1] not in (b"{", b" ", b"\n"):
        raise LabError(f"{short(path)} is a safetensors file of weights. {WANTED}.")
    for magic, what in BINARY.items():
        if start.startswith(magic):
            raise LabError(f"{short(path)} is {what}. {WANTED}.")
    return path


def language_model(config: dict, where: str) -> tuple[dict, str]:
    """(the configuration of the language model, its name for messages), whether it is all or a part of it.

    A part carries a sentence under `notes` that says so. LabError, starting with `where`, for what describes
    no model, saying what it is.
    """
    if not isinstance(config, dict):
        raise LabError(f"{where} is {shown(config)}: it must be a mapping, as in a config.json.")
    for key in LANGUAGE_PARTS:
        part = config.get(key)
        if isinstance(part, dict) and "model_type" in part:
            whole = {name: config[name] for name in OF_THE_WHOLE if name in config}
            outer = shown(config.get("model_type"))
            note = (
                f"Of the multimodal model {outer} the language model alone: what sees or hears is left out."
            )
            return {**whole, **part, "notes": (note,)}, f"{where}, {key}"
    kind = config.get("model_type")
    if isinstance(kind, str):
        return config, where
    raise LabError(_what_it_is(config, where))


def _what_it_is(config: dict, where: str) -> str:
    if "peft_type" in config or "base_model_name_or_path" in config:
        base = shown(config.get("base_model_name_or_path"))
        return (
            f"{where} is the adapter_config.json of an adapter: give the config.json of its base model, "
            f"{base} (base_model_name_or_path)."
        )
    if not config:
        return f"{where} is an empty JSON object. {WANTED}."
    for keys, what in OTHER_FILES:
        if keys <= set(config):
            return f"{where} is {what}, not a model's configuration. {WANTED}."
    if config.get("model_type") is not None:
        return f"{where}: model_type is {shown(config['model_type'])}: it must be a name such as llama."
    return f"{where} has no model_type. {WANTED}."
