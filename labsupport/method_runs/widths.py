"""How large each method is, in trained parameters.

Computed, not chosen: where a method has a width (rank, tokens, bottleneck), it gets the largest with which it
trains no more parameters than LoRA of rank 16 on all linear layers. VeRA, IA3 and prompt tuning cannot come
near that number and have their papers' sizes. config: of a Llama-like model, as a dict.
"""

from __future__ import annotations

from collections.abc import Callable

from labsupport.core.files import LabError
from labsupport.sizes import counting

RANK = 16
VERA_RANK = 256  # Kopiczko et al. 2024: 256 and 1024; PEFT's default
PROMPT_TOKENS = 20  # Lester et al. 2021, section 3.2: beyond 20 the gain is small


def widest(count: Callable[[int], int], limit: int) -> int:
    """The largest width, from 1 on, whose count of parameters is at most `limit`; `count` grows with it.

    LabError if even width 1 has more.
    """
    if count(1) > limit:
        raise LabError(
            f"The smallest width has {count(1)} parameters, more than {limit}: compare another way."
        )
    width = 1
    while count(width + 1) <= limit:
        width += 1
    return width


def budget(config: dict) -> int:
    """The parameters that LoRA of rank 16 trains on all linear layers."""
    return counting.lora_count(config, RANK)


def dora_rank(config: dict) -> int:
    """DoRA's rank: its magnitudes count, too."""
    return widest(lambda rank: counting.dora_count(config, rank), budget(config))


def prefix_tokens(config: dict) -> int:
    """How many positions of learned keys and values prefix tuning has."""
    return widest(lambda tokens: counting.prefix_tuning(config, tokens), budget(config))


def bottleneck_width(config: dict) -> int:
    """The bottleneck of two adapters a layer, biases counted."""
    return widest(lambda width: counting.bottleneck_adapters(config, width, biases=True), budget(config))


def dora_count(config: dict) -> int:
    """DoRA's parameters at its rank."""
    return counting.dora_count(config, dora_rank(config))


def prefix_count(config: dict) -> int:
    """Prefix tuning's parameters at its length."""
    return counting.prefix_tuning(config, prefix_tokens(config))


def bottleneck_count(config: dict) -> int:
    """The adapters' parameters at their width."""
    return counting.bottleneck_adapters(config, bottleneck_width(config), biases=True)


def prompt_count(config: dict) -> int:
    """Prompt tuning's parameters at its length."""
    return counting.prompt_tuning(config, PROMPT_TOKENS)


def vera_count(config: dict) -> int:
    """VeRA trains two vectors a layer: one as long as its rank, one as long as the output. A and B are shared
    by all layers and frozen."""
    outputs = [d_out for _, d_out in counting.block_shapes(config).values()]
    return config["num_hidden_layers"] * (sum(outputs) + len(outputs) * VERA_RANK)


def ia3_count(config: dict) -> int:
    """IA3 trains a factor for each output of k_proj and v_proj and for each input of down_proj."""
    shapes = counting.block_shapes(config)
    return config["num_hidden_layers"] * (shapes["k_proj"][1] + shapes["v_proj"][1] + shapes["down_proj"][0])
