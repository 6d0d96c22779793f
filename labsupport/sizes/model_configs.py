"""The shapes of the models the course talks about, and reading anybody's config.json."""

from __future__ import annotations

import copy
import functools
import json
from pathlib import Path

from labsupport.core.files import DATA, LabError, nearest_first, short

SUPPORTED = ("llama", "mistral", "qwen2")
SIZES = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "intermediate_size",
    "vocab_size",
)


@functools.cache
def _models() -> dict:
    """Everything in data/model_configs/models.json; its card names the sources."""
    return json.loads((DATA / "model_configs" / "models.json").read_text())


# No real model, but a legal one, whose heads are together wider than its hidden size.
OWN_HEAD_DIM = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,  # four heads of 32 make 128, twice the hidden size
    "intermediate_size": 96,
    "vocab_size": 500,
    "tie_word_embeddings": False,
}


def names() -> list[str]:
    """The models that `find` knows, in the order of the file."""
    return list(_models())


def _entry(name: str) -> dict:
    wanted = str(name).strip().lower()
    if wanted in _models():
        return _models()[wanted]
    raise LabError(
        f"There is no model {name!r} here. Known, the nearest first: {nearest_first(wanted, names())}. "
        "For any other model give the path of its config.json."
    )


def find(name: str) -> dict:
    """The configuration of a model by name ("llama-3.1-8b"; capitals do not matter).

    A copy, in the form that transformers' AutoConfig.for_model(**config) takes. LabError if unknown.
    """
    return copy.deepcopy(_entry(name)["config"])


def hub_name(name: str) -> str:
    """Where the model is on the Hugging Face hub ("meta-llama/Llama-3.1-8B"). LabError if unknown."""
    return _entry(name)["hub"]


def published_parameters(name: str) -> int:
    """How many parameters the model has according to others, see the card. LabError if unknown."""
    return _entry(name)["parameters"]


def read(path: str | Path) -> dict:
    """A model's configuration from its config.json, or from the folder that holds one.

    LabError names the file and what is missing or not supported.
    """
    path = Path(path)
    path = path / "config.json" if path.is_dir() else path
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LabError(f"Cannot read {short(path)}: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise LabError(f"{short(path)} is not JSON: {error}.") from error
    if not isinstance(config, dict):
        raise LabError(f"{short(path)} holds no JSON object: a config.json maps names to values.")
    return checked(config, short(path))


def checked(config: dict, where: str = "The configuration") -> dict:
    """The configuration if the course can count it: a Llama-like shape in consistent numbers.

    Fills in num_key_value_heads, head_dim and tie_word_embeddings where the file leaves them to
    transformers' defaults. LabError, starting with `where`, if not.
    """
    architecture = config.get("model_type")
    if architecture not in SUPPORTED:
        raise LabError(
            f"{where} is of the architecture {architecture!r}; the course counts Llama-like ones: "
            f"model_type must be one of {', '.join(SUPPORTED)}."
        )
    if architecture == "llama" or "num_key_value_heads" in config:  # the others default to a number
        kv_heads = config.get("num_key_value_heads") or config.get("num_attention_heads")
        config = config | {"num_key_value_heads": kv_heads}  # null: no grouping
    config = {key: value for key, value in config.items() if value is not None}
    missing = [key for key in SIZES if config.get(key) is None]
    if missing:
        raise LabError(f"{where} lacks {', '.join(missing)}: it is no complete config.json.")
    config.setdefault("tie_word_embeddings", False)
    wrong = [key for key in (*SIZES, "head_dim") if key in config and not _is_size(config[key])]
    if wrong:
        raise LabError(f"{where} has {wrong[0]} = {config[wrong[0]]!r}: it must be a whole number above 0.")
    _check_heads(config, where)
    config.setdefault("head_dim", config["hidden_size"] // config["num_attention_heads"])
    return config


def _is_size(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _check_heads(config: dict, where: str) -> None:
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    if heads % kv_heads:
        raise LabError(f"{where} has {heads} heads and {kv_heads} key-value heads: they cannot share evenly.")
    if "head_dim" not in config and config["hidden_size"] % heads:
        raise LabError(f"{where} has hidden_size {config['hidden_size']} for {heads} heads: give head_dim.")
