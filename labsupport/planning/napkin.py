"""The planner that notebook 05 builds on a napkin: the worked solutions of its exercises on memory.

All sizes are bytes. LoRA and QLoRA on all linear layers, bfloat16, packed rows. test_napkin.py holds it to
the traced step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from labsupport.planning import closed_form
from labsupport.setups.setup import Setup
from labsupport.sizes import counting

# How a trainer has its adapters: (method, trainer) of a run that has them so.
ADAPTERS = {"float32": ("lora", "plain"), "autocast": ("lora", "sft"), "bfloat16": ("qlora", "sft")}


def kept_by_block(config: dict, rank: int, adapters: str) -> int:
    """What one block keeps of one token without checkpointing; adapters: one of ADAPTERS."""
    method, trainer = ADAPTERS[adapters]
    run = Setup(config, method, rank, padded=False, checkpointing=False, trainer=trainer)
    return closed_form.activation_bytes(run)


def moments_of_step(
    kept: float, head: float, block: float, gradients: float, scratch: float, accumulates: bool
) -> tuple[float, float, float, float]:
    """What is there beyond what stands: at the loss, on the first block's way back, on the last block's, in
    the optimizer's step. Arguments as in the notebook's exercise 2."""
    earlier = gradients if accumulates else 0
    return kept + head + earlier, kept + block + earlier, block + gradients, gradients + scratch


def peak_of_step(standing: float, *parts: float, **named: float) -> float:
    """The most that is there at any of the four moments; arguments after the first as `moments_of_step`."""
    return standing + max(moments_of_step(*parts, **named))


def adapters_of(run: Setup) -> str:
    """What the run's adapters keep, as one of ADAPTERS: float32 ones may keep what those in bfloat16 do."""
    if closed_form.share_inputs(run):
        return "bfloat16"
    return "autocast" if run.autocasts else "float32"


def on_paper(run: Setup) -> float:
    """Peak bytes of a LoRA or QLoRA run."""
    tokens, plain = run.batch * run.length, run.trainer == "plain"
    hidden, inner = run.config["hidden_size"], run.config["intermediate_size"]
    trained = counting.lora_count(run.config, run.rank) * closed_form.trainable_bytes(run)
    again = kept_by_block(run.config, run.rank, adapters_of(run))
    kept = 2 * hidden if run.checkpointing else again
    return peak_of_step(
        standing=closed_form.weight_bytes(run) + 3 * trained,
        kept=tokens * run.config["num_hidden_layers"] * kept,
        head=head_bytes(run),
        block=tokens * (3 * 2 * inner + (again if run.checkpointing else 0)),
        gradients=trained,
        scratch=trained if plain else 0,
        accumulates=run.accumulation > 1,
    )


def method_for_card(
    config: dict,
    trainer: str,
    rank: int,
    length: int,
    usable: float,
    peak: Callable[[Setup], float] = on_paper,
    methods: tuple[str, ...] = ("lora", "qlora"),
) -> tuple[str, int]:
    """(the first of the methods with which a row fits, the most rows that do), or ("neither", 0). A run fits
    if its `peak` is at most the usable bytes."""
    for method in methods:
        run, rows = Setup(config, method, rank, length=length, padded=False, trainer=trainer), 0
        while peak(replace(run, batch=rows + 1)) <= usable:
            rows += 1
        if rows:
            return method, rows
    return "neither", 0


def head_bytes(run: Setup) -> float:
    """Full logits with all that the loss makes of them; or TRL's tile of them."""
    tokens, words = run.batch * run.length, run.config["vocab_size"]
    if run.trainer == "plain":
        return closed_form.LOGITS_BYTES[2] * tokens * words
    positions, columns = closed_form.TILE
    return 2 * min(tokens, positions) * min(words, columns)
