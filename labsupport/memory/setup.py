"""A run that is planned: what is trained and how, in one vocabulary, and what cannot be planned."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from labsupport.core import dtypes
from labsupport.core.files import LabError, nearest_first
from labsupport.sizes import counting, model_configs

METHODS = ("lora", "qlora", "dora", "qdora", "rslora", "full")
FOUR_BIT = ("qlora", "qdora")
ATTENTIONS = ("sdpa", "eager")
OPTIMIZERS = ("adamw", "adamw_8bit")
TRAINERS = ("sft", "plain")
NO_4_BIT = "weights in 4 bits cannot be trained themselves, so there is no 4-bit full fine-tuning."


@dataclass(frozen=True)
class Setup:
    """What is trained and how. `batch` is in rows, `length` in tokens a row; `config` as in config.json.

    targets: "all-linear" or names of linear layers. double_quantization: None is on, and the only choice
    but for 4 bits. padded: rows of different lengths, filled up and masked; else packed, without a mask.
    trainer: "sft" is TRL's SFTTrainer, "plain" a loop that lets the model compute its loss from full logits.
    supervised: the share of a row's tokens that is trained on, which only TRL's fused head makes use of.
    accumulation: micro-batches of `batch` rows an optimizer step.
    """

    config: dict
    method: str = "lora"
    rank: int = 16
    targets: str | tuple[str, ...] = "all-linear"
    batch: int = 4
    length: int = 512
    dtype: str = "bfloat16"
    checkpointing: bool = True
    optimizer: str = "adamw"
    double_quantization: bool | None = None
    kbit_preparation: bool = False
    padded: bool = True
    attention: str = "sdpa"
    trainer: str = "plain"
    supervised: float = 1.0
    accumulation: int = 1

    @property
    def four_bit(self) -> bool:
        return self.method in FOUR_BIT

    @property
    def doubly_quantized(self) -> bool:
        """Whether the scales of 4-bit weights are quantised as well."""
        return self.double_quantization is not False

    @property
    def number_bytes(self) -> int:
        """Bytes of one number in the setup's dtype."""
        return dtypes.find(self.dtype).bytes


def config_named(model: str) -> dict:
    """The configuration of a model by name; "-instruct" makes no difference to the shape."""
    shape = str(model).lower().removesuffix("-instruct")
    return model_configs.find(shape if shape in model_configs.names() else model)


def split_targets(text: str) -> str | tuple[str, ...]:
    """ "q_proj,v_proj" as a tuple of names; "all-linear" as it is."""
    return text if text == "all-linear" else tuple(part.strip() for part in text.split(",") if part.strip())


def checked(setup: Setup) -> Setup:
    """The setup with its config completed and its targets as one word or a tuple.

    LabError, naming what there is, for the first thing that cannot be planned.
    """
    targets = setup.targets
    if targets != "all-linear":
        targets = (targets,) if isinstance(targets, str) else tuple(targets)
    setup = dataclasses.replace(setup, config=model_configs.checked(setup.config), targets=targets)
    _check_words(setup)
    _check_four_bits(setup)
    _check_sizes(setup)
    return setup


def _check_words(setup: Setup) -> None:
    if setup.method in ("qfull", "full-4bit") or setup.dtype in ("nf4", "fp4", "int4", "4bit"):
        raise LabError(f"4 bits are a choice of method here, qlora or qdora: {NO_4_BIT}")
    dtypes.find(setup.dtype)
    if not setup.targets:
        raise LabError("No targets given: name at least one linear layer, or all-linear.")
    targets = () if setup.targets == "all-linear" else setup.targets
    for name, value, known in (
        ("method", setup.method, METHODS),
        ("attention", setup.attention, ATTENTIONS),
        ("optimiser", setup.optimizer, OPTIMIZERS),
        ("trainer", setup.trainer, TRAINERS),
        *(("target", target, (*counting.ALL_LINEAR, "all-linear")) for target in targets),
    ):
        if value not in known:
            near = nearest_first(str(value), known)
            raise LabError(f"There is no {name} {value!r} here. Known, the nearest first: {near}.")


def _check_four_bits(setup: Setup) -> None:
    for words, asked in (
        ("Double quantisation", setup.double_quantization is not None),
        ("kbit preparation", setup.kbit_preparation),
    ):
        if asked and not setup.four_bit:
            raise LabError(f"{words} is for qlora and qdora, not for {setup.method}: {NO_4_BIT}")


def _check_sizes(setup: Setup) -> None:
    sizes = {"rank": setup.rank, "batch": setup.batch, "length (tokens a row)": setup.length}
    sizes["accumulation"] = setup.accumulation
    for name, value in sizes.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise LabError(f"{name} is {value!r}: it must be a whole number of at least 1.")
    if not 0 < setup.supervised <= 1:
        raise LabError(
            f"supervised is {setup.supervised!r}: it is a share of the tokens, above 0, at most 1."
        )
    positions = setup.config.get("max_position_embeddings")
    if positions and setup.length > positions:
        raise LabError(
            f"length is {setup.length} tokens a row but the model has {positions} positions: "
            "choose at most that."
        )
