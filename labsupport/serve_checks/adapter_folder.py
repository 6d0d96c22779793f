"""An adapter's folder, opened: its settings, its tensors one by one, its base model where that lies here."""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

from labsupport.core.files import LabError, first_line, short
from labsupport.run_folders.base_of_run import PREFIX, folder_of_base
from labsupport.run_folders.run_folder import ADAPTER, CONFIG, json_object, reading

TEMPLATE = "chat_template.jinja"


@dataclass(frozen=True)
class Tensor:
    """A stored tensor. dtype: safetensors' name of it, such as F32. finite: all its numbers are; zero: so are
    all."""

    shape: tuple[int, ...]
    dtype: str
    finite: bool
    zero: bool


@dataclass
class Adapter:
    """An adapter in a folder. config: adapter_config.json. tensors: by name. base: the base model's name or
    folder as it was named, None if nothing says it. base_folder: where it lies on this machine, None if it
    does not. limit: the server's --max-lora-rank. notes: what could not be looked at, a sentence each."""

    folder: Path
    config: dict
    tensors: dict[str, Tensor]
    base: str | None
    base_folder: Path | None
    limit: int
    notes: list[str] = field(default_factory=list)

    @property
    def is_lora(self) -> bool:
        """Whether it is of matrices A and B, which is what most checks are about."""
        return self.config.get("peft_type") == "LORA"

    @functools.cached_property
    def matrices(self) -> dict[str, dict[str, Tensor]]:
        """Module, by the base model's name -> {"A": (r, inputs), "B": (outputs, r)}; a lost one is absent."""
        found: dict[str, dict[str, Tensor]] = {}
        for name, tensor in self.tensors.items():
            for side in "AB":
                module, mark, _ = name.removeprefix(PREFIX).partition(f".lora_{side}.weight")
                if mark:
                    found.setdefault(module, {})[side] = tensor
        return found

    @property
    def pairs(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Module -> (A, B), where both are there and are matrices."""
        both = {name: (one["A"], one["B"]) for name, one in self.matrices.items() if len(one) == 2}
        return {
            name: pair
            for name, pair in both.items()
            if all(len(one.shape) == 2 and 0 not in one.shape for one in pair)
        }

    @property
    def layer_pairs(self) -> dict[str, tuple[Tensor, Tensor]]:
        """`pairs` of single layers, whose shapes are rank and widths. The others are PEFT's for the
        target_parameters of a stack of experts: (rank times experts, inputs), (outputs, rank times experts).
        """
        stacked = (".experts", ".experts.base_layer") if self.config.get("target_parameters") else ()
        return {name: pair for name, pair in self.pairs.items() if not name.endswith(stacked)}

    @property
    def rank(self) -> int:
        """The highest rank of any module."""
        ranks = [pair[0].shape[0] for pair in self.layer_pairs.values()]
        return max([self.config.get("r") or 0, *ranks, *(self.config.get("rank_pattern") or {}).values()])

    def rank_of(self, module: str) -> int:
        """The rank that the settings give a module, by PEFT's rules."""
        return _of_pattern(self.config.get("rank_pattern"), module, self.config.get("r"))

    def scale_of(self, module: str) -> float:
        """What PEFT multiplies B A of a module by: alpha / r, or alpha / sqrt(r) with rsLoRA."""
        alpha = _of_pattern(self.config.get("alpha_pattern"), module, self.config.get("lora_alpha"))
        return scale(alpha, self.rank_of(module), self.config)

    @functools.cached_property
    def layers(self) -> dict[str, tuple[int, int]]:
        """Module of the base model -> (outputs, inputs), of its linear layers and embeddings; {} where the
        base is not here or cannot be built from its config.json, with a note."""
        if self.base_folder is None:
            return {}
        try:
            return layers_in(self.base_folder)
        except Exception as error:  # whatever transformers says of a model it does not know
            why = f"{short(self.base_folder)} cannot be built ({first_line(error)[:150]})"
            self.notes.append(f"Layers were not compared: {why}.")
            return {}


def scale(alpha: float, rank: int, config: dict) -> float:
    """The factor before B A."""
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _of_pattern(pattern: dict | None, module: str, otherwise):
    from peft.utils.other import get_pattern_key

    return (pattern or {}).get(get_pattern_key(list(pattern or {}), module), otherwise)


def opened(folder: str | Path, base: str | None = None, limit: int = 16) -> Adapter:
    """The adapter in a folder. base: --base, else what the adapter says. limit: the server's highest rank.

    LabError, in one line: no such folder, no adapter in it, settings that are no JSON, damaged weights, a
    --base that is not here.
    """
    from labsupport.models import base_model, hub

    folder = Path(folder)
    config = settings_in(folder)
    named = base or config.get("base_model_name_or_path") or None
    place = folder_of_base(SimpleNamespace(base=named))
    if base is not None and place is None:
        raise LabError(
            f"--base {base}: there is no model's folder of that name, with a config.json, and none in the "
            "hub's cache: correct it, or fetch the model first."
        )
    notes = []
    if place is not None and hub.is_name(named) and place.name == base_model.BUNDLED:
        notes.append(
            f"The course's copy, rounded to 4 bits, stands in for {named}, which is not in the hub's cache: "
            "replies of a server that has the original will differ. Give --base for the original."
        )
    return Adapter(folder, config, tensors_in(folder / ADAPTER), named, place, limit, notes)


def settings_in(folder: Path) -> dict:
    """What adapter_config.json says. LabError where the folder is not one that PEFT wrote."""
    if folder.is_file():
        raise LabError(f"{short(folder)} is a file: give the folder that holds {ADAPTER} and {CONFIG}.")
    if not folder.is_dir():
        raise LabError(f"There is no folder {short(folder)}: give the one that PEFT's save_pretrained wrote.")
    if not (folder / ADAPTER).is_file():
        if (folder / "adapter_model.bin").is_file():
            raise LabError(
                f"{short(folder)} holds the adapter as adapter_model.bin, a pickle, which is not read: save "
                "it again as safetensors."
            )
        deeper = sorted(path.parent.name for path in folder.glob(f"*/{ADAPTER}"))
        hint = f" The folder {deeper[-1]} in it has one." if deeper else ""
        raise LabError(f"{short(folder)} holds no {ADAPTER}: give the adapter's folder.{hint}")
    if not (folder / CONFIG).is_file():
        raise LabError(f"{short(folder)} holds {ADAPTER} without {CONFIG}: PEFT writes both; copy both.")
    config = json_object(folder / CONFIG)
    if config.get("peft_type") == "LORA":
        for key in ("r", "lora_alpha"):
            value = config.get(key)
            check_positive(folder, key, value)
        for key in ("rank_pattern", "alpha_pattern"):
            for pattern, value in (config.get(key) or {}).items():
                check_expression(folder, key, pattern)
                check_positive(folder, f"{key} {pattern!r}:", value)
    if isinstance(config.get("target_modules"), str):
        check_expression(folder, "target_modules", config["target_modules"])
    if isinstance(config.get("modules_to_save"), str):
        config["modules_to_save"] = [config["modules_to_save"]]
    return config


def check_positive(folder: Path, key: str, value) -> None:
    """LabError for what is no positive number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise LabError(f"{short(folder / CONFIG)} has {key} {value!r}: it must be a positive number.")


def check_expression(folder: Path, key: str, text: str) -> None:
    """LabError for what is no regular expression, which PEFT takes these for."""
    try:
        re.compile(text)
    except re.error as error:
        raise LabError(
            f"{short(folder / CONFIG)} has {key} {text!r}, which is no regular expression ({error}): "
            'correct it; ".*" stands for any text.'
        ) from None


def tensors_in(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, read one at a time. LabError where it is damaged or empty."""
    import torch
    from safetensors import safe_open

    found = {}
    with reading(path), safe_open(path, "pt") as file:
        for name in file.keys():  # noqa: SIM118, the file is no dict
            values = file.get_tensor(name)
            kind = file.get_slice(name).get_dtype()
            if values.is_floating_point() and values.dtype.itemsize == 1:
                values = values.float()  # float8, for which torch has neither of these two
            finite = bool(torch.isfinite(values).all())
            found[name] = Tensor(tuple(values.shape), kind, finite, not bool(values.any()))
    if not found:
        raise LabError(f"{short(path)} holds no tensor: save the adapter again.")
    return found


def layers_in(folder: Path) -> dict[str, tuple[int, int]]:
    """Linear layers and embeddings of the model in a folder, built from its config.json without weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.pytorch_utils import Conv1D

    config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    shapes = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Embedding):
            shapes[name] = tuple(module.weight.shape)
        elif isinstance(module, Conv1D):  # GPT-2's, which stores its matrix the other way round
            shapes[name] = tuple(module.weight.shape)[::-1]
    return shapes
