"""A run that is planned: what is trained and how, in one vocabulary, and what cannot be planned."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass

from labsupport.configs import architectures, model_configs, quantized
from labsupport.core import dtypes
from labsupport.core.files import LabError, nearest_first
from labsupport.core.numbers import real, shown, whole
from labsupport.setups import limits, spellings
from labsupport.sizes import counting

METHODS = ("lora", "qlora", "dora", "qdora", "rslora", "full")
FOUR_BIT = ("qlora", "qdora")
ATTENTIONS = ("sdpa", "eager")
OPTIMIZERS = ("adamw", "adamw_8bit", "paged_adamw", "paged_adamw_8bit")
TRAINERS = ("sft", "plain")
ADAPTERS = ("float32", "bfloat16")
MOST_TOKENS = 2**20  # of one pass: a trace of TRL's head takes time with them, and no card has room for more
EVEN_SHARES = ("llama", "gemma2", "gemma3_text")  # their configuration classes insist on it
MOST_ACCUMULATED = 1_000_000
NO_4_BIT = "weights in 4 bits cannot be trained themselves, so there is no 4-bit full fine-tuning."


@dataclass(frozen=True)
class Setup:
    """What is trained and how. `batch` is in rows, `length` in tokens a row; `config` as in config.json.

    targets: "all-linear" or names of linear layers. double_quantization: None is on, and the only choice
    but for 4 bits. padded: rows of different lengths, filled up and masked; else packed, without a mask.
    trainer: "sft" is TRL's SFTTrainer, "plain" a loop that lets the model compute its loss from full logits.
    supervised: the share of a row's tokens that is trained on, which only TRL's fused head makes use of.
    accumulation: micro-batches of `batch` rows an optimizer step. dropout: of the adapters' inputs.
    autocast: forward and backward in bfloat16, whatever the weights are in; None is what the trainer does, on
    for "sft" and off for "plain".
    adapters: what A and B are trained in, one of ADAPTERS; None is what the trainer makes them, bfloat16 for
    "sft" on 4 bits, else float32. DoRA's magnitudes stay in float32.
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
    trainer: str = "sft"
    supervised: float = 1.0
    accumulation: int = 1
    dropout: float = 0.0
    autocast: bool | None = None
    adapters: str | None = None

    @property
    def autocasts(self) -> bool:
        """Whether forward and backward run under autocast."""
        return self.trainer == "sft" if self.autocast is None else self.autocast

    @property
    def adapters_in(self) -> str:
        """What A and B are in. PEFT makes them float32, and TRL, on 4 bits, bfloat16 (trl 1.16,
        sft_trainer.py)."""
        if self.adapters is not None:
            return dtypes.find(self.adapters).name
        return "bfloat16" if self.four_bit and self.trainer == "sft" else "float32"

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
    """The configuration of a model by a name that model_configs.find knows."""
    return model_configs.find(model)


def split_targets(text: str) -> str | tuple[str, ...]:
    """ "q_proj,v_proj" as a tuple of names, parted by commas, blanks or plus signs; "all-linear" and the
    other sets as they are."""
    if text in counting.SETS:
        return text
    return tuple(part for part in re.split(r"[\s,;+'\"\[\]]+", text) if part)


def checked(setup: Setup) -> Setup:
    """The setup in our names and types, its config completed, its targets as one word or a tuple.

    A config whose weights are in 4 bits makes qlora of lora and qdora of dora. LabError, naming what there
    is, for the first thing that cannot be planned.
    """
    setup = dataclasses.replace(setup, config=model_configs.checked(setup.config))
    setup = _in_our_words(setup)
    setup = _as_quantized(setup)
    _check_four_bits(setup)
    _check_adapters(setup)
    setup = _in_sizes(setup)
    _check_heads(setup.config)
    _check_experts(setup)
    limits.check(setup)
    return dataclasses.replace(setup, attention=limits.attention(setup.config, setup.attention))


# ---------------------------------------------------------------- words


def _in_our_words(setup: Setup) -> Setup:
    method = spellings.ours(setup.method, spellings.METHODS, METHODS)
    if method in ("qfull", "full-4bit") or setup.dtype in ("nf4", "fp4", "int4", "4bit"):
        raise LabError(f"4 bits are a choice of method here, qlora or qdora: {NO_4_BIT}")
    optimizer = spellings.ours(setup.optimizer, spellings.OPTIMIZERS, OPTIMIZERS)
    trainer = spellings.ours(setup.trainer, spellings.TRAINERS, TRAINERS)
    attention = spellings.ours(setup.attention, {}, ATTENTIONS)
    for name, value, known in (
        ("method", method, METHODS),
        ("attention", attention, ATTENTIONS),
        ("optimiser", optimizer, OPTIMIZERS),
        ("trainer", trainer, TRAINERS),
    ):
        if value not in known:
            raise _unknown(name, value, known)
    for name in ("checkpointing", "kbit_preparation", "padded", "double_quantization"):
        value = getattr(setup, name)
        if not isinstance(value, bool) and (value is not None or name != "double_quantization"):
            raise LabError(f"{name} is {shown(value)}: it must be True or False.")
    return dataclasses.replace(
        setup,
        method=method,
        optimizer=optimizer,
        trainer=trainer,
        attention=attention,
        dtype=dtypes.find(setup.dtype).name,
        adapters=_adapters(setup.adapters),
        targets=_targets(setup.targets, setup.config),
    )


def _adapters(asked) -> str | None:
    """What adapters are in, as torch calls it; None if that is left to the trainer."""
    found = spellings.ours(asked, spellings.ADAPTERS, ADAPTERS)
    if found not in (*ADAPTERS, None):
        raise LabError(
            f"adapters is {shown(asked)}: give {' or '.join(ADAPTERS)}, or leave it to the trainer."
        )
    return found


def _unknown(name: str, value, known) -> LabError:
    near = nearest_first(str(value), known)
    return LabError(f"There is no {name} {shown(value)} here. Known, the nearest first: {near}.")


def _targets(asked, config: dict) -> str | tuple[str, ...]:
    """ "all-linear", or names of what a block has. What all-linear is named with, it holds already."""
    named = (
        [asked] if isinstance(asked, str) else list(asked) if isinstance(asked, (list, tuple, set)) else []
    )
    if not named:
        raise LabError("No targets given: name at least one linear layer, or all-linear.")
    known = tuple(counting.in_block(config))
    found = []
    for name in named:
        members = () if name == "all-linear" or not isinstance(name, str) else counting.SETS.get(name, ())
        found += members if set(members) <= set(known) else [name]
    found = [spellings.ours(name, {}, (*known, "all-linear")) for name in found or named]
    for name in found:
        if name in counting.outside(config):
            raise LabError(
                f"The target {name} is outside the blocks, and only adapters inside them are planned: choose "
                f"among {', '.join(known)}, or all-linear."
            )
        if name not in (*known, "all-linear"):
            raise _unknown("target", name, (*known, "all-linear"))
    return "all-linear" if "all-linear" in found else tuple(dict.fromkeys(found))


# ---------------------------------------------------------------- 4 bits


def _as_quantized(setup: Setup) -> Setup:
    """The setup with weights as the config's quantization_config says, which it then no longer has."""
    found = quantized.four_bit(setup.config)
    config = {key: value for key, value in setup.config.items() if key != "quantization_config"}
    if found is None:
        return dataclasses.replace(setup, config=config)
    method = {"lora": "qlora", "dora": "qdora"}.get(setup.method, setup.method)
    says = "The model's quantization_config says that its weights are in 4 bits"
    if method not in FOUR_BIT:
        raise LabError(
            f"{says}: choose the method qlora or qdora instead of {setup.method}, or another model."
        )
    if setup.double_quantization not in (None, found.double):
        raise LabError(
            f"{says}, with bnb_4bit_use_double_quant {str(found.double).lower()}: leave double quantisation "
            "to it."
        )
    if setup.dtype == "float16" and found.compute == "float32":
        raise LabError(f"{says} and float16 is computed with in float32: choose the dtype bf16.")
    if method != setup.method:
        note = f"The model's quantization_config says 4 bits, so {setup.method} is planned as {method}."
        config["notes"] = (*config.get("notes", ()), note)
    return dataclasses.replace(setup, config=config, method=method, double_quantization=found.double)


def _check_four_bits(setup: Setup) -> None:
    for words, asked in (
        ("Double quantisation", setup.double_quantization is not None),
        ("kbit preparation", setup.kbit_preparation),
    ):
        if asked and not setup.four_bit:
            raise LabError(f"{words} is for qlora and qdora, not for {setup.method}: {NO_4_BIT}")


def _check_adapters(setup: Setup) -> None:
    if setup.method == "full" and setup.adapters is not None:
        raise LabError(f"adapters is {setup.adapters}, and full fine-tuning has none: leave it out.")


# ---------------------------------------------------------------- numbers


def _in_sizes(setup: Setup) -> Setup:
    batch = whole(setup.batch, "batch", 1, MOST_TOKENS)
    length = whole(setup.length, "length (tokens a row)", 1, MOST_TOKENS)
    if batch * length > MOST_TOKENS:
        raise LabError(
            f"batch is {batch:,} rows of {length:,} tokens, {batch * length:,} in one pass: at most "
            f"{MOST_TOKENS:,} are planned. Choose a smaller batch and more accumulation."
        )
    positions = setup.config.get("max_position_embeddings")
    if positions and length > positions:
        raise LabError(
            f"length is {length} tokens a row but the model has {positions} positions: choose at most that."
        )
    dropout = real(setup.dropout, "dropout", 0.0, 1.0)
    if dropout == 1:
        raise LabError("dropout is 1.0, so that nothing is left: give a share below 1.")
    return dataclasses.replace(
        setup,
        batch=batch,
        length=length,
        rank=_rank(setup),
        accumulation=whole(setup.accumulation, "accumulation", 1, MOST_ACCUMULATED),
        dropout=dropout,
        supervised=real(setup.supervised, "supervised (a share of the tokens)", 0.0, 1.0, above=True),
    )


def _rank(setup: Setup) -> int:
    """The rank; LabError if it is higher than that of every matrix that gets an adapter."""
    rank = whole(setup.rank, "rank")
    if setup.method == "full":
        return rank
    linear, experts = counting.block_shapes(setup.config), architectures.expert_parameters(setup.config)
    parameters = architectures.expert_targets(setup.config) | architectures.expert_paths(setup.config)
    names = counting.target_names(setup.targets, setup.config)
    largest = max(min(linear[name] if name in linear else experts[parameters[name]][1:]) for name in names)
    if rank > largest:
        raise LabError(
            f"rank is {shown(rank)}: no targeted matrix of this model has a higher rank than {largest}, so "
            f"the rest would only cost memory. Give at most {largest}."
        )
    return rank


def _check_heads(config: dict) -> None:
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    if config["model_type"] in EVEN_SHARES and hidden % heads:
        raise LabError(
            f"The model has hidden_size {hidden} and {heads} heads: for {config['model_type']}, transformers "
            "wants hidden_size to be a multiple of the heads, whatever head_dim is."
        )
    without_rotation = config["model_type"] == "gpt2" or config.get("alibi")
    if config["head_dim"] % 2 and not without_rotation:
        raise LabError(
            f"The model's heads have {config['head_dim']} numbers: rotary positions turn pairs of them, so "
            "head_dim, or hidden_size / num_attention_heads without it, must be even."
        )


def _check_experts(setup: Setup) -> None:
    """LabError for fewer experts than a token needs, and for rows that torch.grouped_mm refuses: each must
    fill pieces of 16 bytes."""
    piece = 16 // setup.number_bytes
    for name, (experts, width, _) in architectures.expert_parameters(setup.config).items():
        chosen = setup.config["num_experts_per_tok"]
        if name != "gate" and chosen > experts:
            raise LabError(f"A token has {chosen} experts (num_experts_per_tok), and there are {experts}.")
        if experts > 1 and width % piece:
            raise LabError(
                f"The experts' {name} takes {width} numbers: grouped products need a multiple of {piece} in "
                f"{setup.dtype}, so hidden_size and the experts' width must be such."
            )
