"""The shapes of the models the course talks about, and reading anybody's config.json."""

from __future__ import annotations

import copy
import functools
import json
from pathlib import Path

from labsupport.configs import architectures, config_fields, config_file, model_names, quantized
from labsupport.core.files import DATA, LabError, nearest_first
from labsupport.core.numbers import shown

KEYS_AS_HEADS = ("llama", "phi3", "granite")  # if a file does not name num_key_value_heads; others: a number
NEAREST = 8  # of the known models, named to somebody whose model is not known
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


def llama_like() -> list[str]:
    """Those of `names` whose blocks have the seven linear layers of a Llama."""
    return [name for name in names() if of_llama(_models()[name]["config"])]


def of_llama(config: dict) -> bool:
    """Whether a configuration's blocks have the seven linear layers of a Llama."""
    return architectures.of(config).layers == architectures.LLAMA


@functools.cache
def _known_as() -> dict[str, tuple[str, int | None]]:
    """Every name that stands for a model, without what makes no difference to its shape: its key, and its
    max_position_embeddings where they are others."""
    found = {}
    for name, entry in _models().items():
        found |= dict.fromkeys(map(model_names.shape_of, (name, entry["hub"])), (name, None))
        found |= {model_names.shape_of(other): (name, most) for other, most in entry.get("also", {}).items()}
    return found


def _key_and_positions(name: str) -> tuple[str, int | None]:
    wanted = str(name).strip().lower()
    if wanted in _models():
        return wanted, None
    model_names.in_four_bits(name)
    found = _known_as().get(model_names.shape_of(name))
    if found is None:
        near = nearest_first(model_names.last_part(name), names()).split(", ")[:NEAREST]
        raise LabError(
            f"There is no model {shown(name)} here. Of the {len(names())} known the nearest first: "
            f"{', '.join(near)}. For any other give the path of its config.json (--config)."
        )
    return found


def key_of(name: str) -> str:
    """The model's name in the table, by that or by a name on the hub ("meta-llama/Llama-3.1-8B-Instruct" is
    llama-3.1-8b). LabError if unknown."""
    return _key_and_positions(name)[0]


def _entry(name: str) -> dict:
    return _models()[key_of(name)]


def find(name: str) -> dict:
    """The configuration of a model by name ("llama-3.1-8b" or, as on the hub, "meta-llama/Llama-3.1-8B").

    A copy, in the form that transformers' AutoConfig.for_model(**config) takes; with a `quantization_config`
    for a name that ends in -bnb-4bit. LabError if unknown.
    """
    key, positions = _key_and_positions(name)
    config = copy.deepcopy(_models()[key]["config"])
    if positions is not None:
        config["max_position_embeddings"] = positions
    organisation, hub = str(name).strip().rpartition("/")[0], _models()[key]["hub"]
    if organisation and organisation.rpartition("/")[2].lower() != hub.partition("/")[0].lower():
        config["notes"] = (*config.get("notes", ()), f"{shown(name)} is taken for one of the shape of {hub}.")
    if model_names.in_four_bits(name):
        config["quantization_config"] = dict(quantized.AS_PUBLISHED)
    return config


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
    config, where = config_file.read(path)
    config, where = config_file.language_model(config, where)
    config = checked(config, where)
    quantized.four_bit(config, where)
    return config


def checked(config: dict, where: str = "The configuration") -> dict:
    """The configuration if the course can count it: a Llama-like shape in consistent numbers.

    Fills in num_key_value_heads, head_dim and tie_word_embeddings where the file leaves them to
    transformers' defaults. LabError, starting with `where`, if not.
    """
    config, where = config_file.language_model(config, where)
    config = architectures.completed(config_fields.typed(config, where), where)
    if config["model_type"] in KEYS_AS_HEADS or "num_key_value_heads" in config:
        kv_heads = config.get("num_key_value_heads") or config.get("num_attention_heads")
        config = config | {"num_key_value_heads": kv_heads}  # null: no grouping
    missing = [key for key in SIZES if config.get(key) is None]
    if missing:
        raise LabError(f"{where} lacks {', '.join(missing)}: it is no complete config.json.")
    _check_heads(config, where)
    config.setdefault("head_dim", config["hidden_size"] // config["num_attention_heads"])
    return config


def _check_heads(config: dict, where: str) -> None:
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    if heads % kv_heads:
        raise LabError(f"{where} has {heads} heads and {kv_heads} key-value heads: they cannot share evenly.")
    if "head_dim" not in config and config["hidden_size"] % heads:
        raise LabError(f"{where} has hidden_size {config['hidden_size']} for {heads} heads: give head_dim.")
