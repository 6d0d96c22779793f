"""What a model family cannot do in a run, and what is other than one expects: one line each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labsupport.configs import architectures
from labsupport.core.files import LabError
from labsupport.sizes import counting

if TYPE_CHECKING:
    from labsupport.setups.setup import Setup

EAGER_ONLY = ("gemma2",)  # soft-capped scores: no sdpa (transformers 5.23, modeling_gemma2.py)


def attention(config: dict, asked: str) -> str:
    """How the model attends: as asked, or as transformers does where there is no choice."""
    return "eager" if config["model_type"] in EAGER_ONLY else asked


def adapted_experts(setup: Setup) -> list[str]:
    """The targets of a run that stand for experts or their router."""
    config = setup.config
    if setup.method == "full" or not architectures.expert_parameters(config):
        return []
    linear = counting.block_shapes(config)
    return [name for name in counting.target_names(setup.targets, config) if name not in linear]


def check(setup: Setup) -> None:
    """LabError for what the pinned libraries do not do with such a model."""
    kind, experts = setup.config["model_type"], adapted_experts(setup)
    if setup.four_bit and not architectures.in_4_bits(setup.config):
        raise LabError(
            f"transformers does not load {kind} in 4 bits: its linear layers are of a class of their own and "
            f"stay in 16 bits. Choose {setup.method.removeprefix('q')}."
        )
    for words, asked in (("DoRA", setup.method.endswith("dora")), ("dropout", setup.dropout > 0)):
        if experts and asked:
            raise LabError(
                f"PEFT has no {words} for experts ({', '.join(experts)}), which all-linear adapts, too: give "
                f"--targets {','.join(counting.block_shapes(setup.config))}."
            )
    twins = [name for name, of in architectures.expert_targets(setup.config).items() if of == "gate_up_proj"]
    given = [name for name in twins if name in experts]
    if given and given != twins:
        raise LabError(f"PEFT adapts {' and '.join(twins)} together, for they are one parameter: give both.")


def notes(setup: Setup) -> list[str]:
    """Sentences about the model that a plan rests on."""
    found = list(setup.config.get("notes", ()))
    if setup.config["model_type"] in EAGER_ONLY:
        found.append("Gemma-2 caps its attention scores, so transformers runs it eagerly: sdpa is no choice.")
    if architectures.expert_parameters(setup.config):
        found.append(
            "Experts run as one grouped product (grouped_mm), in which every token meets its experts; memory "
            "does not depend on which."
        )
        if setup.four_bit:
            found.append(
                "Experts stay in 16 bits: load_in_4bit packs linear layers, and these are parameters."
            )
    if adapted_experts(setup):
        found.append(
            "PEFT makes the adapted weights of a layer's experts anew in each forward pass, and their "
            "gradient: name the attention's layers as targets to leave the experts alone."
        )
    if setup.optimizer.startswith("paged"):
        found.append(
            "Paged states are in unified memory, which torch does not count: on the card only while the "
            "optimizer steps and as there is room, else in the host's memory."
        )
    return found
