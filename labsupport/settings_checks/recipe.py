"""The settings of a fine-tune, read from the YAML or JSON that `trl sft --config` or a script takes."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labsupport.core.files import LabError, nearest_first, read_text, short
from labsupport.core.numbers import real, shown, whole
from labsupport.settings_checks import recipe_names as names

NEAREST = 3  # valid names that a message about a wrong one repeats
TRUE, FALSE = ("yes", "true", "t", "y", "1"), ("no", "false", "f", "n", "0")  # as trl's parser has them
ABOVE_ZERO = {"learning_rate", "num_train_epochs", "lora_alpha", "logging_steps"}
FROM_ZERO = {"weight_decay", "warmup_steps", "max_grad_norm", "neftune_noise_alpha"}
FROM_ZERO |= {"eval_steps", "save_steps"}
SHARES = {"lora_dropout", "adam_beta1", "adam_beta2", "label_smoothing_factor"}
COUNTS = {"per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"}
COUNTS |= {"max_length", "lora_r"}
SHORT_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


@dataclass
class Recipe:
    """Settings by today's names, those of TRL's SFTConfig, ModelConfig and ScriptArguments.

    given: what the file says. outdated: (old name, today's or advice) of what TRL 1.16 refuses; deprecated:
    of what it still takes; their values are in `given` all the same. as_text: names of numbers that YAML
    reads as text; unquoted: names whose bare `no` YAML reads as false. of_trl: a file that `trl sft --config`
    itself could read; else one for a script, with sections or with LoraConfig's names.
    """

    path: Path
    given: dict[str, Any] = field(default_factory=dict)
    outdated: list[tuple[str, str]] = field(default_factory=list)
    deprecated: list[tuple[str, str]] = field(default_factory=list)
    as_text: list[str] = field(default_factory=list)
    unquoted: list[str] = field(default_factory=list)
    of_trl: bool = True

    def get(self, name: str) -> Any:
        """The setting, or the library's default: TRL's, or that of the class which a script would fill."""
        if name in self.given:
            return self.given[name]
        if not self.of_trl and name in names.DEFAULTS_OF_PEFT | names.DEFAULTS_OF_BNB:
            return (names.DEFAULTS_OF_PEFT | names.DEFAULTS_OF_BNB)[name]
        known = names.of_trl().get(name)
        return None if known is None else known.default

    @property
    def about_lora(self) -> list[str]:
        """The settings of adapters that the file has."""
        own = {*names.of_peft(), *names.AS_IN_TRL.values()} - set(names.of_trl()) | {"use_rslora", "use_dora"}
        return [name for name in self.given if name.startswith("lora_") or name in own]

    @property
    def method(self) -> str | None:
        """ "lora", "full", or None where the file does not say: it may be the half of a script."""
        if self.given.get("use_peft", bool(self.about_lora)):
            return "lora"
        return "full" if "model_name_or_path" in self.given or "use_peft" in self.given else None

    @property
    def four_bit(self) -> bool:
        return bool(self.get("load_in_4bit"))

    @property
    def compute_dtype(self) -> str:
        """What 4-bit weights are computed in: TRL takes the model's dtype, BitsAndBytesConfig float32."""
        asked = self.given.get("bnb_4bit_compute_dtype")
        return asked or (self.get("dtype") if self.of_trl else None) or "float32"

    @property
    def bf16(self) -> bool:
        """Whether training autocasts to bfloat16: TRL does unless fp16 is on."""
        asked = self.get("bf16")
        return not self.get("fp16") if asked is None else asked

    @property
    def checkpointing(self) -> bool:
        """Whether activations are computed again backwards, under the new name or the old one."""
        asked = self.get("activation_checkpointing")
        return bool(self.get("gradient_checkpointing") if asked is None else asked)

    @property
    def batch(self) -> int:
        """Rows of an optimizer step, over all cards."""
        cards = self.given.get("num_processes")
        cards = cards if isinstance(cards, int) and cards > 0 else 1
        return self.get("per_device_train_batch_size") * self.get("gradient_accumulation_steps") * cards

    def take(self, name: str, value) -> None:
        """Set one setting, under whatever name. LabError for an unknown name or an impossible value."""
        if name in names.RENAMED and name not in names.of_trl():
            new, advice = names.RENAMED[name]
            self.outdated.append((name, f"{new} ({advice})" if new and advice else new or advice))
            if name in names.SWITCHES:
                new, value = (new, names.SWITCHES[name]) if value else ("", value)
            if new:
                self.take(new, value)
            return
        if name in names.DEPRECATED:
            self.deprecated.append((name, names.DEPRECATED[name]))
        if name in names.AS_IN_TRL or name in (*names.of_peft(), *names.of_bitsandbytes()):
            self.of_trl = self.of_trl and name in names.of_trl()
        name = names.AS_IN_TRL.get(name, name)
        if name in names.of_trl():
            value = self.typed(name, value, names.of_trl()[name])
        elif name == "bnb_4bit_compute_dtype":
            value = dtype(value)
        elif not self.is_known(name):
            near = ", ".join(nearest_first(name, names.known()).split(", ")[:NEAREST])
            raise LabError(
                f"{short(self.path)} has the setting {shown(name)}, which TRL 1.16 does not know. The "
                f"nearest that it knows: {near}."
            )
        self.given[name] = value

    @staticmethod
    def is_known(name: str) -> bool:
        """Whether a name that TRL has not means something to what is around it."""
        others = (*names.of_peft(), *names.of_bitsandbytes(), *names.OTHERS, *names.OTHERS_SECTIONS)
        return name in others or name in names.of_accelerate()

    def typed(self, name: str, value, known: names.Field):
        """The value as trl's parser takes it: texts become numbers and switches. LabError if it is none."""
        what = f"{short(self.path)}: {name}"
        value = self.in_todays_words(name, value)
        if value is None or (str in known.kinds or int in known.kinds) and text_none(value, known):
            if known.optional:
                return None
            raise LabError(f"{what} is empty: give a value or leave the line out.")
        if value is False and "no" in known.choices:
            self.unquoted.append(name)
            return "no"
        if bool in known.kinds:
            return switch(value, what)
        if float in known.kinds or int in known.kinds:
            return self.number(name, value, known, what)
        if name == "dtype":
            value = dtype(value)
        if known.choices and value not in known.choices:
            near = ", ".join(nearest_first(str(value), known.choices).split(", ")[:NEAREST])
            raise LabError(f"{what} is {shown(value)}, which is none of its values. The nearest: {near}.")
        if isinstance(value, (dict, list)) and not {dict, list} & set(known.kinds):
            raise LabError(f"{what} is {shown(value)}: it must be one value, not several.")
        if name in ("lora_target_modules", "lora_modules_to_save") and not are_names(value):
            raise LabError(f"{what} is {shown(value)}: it must be a name or a list of names.")
        return str(value) if known.kinds == (str,) else value

    def in_todays_words(self, name: str, value):
        """A value that had another name, noted."""
        for table, noted in ((names.VALUES, self.outdated), (names.DEPRECATED_VALUES, self.deprecated)):
            if isinstance(value, str) and (name, value) in table:
                noted.append((f"{name}: {value}", table[name, value]))
                return value if (name, value) in names.STILL_ANOTHER else table[name, value]
        if name == "dataset_kwargs" and isinstance(value, dict):
            self.deprecated += [
                (f"dataset_kwargs: {key}", "nothing: TRL 1.16 reads only skip_prepare_dataset there")
                for key in value
                if key != "skip_prepare_dataset"
            ]
        return value

    def number(self, name: str, value, known: names.Field, what: str):
        """A number within what makes sense for it."""
        kind = int if int in known.kinds else float
        if isinstance(value, str):
            if str in known.kinds and not value.strip().lstrip("-").isdigit():
                return value
            with contextlib.suppress(ValueError):
                value = kind(value)
                self.as_text.append(name)
        if name == "max_steps" and not isinstance(value, bool) and value in (-1, 0):
            return -1
        least, most = (0.0, 1.0) if name in SHARES else (0.0, None) if name in FROM_ZERO else (-1e9, None)
        if name in COUNTS or name == "max_steps":
            return whole(value, what)
        least, above = (0.0, True) if name in ABOVE_ZERO else (least, False)
        checked = real(value, what, least, most, above)
        return whole(value, what, -(10**9)) if kind is int else checked


def read(path: str | Path) -> Recipe:
    """The settings in a file. LabError in one line for a file that cannot be read, that is no mapping, and
    for a name or a value that the libraries do not have."""
    from labsupport.core import upstream

    upstream.quiet_messages()
    recipe = Recipe(Path(path))
    settings = mapping(recipe.path)
    for program, own in names.OTHER_PROGRAMS.items():
        if len(theirs := sorted(own & settings.keys())) > 1:
            raise LabError(
                f"{short(recipe.path)} holds {program}'s settings ({', '.join(theirs[:3])}), and TRL's are "
                "read here: leave --config out, or write them by TRL's names."
            )
    for name, value in settings.items():
        if not isinstance(name, str):
            raise LabError(f"{short(recipe.path)} has the setting {shown(name)}, which is no name.")
        take(recipe, name.replace("-", "_"), value)
    return recipe


def take(recipe: Recipe, name: str, value) -> None:
    """Take in a setting of the file, or a section of it."""
    if isinstance(value, dict) and name in names.LORA_SECTIONS:
        recipe.of_trl = False
        recipe.given["use_peft"] = True
        for key, inner in value.items():
            if key not in ("enabled", "type", "method", "peft_type"):
                recipe.take(names.IN_LORA_SECTION.get(key, str(key)), inner)
        recipe.given["use_peft"] = value.get("enabled") is not False
    elif isinstance(value, dict) and name in (*names.FOUR_BIT_SECTIONS, *names.PLAIN_SECTIONS):
        recipe.of_trl = False
        for key, inner in value.items():
            key = (
                "model_name_or_path"
                if key in ("name", "path", "name_or_path") and name.startswith("model")
                else str(key)
            )
            take(recipe, key.replace("-", "_"), inner)
    elif isinstance(value, dict) and name in names.OTHERS_SECTIONS:
        recipe.of_trl = recipe.of_trl and name == "env"  # trl sets the environment by it
        for key in value.keys() & set(names.of_trl()) - {"project"}:
            recipe.take(key, value[key])
    elif name in names.MODEL and isinstance(value, str):
        recipe.of_trl = False
        recipe.take("model_name_or_path", value)
    else:
        recipe.take(name, value)


def mapping(path: Path) -> dict:
    """The mapping in a YAML or JSON file."""
    import yaml

    if path.is_dir():
        raise LabError(f"{short(path)} is a folder: give the file with the settings.")
    text = read_text(path)
    try:
        content = json.loads(text or "null") if path.suffix == ".json" else yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        said = getattr(error, "problem", None) or "it cannot be read"
        raise LabError(f"{short(path)}{line} is not YAML: {said}.") from error
    except (ValueError, RecursionError) as error:
        line = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise LabError(f"{short(path)}{line} is not {path.suffix[1:].upper() or 'YAML'}: {error}.") from error
    if repeated := "" if path.suffix == ".json" else twice(yaml.compose(text, yaml.SafeLoader)):
        raise LabError(f"{short(path)} sets {repeated} twice, and YAML keeps the last: leave one of them.")
    if not content and not isinstance(content, (int, str)):
        raise LabError(f"{short(path)} is empty: give TRL's settings, one `name: value` a line.")
    if not isinstance(content, dict):
        raise LabError(f"{short(path)} holds {shown(content)}, not settings: give `name: value` lines.")
    return content


def twice(node, deeper: int = 1) -> str:
    """The first name that a YAML mapping, or a section of it, has twice; "" if there is none."""
    pairs = node.value if getattr(node, "id", "") == "mapping" else []
    seen = set()
    for key, value in pairs:
        if key.value in seen and key.value != "<<":
            return key.value
        if isinstance(key.value, str):
            seen.add(key.value)
        if deeper and (found := twice(value, deeper - 1)):
            return found
    return ""


def switch(value, what: str) -> bool:
    """Yes or no, as trl's parser reads them."""
    word = str(value).lower() if isinstance(value, (str, bool, int)) else ""
    if word not in (*TRUE, *FALSE):
        raise LabError(f"{what} is {shown(value)}: it must be true or false.")
    return word in TRUE


def text_none(value, known: names.Field) -> bool:
    """Whether trl's parser reads a text as None: for a number that may be none."""
    return isinstance(value, str) and str not in known.kinds and value.lower() in ("none", "null")


def dtype(value) -> str | None:
    """A dtype's name as torch has it, "bfloat16" for "bf16" and for "torch.bfloat16"."""
    text = None if value is None else str(value).removeprefix("torch.")
    return SHORT_DTYPES.get(text, text)


def are_names(value) -> bool:
    """A text, or a list of texts with something in it."""
    items = value if isinstance(value, list) else [value]
    return bool(items) and all(isinstance(item, str) and item for item in items)
